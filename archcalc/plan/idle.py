"""What a plan asks for that changes nothing, in words.

It is no mistake: a plan whose degrees are varied may ask for more than one of them has use for.
"""

from __future__ import annotations

from collections.abc import Iterator

from archcalc.blocks.base import parts
from archcalc.blocks.experts import Experts
from archcalc.plan.description import HOW, NEEDS, Plan
from archcalc.plan.stages import layers_of
from archcalc.spec.model import Model


def idle(plan: Plan, model: Model | None = None) -> tuple[str, ...]:
    """A line for each field that changes nothing, of a model where one is given."""
    return tuple(_found(plan, model))


def _found(plan: Plan, model: Model | None) -> Iterator[str]:
    if plan.zero and plan.dp * plan.cp == 1:
        yield f"zero {plan.zero} shares nothing: dp x cp is 1"
    if plan.recompute_layers is not None and model is not None:
        most = max(map(len, layers_of(plan, int(model.n_layers))))
        if plan.recompute_layers >= most:
            yield f"recompute_layers {plan.recompute_layers:,} recomputes every layer: a stage has at most {most:,}"
    if plan.etp is not None and model is not None and not _has_experts(model):
        yield f"etp {plan.etp:,} changes nothing: the model has no experts"
    for field in (*HOW, "schedule"):  # the description refuses other values than the default
        if field in plan.model_fields_set and not NEEDS[field].met(plan):
            yield f"{field} changes nothing: it needs {NEEDS[field].words}"


def _has_experts(model: Model) -> bool:
    return any(isinstance(part, Experts) for _, part in parts(model))
