"""Vectors of one word in groups of texts: how alike they are within groups and between them, and their neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan
from typing import Any, NamedTuple

ALIKE = 1e-6
"""Cosines of fp32 vectors that differ by less are equal: neighbours at the same distance."""


class Likeness(NamedTuple):
    """Mean cosines over pairs of vectors, and how many vectors have a nearest neighbour of their own group.

    `within` is over all pairs inside groups, `within_each` over those of each group, None where there are none.
    Neighbours at the same distance count in part, so `nearest` may be a fraction.
    """

    within: float | None
    between: float
    within_each: dict[str, float | None]
    nearest: float


def likeness(vectors: Sequence[Any], groups: Sequence[str]) -> Likeness:
    """How alike vectors of D features are, tensors of PyTorch, each of the group that is named at its place.

    There are at least two groups. A vector of zeros is like none: its cosines are 0.
    """
    import torch

    stacked = torch.stack([vector.double() for vector in vectors])
    lengths = stacked.norm(dim=-1, keepdim=True)
    unit = stacked / torch.where(lengths > 0, lengths, 1.0)
    cosines = (unit @ unit.T).clamp(-1, 1)
    numbers = {name: number for number, name in enumerate(dict.fromkeys(groups))}
    group = torch.tensor([numbers[name] for name in groups])
    same = group[:, None] == group
    pair = torch.ones_like(same).triu(diagonal=1)  # each pair once, and no vector with itself

    def mean(which: Any) -> float:
        return float(cosines[which & pair].mean())  # NaN where there is no such pair

    cosines.fill_diagonal_(-torch.inf)
    nearest = cosines >= cosines.amax(dim=1, keepdim=True) - ALIKE
    shares = (nearest & same).sum(1).double() / nearest.sum(1)
    each = {name: _some(mean(same & (group == number))) for name, number in numbers.items()}
    return Likeness(_some(mean(same)), mean(~same), each, float(shares.sum()))


def _some(mean: float) -> float | None:
    return None if isnan(mean) else mean


def by_chance(groups: Sequence[str]) -> float:
    """How many of the vectors would have a nearest neighbour of their group if neighbours were drawn by lot."""
    return sum((list(groups).count(name) - 1) / (len(groups) - 1) for name in groups)
