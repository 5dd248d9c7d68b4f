"""Pipelines: each rank has some of the layers, and PyTorch's own schedules send micro-batches from stage to stage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed import pipelining

from archcalc.errors import Invalid, Problem
from archcalc.plan.description import Plan
from archcalc_reference.model.positions import Kernel, Positions
from archcalc_reference.model.transformer import Transformer

SCHEDULES = {"gpipe": "ScheduleGPipe", "1f1b": "Schedule1F1B", "interleaved": "ScheduleInterleaved1F1B"}


class Stage(nn.Module):
    """Some layers of a model: the first stage has the embedding before them, the last the head behind them."""

    def __init__(self, reference: Transformer, layers: range, kernel: Kernel, *, first: bool, last: bool) -> None:
        super().__init__()
        self.kernel, self.context_length = kernel, reference.spec.context_length
        self.embedding = reference.embedding if first else None
        self.layers = nn.ModuleList(reference.layers[i] for i in layers)
        self.final_norm = reference.final_norm if last else None
        self.unembedding = reference.unembedding if last else None

    def forward(self, given: Tensor) -> Tensor:
        """Vectors (B, S, D) for the next stage, of the last logits (B, S, V); given are tokens, or such vectors."""
        x_BSD = given if self.embedding is None else self.embedding(given)
        positions = Positions(0, given.shape[1], self.kernel, self.context_length, x_BSD)
        for layer in self.layers:
            layer.prepare(positions, None)
        for layer in self.layers:
            x_BSD = layer(x_BSD, None, positions)
        if self.unembedding is None:
            return x_BSD
        logits: Tensor = self.unembedding(x_BSD if self.final_norm is None else self.final_norm(x_BSD))
        return logits


def loss_of(logits_BSV: Tensor, targets_BS: Tensor) -> Tensor:
    """The mean cross-entropy in nats of a micro-batch."""
    return F.cross_entropy(logits_BSV.flatten(0, 1).float(), targets_BS.flatten())


def pipeline(reference: Transformer, plan: Plan, layers: Sequence[range], rank: int, kernel: Kernel) -> Any:
    """The schedule of a rank, and its stages, one for each of its chunks; `layers` are those of every stage.

    Raises Invalid for models of which several stages read the same weights or vectors.
    """
    for what, shares in (
        ("a tied token table, which the first stage and the last have", reference.unembedding.tied),
        ("blocks that layers share", len(reference.shared) > 0),
        ("vectors of each token for each layer", reference.embedding.per_layer is not None),
    ):
        if shares:
            raise Invalid(Problem(reference.spec.name, f"has {what}: the reference cuts no stages of it"))
    mine, last = range(rank, len(layers), plan.pp), len(layers) - 1
    parts = [Stage(reference, layers[i], kernel, first=i == 0, last=i == last) for i in mine]
    stages = [
        pipelining.PipelineStage(part, i, len(layers), reference.embedding.token.weight.device)
        for part, i in zip(parts, mine, strict=True)
    ]
    made = getattr(pipelining, SCHEDULES[plan.schedule])
    given = stages if plan.schedule == "interleaved" else stages[0]
    return made(given, plan.accumulation, loss_fn=loss_of), parts
