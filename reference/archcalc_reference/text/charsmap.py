"""The table of characters that a SentencePiece normalizer has compiled: how much it may put in.

A trie of so many bytes, and after it the texts that it leads to, each with a zero at its end (sentencepiece,
src/normalizer.cc, `DecodePrecompiledCharsMap`).
"""

from __future__ import annotations

import base64
import binascii
from typing import Any

from archcalc.errors import Invalid, Problem, shown

LARGEST = 2**22
"""Characters of the table in base64; those of T5 and XLM-R have 316,720."""
_WHERE = "normalizer.precompiled_charsmap"


def longest_put_in(table: Any, path: str) -> int:
    """Bytes of the longest text that stands for a character. Raises Invalid for anything but such a table."""
    if not isinstance(table, str) or len(table) > LARGEST:
        raise Invalid(Problem(path, f"must be a text of at most {LARGEST:,} characters", _WHERE, value=shown(table)))
    try:
        data = base64.b64decode(table, validate=True)
    except (binascii.Error, ValueError):
        raise Invalid(Problem(path, "is not base64", _WHERE, value=shown(table))) from None
    size = int.from_bytes(data[:4], "little")
    if len(data) < 8 or size % 4 or size > len(data) - 4 or data[-1:] != b"\0":
        raise Invalid(Problem(path, "is not a table of SentencePiece", _WHERE))
    return max(map(len, data[4 + size :].split(b"\0")))
