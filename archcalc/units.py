"""Quantities as text, both ways. The only place that rounds."""

from __future__ import annotations

import re
from typing import Literal

Unit = Literal["B", "B/s", "FLOP/s", "OP/s", "W"]

_SHORT = (
    (10**24, "Y"),
    (10**21, "Z"),
    (10**18, "E"),
    (10**15, "P"),
    (10**12, "T"),
    (10**9, "B"),
    (10**6, "M"),
    (10**3, "k"),
)
_COUNTS = {"k": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}
_COUNT = re.compile(r"([0-9]{1,20})(?:\.([0-9]{1,20}))?([kMBT])")
_LENGTH = re.compile(r"([1-9][0-9]{0,15})k")
_DECIMAL = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "P": 10**15}
_BINARY = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
_EXAMPLES: dict[Unit, str] = {
    "B": "'80 GB' or '80 GiB'",
    "B/s": "'3350 GB/s'",
    "FLOP/s": "'989 TFLOP/s'",
    "OP/s": "'1979 TOP/s'",
    "W": "'700 W'",
}


def grouped(n: int) -> str:
    """An integer in full: 174,604,259,328."""
    return f"{n:,}"


def short(n: int) -> str:
    """An integer in four digits: 617.6M, 14.50B, 175.2B; below ten thousand in full."""
    if abs(n) < 10_000:
        return grouped(n)
    n = to_digits(n, 4)  # first, so that 999,950 becomes 1.000M and not 1000.0k
    scale, suffix = next((s, x) for s, x in _SHORT if abs(n) >= s)
    decimals = 4 - len(str(abs(n) // scale))
    return f"{n / scale:.{max(decimals, 0)}f}{suffix}"


def to_digits(n: int, digits: int) -> int:
    """`n` rounded to so many significant decimal digits, halves away from zero, as a printed table is read."""
    step: int = 10 ** max(len(str(abs(n))) - digits, 0)
    rounded = (abs(n) + step // 2) // step * step
    return rounded if n >= 0 else -rounded


def percent(part: int, whole: int) -> str:
    """The signed share of a difference: +0.23%."""
    return f"{100 * part / whole:+.2f}%"


def several(n: int, noun: str) -> str:
    """How many of what: 1 layer, 96 layers."""
    return f"{grouped(n)} {noun}" + "s" * (n != 1)


def share(part: float, whole: float) -> str:
    """A part of a whole: 99.94%."""
    return f"{100 * part / whole:.2f}%" if whole else "-"


def scientific(n: int) -> str:
    """Four digits and a power of ten: 3.229e23."""
    mantissa, _, exponent = f"{n:.3e}".partition("e")
    return f"{mantissa}e{int(exponent)}"


def four_digits(x: float) -> str:
    """A number that was worked out, in four digits: 0.6590, -12.35, 1.234e-09."""
    return f"{x:#.4g}".rstrip(".")


def plain(x: float) -> str:
    """A number that was given, as short as it can be said: 2, 0.1, -inf."""
    return f"{x:.10g}"


def binary(n: int) -> str:
    """Bytes in four digits: 72.55 GiB, 4.500 MiB; below a KiB in full."""
    size: float = n
    for unit in ("KiB", "MiB", "GiB", "TiB", "PiB", "EiB"):
        size /= 1024
        if abs(size) < 1000 or unit == "EiB":
            break
    if abs(n) < 1024:
        return f"{n} B"
    return f"{size:,.{max(3 - len(str(int(abs(size)))) + 1, 0)}f} {unit}"


def shape(sizes: tuple[int, ...]) -> str:
    """The sizes of an array: 12,288 x 50,257."""
    return " x ".join(grouped(n) for n in sizes)


def parse_count(text: str) -> int | None:
    """A count with a suffix, 300B = 300,000,000,000; None where `text` is none."""
    match = _COUNT.fullmatch(text)
    if match is None:
        return None
    digits, fraction, suffix = match[1], match[2] or "", match[3]
    scaled = int(digits + fraction) * _COUNTS[suffix]
    return scaled // 10 ** len(fraction) if scaled % 10 ** len(fraction) == 0 else None


def parse_length(text: str) -> int | None:
    """A length in tokens with a suffix, 32k = 32,768; None where `text` is none."""
    match = _LENGTH.fullmatch(text)
    return int(match[1]) * 1024 if match else None


def quantity_pattern(unit: Unit) -> str:
    """The regular expression of an amount with a unit, 494.5 TFLOP/s: whole part, fraction, prefix."""
    prefixes = "|".join(_prefixes(unit))
    return rf"^([0-9]{{1,20}})(?:\.([0-9]{{1,20}}))? ?({prefixes}){unit}$"


def parse_quantity(text: str, unit: Unit) -> int:
    """An amount in its base unit, exactly: 494.5 TFLOP/s = 494,500,000,000,000; GB is 10^9 bytes and GiB 2^30.

    Raises ValueError, which says what would be right, where `text` is no such amount or none at all.
    """
    match = re.fullmatch(quantity_pattern(unit), text)
    if match is not None:
        fraction = match[2] or ""
        parts: int = 10 ** len(fraction)
        scaled = int(match[1] + fraction) * _prefixes(unit)[match[3]]
        if scaled and scaled % parts == 0:
            return scaled // parts
    raise ValueError(f"must be an amount such as {_EXAMPLES[unit]}")


def _prefixes(unit: Unit) -> dict[str, int]:
    return {**_DECIMAL, **_BINARY} if unit.startswith("B") else _DECIMAL
