"""A step of a plan counted whole: parameters, FLOPs, memory and traffic of every sort of rank."""

from __future__ import annotations

from typing import NamedTuple

from archcalc.counts.collectives import Traffic, traffic
from archcalc.counts.rankwise import Ranked, Ranks, ranked, ranks
from archcalc.counts.worked import Workers, worked
from archcalc.errors import Invalid
from archcalc.plan.description import Plan
from archcalc.plan.recipes import keeping_of
from archcalc.spec.model import Model
from archcalc.tape.run import Run


class Overall(NamedTuple):
    """What is counted of all sorts of ranks, each as the function of its name counts it.

    `served` is memory in inference, and None where fields of the plan are of training alone: `only_trains`.
    """

    plan: Plan
    parameters: list[Ranked]
    work: Workers
    held: Ranks
    sent: Traffic
    served: Ranks | None
    only_trains: tuple[str, ...]

    @property
    def most(self) -> Ranked:
        """The rank with the most parameters."""
        return max(self.parameters, key=lambda one: int(one.parameters.stored))

    @property
    def trains(self) -> bool:
        """Whether it is a step of training, and not a pass of prefill."""
        return self.held.run.phase == "training"


def overall(model: Model, plan: Plan, where: str = "plan") -> Overall:
    """Count a step with sequences of the whole context: of training, or of prefill where the plan pages a cache.

    Raises Invalid for a plan that breaks a rule; the message is placed `where`.
    """
    training = Run(sequence=model.context_length, attention="flash")
    prefill = training._replace(phase="prefill", logits="last")
    trains = plan.cache_block is None
    run, keeping = (training, keeping_of(plan)) if trains else (prefill, keeping_of(plan, "inference"))
    parameters = ranked(model, plan, where)
    work = worked(model, plan, run._replace(attention=None, logits="all"), keeping.recompute, where)
    held = ranks(model, plan, run, keeping, where)
    sent = traffic(model, plan, run, keeping, where=where)
    only_trains: tuple[str, ...] = ()
    served: Ranks | None
    try:
        served = ranks(model, plan, prefill, keeping_of(plan, "inference"), where) if trains else held
    except Invalid as error:  # it follows all rules of training, so these fields are of training alone
        served, only_trains = None, tuple(one.path for one in error.problems)
    return Overall(plan, parameters, work, held, sent, served, only_trains)
