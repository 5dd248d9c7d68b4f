"""The mesh of a segment: which axes of a plan cut which labels, and how far.

The tensor-parallel axis is two where it cuts two labels one after the other: with 8 key/value heads over 16 ranks the
first part, 8, cuts the heads of keys and values, and the second, 2, the query heads of each; an MLP's features are cut
by both. The data-parallel axis is two where it holds experts: `ep` of its ranks have different ones.
"""

from __future__ import annotations

from math import gcd
from typing import Any, NamedTuple

from archcalc.plan.description import Plan
from archcalc.tape.formula import Formula, word
from archcalc.tape.legend import Size, anywhere, stem
from archcalc.tape.passes import Segment

TP = ("tp", "tp.rest")
"""The two parts of the tensor-parallel axis; the second has one rank where nothing is cut twice."""
DP = ("dp", "ep")
PADDED = ("V", "answers")
"""Labels of weights alone: the last rank may have fewer of them."""
VECTORS = ("B", "sent", "M")
"""Labels whose sizes are those of one data-parallel rank already: a run's batch is that of a rank."""


class Mesh(NamedTuple):
    """The axes that cut each label, and the ranks of each axis.

    A label that is missing is whole on every rank.
    """

    axes: dict[str, tuple[str, ...]]
    ranks: dict[str, Size]

    def cut(self, labels: tuple[str, ...]) -> dict[str, str]:
        """The axes that cut a tensor, and the label that each cuts."""
        return {axis: label for label in labels for axis in self.axes.get(label, ())}

    @property
    def structure(self) -> Mesh:
        """The same without sizes: the axes of several ranks, in their order, and what each label is cut by.

        It decides which ops exchange something.
        """
        there = {axis: 0 for axis, ranks in self.ranks.items() if anywhere(ranks > 1)}
        axes = {label: tuple(axis for axis in cut if axis in there) for label, cut in self.axes.items()}
        return Mesh({label: cut for label, cut in axes.items() if cut}, there)

    def parts(self, label: str) -> Size:
        """Ranks over which the size of a label is cut."""
        n: Size = 1
        for axis in self.axes.get(label, ()):
            n = n if axis in DP and stem(label) in VECTORS else n * self.ranks[axis]
        return n


class Undivided(NamedTuple):
    """A label whose size a plan cannot divide."""

    label: str
    size: Size
    axis: str
    ranks: Size


def mesh(segment: Segment, plan: Plan) -> Mesh:
    """The mesh of a segment. What does not divide is found by `undivided`.

    Experts are on `ep` of the data-parallel ranks; where no expert is cut, those that share the heads have different
    ones too, and tokens of their own.
    """
    chains = segment.cuts.get("tp", ())
    first: Size = plan.tp
    for chain in chains:
        if len(chain) > 1:
            first = _common(segment.stated[chain[0]], plan.tp)
            break
    apart = TP if plan.spreads_experts else ()
    over_dp = -(-plan.ep // plan.tp) if apart else plan.ep  # at least 1, also of what a rule refuses
    ranks = {"tp": first, "tp.rest": plan.tp // first, "cp": plan.cp, "dp": plan.dp // over_dp, "ep": over_dp}
    streamed = TP if plan.sequence_parallel else ()
    axes: dict[str, tuple[str, ...]] = {"B": DP, "N": ("cp", *streamed), "S": ("cp",), "Q": ("cp",)}
    for chain in chains:
        parts = [TP] if len(chain) == 1 else [(part,) for part in TP]
        axes |= dict(zip(chain, parts, strict=True))
    cut: dict[str, tuple[str, ...]] = {"ep": ("ep", *apart), "etp": () if apart else TP}
    for axis, over in cut.items():
        axes |= {label: over for chain in segment.cuts.get(axis, ()) for label in chain}
    rows = {"sent": (*DP, "cp", *streamed), "M": (*DP, "cp", *apart)}
    axes |= {label: rows[stem(label)] for label in segment.env if stem(label) in rows}
    return Mesh(axes, ranks)


def undivided(segment: Segment, found: Mesh) -> list[Undivided]:
    """The labels that the ranks of their axes do not divide."""
    wrong = []
    for label, axes in found.axes.items():
        size = segment.stated.get(label)
        if size is None or stem(label) in ("Q", *PADDED):
            continue
        parts = found.parts(label)
        if anywhere(size % parts != 0):
            wrong.append(Undivided(label, size, axes[0].partition(".")[0], parts))
    return wrong


def _common(one: Any, other: Any) -> Size:
    """The greatest common divisor, of arrays in each row."""
    if hasattr(one, "dtype") or hasattr(other, "dtype"):
        import numpy as np

        return np.gcd(np.asarray(one).astype(np.int64), np.asarray(other).astype(np.int64))
    found = gcd(int(one), int(other))
    if not isinstance(other, Formula):
        return found
    if other == found:
        return other  # a letter stays one
    inside = Formula.of(one)
    written = rf"\gcd({inside.latex()}, {other.latex()})"
    return word(f"gcd({inside}, {other})", found, (inside, other), written, divides=True)
