"""The two ways in which a checkpoint names and lays out a model's tensors: ours, and that of GPT-2 in transformers.

GPT-2 stores matrices as (in, out), the transpose of nn.Linear's, and query, key and value side by side. A folder that
has them the other way round (nanoGPT's, MLX's) is noticed by the shapes of matrices that are not square, c_attn above
all, or by the format that the file names. Square matrices alone look the same both ways.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from archcalc.blocks.attention import MultiHead
from archcalc.blocks.mlp import PlainMLP
from archcalc.blocks.norm import LayerNorm
from archcalc.spec.model import Model

Shape = tuple[int, ...]

ACTIVATIONS = {"gelu_tanh": "gelu_new", "gelu": "gelu"}
TOKENS, HEAD = "embedding.token.weight", "unembedding.weight"
GPT2_HEAD = "lm_head.weight"
PREFIX = "transformer."

_OUTSIDE = {
    "embedding.token": "transformer.wte",
    "embedding.position": "transformer.wpe",
    "final_norm": "transformer.ln_f",
    "unembedding": "lm_head",
}
_INSIDE = {
    "attention_norm": "ln_1",
    "attention.query": "attn.c_attn",
    "attention.key": "attn.c_attn",
    "attention.value": "attn.c_attn",
    "attention.output": "attn.c_proj",
    "mlp_norm": "ln_2",
    "mlp.up": "mlp.c_fc",
    "mlp.down": "mlp.c_proj",
}
_OURS = re.compile(r"layers\.(\d+)\.(.+)\.(weight|bias)")
_MASKS = re.compile(r"(transformer\.)?h\.\d+\.attn\.(bias|masked_bias)")
_THEIRS = re.compile(r"(transformer\.)?(wte|wpe|h\.\d+\.attn\.c_attn)\.")
_OWN = re.compile(r"embedding\.(token|position)\.|layers\.\d+\.(attention|mlp)")


class Entry(NamedTuple):
    """A stored tensor: its shape, and the parameters of ours that stand in it side by side, transposed or not."""

    name: str
    shape: Shape
    parts: tuple[str, ...]
    transposed: bool = False


def own(parameters: dict[str, Shape]) -> list[Entry]:
    """The tensors of a checkpoint under our names."""
    return [Entry(name, shape, (name,)) for name, shape in parameters.items()]


def gpt2(parameters: dict[str, Shape]) -> list[Entry]:
    """The tensors of a checkpoint of GPT2LMHeadModel that has the same parameters."""
    parts: dict[str, list[str]] = {}
    for name in parameters:
        parts.setdefault(_gpt2_name(name), []).append(name)
    entries = []
    for stored, names in parts.items():
        rows = sum(parameters[name][0] for name in names)
        shape = (rows, *parameters[names[0]][1:])
        transposed = ".h." in stored and len(shape) == 2
        entries.append(Entry(stored, shape[::-1] if transposed else shape, tuple(names), transposed))
    return entries


def _gpt2_name(name: str) -> str:
    match = _OURS.fullmatch(name)
    if match:
        layer, module, leaf = match.groups()
        return f"{PREFIX}h.{layer}.{_INSIDE[module]}.{leaf}"
    module, _, leaf = name.rpartition(".")
    return f"{_OUTSIDE[module]}.{leaf}"


def token_tables() -> tuple[str, ...]:
    """Every name that a stored token table may have: GPT-2's, with and without the prefix, and ours."""
    theirs = _gpt2_name(TOKENS)
    return theirs, theirs.removeprefix(PREFIX), TOKENS


def heads() -> tuple[str, ...]:
    """Every name that a stored head may have; where it is tied, a token table may be stored under it alone."""
    return GPT2_HEAD, HEAD


def may_be_absent(name: str) -> bool:
    """Whether an index may promise a tensor that no shard has: a mask, or one of the two names of a tied table."""
    return is_mask(name) or name in (*token_tables(), *heads())


def is_mask(name: str) -> bool:
    """Whether a stored tensor is one of the masks that old checkpoints of GPT-2 carry: no weights."""
    return _MASKS.fullmatch(name) is not None


def spoken_by(names: list[str]) -> str | None:
    """Whose names a checkpoint uses, `gpt2` or `own`; None where neither's."""
    if any(map(_THEIRS.match, names)):
        return "gpt2"
    return "own" if any(map(_OWN.match, names)) else None


class Blocks(NamedTuple):
    """What each layer of a GPT-2 is made of."""

    norm: LayerNorm
    attention: MultiHead
    mlp: PlainMLP


def _blocks(model: Model) -> Blocks | str:
    """What every layer is made of, where GPT-2 can be that; else why not."""
    first = model.layers[0]
    norm, attention, mlp, final = first.norm, first.attention, first.mlp, model.final_norm
    if any(group.model_copy(update={"repeat": first.repeat}) != first for group in model.layers):
        return "layers that differ"
    if not (
        isinstance(norm, LayerNorm)
        and isinstance(attention, MultiHead)
        and isinstance(mlp, PlainMLP)
        and isinstance(final, LayerNorm)
    ):
        return "other blocks"
    if attention.n_kv_heads != attention.n_heads:
        return "fewer key/value heads than heads"
    if attention.n_heads * attention.d_head != model.d_model:
        return "heads that do not make up d_model"
    if not (norm.bias and attention.bias and mlp.bias and final.bias):
        return "no bias somewhere"
    if model.unembedding.bias:
        return "a bias of the unembedding"
    if final.epsilon != norm.epsilon:
        return "two epsilons"
    return Blocks(norm, attention, mlp)


def why_no_gpt2(model: Model) -> str | None:
    """What a model has that GPT2LMHeadModel cannot have, in a few words; None where it can be this model."""
    found = _blocks(model)
    return found if isinstance(found, str) else None


def gpt2_config(model: Model, dtype: str) -> dict[str, Any]:
    """The config.json of transformers' GPT2Config; ValueError for a model that is none."""
    found = _blocks(model)
    if isinstance(found, str):
        raise ValueError(f"not a GPT-2: {found}")  # noqa: TRY004  (no wrong type)
    # transformers takes 50256, the end of a text in GPT-2's vocabulary, unless it is told.
    end = 50256 if model.vocab_size == 50257 else None
    return {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "dtype": dtype,
        "vocab_size": model.vocab_size,
        "n_positions": model.context_length,
        "n_embd": model.d_model,
        "n_layer": model.n_layers,
        "n_head": found.attention.n_heads,
        "n_inner": found.mlp.d_ff,
        "activation_function": ACTIVATIONS[found.mlp.activation],
        "layer_norm_epsilon": found.norm.epsilon,
        "initializer_range": model.initialization.std,
        "tie_word_embeddings": model.unembedding.tied,
        "resid_pdrop": 0.0,
        "embd_pdrop": 0.0,
        "attn_pdrop": 0.0,
        "bos_token_id": end,
        "eos_token_id": end,
    }
