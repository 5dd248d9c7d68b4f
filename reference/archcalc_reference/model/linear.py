"""Matrices and tables: PyTorch's own layers, which draw no weights of their own when they are made.

Each part of the model draws its weights when it is told to. Once is enough, and on the meta device the first drawing
costs more than the whole model.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class Linear(nn.Linear):
    """y = x W^T + b, W stored as (out, in)."""

    def reset_parameters(self) -> None:
        pass

    def initialize(self, std: float) -> None:
        """Draw the matrix from normal(0, std); the bias is 0."""
        nn.init.normal_(self.weight, 0.0, std)
        if self.bias is not None:
            nn.init.zeros_(self.bias)


class Table(nn.Embedding):
    """Row i is the vector of item i."""

    def reset_parameters(self) -> None:
        pass

    def initialize(self, std: float) -> None:
        """Draw the rows from normal(0, std)."""
        nn.init.normal_(self.weight, 0.0, std)


def number(value: float) -> nn.Parameter:
    """A parameter that is one number."""
    return nn.Parameter(torch.full((1,), value))


def scaled(x: Tensor, scale: float | None) -> Tensor:
    """A tensor times a number of the architecture; as it is where there is none."""
    return x if scale is None else x * scale


class WithBuffers(nn.Module):
    """A module whose own buffers stay in fp32, whatever the weights become."""

    def _apply(self, fn: Any, recurse: bool = True) -> Any:  # noqa: FBT001, FBT002  (as nn.Module has it)
        kept = dict(self._buffers)
        super()._apply(fn, recurse)
        for name, buffer in kept.items():
            if buffer is not None:
                moved = fn(buffer)
                wide = moved.dtype in (torch.float32, torch.float64)
                self._buffers[name] = moved if wide else buffer.to(moved.device)
        return self
