"""The config.json that the keys and tensors of a GGUF file amount to: one table an architecture.

llama.cpp's converter (convert_hf_to_gguf.py) writes the sizes of a config.json below the name of the architecture, as
`llama.block_count`. What no key has is told from the tensors (rows of the vocabulary, biases, a head of its own) or is
what llama.cpp computes for the architecture, such as the activation. A key that no table knows is refused by its name.
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from archcalc.errors import Invalid, Problem, shown
from archcalc.files.regular import open_file
from archcalc.huggingface.gguf import Length, read_gguf
from archcalc.huggingface.stored import Stored

ARCHITECTURE = "general.architecture"
_TABLE, HEAD, FREQUENCIES = "token_embd.weight", "output.weight", "rope_freqs.weight"
Config = dict[str, Any]


class Architecture(NamedTuple):
    """How the files of an architecture of llama.cpp are read.

    Attributes:
        model_type: the family of transformers' models that it is.
        keys: the key of config.json for each key below the architecture's name that a file must have.
        optional: the same for those that it may lack; config.json then has the value of `fixed`, or nothing.
        fixed: what llama.cpp computes and no key says.
        settle: what follows from other keys and from the names of tensors.
        permuted: whether the converter wove the two halves of each head's rows of queries and keys.
        offset: what the converter added to the gains of norms.
    """

    model_type: str
    keys: Mapping[str, str]
    optional: Mapping[str, str]
    fixed: Mapping[str, Any] = MappingProxyType({})
    settle: tuple[Callable[[Config, Mapping[str, Any], set[str]], None], ...] = ()
    permuted: bool = False
    offset: float = 0.0


_SIZES = {
    "context_length": "max_position_embeddings",
    "embedding_length": "hidden_size",
    "block_count": "num_hidden_layers",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
    "attention.layer_norm_rms_epsilon": "rms_norm_eps",
}
_OPTIONAL = {
    "attention.head_count_kv": "num_key_value_heads",
    "attention.key_length": "head_dim",
    "rope.freq_base": "rope_theta",
}
_THETA = 10_000.0  # llama.cpp's, where no key says one
_WINDOW = {"attention.sliding_window": "sliding_window"}
_CAPS = {
    "attn_logit_softcapping": "attn_logit_softcapping",
    "final_logit_softcapping": "final_logit_softcapping",
}


def _biases(config: Config, _: Mapping[str, Any], names: set[str]) -> None:
    config["attention_bias"] = "blk.0.attn_q.bias" in names
    if config["model_type"] == "llama":
        config["mlp_bias"] = "blk.0.ffn_up.bias" in names


def _scale_of_gemma(largest: int) -> Callable[[Config, Mapping[str, Any], set[str]], None]:
    """No key has the scale of the scores: llama.cpp takes a head's width, in the largest model d_model / n_heads."""

    def settle(config: Config, _: Mapping[str, Any], __: set[str]) -> None:
        whole = config["num_hidden_layers"] == largest
        scalar = config["hidden_size"] // config["num_attention_heads"] if whole else config.get("head_dim")
        if scalar is not None:
            config["query_pre_attn_scalar"] = scalar

    return settle


_LLAMA = Architecture(
    "llama",
    _SIZES,
    _OPTIONAL,
    {"rope_theta": _THETA, "hidden_act": "silu"},
    (_biases,),
    permuted=True,
)
_GEMMA2 = {"rope_theta": _THETA, "hidden_activation": "gelu_pytorch_tanh"}
ARCHITECTURES: dict[str, Architecture] = {
    "llama": _LLAMA,
    "qwen2": _LLAMA._replace(model_type="qwen2", settle=(), permuted=False),
    "qwen3": _LLAMA._replace(model_type="qwen3", settle=(_biases,), permuted=False),
    "gpt2": Architecture(
        "gpt2",
        {
            "context_length": "n_positions",
            "embedding_length": "n_embd",
            "block_count": "n_layer",
            "feed_forward_length": "n_inner",
            "attention.head_count": "n_head",
            "attention.layer_norm_epsilon": "layer_norm_epsilon",
        },
        {},
        {"activation_function": "gelu_new"},
    ),
    "gemma": Architecture(
        "gemma", _SIZES, _OPTIONAL, {"rope_theta": _THETA, "hidden_act": "gelu_pytorch_tanh"}, (_biases,), offset=1.0
    ),
    "gemma2": Architecture(
        "gemma2", {**_SIZES, **_WINDOW, **_CAPS}, _OPTIONAL, _GEMMA2, (_biases, _scale_of_gemma(46)), offset=1.0
    ),
    "gemma3": Architecture(
        "gemma3_text",
        {**_SIZES, **_WINDOW},
        {**_OPTIONAL, **_CAPS, "rope.freq_base_swa": "rope_local_base_freq"},
        {**_GEMMA2, "rope_theta": 1_000_000.0, "rope_local_base_freq": _THETA, "sliding_window_pattern": 6},
        (_biases, _scale_of_gemma(62)),
        offset=1.0,
    ),
}
"""By the names that `general.architecture` has."""

