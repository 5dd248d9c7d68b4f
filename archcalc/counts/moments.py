"""Moments of a pass, what shares its bytes, and what of a segment's data other segments have a part in."""

from __future__ import annotations

from typing import NamedTuple

from archcalc.tape.kernels import Node
from archcalc.tape.legend import Size
from archcalc.tape.ops import Tensor


class Moment(NamedTuple):
    """Bytes of one segment that are in use while `op` runs.

    `saved` is kept for the backward pass, `recomputed` was made again for it, `gradients` are those of weights, one
    for each (or, where they are added to held ones, those that are on their way), and `transient` is the rest:
    gradients of activations, results on their way, a second gradient of a weight. `past_parts`: the backward pass is
    done with the layer's part of what was made for all layers.
    """

    phase: str
    op: str
    saved: Size
    recomputed: Size
    gradients: Size
    transient: Size
    past_parts: bool = False


class Gradients(NamedTuple):
    """Width of a weight's gradient that stays until the step, or of one that is added to a held one at once."""

    stays: int
    passing: int


class Storage:
    """Numbers that several tensors may share; gone with the last of them."""

    def __init__(self, size: Size) -> None:
        self.size, self.holders = size, 1


def parts_read(run: list[Node]) -> list[Tensor]:
    """What a layer reads of something that was made for all layers, each its own part."""
    return list(
        {x.name: x for node in run for x in node.inputs if x.role == "shared" and "T" not in x.labels}.values()
    )
