"""The sheets of `check` and `verify`: what was held against what, side by side."""

from __future__ import annotations

from typing import Any, Literal

from archcalc.checks.verdict import Check, Verdict
from archcalc.report.sheet import Cell, Fields, Sheet, Table, figures, payload, words
from archcalc.units import several


def verdict_sheet(verdicts: list[Verdict], other: Literal["printed", "measured", "stored"]) -> Sheet:
    """One spec's comparisons, or those of several together; `other` is what stands beside what was counted.

    A printed figure is part of its name, so its column is left out.
    """
    many = len(verdicts) != 1
    every = [(verdict, check) for verdict in verdicts for check in verdict.checks]
    # What is wrong with a spec that cannot be read was told already, a line each; here nothing is compared.
    told = {verdict.spec for verdict, check in every if other == "printed" and check.measured is None}
    checks = [(verdict, check) for verdict, check in every if verdict.spec not in told]
    subject = f"{len(verdicts):,} specs" if many else verdicts[0].spec
    proven = dict.fromkeys(v.proven_with for v in verdicts if v.proven_with)
    said = {
        ("Read" if other == "stored" else "Proven by"): proven,
        "Not compared": dict.fromkeys(words for v in verdicts for words in v.not_compared),
        "Warning": [f"{v.spec}: {words}" if many else words for v in verdicts for words in v.warnings],
        "Assumed": [] if many else list(verdicts[0].assumptions),
    }
    fields = tuple((label, tuple(lines)) for label, lines in said.items() if lines)
    rows = tuple(_row(verdict, check, many=many, printed=other == "printed") for verdict, check in checks)
    columns = (
        *words(*(["spec"] if many else []), "comparison"),
        *figures("counted", *([other] * (other != "printed"))),
    )
    return Sheet(
        title=f"{subject}: {_outcome([check for _, check in checks], len(told), many=many)}",
        blocks=(
            *([Table((*columns, *words("")), rows)] if rows else []),
            *([Fields(fields)] if fields else []),
        ),
        payload=payload(
            *([None] if many else [verdicts[0].spec]),
            passed=all(verdict.passed for verdict in verdicts),
            checks=[_json(verdict, check) for verdict, check in every],
            proven_with=list(proven),
            not_compared=list(said["Not compared"]),
            warnings=list(said["Warning"]),
            assumptions=list(dict.fromkeys(words for v in verdicts for words in v.assumptions)),
        ),
        records=tuple(_record(verdict, check) for verdict, check in every),
    )


def _outcome(checks: list[Check], invalid: int, *, many: bool) -> str:
    """How many specs are not valid, and of the comparisons how many hold."""
    failed = sum(check.required and not check.equal for check in checks)
    nominal = sum(not check.required for check in checks)
    if failed:
        held = f"{failed:,} of {several(len(checks), 'comparison')} DO NOT HOLD"
    elif checks:
        held = f"{several(len(checks) - nominal, 'comparison')} held"
        held += f"; {several(nominal, 'nominal figure')} shown" * bool(nominal)
    else:
        held = "" if invalid else "valid, with no published figures to compare with"
    not_valid = (f"{invalid:,} not valid" if many else "not a valid spec") if invalid else ""
    return "; ".join(words for words in (not_valid, held) if words)


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
