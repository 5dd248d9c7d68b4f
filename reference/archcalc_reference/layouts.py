"""The two ways in which a checkpoint names and lays out a model's tensors: ours, and that of GPT-2 in transformers.

GPT-2 stores matrices as (in, out), the transpose of nn.Linear's, and query, key and value side by side.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from archcalc.blocks.attention import MultiHead
from archcalc.blocks.mlp import PlainMLP
from archcalc.blocks.norm import LayerNorm
from archcalc.catalogue import load
from archcalc.checkpoints import SPEC
from archcalc.errors import Problem, shown
from archcalc.spec import Model
from archcalc_reference.files import read_object

Shape = tuple[int, ...]

CONFIG = "config.json"
ACTIVATIONS = {"gelu_tanh": "gelu_new", "gelu": "gelu"}
TOKENS, HEAD = "embedding.token.weight", "unembedding.weight"
PREFIX = "transformer."

# Of GPT2Config, what decides the logits and does not show in the shapes.
_UNSHAPED = (
    "n_head",
    "activation_function",
    "layer_norm_epsilon",
    "scale_attn_weights",
    "scale_attn_by_inverse_layer_idx",
)
_SYNONYMS = {"gelu_pytorch_tanh": "gelu_new", "gelu_fast": "gelu_new"}
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
_LAYER = re.compile(r"layers\.\d+\.")
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
    """Every name that a stored token table may have: GPT-2's, with and without the head's prefix, and ours."""
    theirs = _gpt2_name(TOKENS)
    return theirs, theirs.removeprefix(PREFIX), TOKENS


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
        raise ValueError(f"no GPT-2: {found}")  # noqa: TRY004  (no wrong type)
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


def contradictions(model: Model, folder: str) -> list[Problem]:
    """What config.json or spec.yaml beside the weights say otherwise than the spec, shapes apart.

    Twelve heads and sixteen have weights of the same shapes, and other logits.
    """
    found = []
    path = os.path.join(folder, SPEC)
    if os.path.exists(path):
        said, wanted = (dict(_leaves(one)) for one in (load(path), model))
        fields = set()
        for where, value in wanted.items():
            field = _LAYER.sub("", where)
            if where in said and said[where] != value and field not in fields:  # of alike layers one tells
                fields.add(field)
                found.append(_otherwise(path, where, said[where], model, value))
    path = os.path.join(folder, CONFIG)
    config = read_object(path) if os.path.exists(path) else {}
    if config.get("model_type") == "gpt2" and why_no_gpt2(model) is None:
        wanted = {**gpt2_config(model, ""), "scale_attn_weights": True, "scale_attn_by_inverse_layer_idx": False}
        for where in _UNSHAPED:
            value = config.get(where, wanted[where])
            if _SYNONYMS.get(str(value), value) != wanted[where]:
                found.append(_otherwise(path, where, value, model, wanted[where]))
    return found


def _otherwise(path: str, where: str, said: Any, model: Model, wish: Any) -> Problem:
    return Problem(path, f"is not what {model.name} has, {shown(wish)}", where, value=shown(said))


def _leaves(model: Model) -> Iterator[tuple[str, Any]]:
    """The fields that decide the logits, each layer's by its number."""
    layers = [group for group in model.layers for _ in range(group.repeat)]
    for i, group in enumerate(layers):
        yield from _fields(f"layers.{i}", group.model_dump(exclude={"repeat"}))
    yield from _fields("final_norm", model.final_norm.model_dump())


def _fields(where: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for name, part in value.items():
            yield from _fields(f"{where}.{name}", part)
    else:
        yield where, value
