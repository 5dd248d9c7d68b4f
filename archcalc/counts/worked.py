"""FLOPs of a step on each sort of rank of a plan, and the time in which stages of its pipeline wait.

The bubble is a share of time, and no FLOPs: Narayanan et al. 2021, arXiv:2104.04473, section 2.2: (pp - 1) / m of the
time that m micro-batches take, and with v chunks a stage (pp - 1) / (v m), where all stages take as long.
"""

from __future__ import annotations

from fractions import Fraction
from typing import NamedTuple

from archcalc.arguments import instance
from archcalc.counts.executed import Executed, executed
from archcalc.counts.flops import Flops, flops
from archcalc.plan.description import Plan
from archcalc.plan.local import local
from archcalc.plan.rules import refuse
from archcalc.plan.stages import alike
from archcalc.spec.model import Model
from archcalc.tape.precision import Recompute
from archcalc.tape.run import FLOPS_KERNEL, Run


class Worker(NamedTuple):
    """One sort of rank: its stages, its FLOPs of one micro-batch, and how many it computes in a step."""

    stages: tuple[int, ...]
    flops: Flops
    executed: Executed
    micro_batches: int

    @property
    def step(self) -> int:
        """FLOPs of the model in a step: forward once, backward twice."""
        return int(self.executed.model) * self.micro_batches

    @property
    def hardware(self) -> int:
        """All that is run in a step."""
        return int(self.executed.hardware) * self.micro_batches

    @property
    def of_step(self) -> Flops:
        """The FLOPs of all micro-batches, by category."""
        n, work = self.micro_batches, self.flops
        parts = tuple(
            part._replace(forward=n * part.forward, backward=n * part.backward, repeated=n * part.repeated)
            for part in work.categories
        )
        return work._replace(
            forward=n * work.forward,
            backward=n * work.backward,
            training=None if work.training is None else n * work.training,
            pointwise=n * work.pointwise,
            categories=parts,
        )


class Bubble(NamedTuple):
    """How long stages wait for each other: beside the time of the work alone, and as a share of a step."""

    of_work: Fraction
    of_step: Fraction


class Workers(NamedTuple):
    """Every sort of rank of a plan, the one with the most FLOPs first. `run` is one micro-batch of a rank.

    `model` are the FLOPs of the whole step on one device, `ranks` those of all ranks together: the difference is what
    several ranks compute alike, or pad. `bubble` is None where no step is trained.
    """

    plan: Plan
    run: Run
    each: tuple[Worker, ...]
    model: int
    ranks: int
    bubble: Bubble | None

    @property
    def busiest(self) -> Worker:
        """The rank with the most FLOPs."""
        return self.each[0]

    @property
    def tokens(self) -> int:
        """Tokens of a step, or of an inference pass, over all data-parallel ranks."""
        return int(self.run.batch * self.run.positions * self.plan.dp * self.busiest.micro_batches)

    @property
    def executed(self) -> Executed:
        """The FLOPs of the whole step: those of the model on one device, and what all ranks run."""
        alike = self.plan.world // self.plan.pp
        hardware, flash, again = (
            alike * sum(int(getattr(one.executed, name)) * one.micro_batches * len(one.stages) for one in self.each)
            for name in ("hardware", "flash", "recomputed")
        )
        return Executed(self.model, hardware, flash, again)

    @property
    def longest(self) -> int:
        """What all ranks would run in a step if each had as much to do as the busiest one."""
        return int(self.busiest.hardware * self.plan.world)

    @property
    def most_mfu(self) -> Fraction:
        """The largest share of the peak that counts as the model's FLOPs while stages wait for each other."""
        waits = Fraction(0) if self.bubble is None else self.bubble.of_step
        return (1 - waits) * self.model / int(self.executed.hardware)


def worked(model: Model, plan: Plan, run: Run, recompute: Recompute = "none", where: str = "plan") -> Workers:
    """Count the FLOPs of a step, or of an inference pass, for every sort of rank.

    `run.batch` is replaced by the plan's micro_batch. Raises Invalid for a plan that breaks a rule; the message is
    placed `where`.
    """
    instance("worked", "plan", plan, Plan)
    run = run.by_default(FLOPS_KERNEL)._replace(batch=plan.micro_batch)
    refuse(plan, model, run, where)
    trains = run.phase == "training"
    times = plan.accumulation if trains else 1
    whole = model.record(run)
    sorts: dict[tuple[Flops, Executed], tuple[int, ...]] = {}
    for stages in alike(plan, whole.segments):
        taken = local(whole, plan, stages[0])
        work = flops(taken, run), executed(taken, run, recompute)
        sorts[work] = (*sorts.get(work, ()), *stages)
    found = [Worker(tuple(sorted(stages)), *work, times) for work, stages in sorts.items()]
    found.sort(key=lambda worker: -worker.hardware)
    alone = executed(model, run._replace(batch=plan.micro_batch * plan.dp), recompute)
    together = plan.world // plan.pp * sum(worker.step * len(worker.stages) for worker in found)
    return Workers(plan, run, tuple(found), int(alone.model) * times, together, bubble(plan) if trains else None)


def bubble(plan: Plan) -> Bubble:
    """How long the stages of a pipeline wait in a step, where all take as long."""
    waits = Fraction(plan.pp - 1, plan.chunks * plan.accumulation)
    return Bubble(waits, waits / (1 + waits))
