"""Where a word stands in a text that was cut into tokens, and which of its tokens has seen the whole of it."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple


class Occurrence(NamedTuple):
    """The last place of a word: the token with its end, of how many that it takes, and how often the word is there."""

    position: int
    tokens: int
    times: int


def last_occurrence(parts: Sequence[bytes], word: str) -> Occurrence | None:
    """The last occurrence of a word among tokens, which are given as bytes; a whole word before a part of another.

    Its last token is the one that a model has shown the whole word. `times` counts occurrences of the same kind: whole
    words where there is one. None where the text does not have it, or it is empty.
    """
    text = b"".join(parts).decode(errors="replace")
    alone = [match.span() for match in re.finditer(rf"(?<!\w){re.escape(word)}(?!\w)", text)]
    found = alone or [match.span() for match in re.finditer(re.escape(word), text)]
    if not word or not found:
        return None
    ends = list(accumulate(map(len, parts)))
    begin, end = (len(text[:place].encode()) for place in found[-1])
    first, last = bisect_right(ends, begin), bisect_right(ends, end - 1)
    return Occurrence(last, last - first + 1, len(found))