_IDLE = ("vocab_size", "attention.value_length", "rope.dimension_count", "tensor_data_layout")
"""Keys that say again what others say, or what is compared below."""
_OFF = ("expert_count", "expert_used_count")
"""Keys that say nothing where they are 0."""
_SCALING = "rope.scaling."
_KINDS = ("linear", "yarn")
_SETTINGS = {"factor": "factor", "original_context_length": "original_max_position_embeddings"}


def architecture(stored: Stored) -> Architecture:
    """The table of a file's architecture. Raises Invalid where there is none."""
    said = _keys(stored).get(ARCHITECTURE)
    found = ARCHITECTURES.get(said) if isinstance(said, str) else None
    if found is None:
        fix = f"supported: {', '.join(ARCHITECTURES)}"
        what = "is an architecture whose GGUF files are not read as a spec yet"
        raise Invalid(Problem(stored.path, what, ARCHITECTURE, value=shown(said), suggestion=fix))
    return found


def config_of(stored: Stored) -> tuple[Config, dict[str, str]]:
    """A config.json with what a GGUF file says, and the file's keys by those of it.

    Raises Invalid for an architecture without a table, a key that it lacks, and one that is not known.
    """
    table, keys = architecture(stored), _keys(stored)
    prefix = f"{keys[ARCHITECTURE]}."
    known = {**table.keys, **table.optional}
    names = {weight.name for weight in stored.weights}
    config: Config = {"model_type": table.model_type, **table.fixed}
    problems = [Problem(stored.path, "is missing", prefix + key) for key in table.keys if prefix + key not in keys]
    for key, value in keys.items():
        inner = key.removeprefix(prefix)
        if inner == key or inner.startswith(_SCALING) or inner in _IDLE or (inner in _OFF and value == 0):
            continue
        if inner not in known:
            problems.append(Problem(stored.path, "is not supported yet", key, value=shown(value)))
        elif type(value) is Length:
            what = "has a value for each layer, which is not supported yet"
            problems.append(Problem(stored.path, what, key))
        else:
            config[known[inner]] = _shortest(value) if isinstance(value, float) else value
    if problems:
        raise Invalid(*problems)
    table_of_tokens = next((weight for weight in stored.weights if weight.name == _TABLE), None)
    if table_of_tokens is None or not table_of_tokens.shape:
        raise Invalid(Problem(stored.path, "is missing", _TABLE))
    config |= {"vocab_size": table_of_tokens.shape[0], "tie_word_embeddings": HEAD not in names}
    for settle in table.settle:
        settle(config, keys, names)
    if scaling := _scaling(stored, keys, prefix, config, names):
        config["rope_scaling"] = scaling
    _refuse_part(stored, keys, prefix, config)
    back = {ours: prefix + theirs for theirs, ours in known.items()}
    return config, {
        **back,
        "vocab_size": _TABLE,
        "tie_word_embeddings": HEAD,
        "rope_scaling": prefix + _SCALING + "type",
    }


def _keys(stored: Stored) -> Mapping[str, Any]:
    return stored.gguf or {}


