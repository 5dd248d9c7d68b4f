"""Quantities as text, both ways. The only place that rounds."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence
    from fractions import Fraction

Unit = Literal["B", "B/s", "FLOP/s", "OP/s", "W", "FLOPs"]

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
_COUNTS = {"k": 10**3, "m": 10**6, "b": 10**9, "t": 10**12}
_LENGTHS = {"k": 2**10, "m": 2**20}
_TYPED = re.compile(
    r"([0-9]{1,20}|[0-9]{1,3}(?:,[0-9]{3}){1,6}|[0-9]{1,3}(?:_[0-9]{3}){1,6})(?:\.([0-9]{1,20}))? ?([A-Za-z]?)"
)
_CURRENCY = r"(?:[A-Z]{2}\$|[^\W\d_]{1,4}|[$€£¥₩₹₽])"
_PRICE = re.compile(
    rf"(?:({_CURRENCY}) ?)?([0-9]{{1,12}}(?:\.[0-9]{{1,12}})?)(?: ?({_CURRENCY}))?"
    r"(?: ?(?:/|per) ?(?:(?:gpu|device|chip)[- /]?)?h(?:r|our)?)?",
    re.IGNORECASE,
)
_NO_CURRENCY = ("h", "hr", "hour", "d", "day", "s", "k", "m", "b")
_SHARE = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,12})?|\.[0-9]{1,12}) ?(%?)")
_TIMES = ((86_400, "days"), (3_600, "hours"), (60, "minutes"), (1, "seconds"), (10**-3, "ms"))
_DECIMAL = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "P": 10**15}
_BINARY = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
_EXAMPLES: dict[Unit, str] = {
    "B": "'80 GB' or '80 GiB'",
    "B/s": "'3350 GB/s'",
    "FLOP/s": "'989 TFLOP/s'",
    "OP/s": "'1979 TOP/s'",
    "W": "'700 W'",
    "FLOPs": "'2.5 GFLOPs'",
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
    """`n` rounded to `digits` significant decimal digits, halves away from zero, as a printed table is read."""
    step: int = 10 ** max(len(str(abs(n))) - digits, 0)
    rounded = (abs(n) + step // 2) // step * step
    return rounded if n >= 0 else -rounded


def percent(part: int, whole: int) -> str:
    """The signed share of a difference: +0.23%."""
    return f"{100 * part / whole:+.2f}%"


def several(n: int, noun: str) -> str:
    """How many of what: 1 layer, 96 layers."""
    return f"{grouped(n)} {noun}" + "s" * (n != 1)


def listed(words: Sequence[str]) -> str:
    """Words as a sentence has them: latents, rotary keys and index keys."""
    return " and ".join([*([", ".join(words[:-1])] if len(words) > 1 else []), *words[-1:]])


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


def rate(n: int, unit: str) -> str:
    """So many of a unit, by a decimal prefix up to T: 312 TFLOP/s, 2,039 GB/s."""
    names = ("T", "G", "M", "k") if unit.startswith(("FLOP", "OP")) else ("G", "M", "k")
    prefix = next((name for name in names if n >= _DECIMAL[name]), "")
    return f"{n / _DECIMAL[prefix]:,.10g} {prefix}{unit}"


def money(amount: float, currency: str) -> str:
    """An amount with its currency, a sign before it and a code behind it: $446.15, 446.15 USD, 446.15."""
    text = f"{amount:,.0f}" if amount >= 1e6 else f"{amount:,.2f}" if amount >= 0.01 else in_digits(amount)
    return f"{text} {currency}" if currency.isalpha() else f"{currency}{text}"


def shape(sizes: tuple[int, ...]) -> str:
    """The sizes of an array: 12,288 x 50,257."""
    return " x ".join(grouped(n) for n in sizes)


def parse_count(text: str) -> int | None:
    """A count as people type it: 300B, 300b and 1.5T with a suffix of thousands, 1,000,000 in groups.

    None for a number without either, and for what is no whole number.
    """
    return _typed(text, _COUNTS)


def parse_length(text: str) -> int | None:
    """A length in tokens: 32k and 32K are 32,768, 1M is 1,048,576, 1.5k is 1,536; else as `parse_count`."""
    return _typed(text, _LENGTHS)


def _typed(text: str, scales: dict[str, int]) -> int | None:
    match = _TYPED.fullmatch(text)
    if match is None or not (match[3] or "," in match[1]):
        return None
    scale = scales.get(match[3].lower()) if match[3] else 1
    fraction = match[2] or ""
    if scale is None or (fraction and scale == 1):
        return None
    scaled = int(re.sub("[,_]", "", match[1]) + fraction) * scale
    parts: int = 10 ** len(fraction)
    return scaled // parts if scaled % parts == 0 else None


def parse_share(text: str) -> Fraction | None:
    """A share of a whole: 40%, 0.4 and 40 are 2/5. None for other text, and for 1, which may mean 1% or all."""
    from fractions import Fraction

    match = _SHARE.fullmatch(text)
    if match is None:
        return None
    number = Fraction(match[1])
    return None if not match[2] and number == 1 else number / 100 if match[2] or number > 1 else number


def parse_price(text: str) -> tuple[Fraction, str] | None:
    """A price of an hour and the currency that it names, if any: 2, 2/h, $2/h, 1.99 USD/hr. None for anything else."""
    from fractions import Fraction

    match = _PRICE.fullmatch(text)
    if match is None or (match[1] and match[3]):
        return None
    currency = match[1] or match[3] or ""
    return None if currency.lower() in _NO_CURRENCY else (Fraction(match[2]), currency)


def elapsed(seconds: float) -> str:
    """A time in four digits, in the largest unit that it fills: 16.10 days, 41.30 minutes, 0.02500 ms."""
    size, unit = next(((size, unit) for size, unit in _TIMES if seconds >= size), _TIMES[-1])
    return f"{in_digits(seconds / size)} {unit}"


def in_digits(x: float) -> str:
    """A number that was worked out, in four digits and never in powers of ten: 0.6590, 16.10, 12,350."""
    return f"{x:,.0f}" if abs(x) >= 1000 else f"{x:#.4g}".rstrip(".") if abs(x) >= 1e-3 else f"{x:.3g}"


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
    raise ValueError(quantity_words(unit))


def quantity_words(unit: Unit) -> str:
    """What a text must be to be an amount of a unit."""
    return f"must be an amount such as {_EXAMPLES[unit]}"


def quantity_examples(unit: Unit) -> list[str]:
    """A few amounts of a unit as text."""
    return _EXAMPLES[unit].replace("'", "").split(" or ")


def _prefixes(unit: Unit) -> dict[str, int]:
    if unit == "FLOPs":
        return {**_DECIMAL, "E": 10**18}
    return {**_DECIMAL, **_BINARY} if unit.startswith("B") else _DECIMAL
