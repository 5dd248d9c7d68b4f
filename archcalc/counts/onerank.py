"""Which rank of a plan a quantity is told of: the one that has the most of its section."""

from __future__ import annotations

from typing import cast

from archcalc.counts.asked import Asked
from archcalc.counts.rankwise import ranked, ranks
from archcalc.counts.worked import worked
from archcalc.plan.description import Plan
from archcalc.plan.local import RankModel
from archcalc.spec.model import Model

PARAMETERS = ("parameters", "matrices", "tally", "bridge", "layers", "tensors", "decode")
WORK = ("flops",)
MEMORY = ("memory", "activations", "cache")
"""The sections of quantities that have the most on the same rank."""


def sections_of(section: str) -> tuple[str, ...]:
    """The sections that have the most where this one has."""
    return next(sections for sections in (PARAMETERS, WORK, MEMORY) if section in sections)


def of_a_rank(
    asked: Asked, plan: Plan, sections: tuple[str, ...], where: str = "plan"
) -> tuple[Asked, tuple[int, ...]]:
    """What is asked, of one micro-batch of the rank that has the most of some sections, and the stages of such ranks.

    Raises Invalid, placed `where`, for a plan that breaks a rule.
    """
    batch, keeping = plan.micro_batch, asked.keeping
    if plan.accumulation > 1 and asked.purpose == "training":
        keeping = keeping._replace(accumulate=True)
    one = Asked(asked.model, asked.work._replace(batch=batch), asked.held._replace(batch=batch), keeping)
    stages = _fullest(one, plan, sections, where)
    rank = cast("Model", RankModel(one.model, plan, stages[0]))
    return Asked(rank, one.work, one.held, one.keeping), stages


def _fullest(asked: Asked, plan: Plan, sections: tuple[str, ...], where: str) -> tuple[int, ...]:
    """The stages whose ranks have the most of some sections."""
    if sections == PARAMETERS:
        return max(ranked(asked.model, plan, where), key=lambda one: int(one.parameters.stored)).stages
    if sections == WORK:
        return worked(asked.model, plan, asked.work, asked.keeping.recompute, where).busiest.stages
    return ranks(asked.model, plan, asked.held, asked.keeping, where).fullest.stages
