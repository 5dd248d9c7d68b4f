"""Rotations of pairs of features by tables of cosines and sines, as one op.

Autograd saves nothing of it: the tables, which all layers share, are held beside the graph.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from archcalc_reference.model.kernels import op, wide


@op("rotate(Tensor x, Tensor cos, Tensor sin, bool neighbours, bool back) -> Tensor")
def _rotate(x: Tensor, cos: Tensor, sin: Tensor, neighbours: bool, back: bool) -> Tensor:
    return turn(x, *spread(cos, -sin if back else sin, neighbours=neighbours, axes=x.dim()), neighbours=neighbours)


def spread(cos: Tensor, sin: Tensor, *, neighbours: bool, axes: int) -> tuple[Tensor, Tensor]:
    """Tables (S, pairs) as wide as vectors of so many axes: both of a pair have its cosine, and its sine by sign."""
    shape = (cos.shape[0], *(1,) * (axes - 3), 2 * cos.shape[1])
    axis = 2 if neighbours else 1
    return torch.stack([cos, cos], axis).view(shape), torch.stack([-sin, sin], axis).view(shape)


def turn(x: Tensor, cos: Tensor, sin: Tensor, *, neighbours: bool) -> Tensor:
    """Turn vectors (B, S, ..., K), or their first features, by tables that were spread."""
    turned = x if cos.shape[-1] == x.shape[-1] else x[..., : cos.shape[-1]]
    full = wide(turned)
    if neighbours:
        others = full.unflatten(-1, (-1, 2)).flip(-1).flatten(-2)
    else:
        one, other = full.chunk(2, -1)
        others = torch.cat([other, one], -1)
    y = (full * cos).add_(others.mul_(sin)).to(x.dtype)
    return y if turned is x else torch.cat([y, x[..., cos.shape[-1] :]], -1)


class _Rotate(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor, neighbours: bool) -> Tensor:
        ctx.tables, ctx.neighbours = (cos, sin), neighbours  # those of all layers: no part of what a layer saves
        return torch.ops.archcalc.rotate(x, cos, sin, neighbours, False)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (cos, sin), ctx.tables = ctx.tables, None  # a graph is walked once; with its last layer the tables go
        return torch.ops.archcalc.rotate(grad, cos, sin, ctx.neighbours, True), None, None, None


def rotate(x: Tensor, cos: Tensor, sin: Tensor, *, neighbours: bool) -> Tensor:
    """Turn the pairs of features of vectors (B, S, ..., K) by the angles of their positions, (S, pairs)."""
    if torch.is_grad_enabled():
        return _Rotate.apply(x, cos, sin, neighbours)
    return torch.ops.archcalc.rotate(x, cos, sin, neighbours, False)
