"""A trainer of which each rank has the part that a plan gives it: PyTorch's FSDP2 and DTensor do the dividing.

Each step learns from the sequences that one process would learn from, so that the losses are those of one process.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor

from archcalc.errors import Invalid, Problem
from archcalc.plan.description import Plan
from archcalc.spec.model import Model
from archcalc.spec.settings import Settings
from archcalc_reference.model.transformer import Transformer
from archcalc_reference.parallel.applying import cut, cut_loss, shard
from archcalc_reference.parallel.parts import part_of, whole
from archcalc_reference.parallel.world import World
from archcalc_reference.training.data import Data
from archcalc_reference.training.trainer import LARGEST_NORM, TYPES, Trainer


def refuse_undivided(plan: Plan, settings: Settings) -> None:
    """Raise Invalid for a sequence whose positions a plan cuts, and that it does not divide."""
    if plan.sequence_parallel and settings.sequence % plan.tp:
        below = settings.sequence // plan.tp * plan.tp
        fix = f"nearest: {below or plan.tp:,}"
        what = f"must be a multiple of tp ({plan.tp}) with sequence parallelism"
        raise Invalid(Problem("--seq", what, value=f"{settings.sequence:,}", suggestion=fix))


class RankTrainer(Trainer):
    """One rank's part of a model, of its optimizer and of each batch. All ranks call its methods together."""

    def __init__(self, spec: Model, settings: Settings, data: Data, plan: Plan, world: World) -> None:
        """Every rank draws the whole model, the same as one process, and keeps its part.

        bf16 weights are fp32 ones that are gathered in bf16 where ranks share them (ZeRO 3), and else bf16 themselves.
        Raises Invalid for a model that the plan cannot cut.
        """
        mesh = init_device_mesh(world.device.type, (plan.dp, plan.tp), mesh_dim_names=("dp", "tp"))
        torch.manual_seed(settings.seed)
        narrow = plan.zero > 0 and settings.precision == "bf16"
        model = Transformer(spec).to(world.device, torch.float32 if narrow else TYPES[settings.precision])
        if plan.tp > 1:
            cut(model, plan, mesh["tp"])
        if plan.zero:
            shard(model, plan, mesh["dp"], narrow=narrow)
        super().__init__(spec, settings, data, world.device, model)
        self.plan, self.world = plan, world
        self.recompute = plan.recompute == "full" and (plan.recompute_layers or True)
        self.own = mesh.get_local_rank("dp")
        self.copies = mesh.get_group("dp") if plan.dp > 1 and not plan.zero else None

    def _groups(self) -> list[dict[str, Any]]:
        """One kernel steps tensors of one kind: whole ones, or DTensors of one mesh."""
        return [{"params": alike} for alike in _by_mesh(self.model.parameters())]

    def _drawn(self, part: int) -> tuple[Tensor, Tensor]:
        """This rank's sequences: a part of the batch is dealt to the data-parallel ranks in their order."""
        first, each = self.taken + part * self.settings.part, self.plan.micro_batch
        return self.data.batch(first + self.own * each, each)

    def _passes(self, tokens: Tensor, targets: Tensor, part: int) -> Tensor:
        if self.plan.zero:  # gradients are added up here until the last part, then reduced
            self.model.set_requires_gradient_sync(part == self.settings.accumulate - 1)
        with cut_loss(self.plan):
            loss = self.model(tokens, targets, self.settings.attention, recompute=self.recompute).loss
            loss.backward(torch.full_like(loss, 1 / self.settings.accumulate))
        return whole(loss)

    def _agreed(self, loss: float) -> float:
        return self.world.mean(loss)  # tensor-parallel ranks have the same one

    def _clipped(self) -> float:
        gradients = self._settled()
        norms = [whole(torch.nn.utils.get_total_norm(alike)) for alike in _by_mesh(gradients)]
        norm = torch.linalg.vector_norm(torch.stack(norms)).item()
        shorter = min(LARGEST_NORM / (norm + 1e-6), 1.0)  # as clip_grad_norm_ has it
        for gradient in gradients:
            gradient.mul_(shorter)
        return norm

    def _settled(self) -> list[Tensor]:
        """The gradients, placed as their weights are, of the sequences of all ranks."""
        found, waiting = [], []
        for parameter in self.model.parameters():
            gradient = parameter.grad
            if gradient is None:
                continue
            if isinstance(gradient, DTensor) and gradient.placements != parameter.placements:
                gradient = gradient.redistribute(placements=parameter.placements)
                parameter.grad = gradient
            found.append(gradient)
            if self.copies is not None:
                own = part_of(gradient).div_(self.plan.dp)
                waiting.append(dist.all_reduce(own, group=self.copies, async_op=True))
        for work in waiting:
            work.wait()
        return found

    def held_out(self) -> float:
        """As `Trainer.held_out`; a forward pass alone leaves weights gathered, which are dropped here."""
        found = super().held_out()
        for module in self.model.modules():
            if isinstance(module, FSDPModule):
                module.reshard()
        return found

    def _judged(self, tokens: Tensor, targets: Tensor) -> float:
        """Ranks share a batch that is full; each judges all of one that is not."""
        each = self.plan.micro_batch
        if tokens.shape[0] == self.settings.part:
            tokens, targets = (x[self.own * each : (self.own + 1) * each] for x in (tokens, targets))
        with cut_loss(self.plan):
            loss = self.model(tokens, targets, self.settings.attention).loss
        return self.world.mean(whole(loss).item())


def _by_mesh(tensors: Iterable[Tensor]) -> list[list[Tensor]]:
    """Tensors in groups: those that are whole, and those that ranks of one mesh share."""
    found: dict[Any, list[Tensor]] = defaultdict(list)
    for x in tensors:
        found[x.device_mesh if isinstance(x, DTensor) else None].append(x)
    return list(found.values())
