"""Sinusoidal positions: sines and cosines of each position are added to its vector, in one kernel without weights."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from archcalc_reference.model.kernels import op, wide


def sinusoids(first: int, new: int, features: int, *, closed: bool, device: Any = None) -> Tensor:
    """Sines, then cosines, of the positions from `first`, fp32: an odd feature more is 0.

    Frequencies go down from 1 to 1 / 10,000: that is the last of them where they are `closed`, and else the next.
    """
    half = features // 2
    steps = torch.arange(half, device=device).float()
    falls = torch.exp(steps * -(math.log(10_000.0) / max(half - 1, 1))) if closed else 1e4 ** -(steps / max(half, 1))
    angles = torch.arange(first, first + new, device=device).float()[:, None] * falls
    found = torch.cat([angles.sin(), angles.cos()], dim=1)
    return torch.nn.functional.pad(found, (0, features - 2 * half))


@op("add_sinusoids(Tensor x, int first, bool closed) -> Tensor")
def _add_sinusoids(x: Tensor, first: int, closed: bool) -> Tensor:
    table = sinusoids(first, x.shape[1], x.shape[2], closed=closed, device=x.device)
    return (wide(x) + table).to(x.dtype)


class _Add(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, first: int, closed: bool) -> Tensor:  # noqa: ARG004
        return torch.ops.archcalc.add_sinusoids(x, first, closed)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ARG004
        return grad, None, None


def add_sinusoids(x_BSD: Tensor, first: int, *, closed: bool) -> Tensor:
    """Vectors with their positions added, of which the first has this number."""
    if torch.is_grad_enabled():
        return _Add.apply(x_BSD, first, closed)
    return torch.ops.archcalc.add_sinusoids(x_BSD, first, closed)
