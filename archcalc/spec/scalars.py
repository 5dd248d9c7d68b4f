"""Plain scalars as YAML 1.2's core schema has them: `1e9` is a number and `no` a word; `_` may part digits."""

from __future__ import annotations

import re
from typing import Any

LONGEST_NUMBER = 40

_WORDS = {"": None, "~": None, "null": None, "true": True, "false": False}
_WORDS |= {form: value for word, value in list(_WORDS.items()) for form in (word.capitalize(), word.upper())}
_NUMERIC = re.compile(r"[-+.0-9][-+.0-9_eE]*")
_INTEGER = re.compile(r"[-+]?[0-9][0-9_]*")
_BASED = re.compile(r"0x[0-9a-fA-F][0-9a-fA-F_]*|0o[0-7][0-7_]*")
_FLOAT = re.compile(r"([-+]?)([0-9][0-9_]*)?(?:\.([0-9][0-9_]*)?)?(?:[eE]([-+]?[0-9]+))?")
_NAMED_FLOAT = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")


def plain_float(text: str | bytes) -> float | None:
    """A number in ASCII as files of numbers have it, inf and nan too; None for others (1_0, Arabic digits)."""
    if ("_" in text if isinstance(text, str) else b"_" in text) or not text.isascii():
        return None
    try:
        return float(text)
    except ValueError:
        return None


def vanishes(text: str, number: float) -> bool:
    """Whether a number that was written above 0, such as 1e-400, became 0."""
    return not number and any(digit in "123456789" for digit in text.lower().partition("e")[0])


def is_long_number(text: str) -> bool:
    """Whether it looks like a number of more characters than a number may have."""
    return len(text) > LONGEST_NUMBER and bool(_NUMERIC.fullmatch(text) or _BASED.fullmatch(text))


def is_plain(text: str) -> bool:
    """Whether a text may stand in YAML without quotes and be read as that text.

    PyYAML takes care of YAML's own signs. YAML 1.2 has other numbers; and U+0085 and the like, which end a line in
    YAML 1.1, are lost without an escape.
    """
    return resolve(text) == text and not is_long_number(text) and text.isprintable()


def resolve(text: str) -> Any:
    """A plain scalar's value: null, a boolean, a number, or the text itself.

    A number with an exponent that comes out whole is an int, so that `174.6e9` counts parameters exactly. Longer than
    a number may be is text.
    """
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in "+-.0123456789" or len(text) > LONGEST_NUMBER:
        return text
    if _INTEGER.fullmatch(text):
        return int(text.replace("_", ""))
    if _BASED.fullmatch(text):
        return int(text[2:].replace("_", ""), 16 if text[1] == "x" else 8)
    if _NAMED_FLOAT.fullmatch(text):
        return float(text.replace(".", ""))
    match = _FLOAT.fullmatch(text)
    if match is None or not (match[2] or match[3]):
        return text
    sign, whole, fraction, exponent = (part or "" for part in match.groups())
    digits, fraction = whole.replace("_", ""), fraction.replace("_", "")
    shift = int(exponent or "0") - len(fraction)
    if exponent and 0 <= shift <= LONGEST_NUMBER:
        return int(sign + digits + fraction) * 10**shift
    return float(text.replace("_", ""))
