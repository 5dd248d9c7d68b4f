"""The budgets of a project beside a comparison: which of them a change breaks, and which it keeps again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from archcalc.checks.budgets import Kept
from archcalc.checks.outcome import Bound
from archcalc.checks.rules import UNKNOWN
from archcalc.report.budgets import amount, limit, margin
from archcalc.report.sheet import Cell, Fields, Table, words
from archcalc.units import several


def balance(names: Sequence[str], kept: Sequence[Kept]) -> tuple[tuple[Table | Fields, ...], str]:
    """A table of the budgets that a spec exceeds, or the first one did; and how many are newly exceeded, in words.

    Both are empty where the project has no budgets. What cannot be evaluated is told below the table.
    """
    rows, broken = [], 0
    before = {_key(bound): bound for bound in kept[0].bounds}
    for name, one in zip(names[1:], kept[1:], strict=True):
        for bound in one.bounds:
            old = before.get(_key(bound))
            was = old is not None and old.left < 0
            if bound.left >= 0 and not was:
                continue
            new = bound.left < 0 and not was
            broken += new
            rows.append(_row(name if len(names) > 2 else "", old, bound, new=new))
    blocks: list[Table | Fields] = []
    if not rows and (count := len(kept[0].bounds)):
        blocks.append(Fields((("Budgets", (f"{several(count, 'budget')} held by each spec",)),)))
    if rows:
        many = ["spec"] if len(names) > 2 else []
        heads = words(*many, "budget", "bound", names[0], "now" if many else names[1], "")
        blocks.append(Table(heads, tuple(rows), title="Budgets", keys=1 + bool(many)))
    if told := dict.fromkeys(one.message for each in kept for one in each.problems if one.rule == UNKNOWN.id):
        blocks.append(Fields((("Not evaluated", tuple(told)),)))
    return tuple(blocks), f"{several(broken, 'budget')} newly exceeded" if broken else ""


def _key(bound: Bound) -> tuple[str, str, bool]:
    return bound.label, bound.words, bound.at_least


def _row(name: str, old: Bound | None, bound: Bound, *, new: bool) -> tuple[Cell, ...]:
    verdict = margin(bound) if bound.left < 0 else "held again"
    before = "-" if old is None else amount(old.figure, old.unit)
    cells = (
        bound.label,
        limit(bound),
        before,
        amount(bound.figure, bound.unit),
        f"NEW: {verdict}" if new else verdict,
    )
    return (name, *cells) if name else cells


def records(names: Sequence[str], kept: Sequence[Kept]) -> list[dict[str, Any]]:
    """The same as JSON: each budget of each spec."""
    return [
        {"spec": name, **{k: v for k, v in bound._asdict().items() if k != "problem"}, "left": bound.left}
        for name, one in zip(names, kept, strict=True)
        for bound in one.bounds
    ]
