"""The sheets of `check` and `verify`: what was held against what, side by side."""

from __future__ import annotations

from typing import Any, Literal

from archcalc.report.sheet import Cell, Fields, Sheet, Table, figures, payload, words
from archcalc.units import several
from archcalc.verdict import Check, Verdict


def verdict_sheet(verdicts: list[Verdict], other: Literal["printed", "measured"]) -> Sheet:
    """One spec's comparisons, or those of several together; `other` is what stands beside what was counted.

    A printed figure is part of its name, so its column is left out.
    """
    many = len(verdicts) != 1
    checks = [(verdict, check) for verdict in verdicts for check in verdict.checks]
    passed = all(verdict.passed for verdict in verdicts)
    failed = sum(check.required and not check.equal for _, check in checks)
    outcome = f"{failed:,} of {len(checks):,} comparisons DO NOT HOLD"
    if passed:
        nominal = sum(not check.required for _, check in checks)
        outcome = (
            f"{several(len(checks) - nominal, 'comparison')} held"
            + f"; {several(nominal, 'nominal figure')} shown" * bool(nominal)
        )
        outcome = outcome if checks else "a spec, and nothing is printed to hold it to"
    subject = f"{len(verdicts):,} specs" if many else verdicts[0].spec
    witnesses = tuple(dict.fromkeys(v.proven_with for v in verdicts if v.proven_with))
    not_asked = tuple(dict.fromkeys(words for v in verdicts for words in v.not_asked))
    rows = tuple(_row(verdict, check, many=many, printed=other == "printed") for verdict, check in checks)
    fields = tuple((name, said) for name, said in (("Proven by", witnesses), ("Not asked", not_asked)) if said)
    columns = (*words(*(["spec"] if many else []), "what"), *figures("counted", *([other] * (other == "measured"))))
    return Sheet(
        title=f"{subject}: {outcome}",
        blocks=(
            *([Table((*columns, *words("")), rows)] if rows else []),
            *([Fields(fields)] if fields else []),
        ),
        payload=payload(
            *([None] if many else [verdicts[0].spec]),
            passed=passed,
            checks=[_json(verdict, check) for verdict, check in checks],
            proven_with=list(witnesses),
            not_asked=list(not_asked),
        ),
        records=tuple(_record(verdict, check) for verdict, check in checks),
    )


def _row(verdict: Verdict, check: Check, *, many: bool, printed: bool) -> tuple[Cell, ...]:
    sides = [_cell(check.counted)] if printed else [_cell(check.counted), _cell(check.measured)]
    row = (check.what, *sides, check.reason or "=")
    return (verdict.spec, *row) if many else row


def _cell(value: Any) -> Cell:
    return tuple(value) if isinstance(value, list) else "none" if value is None else value


def _json(verdict: Verdict, check: Check) -> dict[str, Any]:
    return {**check._asdict(), "spec": verdict.spec}


def _record(verdict: Verdict, check: Check) -> dict[str, Any]:
    flat = {
        side: "x".join(str(n) for n in value) if isinstance(value, list) else value
        for side, value in (("counted", check.counted), ("measured", check.measured))
    }
    return {"spec": verdict.spec, "what": check.what, **flat, "equal": check.equal, "reason": check.reason}
