"""Data parallelism without shares: each rank has all of the weights, and gradients are averaged over the ranks."""

from __future__ import annotations

from typing import Any

import torch.distributed as dist
from torch import nn

from archcalc_reference.parallel.expert import of_experts
from archcalc_reference.parallel.parts import part_of


def average(reference: nn.Module, everyone: Any, same_experts: Any) -> None:
    """Make each gradient that of the mean of all ranks' losses, in place.

    `everyone` are meshes of one axis: all data-parallel ranks, and those that have the same experts. Vectors of the
    other ranks have come to an expert already, so that its gradients are added up over fewer ranks.
    """
    apart = of_experts(reference)
    for weight in reference.parameters():
        if weight.grad is not None:
            mesh = same_experts if weight in apart else everyone
            grad = part_of(weight.grad)
            if mesh.size() > 1:
                dist.all_reduce(grad, group=mesh.get_group())
            grad /= everyone.size()
