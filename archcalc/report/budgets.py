"""Budgets in words: the bound, by how much it is held or not, and the problem that tells of it."""

from __future__ import annotations

from typing import NamedTuple

from archcalc.checks.outcome import Bound, Excused, Outcome
from archcalc.checks.rules import BUDGET
from archcalc.errors import Problem
from archcalc.report.places import rule_id
from archcalc.units import binary, grouped, percent


class Held(NamedTuple):
    """A budget and what was found of it: nothing where it is held, a problem, or one that is excused."""

    bound: Bound
    found: Problem | Excused | None


def held_against(outcome: Outcome) -> list[Held]:
    """The budgets of a file, each exceeded one with its own problem: the one that names its quantity and bound."""
    if not outcome.bounds:
        return []
    told: list[Problem | Excused] = [problem for problem in outcome.problems if rule_id(problem) == BUDGET.id]
    told += [one for one in outcome.excused if rule_id(one.problem) == BUDGET.id]
    return [Held(bound, _taken(told, bound) if bound.left < 0 else None) for bound in outcome.bounds]


def _taken(told: list[Problem | Excused], bound: Bound) -> Problem | Excused | None:
    """The problem that tells of a bound best; it is taken out of the list."""
    best = max(range(len(told)), key=lambda at: _alike(told[at], bound), default=None)
    return None if best is None else told.pop(best)


def _alike(found: Problem | Excused, bound: Bound) -> tuple[bool, bool]:
    problem = found.problem if isinstance(found, Excused) else found
    words = f"{problem.path} {problem.message} {problem.value or ''}"
    return bound.that in words, bound.words in words


def limit(bound: Bound) -> str:
    """A bound as it was written, with its direction where it is an amount: at most 1.6B."""
    if not bound.words[:1].isdigit():
        return bound.words
    return f"{'at least' if bound.at_least else 'at most'} {bound.words}"


def margin(bound: Bound) -> str:
    """By how much a budget is held or not: 38,400,000 left (2.40%), OVER by 100,000,000 (+6.25%)."""
    off = bound.figure - bound.bound
    if off == 0:
        return "none left"
    size = binary(abs(off)) if bound.unit == "bytes" else grouped(abs(off))
    share = percent(off, bound.bound) if bound.bound else ""
    said = [f"{grouped(abs(off))} B"] if bound.unit == "bytes" and abs(off) >= 1024 else []
    said += [share.lstrip("+-") if bound.left > 0 else share] if share else []
    details = f" ({', '.join(said)})" if said else ""
    if bound.left > 0:
        return f"{size} left{details}"
    return f"{'SHORT' if bound.at_least else 'OVER'} by {size}{details}"


def amount(n: int, unit: str) -> str:
    """A figure of a budget: bytes in binary units and in full, all else in full."""
    if unit != "bytes":
        return grouped(n)
    return f"{binary(n)} ({grouped(n)} B)" if abs(n) >= 1024 else binary(n)
