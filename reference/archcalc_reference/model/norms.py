"""Norms: each vector is brought to one size, then each of its features is scaled.

A norm is over the last axis. Its learned numbers have the shape that they are stored in: (D,), or (heads, K) where
each head has its own. Where `groups` of features are normed apart, x has an axis of them before its last.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from archcalc_reference.model import kernels

if TYPE_CHECKING:
    from archcalc import blocks

Shape = tuple[int, ...]


class LayerNorm(nn.Module):
    """Each vector to mean 0 and variance 1, then a learned gain and bias for each feature."""

    def __init__(self, norm: blocks.LayerNorm, shape: Shape, groups: int = 1) -> None:
        super().__init__()
        self.groups = groups
        self.weight = nn.Parameter(torch.empty(shape)) if norm.gain else None
        self.bias = nn.Parameter(torch.empty(shape)) if norm.bias else None
        self.epsilon, self.unit_offset = norm.epsilon, norm.unit_offset
        self.simple = len(shape) == groups == 1 and not norm.unit_offset  # what PyTorch has as one kernel

    def initialize(self) -> None:
        """A gain of 1 and a bias of 0."""
        _fill(self.weight, 0.0 if self.unit_offset else 1.0)
        _fill(self.bias, 0.0)

    def forward(self, x: Tensor) -> Tensor:
        mixed = x.dtype == torch.bfloat16 and kernels.autocasts(x)
        if self.simple and not mixed:
            return F.layer_norm(x, x.shape[-1:], self.weight, self.bias, self.epsilon)
        gain, bias, offset = _by_group(self.weight, self.groups), _by_group(self.bias, self.groups), self.unit_offset
        return kernels.layer_norm(x, gain, bias, self.epsilon, unit_offset=offset, mixed=mixed)


class RMSNorm(nn.Module):
    """Each vector to a root mean square of 1, then a learned gain for each feature."""

    def __init__(self, norm: blocks.RMSNorm, shape: Shape, groups: int = 1) -> None:
        super().__init__()
        self.groups = groups
        self.weight = nn.Parameter(torch.empty(shape)) if norm.gain else None
        self.epsilon, self.unit_offset = norm.epsilon, norm.unit_offset

    def initialize(self) -> None:
        """A gain of 1."""
        _fill(self.weight, 0.0 if self.unit_offset else 1.0)

    def forward(self, x: Tensor) -> Tensor:
        gain = _by_group(self.weight, self.groups)
        return kernels.rms_norm(x, gain, self.epsilon, unit_offset=self.unit_offset)


def _by_group(learned: nn.Parameter | None, groups: int) -> Tensor | None:
    return learned if learned is None or groups == 1 else learned.view(groups, -1)


def _fill(parameter: nn.Parameter | None, value: float) -> None:
    if parameter is not None:
        nn.init.constant_(parameter, value)


NORMS: dict[str, type[Any]] = {"layernorm": LayerNorm, "rmsnorm": RMSNorm}
"""Which module each kind of a spec's norms becomes."""
