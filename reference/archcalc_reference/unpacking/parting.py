"""The merges of a vocabulary that has none: every way of parting each token in two others.

A file of n letters may have tokens that are all the parts of one text, whose merges have n squared letters; so they
are counted while they are made.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar

from archcalc.errors import Invalid, Problem

T = TypeVar("T", str, bytes)

MOST_LETTERS = 2**22
"""Characters or bytes of all tokens: each is a place to part one at. 262,000 tokens of Gemma have 2 million."""
MOST_MERGES = 1_000_000
"""Ways of parting all tokens; 262,000 tokens of Gemma have 515,000."""
MOST_MERGED = 2**23
"""Characters or bytes of all merges: a token's for each way of parting it."""


def merges_of(
    tokens: Iterable[T], ranks: Mapping[T, int], words: Mapping[T, str], *, at: tuple[str, str] = ("", "")
) -> list[tuple[str, str]]:
    """The merges, in the order of the tokens that they make and of the ranks of their parts.

    A part is a token that has a rank; `words` is how the merges write it. Where there are too many, Invalid is raised
    `at` a file and a key of it.
    """
    found: list[tuple[str, str]] = []
    letters = merged = 0
    for token in tokens:
        letters += len(token)
        if letters > MOST_LETTERS:
            raise Invalid(Problem(at[0], f"has tokens of more than {MOST_LETTERS:,} characters in all", at[1]))
        ways = [
            (left, right, place)
            for place in range(1, len(token))
            if (left := ranks.get(token[:place])) is not None and (right := ranks.get(token[place:])) is not None
        ]
        merged += len(ways) * len(token)
        if len(found) + len(ways) > MOST_MERGES or merged > MOST_MERGED:
            what = (
                f"has tokens that are made of others in more than {MOST_MERGES:,} ways, or {MOST_MERGED:,} characters"
            )
            raise Invalid(Problem(at[0], what, at[1]))
        found += [(words[token[:place]], words[token[place:]]) for _, _, place in sorted(ways)]
    return found
