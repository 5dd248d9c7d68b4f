"""Expert parallelism: ranks have different experts, and send each other the vectors that are for those.

Lepikhin et al. 2020, arXiv:2006.16668 (GShard): rows of vectors go to the ranks of their experts by an all-to-all,
and back by another. All else of the model is data-parallel over the same ranks.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd import Function
from torch.distributed.device_mesh import init_device_mesh

from archcalc.plan.description import Plan
from archcalc_reference.model.dealing import ExpertLinear, Experts


class _AllToAll(Function):
    """Rows go to the ranks that they are for; their gradients go back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, leaving: list[int], coming: list[int], group: Any) -> Tensor:
        ctx.leaving, ctx.coming, ctx.group = leaving, coming, group
        return _exchanged(x, leaving, coming, group)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        return _exchanged(grad, ctx.coming, ctx.leaving, ctx.group), None, None, None


def _exchanged(x: Tensor, leaving: list[int], coming: list[int], group: Any) -> Tensor:
    found = x.new_empty(sum(coming), *x.shape[1:])
    dist.all_to_all_single(found, x.contiguous(), coming, leaving, group=group)
    return found


class Sent:
    """Rows of vectors on their way between the ranks of a group, each of which has as many experts."""

    def __init__(self, group: Any) -> None:
        self.group, self.ranks = group, dist.get_world_size(group)

    def there(self, x_MD: Tensor, counts: tuple[int, ...], *, even: bool) -> tuple[Tensor, tuple[int, ...]]:
        """The vectors that the experts of this rank get, and how many each gets from each rank.

        Ranks tell each other how many they send; where these are even, all know it.
        """
        theirs = self._own(counts) * self.ranks if even else self._told(counts, x_MD.device)
        return _AllToAll.apply(x_MD, self._by_rank(counts), self._by_rank(theirs), self.group), theirs

    def back(self, made_MD: Tensor, counts: tuple[int, ...], theirs: tuple[int, ...]) -> Tensor:
        """What the experts of all ranks made of the vectors of this one."""
        found: Tensor = _AllToAll.apply(made_MD, self._by_rank(theirs), self._by_rank(counts), self.group)
        return found

    def _told(self, counts: tuple[int, ...], device: Any) -> tuple[int, ...]:
        ours = torch.tensor(counts, device=device)
        theirs = torch.empty_like(ours)
        dist.all_to_all_single(theirs, ours, group=self.group)
        return tuple(theirs.tolist())

    def _own(self, counts: tuple[int, ...]) -> tuple[int, ...]:
        each, rank = len(counts) // self.ranks, dist.get_rank(self.group)
        return counts[rank * each : (rank + 1) * each]

    def _by_rank(self, counts: tuple[int, ...]) -> list[int]:
        each = len(counts) // self.ranks
        return [sum(counts[i * each : (i + 1) * each]) for i in range(self.ranks)]


def expert_meshes(plan: Plan, device: str = "cpu") -> tuple[Any, Any]:
    """The ranks that have the same experts, and those that have different ones: of data-parallel ranks neighbours."""
    whole = init_device_mesh(device, (plan.expert_dp, plan.ep, plan.tp), mesh_dim_names=("edp", "ep", "tp"))
    return whole["edp"], whole["ep"]


def spread(reference: nn.Module, mesh: Any) -> None:
    """Leave each rank of a mesh of one axis its own experts, as many as all others have, in the order of ranks."""
    sent, ranks, rank = Sent(mesh.get_group()), mesh.size(), mesh.get_local_rank()
    for experts in [module for module in reference.modules() if isinstance(module, Experts)]:
        experts.elsewhere = sent
        for part in (module for module in experts.modules() if isinstance(module, ExpertLinear)):
            for name, whole in list(part.named_parameters(recurse=False)):
                own = whole.detach().chunk(ranks)[rank].clone()
                setattr(part, name, nn.Parameter(own, requires_grad=whole.requires_grad))


def of_experts(reference: nn.Module) -> set[nn.Parameter]:
    """The weights that differ from one expert-parallel rank to another."""
    return {
        weight for module in reference.modules() if isinstance(module, ExpertLinear) for weight in module.parameters()
    }
