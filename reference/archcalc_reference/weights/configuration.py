"""What a folder says of its model beside the tensors: config.json, spec.yaml, and files that change the model.

Each fact is read as transformers' GPT2Config reads it, the names that it takes and its defaults included, and is
compared with the spec. A setting that changes the computation and is not supported is refused by its name. Settings
of training alone (dropout, initialization) are not compared. `dtype` is not either: tensors are read in the type
that they are stored in, which loses nothing.

Nothing here takes PyTorch.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from archcalc.errors import Invalid, Problem, shown
from archcalc.spec.catalogue import load
from archcalc.spec.checkpoints import SPEC
from archcalc.spec.model import Model
from archcalc_reference.files import CONFIG, names_in, read_object
from archcalc_reference.weights.layouts import ACTIVATIONS, why_no_gpt2

TIE = "tie_word_embeddings"

# All that save weights which GPT2LMHeadModel reads whole.
_ARCHITECTURES = ("GPT2LMHeadModel", "GPT2Model")
_DTYPES = ("float64", "float32", "float16", "bfloat16", "double", "float", "half", "auto")
_GELUS = {
    "gelu_pytorch_tanh": "gelu_new",
    "gelu_python_tanh": "gelu_new",
    "gelu_accurate": "gelu_new",
    "gelu_fast": "gelu_new",
    "gelu_python": "gelu",
}
"""transformers' other names of the same functions; gelu_10 and quick_gelu are others."""

_BESIDE = {
    "adapter_config.json": "an adapter (LoRA) is not supported yet; merge it into the weights",
    "quantize_config.json": "quantized weights are not supported yet",
    "quant_config.json": "quantized weights are not supported yet",
    "hf_quant_config.json": "quantized weights are not supported yet",
}
"""Files whose presence says that the tensors are not the whole model, or not as they look."""

# What other architectures have and GPT-2 has not; without a model_type nobody else would notice.
_FOREIGN = (
    *("rope_theta", "rope_scaling", "rope_parameters", "rotary_dim", "rotary_pct", "partial_rotary_factor"),
    *("alibi", "use_alibi", "sliding_window", "attention_types", "layer_types", "multi_query", "parallel_attn"),
    *("use_parallel_residual", "rms_norm_eps", "qk_norm", "qk_layernorm", "num_experts", "num_local_experts"),
    *("attn_logit_softcapping", "final_logit_softcapping", "logit_scale", "logits_scaling", "embedding_multiplier"),
    *("residual_multiplier", "attention_multiplier", "scale_embeddings", "kv_lora_rank", "q_lora_rank"),
)


class Fact(NamedTuple):
    """Something that a config.json may say of a model.

    `names` are those that GPT2Config takes, `others` those of other configs, which count where there is no model_type.
    `wanted` gives what the spec has, for each layer that differs. GPT2Config takes `default` where nothing is said;
    None where the tensors' shapes say it.
    """

    names: tuple[str, ...]
    others: tuple[str, ...]
    wanted: Callable[[Model], set[Any]]
    default: Any = None


def _each(field: Callable[[Any], Any]) -> Callable[[Model], set[Any]]:
    return lambda model: {field(group) for group in model.layers}


def _epsilons(model: Model) -> set[Any]:
    norms: list[Any] = [model.final_norm, *(group.norm for group in model.layers)]
    return {norm.epsilon for norm in norms}


def _always(value: Any) -> Callable[[Model], set[Any]]:
    return lambda _: {value}


