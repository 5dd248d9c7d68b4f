"""How often the weights of a model are used: a further gradient of one that has one already is added to it."""

from __future__ import annotations

from collections import Counter

from archcalc.tape.ops import Weight
from archcalc.tape.passes import Segment


class Uses:
    """How often each weight is still to get a gradient, and which have one: shared by the walks of a model."""

    def __init__(self, segments: list[Segment]) -> None:
        self.left = Counter(self.key(weight, segment) for segment in segments for _, weight in segment.weights)
        self.met: set[tuple[str, int | None]] = set()

    @classmethod
    def of_layer(cls, segment: Segment, *, behind: bool, before: bool) -> Uses:
        """Those of one layer; what it shares with others is used in layers `behind` it too, or `before` it."""
        found = cls([segment])
        shared = [key for key in found.left if key[1] is None]
        found.left.update(shared if before else ())
        found.met.update(shared if behind else ())
        return found

    @staticmethod
    def key(weight: Weight, segment: Segment) -> tuple[str, int | None]:
        """One weight: layers have their own, of one name in every group of layers."""
        return weight.path, id(segment.env) if "{i}" in weight.path else None
