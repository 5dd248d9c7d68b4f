"""The sheet of `check`: problems, budgets and comparisons of all files, for text, Markdown, JSON and CSV."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from archcalc.checks.audit import unreadable
from archcalc.checks.outcome import Bound, Excused, Outcome
from archcalc.checks.verdict import Verdict
from archcalc.errors import MOST_PROBLEMS_SHOWN, Problem
from archcalc.report.budgets import Held, held_against, limit, margin
from archcalc.report.places import fix, rule_id
from archcalc.report.sheet import Bytes, Cell, Fields, Rows, Sheet, Table, figures, words
from archcalc.report.tally import headline, is_invalid
from archcalc.report.verdict import verdict_sheet
from archcalc.units import grouped, several

MOST_ROWS = 1_000
"""Comparisons, and as many budgets, that a table shows; JSON and CSV have all."""


def checked_sheet(outcomes: Sequence[Outcome], *, told: bool = False) -> Sheet:
    """What was found in all files. `told` says that the problems were printed, so that no table repeats them."""
    compared = verdict_sheet(list(_verdicts(outcomes)), "printed")
    return Sheet(
        title=headline(outcomes),
        blocks=tuple(_blocks(outcomes, compared, told=told)),
        payload={
            **compared.payload,
            "spec": outcomes[0].spec if len(outcomes) == 1 else None,
            "passed": all(outcome.passed for outcome in outcomes),
            "files": [_file(outcome) for outcome in outcomes],
            "problems": [problem.as_dict() for outcome in outcomes for problem in outcome.problems],
        },
        records=Rows(HEADS, partial(_rows, outcomes)),
    )


def _verdicts(outcomes: Sequence[Outcome]) -> Iterator[Verdict]:
    """What was compared in each file; of those that are not valid the first problems."""
    left = MOST_PROBLEMS_SHOWN
    for outcome in outcomes:
        name = outcome.spec or outcome.file
        invalid = outcome.verdict is None and is_invalid(outcome)
        yield unreadable(name, outcome.problems, max(left, 0)) if invalid else outcome.verdict or Verdict(name, ())
        left -= len(outcome.problems)


def _blocks(outcomes: Sequence[Outcome], compared: Sheet, *, told: bool) -> Iterator[Table | Fields]:
    said = {label: lines for label, lines in _lines(outcomes).items() if label == "Excused" or not told}
    many = len(outcomes) != 1
    tables = [block for block in compared.blocks if isinstance(block, Table)]
    budgets = [_budget(outcome, held, many=many) for outcome in outcomes for held in held_against(outcome)]
    if budgets:
        columns = (*words(*(["spec"] if many else []), "budget"), *figures("counted"), *words("bound", ""))
        tables.append(Table(columns, tuple(budgets), keys=1 + many))
    for table in tables:
        yield table._replace(rows=table.rows[:MOST_ROWS])
        if (left := len(table.rows) - MOST_ROWS) > 0:
            noun = table.columns[many].head
            said.setdefault("Left out", []).append(f"{several(left, noun)}; JSON and CSV have all")
    for block in compared.blocks:
        if isinstance(block, Fields):
            for label, lines in block.rows:
                said.setdefault(label, []).extend(lines)
    if said:
        yield Fields(tuple((label, tuple(lines)) for label, lines in said.items()))


def _lines(outcomes: Sequence[Outcome]) -> dict[str, list[str]]:
    """Problems by their level, a line each, and what is excused with its reason."""
    lines: dict[str, list[str]] = {"Error": [], "Warning": [], "Excused": []}
    left: dict[str, int] = dict.fromkeys(lines, 0)
    many = len(outcomes) != 1
    every = [
        *((one.level.capitalize(), str(one)) for outcome in outcomes for one in outcome.problems),
        *(
            ("Excused", _excused(one, f"{outcome.spec or outcome.file}: " * many))
            for outcome in outcomes
            for one in outcome.excused
        ),
    ]
    for label, line in every:
        if len(lines[label]) < MOST_PROBLEMS_SHOWN:
            lines[label].append(line)
        else:
            left[label] += 1
    for label, more in left.items():
        if more:
            lines[label].append(f"and {grouped(more)} more")
    return {label: some for label, some in lines.items() if some}


def _excused(one: Excused, spec: str) -> str:
    """Which rule may be broken where, and why: what exactly is wrong there JSON has."""
    problem = one.problem
    place = f" at {problem.path}" if problem.path else ""
    if one.where == "in the spec":
        return f"{spec}{problem.rule}{place}: {one.why} (in the spec)"
    return f"{spec}{problem.rule}{place}: {problem.message.partition(';')[0]} (known in {one.why})"


def _budget(outcome: Outcome, held: Held, *, many: bool) -> tuple[Cell, ...]:
    bound = held.bound
    counted: Cell = Bytes(bound.figure) if bound.unit == "bytes" else bound.figure
    return (*([outcome.spec or outcome.file] if many else []), bound.label, counted, limit(bound), margin(bound))


def _file(outcome: Outcome) -> dict[str, Any]:
    return {
        "file": outcome.file,
        "kind": outcome.kind,
        "spec": outcome.spec,
        "passed": outcome.passed,
        "problems": [problem.as_dict() for problem in outcome.problems],
        "excused": [{"problem": one.problem.as_dict(), "why": one.why, "where": one.where} for one in outcome.excused],
        "budgets": [_budget_record(bound) for bound in outcome.bounds],
        "checks": [check._asdict() for check in (outcome.verdict.checks if outcome.verdict else ())],
    }


def _budget_record(bound: Bound) -> dict[str, Any]:
    """A budget without its problem, which stands among the file's."""
    fields = {name: value for name, value in bound._asdict().items() if name != "problem"}
    return {**fields, "left": bound.left, "held": bound.left >= 0}


HEADS = (
    *("spec", "what", "counted", "measured", "equal", "reason"),
    *("file", "line", "column", "path", "rule", "level"),
)
"""Columns of CSV: those of a comparison, and what only a problem has."""

Row = tuple[int | str, ...]


def _rows(outcomes: Sequence[Outcome]) -> Iterator[Row]:
    """A row for each comparison, budget and problem. `equal` is False for errors, and empty for other problems."""
    for outcome in outcomes:
        spec, file = outcome.spec, outcome.file
        for check in outcome.verdict.checks if outcome.verdict else ():
            yield (spec, check.what, check.counted, check.measured, check.equal, check.reason or "", file, *[""] * 5)
        for bound in outcome.bounds:
            sides = (bound.figure, bound.bound, bound.left >= 0, margin(bound))
            yield (spec, f"{bound.label} {limit(bound)}", *sides, file, *[""] * 5)
        for problem in outcome.problems:
            yield _problem(outcome, problem, problem.level, fix(problem))
        for one in outcome.excused:
            yield _problem(outcome, one.problem, "excused", f"{one.why} ({one.where})")


def _problem(outcome: Outcome, problem: Problem, level: str, reason: str) -> Row:
    what = problem.message + (f"; got {problem.value}" if problem.value is not None else "")
    at = ("" if n is None else n for n in (problem.line, problem.column))
    equal = False if level == "error" else ""
    return (outcome.spec, what, "", "", equal, reason, problem.file, *at, problem.path, rule_id(problem), level)
