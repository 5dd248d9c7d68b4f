"""Budgets in words: the bound, by how much it is held or not, and the problem that tells of it."""

from __future__ import annotations

from typing import NamedTuple

from archcalc.checks.outcome import Bound, Excused, Outcome
from archcalc.errors import Problem
from archcalc.units import binary, grouped, percent


class Held(NamedTuple):
    """A budget and what was found of it: nothing where it is held, a problem, or one that is excused."""

    bound: Bound
    found: Problem | Excused | None


def held_against(outcome: Outcome) -> list[Held]:
    """The budgets of a file, each exceeded one with its own problem."""
    told: dict[Problem | None, Problem | Excused] = {problem: problem for problem in outcome.problems}
    told |= {one.problem: one for one in outcome.excused}
    return [Held(bound, told.get(bound.problem)) for bound in outcome.bounds]


def limit(bound: Bound) -> str:
    """A bound as it was written, with its direction: at most 1.6B parameters, fits h100-sxm."""
    side = "fits" if bound.device else "at least" if bound.at_least else "at most"
    return f"{side} {bound.words}"


def margin(bound: Bound) -> str:
    """By how much a budget is held or not: 38,400,000 left (2.40%), OVER by 1.500 GiB (+6.25%)."""
    off = bound.figure - bound.bound
    if off == 0:
        return "none left"
    size = binary(abs(off)) if bound.unit == "bytes" else grouped(abs(off))
    share = percent(off, bound.bound) if bound.bound else ""
    details = f" ({share.lstrip('+-') if bound.left > 0 else share})" if share else ""
    if bound.left > 0:
        return f"{size} left{details}"
    return f"{'SHORT' if bound.at_least else 'OVER'} by {size}{details}"


def amount(n: int, unit: str) -> str:
    """A figure of a budget: bytes in binary units and in full, all else in full."""
    if unit != "bytes":
        return grouped(n)
    return f"{binary(n)} ({grouped(n)} B)" if abs(n) >= 1024 else binary(n)