FACTS = (
    Fact(("vocab_size",), (), lambda model: {model.vocab_size}),
    Fact(
        ("n_positions", "max_position_embeddings"),
        ("n_ctx", "max_seq_len", "seq_length", "block_size"),
        lambda model: {model.context_length},
    ),
    Fact(("n_embd", "hidden_size"), ("d_model", "dim"), lambda model: {model.d_model}),
    Fact(("n_layer", "num_hidden_layers"), ("num_layers", "n_layers"), lambda model: {model.n_layers}),
    Fact(
        ("n_head", "num_attention_heads"), ("n_heads", "num_heads"), _each(lambda group: group.attention.n_heads), 12
    ),
    Fact((), ("num_key_value_heads", "n_kv_heads", "n_head_kv"), _each(lambda group: group.attention.n_kv_heads)),
    Fact((), ("head_dim", "d_head", "kv_channels"), _each(lambda group: group.attention.d_head)),
    Fact(("n_inner",), ("intermediate_size", "ffn_dim", "d_ff"), _each(lambda group: group.mlp.d_ff)),
    Fact(
        ("activation_function",),
        ("hidden_act", "hidden_activation", "activation"),
        _each(lambda group: ACTIVATIONS[group.mlp.activation]),
        "gelu_new",
    ),
    Fact(
        ("layer_norm_epsilon",), ("layer_norm_eps", "layernorm_epsilon", "norm_epsilon", "norm_eps"), _epsilons, 1e-5
    ),
    Fact(("scale_attn_weights",), (), _always(value=True), default=True),
    Fact(("scale_attn_by_inverse_layer_idx",), (), _always(value=False)),
    Fact(("add_cross_attention",), (), _always(value=False)),
    Fact(("is_causal",), (), _always(value=True)),
    Fact(("is_encoder_decoder",), (), _always(value=False)),
)


def read_config(folder: str) -> dict[str, Any]:
    """The object of config.json; an empty one where there is none."""
    return _read_if_there(folder, CONFIG)


def refuse_what_is_not_read(folder: str) -> None:
    """Raise Invalid where a folder's files say that it is not a plain GPT-2, whatever its tensors look like."""
    there = names_in(folder)
    for name, message in _BESIDE.items():
        if name in there:
            raise Invalid(Problem(os.path.join(folder, name), message))
    config = read_config(folder)
    if problems := list(_another(config, os.path.join(folder, CONFIG))):
        raise Invalid(*problems)


def _another(config: dict[str, Any], path: str) -> Iterator[Problem]:
    kind, architectures = config.get("model_type"), config.get("architectures") or []
    if kind not in (None, "gpt2"):
        yield Problem(path, "is not supported yet", "model_type", value=shown(kind), suggestion="supported: 'gpt2'")
        return
    if not isinstance(architectures, list) or (architectures and not set(map(str, architectures)) & {*_ARCHITECTURES}):
        fix = f"supported: {', '.join(_ARCHITECTURES)}"
        yield Problem(path, "is not supported yet", "architectures", value=shown(architectures), suggestion=fix)
    for key in ("quantization_config", "compression_config"):
        if config.get(key):
            said = config[key]
            method = said.get("quant_method") if isinstance(said, dict) else None
            yield Problem(path, "quantized weights are not supported yet", key, value=shown(method or said))
    for key in ("dtype", "torch_dtype"):
        said = config.get(key)
        if said is not None and str(said).removeprefix("torch.") not in _DTYPES:
            fix = f"supported: {', '.join(_DTYPES[:4])}"
            yield Problem(path, "is not a supported type", key, value=shown(said), suggestion=fix)
    custom = config.get("auto_map")
    if custom and (not isinstance(custom, dict) or {"AutoModel", "AutoModelForCausalLM"} & {*custom}):
        yield Problem(path, "custom code is not supported and never run", "auto_map", value=shown(custom))
    named = config.get("transformers_weights")
    if named not in (None, "model.safetensors"):
        yield Problem(path, "a different weights file is not supported", "transformers_weights", value=shown(named))
    if config.get("pruned_heads"):
        yield Problem(path, "pruned heads are not supported", "pruned_heads", value=shown(config["pruned_heads"]))
    if kind is None:
        yield from _of_others(config, path)


def _of_others(config: dict[str, Any], path: str) -> Iterator[Problem]:
    """Settings that GPT-2 does not have, in a config.json that does not say whose it is."""
    for key in _FOREIGN:
        if config.get(key) not in (None, False):
            yield Problem(path, "is not supported, since model_type is not gpt2", key, value=shown(config[key]))
    positions = config.get("position_embedding_type")
    if positions not in (None, "absolute", "learned", "learned_absolute"):
        yield Problem(path, "is not supported", "position_embedding_type", value=shown(positions))


def contradictions(model: Model, folder: str, *, as_gpt2: bool) -> list[Problem]:
    """What config.json and spec.yaml beside the weights say otherwise than the spec, a line each; the tie is apart.

    Twelve heads and sixteen have weights of the same shapes, and other logits. `as_gpt2` says that the tensors have
    GPT-2's names: where config.json does not say a thing, transformers then takes GPT2Config's default.
    """
    return [*_of_spec(model, folder), *_of_config(model, folder, as_gpt2=as_gpt2)]


