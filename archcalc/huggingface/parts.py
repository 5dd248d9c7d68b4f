"""The files of a folder, or of a model of the Hub, that are one model by their names: all parts of what is split."""

from __future__ import annotations

import re
from collections.abc import Callable

from archcalc.errors import Invalid, Problem

_PART = re.compile(r"(.*)-([0-9]{5})-of-([0-9]{5})(\.gguf|\.safetensors)", re.DOTALL)
_MOST_NAMED = 12


def part_of(name: str) -> int:
    """How many parts a file says by its name that there are; 1 for one that is whole."""
    match = _PART.fullmatch(name)
    return max(int(match[3]), 1) if match else 1


def parts_of(name: str) -> list[str]:
    """The names of all parts that a file is one of; of a whole one its own."""
    match = _PART.fullmatch(name)
    if match is None or int(match[3]) < 2 or match[4] != ".gguf":
        return [name]
    count = int(match[3])
    return [f"{match[1]}-{i + 1:05}-of-{count:05}.gguf" for i in range(count)]


def named_alone(there: list[str]) -> list[str]:
    """The one safetensors file of a folder, or all parts of one that have no index; nothing where it is not clear."""
    named = [name for name in there if name.endswith(".safetensors")]
    parts = [match for name in named if (match := _PART.fullmatch(name))]
    whole = len(parts) == len(named) and len({(part[1], part[3]) for part in parts}) == 1
    return named if len(named) == 1 or (whole and len(parts) == int(parts[0][3])) else []


def one_gguf(where: str, there: list[str], typed: Callable[[str], str] = str) -> str | None:
    """The GGUF file among some names, or the first of its parts; Invalid, at `where`, for several models.

    `typed` is how one is named on the command line.
    """
    models: dict[tuple[str, str], str] = {}
    for name in there:
        if name.endswith(".gguf"):
            match = _PART.fullmatch(name)
            models.setdefault((match[1], match[3]) if match else (name, ""), name)
    if len(models) > 1:
        named = [typed(name) for name in models.values()]
        listed = ", ".join(named[:_MOST_NAMED]) + f" or {len(named) - _MOST_NAMED:,} more" * (len(named) > _MOST_NAMED)
        raise Invalid(Problem(where, f"holds {len(models)} GGUF models", suggestion=f"name one: {listed}"))
    return next(iter(models.values()), None)
