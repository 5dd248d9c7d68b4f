"""Problems that a project knows of and does not count, so that it can adopt a check step by step.

The file is JSON, as `archcalc check --write-baseline` writes it. A problem is known by its file, its rule and its path
in the spec, never by its line; a budget by its quantity and figure too: it is known as long as it is not worse. What
weights have otherwise than their spec is known by what is said of it: another shape is another problem.
Whatever wrote a figure, one that is worse than the present lets the model grow that far: it is told as a warning.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, NamedTuple

from archcalc.checks.outcome import Excused, Outcome
from archcalc.checks.rules import BUDGET, INVALID, UNKNOWN, WEIGHTS
from archcalc.errors import Invalid, Missing, Problem
from archcalc.escaping import json_text
from archcalc.huggingface.reading import refuse_many_values
from archcalc.spec.model import SCHEMA
from archcalc.spec.source import read_file
from archcalc.units import grouped

LARGEST = 64 * 2**20
MOST_VALUES = 1_000_000
"""Commas, colons and brackets of a baseline: a problem has seven, of a budget eleven."""
NEVER = (INVALID.id, UNKNOWN.id)
"""Rules whose problems no baseline has: what is not read and what is not evaluated may hide anything."""


class Key(NamedTuple):
    """What a problem is known by. `that` is a budget's quantity with its bound, what is said of weights, else ""."""

    file: str
    rule: str
    path: str
    that: str = ""


class Baseline(NamedTuple):
    """How many problems are known of each key, and of a budget the figure."""

    file: str
    known: Counter[Key]
    figures: dict[Key, int]

    def without(self, outcomes: Iterable[Outcome], folder: str) -> tuple[list[Outcome], int]:
        """The outcomes with what is known excused, and how many entries do not occur any more."""
        left = Counter(self.known)
        found = [self._excused(outcome, folder, left) for outcome in outcomes]
        seen = {_file(outcome.file, folder) for outcome in found}
        return found, sum(count for key, count in left.items() if key.file in seen)

    def _excused(self, outcome: Outcome, folder: str, left: Counter[Key]) -> Outcome:
        if not outcome.problems:
            return outcome
        problems, excused = [], list(outcome.excused)
        for problem, key, figure in _keys(outcome, folder):
            if key is None or not left[key]:
                problems.append(problem)
                continue
            left[key] -= 1
            if not self._is_no_worse(key, figure):
                problems.append(problem)
                continue
            excused.append(Excused(problem, self.file, "in the baseline"))
            problems += [self._loose(key, figure)] if figure is not None and figure[0] != self.figures[key] else []
        return outcome._replace(problems=tuple(problems), excused=tuple(excused))

    def _loose(self, key: Key, figure: tuple[int, bool]) -> Problem:
        """A warning that a figure which is known is worse than the present one."""
        now, at_least = figure
        known, way = self.figures[key], "shrink" if at_least else "grow"
        what = f"knows {key.that} of {key.file} as {grouped(known)}, and it is {grouped(now)}: it may {way} unseen"
        fix = f"`archcalc check --write-baseline` makes {grouped(now)} known"
        return Problem(self.file, what, suggestion=fix).under(BUDGET.id, "warning")

    def _is_no_worse(self, key: Key, figure: tuple[int, bool] | None) -> bool:
        if figure is None or key not in self.figures:
            return figure is None
        now, at_least = figure
        return now >= self.figures[key] if at_least else now <= self.figures[key]


def _keys(outcome: Outcome, folder: str) -> Iterable[tuple[Problem, Key | None, tuple[int, bool] | None]]:
    """Each problem with what it is known by, None where it cannot be, and the figure of a budget."""
    broken = {bound.problem: bound for bound in outcome.bounds}
    file = _file(outcome.file, folder)
    for problem in outcome.problems:
        unread = problem.rule == WEIGHTS.id and not problem.path  # weights that cannot be compared
        if problem.rule in NEVER or not problem.rule or unread:
            yield problem, None, None
        elif problem.rule == BUDGET.id:
            bound = broken[problem]
            key = Key(
                file,
                problem.rule,
                problem.path,
                f"{bound.label} {'least' if bound.at_least else 'most'} {bound.words}",
            )
            yield problem, key, (bound.figure, bound.at_least)
        else:
            said = problem.message if problem.rule == WEIGHTS.id else ""
            yield problem, Key(file, problem.rule, problem.path, said), None


def _file(file: str, folder: str) -> str:
    """A file as the baseline names it: from the configuration's folder, with slashes."""
    return os.path.relpath(file, folder or ".").replace(os.sep, "/")


def baseline_text(outcomes: Iterable[Outcome], folder: str, before: Baseline | None = None) -> tuple[str, int]:
    """The file that makes all problems known that can be, and how many they are.

    What was known `before` of files that were not looked at stays.
    """
    entries: list[dict[str, Any]] = []
    looked_at = set()
    for outcome in outcomes:
        looked_at.add(_file(outcome.file, folder))
        entries += (_entry(key, figure and figure[0]) for _, key, figure in _keys(outcome, folder) if key is not None)
    if before is not None:
        stay = (key for key in before.known.elements() if key.file not in looked_at)
        entries += (_entry(key, before.figures.get(key)) for key in stay)
    entries.sort(key=lambda entry: (entry["file"], entry["rule"], entry["path"], entry.get("budget", "")))
    return json_text({"schema": SCHEMA, "problems": entries}, indent=2) + "\n", len(entries)


def _entry(key: Key, figure: int | None) -> dict[str, Any]:
    more = {"budget": key.that, "figure": figure} if figure is not None else {"says": key.that} if key.that else {}
    return {"file": key.file, "rule": key.rule, "path": key.path, **more}


def read_baseline(path: str) -> Baseline:
    """A baseline. Raises Missing where it is not there, Invalid where it is none."""
    try:
        data = read_file(path, LARGEST)
    except Missing as error:
        fix = "`archcalc check --write-baseline` writes one"
        raise Missing(*(replace(problem, suggestion=fix) for problem in error.problems)) from None
    refuse_many_values(data, path, MOST_VALUES)
    try:
        entries = json.loads(data)["problems"]
        keys = [
            (
                Key(str(one["file"]), str(one["rule"]), str(one["path"]), str(one.get("budget", one.get("says", "")))),
                one,
            )
            for one in entries
        ]
        figures = {key: int(one["figure"]) for key, one in keys if "figure" in one}
        worst = Counter(key for key, _ in keys)
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError, OverflowError):
        fix = "`archcalc check --write-baseline` writes one"
        raise Invalid(Problem(path, "is not a baseline of archcalc check", suggestion=fix)) from None
    return Baseline(path, worst, figures)
