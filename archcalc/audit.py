"""What a spec promises, held against its counts: the printed figures, those that must hold and those that are names."""

from __future__ import annotations

from archcalc.count import Parameters, params
from archcalc.spec import Model, Published
from archcalc.units import grouped, percent, to_digits
from archcalc.verdict import Check, Verdict


def counted(published: Published, counts: Parameters) -> int:
    """Our figure for the quantity that a published one is of."""
    figures = {"parameters": counts.stored, "tally": counts.tally.total, "matrices": counts.tally.matrices}
    figure: int = figures[published.quantity]
    return figure


def holds(published: Published, figure: int) -> bool:
    """Whether our figure, rounded to the digits that were printed, is the printed one."""
    digits = published.digits or len(str(published.figure))
    return to_digits(figure, digits) == published.figure


def audit(model: Model) -> Verdict:
    """Hold every published figure against our count. A nominal one is shown with its difference and cannot fail."""
    counts = params(model)
    return Verdict(model.name, tuple(_check(entry, counts) for entry in model.published))


def _check(entry: Published, counts: Parameters) -> Check:
    figure = counted(entry, counts)
    equal = holds(entry, figure)
    reason = None if equal else f"{percent(figure - entry.figure, entry.figure)} ({grouped(figure - entry.figure)})"
    if entry.status == "nominal":
        reason = f"nominal, {reason or 'and it holds'}" + (f"; {entry.note}" if entry.note else "")
    what = f"{entry.quantity} as printed, {entry.text}: {entry.source}"
    return Check(what, figure, entry.figure, equal or entry.status == "nominal", reason)
