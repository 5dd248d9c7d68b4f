"""Blocks that layers share, as transformers' checkpoints have them: in the first layer that uses each."""

from __future__ import annotations

import re
from collections.abc import Sequence

from archcalc.spec.layers import Layer
from archcalc.spec.shared import ROOT

_SHARED = re.compile(re.escape(ROOT) + r"([^.]+)\.(.+)")


class Uses:
    """Which layers use shared blocks: the first of each, and the number of each use among all."""

    def __init__(self, layers: Sequence[Layer]) -> None:
        found = [
            (i, branch.added.block)
            for i, layer in enumerate(layers)
            for branch in layer.residual_branches
            if branch.added is not None
        ]
        self._first = {block: i for i, block in reversed(found)}
        self._of = {i: (self._first[block], n) for n, (i, block) in enumerate(found)}

    def in_layer(self, name: str) -> str:
        """The name of a parameter of ours, one of a shared block as a part of its first layer."""
        match = _SHARED.fullmatch(name)
        return name if match is None else f"layers.{self._first[match[1]]}.shared.{match[2]}"

    def named(self, prefix: str, i: int, theirs: str) -> str:
        """A stored name in full; one with the number of a use stands in the first layer of its block."""
        if "{use}" not in theirs:
            return prefix.format(i=i) + theirs
        first, number = self._of[i]
        return prefix.format(i=first) + theirs.replace("{use}", str(number))
