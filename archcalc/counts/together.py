"""Ways through one segment that differ in what is recomputed, side by side: each number is an array of them.

What is in use beside a layer follows from these numbers in the same way whatever is recomputed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from archcalc.counts.liveness import Walk
from archcalc.counts.moments import Moment
from archcalc.counts.stack import AXES
from archcalc.tape.legend import Size, add, alongside, largest


class Together:
    """Several walks as one: of the moments there are only the largest."""

    saved: Size
    recomputed: Size
    gradients: Size
    transient: Size
    leaves: Size
    copied: Size
    entry: Moment

    def __init__(self, walks: Sequence[Walk]) -> None:
        self._walks = walks
        self.width = walks[0].width

    def forward(self) -> Iterator[Moment]:
        """The largest moment of the forward pass."""
        yield from self._largest([_by_parts(walk.forward()) for walk in self._walks])

    def backward(self) -> Iterator[Moment]:
        """The largest moment of the backward pass, and the largest that is past the layer's part of what all share."""
        yield from self._largest([_by_parts(walk.backward()) for walk in self._walks])
        entries = [walk.entry for walk in self._walks]
        self.entry = Moment(
            "backward", "", *(self._along(n) for n in zip(*(one[2:6] for one in entries), strict=True))
        )

    @property
    def handed_back(self) -> Size:
        """Bytes of gradients that wait for those of all other layers."""
        return self._walks[0].handed_back

    def _largest(self, each: Sequence[dict[bool, Size]]) -> Iterator[Moment]:
        for past in (False, True):
            if any(past in totals for totals in each):
                yield Moment("", "", 0, 0, 0, self._along([totals.get(past, 0) for totals in each]), past)
        for name in ("saved", "recomputed", "gradients", "transient", "leaves", "copied"):
            setattr(self, name, self._along([getattr(walk, name) for walk in self._walks]))

    @staticmethod
    def _along(numbers: Sequence[Size]) -> Size:
        return alongside(numbers, AXES)


def _by_parts(moments: Iterable[Moment]) -> dict[bool, Size]:
    """The largest moments before a layer is done with its part of what was made for all layers, and after."""
    totals: dict[bool, list[Size]] = {}
    for one in moments:
        totals.setdefault(one.past_parts, []).append(total(one))
    return {past: largest(some) for past, some in totals.items()}


def total(moment: Moment) -> Size:
    """All bytes of a moment."""
    return add((moment.saved, moment.recomputed, moment.gradients, moment.transient))
