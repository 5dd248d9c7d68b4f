"""Memory of each sort of rank of a parallel plan, the fullest first."""

from __future__ import annotations

from typing import NamedTuple, cast

from archcalc.arguments import instance
from archcalc.counts.memory import Memory, memory
from archcalc.counts.optimizer import held
from archcalc.counts.parameters import Parameters, params
from archcalc.plan.description import Plan
from archcalc.plan.local import RankModel, local
from archcalc.plan.rules import refuse
from archcalc.plan.stages import alike
from archcalc.spec.model import Model
from archcalc.tape.legend import Size
from archcalc.tape.passes import Once
from archcalc.tape.precision import Keeping
from archcalc.tape.run import MEMORY_KERNEL, Phase, Run


class Rank(NamedTuple):
    """One sort of rank: the stages of the pipeline whose ranks are alike, what they hold, and their peak in bytes.

    Of ranks that share rows which do not divide, it is the one with the most.
    """

    stages: tuple[int, ...]
    parameters: Parameters
    memory: Memory


class Ranked(NamedTuple):
    """One sort of rank without a run: its stages, its parameters, and how many of them ZeRO leaves it."""

    stages: tuple[int, ...]
    parameters: Parameters
    held: Size


class Ranks(NamedTuple):
    """Every sort of rank of a plan, the fullest first. `run` is one micro-batch of a rank."""

    plan: Plan
    run: Run
    keeping: Keeping
    each: tuple[Rank, ...]

    @property
    def fullest(self) -> Rank:
        """The rank that needs the most memory."""
        return self.each[0]


def ranked(model: Model, plan: Plan, where: str = "plan") -> list[Ranked]:
    """Count the parameters of every sort of rank. Raises Invalid for a plan that breaks a rule."""
    shared = plan.parts_of_a_sequence
    phase: Phase = "training" if plan.cache_block is None else "prefill"
    run = Run(phase, sequence=max(model.context_length // shared, 1) * shared)
    refuse(plan, model, run, where)
    whole = model.record(run)
    found = []
    for stages in alike(plan, whole.segments):
        taken = local(whole, plan, stages[0])
        counts = params(taken)
        found.append(Ranked(stages, counts, held("weights", counts.tensors, taken.stage)))
    return found


def fullest(model: Model, plan: Plan, run: Run, keeping: Keeping, where: str = "plan") -> Model:
    """The model as its fullest rank has it, for functions that count the passes of a model."""
    stage = ranks(model, plan, run, keeping, where).fullest.stages[0]
    return cast("Model", RankModel(model, plan, stage))


def ranks(model: Model, plan: Plan, run: Run, keeping: Keeping, where: str = "plan") -> Ranks:
    """Count the memory of every sort of rank, in bytes: of a training step, or of a prefill and a decoding step.

    `run.batch` is replaced by the plan's micro_batch. Raises Invalid for a plan that breaks a rule; the message is
    placed `where`.
    """
    instance("ranks", "plan", plan, Plan)
    run = run.by_default(MEMORY_KERNEL)._replace(batch=plan.micro_batch)
    if plan.accumulation > 1 and run.phase == "training":
        keeping = keeping._replace(accumulate=True)
    refuse(plan, model, run, where, keeping)
    once = Once(model)
    found = []
    whole = once.record(run)
    for stages in alike(plan, whole.segments):
        taken = local(whole, plan, stages[0])
        found.append(Rank(stages, params(taken), memory(taken, run, keeping)))
    found.sort(key=lambda rank: -int(rank.memory.total))
    return Ranks(plan, run, keeping, tuple(found))
