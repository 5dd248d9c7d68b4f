"""Groups with a pattern that a question makes longer: what comes first stays first, and the rest is repeated.

Kimi Linear has a dense layer, and behind it three of one kind and one of another again and again, as far as its 27
layers go: with 54 layers it has one dense layer, and not two.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from archcalc.tape.legend import anywhere
from archcalc.units import several

_FEW = 3
"""So many layers may come first, or as many as are repeated."""


class Lengthened(NamedTuple):
    """A group's new pattern, by the index of the group, and what it keeps."""

    group: int
    pattern: list[str]
    because: str


def lengthened(groups: Any, was: dict[int, int]) -> Iterator[Lengthened]:
    """The patterns that a larger number of layers would begin anew, though they were written once and whole.

    `was` has the layers of each group before. The new number may be an array: the pattern is as long as the largest.
    """
    for index, layers in was.items():
        pattern, now = groups[index].get("pattern"), groups[index].get("repeat")
        if not isinstance(pattern, list) or layers > len(pattern) or not _are_more(now, len(pattern)):
            continue
        first, again = beginning(pattern)
        if first and again:
            most = int(now.max()) if hasattr(now, "max") else now
            cycle = pattern[first : first + again]
            longer = pattern + [cycle[(i - first) % again] for i in range(len(pattern), most)]
            begins = "the first layer" if first == 1 else f"the first {several(first, 'layer')}"
            yield Lengthened(index, longer, f"{begins} once and repeat the {again:,} that follow")


def _are_more(now: Any, than: int) -> bool:
    """Whether a group has more layers, in any row of an array."""
    from archcalc.spec.groups import MOST_REPEATS

    if hasattr(now, "dtype"):
        return anywhere(now > than) and not anywhere(now > MOST_REPEATS)
    return isinstance(now, int) and not isinstance(now, bool) and than < now <= MOST_REPEATS


def beginning(pattern: list[str]) -> tuple[int, int]:
    """How many layers come first, and how many are repeated behind them twice or more; (0, 0) where none are.

    Found from the end, as the longest part that repeats itself (Knuth, Morris and Pratt 1977).
    """
    back = pattern[::-1]
    fits = [0] * len(back)
    for i in range(1, len(back)):
        at = fits[i - 1]
        while at and back[i] != back[at]:
            at = fits[at - 1]
        fits[i] = at + (back[i] == back[at])
    for size in range(len(back), 1, -1):
        period = size - fits[size - 1]
        first = len(back) - size
        if 2 * period <= size and first <= max(period, _FEW):
            return first, period
    return 0, 0
