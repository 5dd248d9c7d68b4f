"""What a spec promises, held against its counts: printed figures that must hold, and those that are names."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

from archcalc.checks.verdict import Check, Verdict
from archcalc.counts.parameters import Parameters, Tally, Totals, params
from archcalc.counts.structure import Parts, totals_of
from archcalc.errors import MOST_PROBLEMS_SHOWN, Problem
from archcalc.spec.model import Model
from archcalc.spec.published import Published
from archcalc.units import percent, several, to_digits


class Counts:
    """The counts of a model, each worked out when a figure is held against it: most specs state none."""

    def __init__(self, model: Model, parts: Parts | None = None) -> None:
        self._model, self._parts = model, parts

    @cached_property
    def totals(self) -> Totals:
        return totals_of(self._model, self._parts)

    @cached_property
    def tally(self) -> Tally:
        return params(self._model).tally


def counted(published: Published, counts: Counts | Parameters) -> int:
    """Our figure for the quantity that a published one is of."""
    figures: dict[str, Callable[[], int]] = {
        "parameters": lambda: counts.totals.stored,
        "active": lambda: counts.totals.active,
        "tally": lambda: counts.tally.total,
        "matrices": lambda: counts.tally.matrices,
    }
    return figures[published.quantity]()


def holds(published: Published, figure: int) -> bool:
    """Whether our figure, rounded to the digits that were printed, is the printed one."""
    digits = published.digits or len(str(published.figure))
    return to_digits(figure, digits) == published.figure


def audit(model: Model, counts: Counts | Parameters | None = None) -> Verdict:
    """Hold every published figure against our count. A nominal one is shown with its difference and cannot fail."""
    counts = counts or Counts(model)
    return Verdict(
        model.name, tuple(_check(entry, counts) for entry in model.published), assumptions=model.assumptions
    )


def unreadable(spec: str, problems: tuple[Problem, ...], most: int = MOST_PROBLEMS_SHOWN) -> Verdict:
    """The verdict on an invalid spec: the first `most` of its problems, and how many more there are."""
    reasons = [str(problem) for problem in problems[:most]]
    if (more := len(problems) - len(reasons)) > 0:
        reasons.append(f"and {more:,} more" if reasons else several(more, "problem"))
    return Verdict(spec, tuple(Check("a spec", None, None, equal=False, reason=reason) for reason in reasons))


def _check(entry: Published, counts: Counts | Parameters) -> Check:
    figure = counted(entry, counts)
    equal = holds(entry, figure)
    off = figure - entry.figure
    difference = f"counted {percent(off, entry.figure)} ({off:+,})"
    if entry.status == "nominal":
        reason = "nominal" if equal else f"nominal, {difference}"
    elif equal:
        reason = f"holds to {entry.digits} digits" if entry.digits else "holds digit for digit"
    else:
        reason = f"DOES NOT HOLD, {difference}"
    required = entry.status == "counted"
    return Check(f"{entry.quantity} {entry.text}", figure, entry.figure, equal, reason, entry.source, required)
