"""What a plan asks for that changes nothing, in words.

It is no mistake: a plan whose degrees are varied may ask for more than one of them has use for.
"""

from __future__ import annotations

from collections.abc import Iterator

from archcalc.blocks.base import parts
from archcalc.blocks.experts import Experts
from archcalc.plan.description import Plan
from archcalc.plan.stages import layers_of
from archcalc.spec.model import Model

_WEIGHTS = 3  # the stage of ZeRO that shares them


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
    for field, applies, why in (
        ("reshard_after_forward", plan.zero == _WEIGHTS, "it is of ZeRO 3"),
        ("prefetch", plan.zero == _WEIGHTS, "it is of ZeRO 3"),
        ("sharding", plan.zero > 0, "it is of ZeRO 1 to 3"),
        ("gathered_inputs", plan.sequence_parallel, "it is of sequence parallelism"),
        ("schedule", plan.pp > 1, "it is of a pipeline"),
    ):  # the description refuses other values than the default
        if field in plan.model_fields_set and not applies:
            yield f"{field} changes nothing: {why}"


def _has_experts(model: Model) -> bool:
    return any(isinstance(part, Experts) for _, part in parts(model))
