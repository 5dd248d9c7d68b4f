"""A pipeline's stages as real processes: what each has, what it sends, and what they learn together."""

from __future__ import annotations

from typing import NamedTuple

from archcalc.plan.description import Plan
from archcalc.plan.stages import layers_of
from archcalc.proof.allocator import make_optimizer
from archcalc.proof.alone import STEPS, losses_alone, texts_of
from archcalc.proof.issued import Issued, issued
from archcalc.spec.model import Model
from archcalc.tape.precision import Keeping
from archcalc.tape.run import Run


class StageSeen(NamedTuple):
    """What a stage saw: elements of its parameters, what it sent in the last step, and the loss of each step.

    Losses are those of the last stage; `alone` are those of one process that has all layers and micro-batches.
    """

    parameters: int
    losses: list[float]
    alone: list[float]
    issued: list[Issued]


def stage_steps_of(model: Model, plan: Plan, run: Run, keeping: Keeping, rank: int) -> StageSeen:
    """Take steps as one stage, by PyTorch's schedule, in a process group that is there."""
    import torch

    from archcalc_reference import Transformer
    from archcalc_reference.parallel.pipeline import pipeline

    first, last = rank == 0, rank == plan.pp - 1
    texts = texts_of(model, run, plan.accumulation)
    alone = losses_alone(model, run, keeping, texts) if first else []
    torch.manual_seed(0)
    layers = layers_of(plan, model.n_layers)
    schedule, parts = pipeline(Transformer(model), plan, layers, rank, run.kernel)
    weights = {f"{i}.{name}": weight for i, part in enumerate(parts) for name, weight in part.named_parameters()}
    optimizer = make_optimizer(keeping, weights)
    means = torch.zeros(STEPS)
    for turn in range(STEPS):
        losses: list[torch.Tensor] = []
        calls = issued()
        with calls:
            schedule.step(*texts[:1] * first, **({"target": texts[1], "losses": losses} if last else {}))
        optimizer.step()
        optimizer.zero_grad()
        if last:
            means[turn] = torch.stack(losses).mean()
    torch.distributed.broadcast(means, plan.pp - 1)
    return StageSeen(
        parameters=sum(weight.numel() for weight in weights.values()),
        losses=means.tolist(),
        alone=alone,
        issued=calls.found,
    )
