"""How much was found in all files together, and the lines that say so."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from archcalc.checks.outcome import Excused, Outcome
from archcalc.checks.rules import BUDGET, FIGURE, INVALID
from archcalc.report.budgets import held_against
from archcalc.report.places import rule_id
from archcalc.units import grouped, several

NOUNS = {"plan": "plan", "device": "device", "weights": "checkpoint", "configuration": "configuration"}
"""What a file is that is no spec."""


class Tally(NamedTuple):
    """Counts over all files; a file is `invalid` that cannot be read or is not valid.

    Of errors `other` are those that are neither invalid files nor budgets nor figures. Comparisons with published
    figures are `held`, `failed` or only `nominal`. A budget that is exceeded and excused is
    not `exceeded` but `known`.
    """

    files: int
    passed: int
    errors: int
    warnings: int
    excused: int
    invalid: int
    other: int
    budgets: int
    exceeded: int
    known: int
    held: int
    failed: int
    nominal: int


def tally(outcomes: Sequence[Outcome]) -> Tally:
    """Count what was found."""
    levels: Counter[str] = Counter()
    broken: Counter[str] = Counter()
    for outcome in outcomes:
        for problem in outcome.problems:
            levels[problem.level] += 1
            broken[rule_id(problem)] += problem.level == "error"
    checks = [check for outcome in outcomes if outcome.verdict for check in outcome.verdict.checks]
    budgets = [held for outcome in outcomes for held in held_against(outcome)]
    nominal = sum(not check.required for check in checks)
    failed = sum(check.required and not check.equal for check in checks)
    exceeded = sum(held.bound.left < 0 and not isinstance(held.found, Excused) for held in budgets)
    # A budget that cannot be evaluated has a problem and no figure.
    told = broken[INVALID.id] + broken[FIGURE.id] + min(broken[BUDGET.id], exceeded)
    return Tally(
        files=len(outcomes),
        passed=sum(outcome.passed for outcome in outcomes),
        errors=levels["error"],
        warnings=levels["warning"],
        excused=sum(len(outcome.excused) for outcome in outcomes),
        invalid=sum(is_invalid(outcome) for outcome in outcomes),
        other=levels["error"] - told,
        budgets=len(budgets),
        exceeded=exceeded,
        known=sum(held.bound.left < 0 for held in budgets) - exceeded,
        held=len(checks) - nominal - failed,
        failed=failed,
        nominal=nominal,
    )


def is_invalid(outcome: Outcome) -> bool:
    """Whether the file cannot be read or is not valid."""
    return any(rule_id(problem) == INVALID.id for problem in outcome.problems)


def headline(outcomes: Sequence[Outcome]) -> str:
    """What was checked and how it came out: gpt2: 2 comparisons held; 1 nominal figure shown."""
    return f"{_subject(outcomes)}: {_outcome(outcomes, tally(outcomes))}"


def totals(outcomes: Sequence[Outcome]) -> str:
    """The problems by their level: 2 errors and 1 warning in 12 files."""
    counts = tally(outcomes)
    found = f"{several(counts.errors, 'error')} and {several(counts.warnings, 'warning')}"
    return f"{found} in {several(counts.files, 'file')}" + f"; {grouped(counts.excused)} excused" * bool(
        counts.excused
    )


def _subject(outcomes: Sequence[Outcome]) -> str:
    if len(outcomes) == 1:
        return outcomes[0].spec or outcomes[0].file
    nouns = {NOUNS.get(outcome.kind, "spec") for outcome in outcomes}
    return several(len(outcomes), nouns.pop() if nouns == {"spec"} else "file")


def _outcome(outcomes: Sequence[Outcome], counts: Tally) -> str:
    if len(outcomes) == 1:
        invalid = f"not a valid {NOUNS.get(outcomes[0].kind, 'spec')}" if counts.invalid else ""
    else:
        invalid = f"{grouped(counts.invalid)} not valid" if counts.invalid else ""
    problems = ", ".join(
        several(n, noun) for n, noun in ((counts.other, "problem"), (counts.warnings, "warning")) if n
    )
    excused = f"{grouped(counts.excused)} excused" if counts.excused else ""
    told = [words for words in (invalid, problems, _budgets(counts), *_comparisons(counts), excused) if words]
    if told:
        return "; ".join(told)
    if not outcomes:
        return "nothing to check"
    no_figures = {NOUNS.get(outcome.kind, "spec") for outcome in outcomes} == {"spec"}
    return "valid, with no published figures to compare with" if no_figures else "valid"


def _budgets(counts: Tally) -> str:
    if counts.exceeded:
        return f"{grouped(counts.exceeded)} of {several(counts.budgets, 'budget')} EXCEEDED"
    if counts.known:
        held = f"{grouped(counts.budgets - counts.known)} of {several(counts.budgets, 'budget')} held"
        return f"{held}, {grouped(counts.known)} exceeded as known"
    return f"{several(counts.budgets, 'budget')} held" if counts.budgets else ""


def _comparisons(counts: Tally) -> tuple[str, ...]:
    every = counts.held + counts.failed + counts.nominal
    if counts.failed:
        return (f"{grouped(counts.failed)} of {several(every, 'comparison')} DO NOT HOLD",)
    if not every:
        return ()
    nominal = (f"{several(counts.nominal, 'nominal figure')} shown",) if counts.nominal else ()
    return (f"{several(counts.held, 'comparison')} held", *nominal)
