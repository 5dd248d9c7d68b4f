"""How a folder says that its weights are packed: quantization_config in config.json, or a file of its own.

A header has the shapes of what is packed, and mostly they tell how. Where they do not (32-bit words without zero
points, a matrix of 8-bit scales), the bits of a number or the size of a group are taken from here.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, NamedTuple

from archcalc.files.regular import read_regular
from archcalc.huggingface.reading import LARGEST_CONFIG, parse_config

CONFIG = "config.json"
_FILES = ("quantize_config.json", "quant_config.json", "hf_quant_config.json")
"""Written by AutoGPTQ, by AutoAWQ and by NVIDIA's ModelOpt."""
_INSIDE = ("quantization_config", "compression_config", "quantization")
_TEXT = ("text_config", "llm_config", "language_config")


class Scheme(NamedTuple):
    """So many bits for a number; the numbers of a group have a scale together."""

    bits: int
    group: int | None


class Quantization(NamedTuple):
    """What is said: the method's name, the schemes in their order, and rows and columns of a block with one scale."""

    method: str = ""
    schemes: tuple[Scheme, ...] = ()
    block: tuple[int, int] | None = None


def read_object(path: str) -> dict[str, Any]:
    """A small file's JSON object. Raises Missing without it, Invalid for anything else."""
    return parse_config(read_regular(path, LARGEST_CONFIG), path)


def quantization_beside(folder: str) -> Quantization:
    """What the files of a folder say of its weights; nothing where they say nothing."""
    for name in (CONFIG, *_FILES):
        path = os.path.join(folder, name)
        if not os.path.isfile(path):
            continue
        for said in _mappings(read_object(path), whole=name != CONFIG):
            return _understood(said)
    return Quantization()


def _mappings(data: dict[str, Any], *, whole: bool) -> Iterator[dict[str, Any]]:
    """The mappings that may say it, the surest first."""
    for place in (data, *(data[key] for key in _TEXT if isinstance(data.get(key), dict))):
        yield from (place[key] for key in _INSIDE if isinstance(place.get(key), dict))
    if whole:
        yield data


def _understood(said: dict[str, Any]) -> Quantization:
    method = next((said[key] for key in ("quant_method", "quant_algo") if isinstance(said.get(key), str)), "")
    found = [_scheme(said), *(_scheme(weights) for weights in _groups(said))]
    block = said.get("weight_block_size")
    sizes = (block[0], block[1]) if isinstance(block, list) and len(block) == 2 and all(map(_is_size, block)) else None
    return Quantization(method.lower(), tuple(one for one in found if one), sizes)


def _groups(said: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """What compressed-tensors says of the weights of each group of layers."""
    groups = said.get("config_groups")
    for group in groups.values() if isinstance(groups, dict) else ():
        weights = group.get("weights") if isinstance(group, dict) else None
        if isinstance(weights, dict):
            yield weights


def _scheme(said: dict[str, Any]) -> Scheme | None:
    bits = next((said[key] for key in ("bits", "num_bits", "w_bit", "wbits") if _is_size(said.get(key))), None)
    group = next((said[key] for key in ("group_size", "q_group_size") if _is_size(said.get(key))), None)
    return None if bits is None or bits > 16 else Scheme(bits, group)


def _is_size(value: Any) -> bool:
    return type(value) is int and 0 < value < 2**31
