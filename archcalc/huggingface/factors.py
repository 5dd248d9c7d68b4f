"""How a GGUF file scales rotary positions: by keys below `rope.scaling`, or by factors of the frequencies in tensors.

Llama 3's scaling is kept as its factors alone, and Phi-3's as two lists of them, for short contexts and for long ones.
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Mapping
from typing import Any

from archcalc.errors import Invalid, Problem, shown
from archcalc.files.regular import open_file
from archcalc.huggingface.architectures import FREQUENCIES, LONG, SHORT, THETA, Architecture, Config
from archcalc.huggingface.gguf import Length, read_gguf
from archcalc.huggingface.packing import Weight
from archcalc.huggingface.stored import Stored

SCALING = "rope.scaling."
LISTED = "has a value for each layer, which is not supported yet"
_KINDS = ("linear", "yarn")
_ORIGINAL = "original_context_length"
_SETTINGS = {
    "factor": "factor",
    _ORIGINAL: "original_max_position_embeddings",
    "yarn_attn_factor": "attention_factor",
    "yarn_beta_fast": "beta_fast",
    "yarn_beta_slow": "beta_slow",
}
_IDLE = ("type", "finetuned")
_NEUTRAL = {
    "yarn_ext_factor": (-1.0, 0.0),
    "yarn_log_multiplier": (0.0,),
    "yarn_attn_factor": (1.0,),
    "attn_factor": (1.0,),
}
"""Keys that say nothing where they have these values."""
_WITHIN = 1e-5  # relative: factors are float32


def scaling_of(stored: Stored, table: Architecture, prefix: str, config: Config) -> dict[str, Any] | None:
    """How the angles are scaled, as config.json says it; None where they are not.

    Without a type the scaling is linear, and without a factor, or with one of 0, there is none: llama-model.cpp.
    Raises Invalid for another way, and for a key that bears on the angles and is not read.
    """
    start = prefix + SCALING
    said = {key.removeprefix(start): value for key, value in (stored.gguf or {}).items() if key.startswith(start)}
    if lists := [inner for inner, value in said.items() if type(value) is Length]:
        raise Invalid(*(Problem(stored.path, LISTED, start + inner) for inner in lists))
    if said.get("finetuned") is False and table.model_type.startswith("granite"):
        what = "is read by this architecture as no positions at all, which is not supported yet"
        raise Invalid(Problem(stored.path, what, start + "finetuned", value="false"))
    tensors = {weight.name: weight for weight in stored.weights if weight.name in table.factors}
    kind, factor = said.get("type", "linear"), said.get("factor", 0.0)
    if kind not in (*_KINDS, "none"):
        what, fix = "is a scaling of positions that is not supported yet", f"supported: none, {', '.join(_KINDS)}"
        raise Invalid(Problem(stored.path, what, start + "type", value=shown(kind), suggestion=fix))
    if type(factor) not in (int, float) or not factor >= 0:
        raise Invalid(Problem(stored.path, "must be a number, at least 0", start + "factor", value=shown(factor)))
    scaled = kind != "none" and factor not in (0, 1)
    if tensors and scaled:
        what = f"is not supported yet beside {next(iter(tensors))}, which scales positions too"
        raise Invalid(Problem(stored.path, what, start + "factor", value=shown(factor)))
    _refuse_unread(stored.path, start, said, _neutral(tensors, kind if scaled else "none"))
    if FREQUENCIES in tensors:
        return _of_llama_3(stored, tensors[FREQUENCIES], config)
    if tensors:
        return _of_phi_3(stored, tensors, said, start, config)
    if not scaled:
        return {"rope_type": "default"} if table.scaling else None
    found: dict[str, Any] = {"rope_type": kind, **(table.scaling if kind == "yarn" else {})}
    for inner, value in said.items():
        if inner in _SETTINGS and (inner == "factor" or kind == "yarn"):
            found[_SETTINGS[inner]] = shortest(value) if isinstance(value, float) else value
    return found


def _neutral(tensors: Mapping[str, Weight], kind: str) -> Mapping[str, tuple[Any, ...]]:
    """What the keys that are not read may have: those of YaRN, and what only lists of factors go with."""
    neutral: dict[str, tuple[Any, ...]] = dict(_NEUTRAL)
    if kind == "yarn":
        neutral["yarn_ext_factor"] = (-1.0, 1.0)
        del neutral["yarn_attn_factor"]
    if SHORT in tensors or LONG in tensors:
        del neutral["attn_factor"]
    return neutral


def _refuse_unread(path: str, start: str, said: Mapping[str, Any], neutral: Mapping[str, tuple[Any, ...]]) -> None:
    """Raise Invalid for each key that is not read and says something."""
    known = {*_SETTINGS, *_IDLE, *_NEUTRAL}
    wrong = [
        Problem(path, "is not supported yet", start + inner, value=shown(value))
        for inner, value in said.items()
        if inner not in known or value not in neutral.get(inner, (value,))
    ]
    if wrong:
        raise Invalid(*wrong)


_LOW, _HIGH, _TRAINED = 1.0, 4.0, 8192
"""What every published Llama has of its scaling, whose factors alone a file keeps."""


def _of_llama_3(stored: Stored, tensor: Weight, config: Config) -> dict[str, Any]:
    """Llama 3's scaling, of which a file has the factors of the frequencies: those of its formula, or Invalid."""
    factors = _numbers(tensor)
    factor = max(factors, default=0.0)
    theta = config.get("rope_theta", THETA)
    if type(theta) not in (int, float) or not theta > 0:
        theta = THETA  # told when the base itself is read
    expected = [_factor(theta ** (-i / len(factors)), factor) for i in range(len(factors))] if factor >= 1 else []
    if not expected or any(not math.isclose(a, b, rel_tol=_WITHIN) for a, b in zip(factors, expected, strict=True)):
        what = "has factors of frequencies that are not those of Llama 3's scaling; others are not supported yet"
        raise Invalid(Problem(stored.path, what, FREQUENCIES))
    return {
        "rope_type": "llama3",
        "factor": factor,
        "low_freq_factor": _LOW,
        "high_freq_factor": _HIGH,
        "original_max_position_embeddings": _TRAINED,
    }


