"""How the run of a plan keeps its numbers: as it is asked, as the plan says, or as its framework does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from archcalc.errors import Invalid, Problem, shown
from archcalc.plan.description import Plan
from archcalc.plan.frameworks import RECIPES
from archcalc.tape.precision import DEFAULTS, Keeping, Purpose, precisions


def keeping_of(plan: Plan | None, purpose: Purpose = "training", **asked: Any) -> Keeping:
    """How a plan's run keeps its numbers: as `asked`, where that is not None, then as the plan says, then as its
    framework does.

    Raises Invalid for a value that a Keeping cannot have.
    """
    if plan is not None and asked.get("precision") is None:
        _refuse_other(plan, purpose)
    found = dict(_said(plan, purpose)) if plan is not None else {}
    given = {name: value for name, value in asked.items() if value is not None}
    return Keeping(**{"precision": DEFAULTS[purpose], **found, **given})


def _refuse_other(plan: Plan, purpose: Purpose) -> None:
    """Raise Invalid for a precision that training, or inference, does not have."""
    known = precisions(purpose)
    if plan.precision is not None and plan.precision not in known:
        what = f"for {purpose} must be one of {', '.join(known)}"
        raise Invalid(Problem(plan.name, what, "precision", value=shown(plan.precision)))


def _said(plan: Plan, purpose: Purpose) -> Iterator[tuple[str, Any]]:
    if purpose == "training":
        fields = plan.model_dump()
        for habit in reversed(RECIPES.get(plan.framework or "", ())):
            if habit.case.of(fields):
                yield habit.field, habit.value
    for name, field in _FIELDS.items() if purpose == "training" else (("precision", "precision"),):
        value = getattr(plan, field)
        if value is not None and value is not False:
            yield name, value


_FIELDS = {
    "precision": "precision",
    "optimizer": "optimizer",
    "recompute": "recompute",
    "offload": "offload_optimizer",
}
"""What of a Keeping is a field of a plan."""
