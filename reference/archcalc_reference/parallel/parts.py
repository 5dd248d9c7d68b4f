"""Tensors that ranks may share: all of one, or what this rank has of it."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.distributed.tensor import DTensor


def whole(x: Any) -> Tensor:
    """A tensor of which ranks may have parts, or parts of a sum."""
    return x.full_tensor() if isinstance(x, DTensor) else x


def part_of(x: Any) -> Tensor:
    """What this rank has of a tensor."""
    return x.to_local() if isinstance(x, DTensor) else x
