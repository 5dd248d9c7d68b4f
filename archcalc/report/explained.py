"""What is explained: a model in letters, or the ranks of a plan that have the most of what is asked."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from archcalc.counts.lettered import Meaning, lettered, lettered_run, meanings
from archcalc.counts.letteredrank import lettered_rank, meanings_in_a_rank
from archcalc.counts.memory import alive, choose
from archcalc.counts.onerank import MEMORY, PARAMETERS, WORK, of_a_rank
from archcalc.counts.quantities import Asked
from archcalc.plan.description import Plan
from archcalc.report.ranks import plan_lines, plan_payload, sort_numbers, stages_text
from archcalc.spec.model import Model
from archcalc.tape.formula import Formula
from archcalc.units import grouped, several

_OF_A_MICRO_BATCH = ("flops", "activations")
OF_ALL_RANKS = {
    "run": ("is of all ranks together", "`archcalc flops --tokens` takes a plan"),
    "inference": ("is of one device without a plan", "memory.total --for inference takes a plan"),
    "devices": ("is of devices without a plan", "`archcalc memory --device` takes a plan"),
}
"""Sections that have no number of one rank: why, and what is there instead."""


class Subject(NamedTuple):
    """A model, or one rank of a plan, by ints and in letters.

    Of a rank `stages` are those whose ranks are alike, and `sections` what it has the most of; None of a model.
    """

    asked: Asked
    letters: Asked
    stages: tuple[int, ...] | None = None
    sections: tuple[str, ...] | None = None

    def of(self, plan: Plan | None) -> str:
        """Whose number it is, in words."""
        if plan is None or self.stages is None:
            return ""
        stage = f", of stage {stages_text(self.stages)}" if plan.pp > 1 else ""
        return f" on the {'busiest' if self.sections == WORK else 'fullest'} of {several(plan.world, 'rank')}{stage}"

    def lines(self, plan: Plan | None, model: Model, section: str) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """The plan, and how much of a step the number is of."""
        if plan is None:
            return ()
        work = self.asked.work if self.sections == WORK else self.asked.held
        trains = work.phase == "training"
        each = (f"of one micro-batch; a rank computes {grouped(plan.accumulation)} of them in a step",)
        one = each if plan.accumulation > 1 and section in _OF_A_MICRO_BATCH else ()
        return (("Plan", (*plan_lines(plan, model, trains=trains), *one)),)

    def numbers(self, plan: Plan | None, model: Model) -> dict[str, Any]:
        """The same as JSON."""
        if plan is None or self.stages is None:
            return {}
        return {**plan_payload(plan, model), **sort_numbers(self.stages)}


def subjects(asked: Asked, section: str | None, plan: Plan | None, where: str) -> Iterator[Subject]:
    """What has the numbers of a section, or of all. Raises Invalid, placed `where`, for a plan that breaks a rule."""
    if plan is None:
        yield Subject(asked, _in_letters(asked, lettered(asked.model)))
        return
    for sections in (PARAMETERS, WORK, MEMORY):
        if section in sections or section not in (*PARAMETERS, *WORK, *MEMORY):
            mine, stages = of_a_rank(asked, plan, sections, where)
            yield Subject(mine, _in_letters(mine, lettered_rank(asked.model, plan, stages[0])), stages, sections)


def meanings_of(formula: Formula, model: Model, plan: Plan | None) -> list[Meaning]:
    """What the letters of a formula mean."""
    letters = formula.letters
    return meanings(letters, model) if plan is None else meanings_in_a_rank(letters, model, plan)


def _in_letters(asked: Asked, letters: Model) -> Asked:
    """The same question, with letters for sizes and the moments that are largest at these sizes."""
    chosen = choose(list(alive(asked.model, asked.held, asked.keeping)))
    return Asked(letters, lettered_run(asked.work), lettered_run(asked.held), asked.keeping, chosen)