def _factor(frequency: float, factor: float) -> float:
    """By what a frequency is divided: `_compute_llama3_parameters` of transformers' modeling_rope_utils.py."""
    turns = _TRAINED * frequency / (2 * math.pi)
    if turns > _HIGH:
        return 1.0
    if turns < _LOW:
        return factor
    smooth = (turns - _LOW) / (_HIGH - _LOW)
    return 1 / ((1 - smooth) / factor + smooth)


def _of_phi_3(
    stored: Stored, tensors: Mapping[str, Weight], said: Mapping[str, Any], start: str, config: Config
) -> dict[str, Any]:
    """The two lists of factors. By what sines and cosines grow follows from the contexts, or is said."""
    found: dict[str, Any] = {"rope_type": "longrope"}
    for key, name in (("short_factor", SHORT), ("long_factor", LONG)):
        if name not in tensors:
            raise Invalid(Problem(stored.path, "is missing, and the other list of factors is there", name))
        found[key] = [shortest(number) for number in _numbers(tensors[name])]
        if not found[key]:
            raise Invalid(Problem(stored.path, "must be numbers of type F32, one for each pair of features", name))
    growth = said.get("attn_factor", 1.0)
    if type(growth) is not float:
        what = "must be a number of type F32"
        raise Invalid(Problem(stored.path, what, start + "attn_factor", value=shown(growth)))
    if not math.isclose(growth, _growth(said, config), rel_tol=_WITHIN):
        found["attention_factor"] = shortest(growth)
    return found


def _growth(said: Mapping[str, Any], config: Config) -> float:
    """What transformers takes (modeling_rope_utils.py, `_compute_longrope_parameters`); 0 where none is said."""
    context, trained = config.get("max_position_embeddings"), said.get(_ORIGINAL)
    if type(context) is not int or type(trained) is not int or context < 1 or trained < 2:
        return 0.0
    longer = context / trained
    return math.sqrt(1 + math.log(longer) / math.log(trained)) if longer > 1 else 1.0


_MOST_FACTORS = 4_096


def _numbers(tensor: Weight) -> tuple[float, ...]:
    """The numbers of a tensor of factors; none where they are not F32, or more than a head can have."""
    header = tensor.header
    if header.type != "F32" or header.numbers > _MOST_FACTORS:
        return ()
    place = read_gguf(header.file).places[header.name]
    with open_file(header.file) as file:
        file.seek(place, os.SEEK_SET)
        return struct.unpack(f"<{header.numbers}f", file.read(4 * header.numbers))


def shortest(value: float) -> float:
    """The decimal number of fewest digits that a float32 was made from: a file has 1e-05 as 9.999999747378752e-06."""
    if not math.isfinite(value):
        return value
    try:
        stored = struct.pack("<f", value)
    except OverflowError:  # of type F64, beyond the largest float32
        return value
    for digits in range(1, 10):
        short = float(f"{value:.{digits}g}")
        try:
            if struct.pack("<f", short) == stored:
                return short
        except OverflowError:  # rounded up, beyond the largest float32
            continue
    return value