def _refuse_part(stored: Stored, keys: Mapping[str, Any], prefix: str, config: Config) -> None:
    """Raise Invalid where a part of each head is turned alone, or values are of another width than keys."""
    heads, width = config.get("num_attention_heads"), config.get("hidden_size")
    if type(heads) is not int or type(width) is not int or heads < 1:
        return  # GPT-2's, or told by the import
    d_head = config.get("head_dim", width // heads)
    for key in ("rope.dimension_count", "attention.value_length"):
        if (said := keys.get(prefix + key, d_head)) != d_head:
            what = f"must be the width of a head, {shown(d_head)}; another one is not supported yet"
            raise Invalid(Problem(stored.path, what, prefix + key, value=shown(said)))


def _scaling(
    stored: Stored, keys: Mapping[str, Any], prefix: str, config: Config, names: set[str]
) -> dict[str, Any] | None:
    """How the angles are scaled, as config.json says it; None where they are not."""
    said = {key.removeprefix(prefix + _SCALING): key for key in keys if key.startswith(prefix + _SCALING)}
    kind = keys.get(prefix + _SCALING + "type", "none")
    if FREQUENCIES in names:
        return _by_frequencies(stored, config)
    if kind == "none":
        return None
    if kind not in _KINDS:
        what, fix = "is a scaling of positions that is not supported yet", f"supported: {', '.join(_KINDS)}"
        raise Invalid(Problem(stored.path, what, said["type"], value=shown(kind), suggestion=fix))
    found: dict[str, Any] = {"rope_type": kind}
    for inner, key in said.items():
        if inner in _SETTINGS:
            value = keys[key]
            found[_SETTINGS[inner]] = _shortest(value) if isinstance(value, float) else value
        elif inner not in ("type", "finetuned"):
            raise Invalid(Problem(stored.path, "is not supported yet", key, value=shown(keys[key])))
    if kind == "linear":
        found.pop("original_max_position_embeddings", None)  # nothing reads it
    return found


_LOW, _HIGH, _ORIGINAL = 1.0, 4.0, 8192
"""What every published Llama has of its scaling, whose factors alone a file keeps."""
_WITHIN = 1e-5  # relative: factors are float32


def _by_frequencies(stored: Stored, config: Config) -> dict[str, Any]:
    """Llama 3's scaling, of which a file has the factors of the frequencies: those of its formula, or Invalid."""
    header = next(weight.header for weight in stored.weights if weight.name == FREQUENCIES)
    factors = _numbers(header.file, header.numbers) if header.type == "F32" else ()
    factor = max(factors, default=0.0)
    theta = config.get("rope_theta", _THETA)
    expected = [_factor(theta ** (-i / len(factors)), factor) for i in range(len(factors))] if factor >= 1 else []
    if not expected or any(not math.isclose(a, b, rel_tol=_WITHIN) for a, b in zip(factors, expected, strict=True)):
        what = "has factors of frequencies that are not those of Llama 3's scaling; others are not supported yet"
        raise Invalid(Problem(stored.path, what, FREQUENCIES))
    return {
        "rope_type": "llama3",
        "factor": factor,
        "low_freq_factor": _LOW,
        "high_freq_factor": _HIGH,
        "original_max_position_embeddings": _ORIGINAL,
    }


def _factor(frequency: float, factor: float) -> float:
    """By what a frequency is divided: `_compute_llama3_parameters` of transformers' modeling_rope_utils.py."""
    turns = _ORIGINAL * frequency / (2 * math.pi)
    if turns > _HIGH:
        return 1.0
    if turns < _LOW:
        return factor
    smooth = (turns - _LOW) / (_HIGH - _LOW)
    return 1 / ((1 - smooth) / factor + smooth)


_MOST_FACTORS = 4_096


def _numbers(path: str, count: int) -> tuple[float, ...]:
    """The F32 numbers of the factors' tensor; none where they are more than a head can have."""
    if count > _MOST_FACTORS:
        return ()
    place = read_gguf(path).places[FREQUENCIES]
    with open_file(path) as file:
        file.seek(place, os.SEEK_SET)
        return struct.unpack(f"<{count}f", file.read(4 * count))


def _shortest(value: float) -> float:
    """The decimal number of fewest digits that a float32 was made from: a file has 1e-05 as 9.999999747378752e-06."""
    if not math.isfinite(value):
        return value
    stored = struct.pack("<f", value)
    for digits in range(1, 10):
        short = float(f"{value:.{digits}g}")
        try:
            if struct.pack("<f", short) == stored:
                return short
        except OverflowError:  # rounded up, beyond the largest float32
            continue
    return value
