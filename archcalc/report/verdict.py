"""The sheets of `check` and `verify`: what was held against what, side by side."""

from __future__ import annotations

from typing import Any

from archcalc.report.sheet import Cell, Fields, Sheet, Table, figures, payload, words
from archcalc.verdict import Check, Verdict


def verdict_sheet(verdicts: list[Verdict], heads: tuple[str, str], caveat_rows: Any = ()) -> Sheet:
    """One spec's comparisons, or those of several together; `heads` name the two sides."""
    several = len(verdicts) != 1
    checks = [(verdict, check) for verdict in verdicts for check in verdict.checks]
    passed = all(verdict.passed for verdict in verdicts)
    failed = sum(not check.equal for _, check in checks)
    outcome = (
        f"{len(checks):,} comparisons hold" if passed else f"{failed:,} of {len(checks):,} comparisons DO NOT HOLD"
    )
    subject = f"{len(verdicts):,} specs" if several else verdicts[0].spec
    witnesses = tuple(dict.fromkeys(v.proven_with for v in verdicts if v.proven_with))
    fields = [*([("Proven by", witnesses)] if witnesses else []), *caveat_rows]
    rows = tuple(_row(verdict, check, several=several) for verdict, check in checks)
    return Sheet(
        title=f"{subject}: {outcome}",
        blocks=(
            Table((*words(*(["spec"] if several else []), "what"), *figures(*heads), *words("")), rows),
            *([Fields(tuple(fields))] if fields else []),
        ),
        payload=payload(
            *([None] if several else [verdicts[0].spec]),
            passed=passed,
            checks=[_json(verdict, check) for verdict, check in checks],
            proven_with=list(witnesses),
        ),
        records=tuple(_record(verdict, check) for verdict, check in checks),
    )


def _row(verdict: Verdict, check: Check, *, several: bool) -> tuple[Cell, ...]:
    mark = check.reason or "="
    row = (check.what, _cell(check.counted), _cell(check.measured), mark)
    return (verdict.spec, *row) if several else row


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