def _of_config(model: Model, folder: str, *, as_gpt2: bool) -> Iterator[Problem]:
    path = os.path.join(folder, CONFIG)
    if not os.path.exists(path):
        return
    config = read_config(folder)
    why = why_no_gpt2(model)
    if config.get("model_type") == "gpt2" and why is not None:
        yield Problem(path, f"cannot describe {model.name}, which has {why}", "model_type", value="'gpt2'")
    for fact in FACTS:
        said = {name: config[name] for name in fact.names if name in config}
        if not said and "model_type" not in config:
            said = {name: config[name] for name in fact.others if config.get(name) is not None}
        for name, value in said.items():
            meant = 4 * model.d_model if (name, value) == ("n_inner", None) else value
            yield from _compare(model, path, name, meant, fact.wanted(model))
        if not said and as_gpt2 and fact.default is not None and fact.wanted(model) != {fact.default}:
            what = f"is missing, and transformers assumes {shown(fact.default)}; {model.name} has"
            yield Problem(path, f"{what} {_listed(fact.wanted(model))}", fact.names[0])


def _compare(model: Model, path: str, name: str, value: Any, wanted: set[Any]) -> Iterator[Problem]:
    plain = _GELUS.get(value, value) if isinstance(value, str) else value
    if any(plain != wish or isinstance(plain, bool) != isinstance(wish, bool) for wish in wanted):
        yield Problem(path, f"must be {_listed(wanted)}, as in {model.name}", name, value=shown(value))


def _listed(values: set[Any]) -> str:
    return " and ".join(map(shown, sorted(values)))


def _of_spec(model: Model, folder: str) -> Iterator[Problem]:
    path = os.path.join(folder, SPEC)
    if not os.path.exists(path):
        return
    said, wanted = (dict(_leaves(one)) for one in (load(path), model))
    fields = set()
    for where, value in wanted.items():
        field = ".".join(part for part in where.split(".") if not part.isdecimal())
        if where in said and said[where] != value and field not in fields:  # of alike layers one tells
            fields.add(field)
            yield Problem(path, f"must be {shown(value)}, as in {model.name}", where, value=shown(said[where]))


def _leaves(model: Model) -> Iterator[tuple[str, Any]]:
    """The fields that decide the logits, each layer's by its number."""
    yield from (("n_layers", model.n_layers), *((name, getattr(model, name)) for name in _SIZES))
    yield from _fields("embedding", model.embedding.model_dump())
    layers = [group for group in model.layers for _ in range(group.repeat)]
    for i, group in enumerate(layers):
        yield from _fields(f"layers.{i}", group.model_dump(exclude={"repeat"}))
    yield from _fields("final_norm", model.final_norm.model_dump())
    yield from _fields("unembedding", model.unembedding.model_dump())


_SIZES = ("vocab_size", "context_length", "d_model")


def _fields(where: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for name, part in value.items():
            yield from _fields(f"{where}.{name}", part)
    else:
        yield where, value


class Tie(NamedTuple):
    """Whether a file says that the head is the token table; `said` is False where that is GPT2Config's default."""

    file: str
    tied: bool
    said: bool


def read_tie(folder: str, *, as_gpt2: bool) -> Tie | None:
    """What config.json says of the tie, as transformers takes it; None where there is none to say it."""
    path = os.path.join(folder, CONFIG)
    config = read_config(folder)
    value = config.get(TIE)
    if value is None:
        return Tie(path, tied=True, said=False) if as_gpt2 and os.path.exists(path) else None
    if not isinstance(value, bool):
        raise Invalid(Problem(path, "must be true or false", TIE, value=shown(value)))
    return Tie(path, value, said=True)


def is_tied(folder: str) -> bool:
    """Whether the head is the token table, by spec.yaml or config.json; True where neither says, as for GPT-2."""
    path = os.path.join(folder, SPEC)
    if os.path.exists(path):
        return load(path).unembedding.tied
    tie = read_tie(folder, as_gpt2=True)
    return tie is None or tie.tied


def _read_if_there(folder: str, name: str) -> dict[str, Any]:
    path = os.path.join(folder, name)
    return read_object(path) if os.path.exists(path) else {}
