"""Bounds as people write them: 1.6B, 300 KiB, 2.5 TFLOPs, 1.2x main:specs/model.yaml."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import NamedTuple

from archcalc.spec.scalars import resolve
from archcalc.units import Unit, grouped, parse_count, parse_quantity

LARGEST = 10**30
"""Of a bound; no quantity of a spec comes near."""

_RATIO = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?) ?x (.{1,4096})")
_UNITS: dict[str, Unit] = {"bytes": "B", "FLOPs": "FLOPs"}
_EXAMPLES = {
    "bytes": "300 KiB or 40 GB",
    "FLOPs": "2.5 GFLOPs or 1e12",
    "parameters": "1.6B or 1_600_000_000",
    "matrices": "28k or 28_000",
}


class Ratio(NamedTuple):
    """So many times what another spec has: `of` is a path, a name of the catalogue or a git revision."""

    times: Fraction
    of: str


def read_amount(written: int | float | str, unit: str) -> int | Ratio:
    """A bound of a quantity, in its unit. Raises ValueError, which says what would be right, for anything else."""
    if isinstance(written, str):
        text = written.strip()
        if ratio := _RATIO.fullmatch(text):
            return Ratio(Fraction(ratio[1]), ratio[2].strip())
        found = _number(text, unit)
    else:
        found = _whole(written)
    if found is None or not 0 <= found <= LARGEST:
        raise ValueError(f"must be an amount such as {_EXAMPLES[unit]}, or a ratio such as 1.2x main:specs/model.yaml")
    return found


def _number(text: str, unit: str) -> int | None:
    text = text.removesuffix(f" {unit}")
    text += "s" * text.endswith("FLOP")
    plain = resolve(text)
    if isinstance(plain, int | float) and not isinstance(plain, bool):
        return _whole(plain)
    if unit in _UNITS:
        try:
            return parse_quantity(text, _UNITS[unit])
        except ValueError:
            return None if unit == "bytes" else parse_count(text)
    return parse_count(text)


def _whole(number: int | float) -> int | None:
    """A number that is whole: 1e9 is, and 1.5, infinity and what is not a number are none."""
    if isinstance(number, float):
        return int(number) if number.is_integer() else None
    return number


def in_words(amount: int, written: int | float | str, unit: str) -> str:
    """A bound as it was written, with its unit where that lacks one."""
    text = written.strip() if isinstance(written, str) else grouped(amount)
    return text if unit == "bytes" and text[-1:] == "B" else f"{text.removesuffix(f' {unit}')} {unit}"
