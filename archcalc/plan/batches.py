"""The batch of a step over all data-parallel ranks, as a plan divides it."""

from __future__ import annotations

from archcalc.errors import Invalid, Problem
from archcalc.plan.description import Plan


def of_batch(plan: Plan, whole: int, *, trains: bool) -> Plan:
    """The plan with `whole` sequences over all data-parallel ranks.

    In training the accumulation follows from it, in inference the sequences of a rank do. Raises Invalid for a batch
    that does not divide, and for one that contradicts the plan's accumulation.
    """
    if not trains:
        if whole % plan.dp:
            raise _undivided(whole, plan.dp, "dp")
        return plan.model_copy(update={"micro_batch": whole // plan.dp})
    each = plan.dp * plan.micro_batch
    if whole % each:
        raise _undivided(whole, each, "dp x micro_batch")
    if plan.accumulation not in (1, whole // each):
        what = f"must be dp x micro_batch x accumulation ({each * plan.accumulation:,}), or leave accumulation out"
        raise Invalid(Problem("--batch", what, value=f"{whole:,}"))
    return plan.model_copy(update={"accumulation": whole // each})


def _undivided(whole: int, each: int, name: str) -> Invalid:
    below = whole // each * each
    fix = " or ".join(f"{n:,}" for n in (below, below + each) if n)
    what = f"must be a multiple of {name} ({each:,})"
    return Invalid(Problem("--batch", what, value=f"{whole:,}", suggestion=f"nearest: {fix}"))
