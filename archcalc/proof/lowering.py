"""What is run of a plan: a plan of the same kind with few ranks, and a small model that they divide."""

from __future__ import annotations

from collections.abc import Iterator

from archcalc.plan.description import Plan
from archcalc.proof.miniature import miniature
from archcalc.spec.model import Model

MOST_RANKS = 4
VOCABULARY = 96  # rows that 2, 3 and 4 ranks divide
_PAIR = 2
_OF_NUMBERS = ("precision", "optimizer", "offload_optimizer")
_OF_STAGES = ("pp", "schedule", "chunks", "stage_layers")


def lowered(plan: Plan) -> Plan:
    """A plan of the same kind with at most four ranks in one stage, each with few sequences."""
    ep = next(n for n in (_PAIR if plan.expert_dp > 1 else MOST_RANKS, _PAIR, 1) if plan.ep % n == 0)
    tp = _PAIR if plan.tp % _PAIR == 0 and ep == 1 else 1
    shares = plan.zero == 3 and plan.sharding == "per-tensor" and ep == 1
    most = MOST_RANKS // tp if shares or not plan.zero else 1
    dp = next(n for n in range(min(plan.dp, most), 0, -1) if plan.dp % n == 0)
    update = {
        "dp": dp if ep == 1 else MOST_RANKS if plan.expert_dp > 1 else ep,
        "ep": ep,
        "tp": tp,
        "sequence_parallel": plan.sequence_parallel and tp > 1,
        "gathered_inputs": "kept" if plan.sequence_parallel and tp > 1 else "again",
        "zero": 3 if shares else 0,
        **(
            {}
            if shares
            else {name: getattr(Plan(), name) for name in ("sharding", "reshard_after_forward", "prefetch")}
        ),
        "micro_batch": min(plan.micro_batch, 2),
        "accumulation": 1,
        **{name: getattr(Plan(), name) for name in ("cp", "etp", *_OF_STAGES)},
        "vocab_divisible_by": None,
        "recompute": "full" if _recomputes(plan) else None,
        **{name: getattr(Plan(), name) for name in (*_OF_NUMBERS, "recompute_layers", "framework")},
    }
    return plan.model_copy(update=update)


def _recomputes(plan: Plan) -> bool:
    """Whether all layers are computed again, which the small plan does too."""
    return plan.recompute == "full" and plan.recompute_layers is None


def lowered_stages(plan: Plan) -> Plan | None:
    """A pipeline of at most four stages with one rank each, and twice as many micro-batches; None where there is none.

    Where the layers of each stage are given the last has one layer more.
    """
    pp = next((n for n in range(MOST_RANKS, 1, -1) if plan.pp % n == 0), None)
    if pp is None or plan.accumulation < plan.pp:
        return None
    chunks = min(plan.chunks, _PAIR)
    layers = (*[1] * (pp * chunks - 1), _PAIR) if plan.stage_layers else None
    return Plan(
        name=plan.name,
        pp=pp,
        schedule=plan.schedule,
        chunks=chunks,
        stage_layers=layers,
        micro_batch=min(plan.micro_batch, _PAIR),
        accumulation=_PAIR * pp,
    )


def small_for(model: Model, few: Plan) -> Model:
    """A miniature whose sizes its ranks divide; DTensor would cut a table of positions where positions are cut."""
    small = miniature(model).model_copy(update={"vocab_size": VOCABULARY})
    if few.sequence_parallel and getattr(small.embedding, "positions", None) == "learned":
        small = small.model_copy(update={"embedding": small.embedding.model_copy(update={"positions": "none"})})
    if few.tp > 1 or few.pp > 1:
        small = small.model_copy(update={"unembedding": small.unembedding.model_copy(update={"tied": False})})
    return small


def with_layers(model: Model, plan: Plan) -> Model:
    """A model with as many layers as the stages of a pipeline take: its last ones are repeated, or left out."""
    missing = sum(plan.stage_layers) - model.n_layers if plan.stage_layers else -model.n_layers % plan.virtual_stages
    *before, last = model.layers
    if last.repeat + missing < 1:
        return model
    return model.model_copy(update={"layers": (*before, last.model_copy(update={"repeat": last.repeat + missing}))})


def not_run(model: Model, plan: Plan) -> Iterator[str]:
    """What of a plan is not run, in words."""
    if plan.cp > 1:
        yield "context parallelism: PyTorch's has no attention for CPUs, and the reference does not run it"
    yield from _stages_not_run(model, plan)
    yield from _numbers_not_kept(plan)
    for name in ("tp", "ep"):
        if getattr(plan, name) % 2 and getattr(plan, name) > 1:
            yield f"{name} {getattr(plan, name):,}: even numbers alone are lowered"
    if plan.accumulation > 1 and plan.pp == 1:
        yield "accumulation: the small plan has one micro-batch"
    if plan.ep > 1 and plan.tp > 1:
        yield f"tp {plan.tp:,} beside ep {plan.ep:,}: experts of several ranks are run without it"
    if plan.ep > 1 and plan.zero == 3:
        yield f"shares of ZeRO 3 beside ep {plan.ep:,}: experts of several ranks are run without them"
    elif plan.zero in (1, 2) or (plan.zero == 3 and plan.sharding == "flat"):
        yield f"shares of ZeRO {plan.zero}, {plan.sharding}: PyTorch's fully_shard has those of ZeRO 3, per-tensor"
    if plan.gathered_inputs == "again" and plan.sequence_parallel:
        yield "gathering inputs again: DTensor keeps them, and so does the small plan"


def _stages_not_run(model: Model, plan: Plan) -> Iterator[str]:
    if plan.accumulation < plan.pp:
        yield f"pp {plan.pp:,}: PyTorch's schedules need at least {plan.pp:,} micro-batches in a step"
    elif plan.pp > 1 and lowered_stages(plan) is None:
        yield f"pp {plan.pp:,}: multiples of 2, 3 and 4 alone are lowered"
    elif plan.pp > 1:
        if plan.world > plan.pp:
            yield f"pp {plan.pp:,} beside other axes: stages are run with one rank each"
        if getattr(model.unembedding, "tied", False):
            yield "gradients of the tied token table, between the last stage and the first: the small model's is not"


def _numbers_not_kept(plan: Plan) -> Iterator[str]:
    """What a plan says of how numbers are kept: steps are taken with AdamW in fp32, and by fully_shard in bf16 too."""
    for name in _OF_NUMBERS:
        if getattr(plan, name):
            value = str(getattr(plan, name)).lower()
            yield f"{name} {value}: steps are taken with AdamW in fp32, where fully_shard gathers in fsdp-bf16 too"
    if plan.recompute not in (None, "none") and not _recomputes(plan):
        yield f"recomputation ({plan.recompute}): all layers are computed again, or none"
