"""A plan rank by rank: what each process of a small model holds, beside what is counted for a rank of the plan."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from archcalc.blocks.base import parts
from archcalc.blocks.experts import Experts
from archcalc.checks.verdict import Check, Verdict, ran, same
from archcalc.counts.activations import saved
from archcalc.counts.memory import alive
from archcalc.counts.optimizer import held
from archcalc.counts.parameters import params
from archcalc.counts.sharded import REDUCING
from archcalc.errors import Invalid, Problem
from archcalc.packages import missing
from archcalc.plan.description import Plan
from archcalc.plan.holding import lacking
from archcalc.plan.local import local
from archcalc.plan.stages import in_flight
from archcalc.proof.miniature import described, miniature, without_capacity
from archcalc.proof.pipelines import SCHEDULES, most_held
from archcalc.proof.processes import MOST_RANKS, Seen, run_ranks
from archcalc.proof.sending import compare_collectives
from archcalc.spec.model import Model
from archcalc.tape.legend import largest
from archcalc.tape.precision import Keeping
from archcalc.tape.run import MEMORY_KERNEL, Run

TOLERANCE = 1e-5
GLOO = "real processes over gloo"
DTENSOR = "DTensor has the token table's gradient whole, and copies of what it lays out anew"
_PAIR = 2
IDENTITY = "how many experts compute is a matter of routing; counted are as many as are likely"
DROPS = "each rank drops vectors of its own where buffers of experts are full"
VOCABULARY = 96  # rows that 2, 3 and 4 ranks divide


class Counted(NamedTuple):
    """What is counted for the fullest rank: parameters that it keeps, and bytes.

    `fewer` are the parameters that each data-parallel rank has less, since its last rows are padding, `state` bytes
    that the optimizer keeps of each, and `rooted` those that it makes of each while it steps.
    """

    parameters: int
    saved: int
    passes: int
    step: int
    fewer: tuple[int, ...]
    state: int
    rooted: int


def prove_plan(model: Model, plan: Plan) -> Verdict:
    """Compare a small model of the same architecture under a small plan of the same kind, rank by rank.

    Real processes run what PyTorch's fully_shard and DTensor run of the plan, in at most four ranks; what stages of a
    pipeline hold is asked of PyTorch's schedules at the plan's own degrees. What is not run is said.

    Raises Invalid for a plan of which nothing can be run, Missing without PyTorch, or where what is private in it has
    moved.
    """
    try:
        import torch
        import torch.distributed.fsdp
    except ModuleNotFoundError as error:
        raise missing(error, "verify", "torch") from None
    few, lacking = lowered(plan), list(_lacking(plan))
    small = _small(model, few)
    run = Run(batch=few.micro_batch, sequence=small.context_length, attention="flash")
    checks: list[Check] = []
    if 1 < plan.pp <= plan.accumulation:
        checks += ran("micro-batches in flight", _in_flight(plan))
    try:
        for keeping in _keepings(few) if few.world > 1 else ():
            checks += ran(f"steps of {few.world} ranks", compare_ranks(small, few, run, keeping))
    except Invalid as refused:
        lacking.append(f"steps of {few.world} ranks: {refused}")
    if not checks:
        raise Invalid(Problem("archcalc verify", f"has nothing of this plan to run: {'; '.join(lacking)}"))
    how = f"{few.world} processes over gloo ({_degrees(few)}) with {described(small)}"
    how = how if few.world > 1 else "its pipeline schedules"
    return Verdict(model.name, tuple(checks), f"PyTorch {torch.__version__}, {how}", tuple(lacking))


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
        **{name: getattr(Plan(), name) for name in ("cp", "pp", "etp", "schedule", "chunks", "stage_layers")},
        "vocab_divisible_by": None,
    }
    return plan.model_copy(update=update)


def _lacking(plan: Plan) -> Iterator[str]:
    """What of a plan is not run, in words."""
    for name, what in (("cp", "context parallelism"), ("pp", "sends between stages")):
        if getattr(plan, name) > 1:
            yield f"{what}: the reference does not run {'them' if name == 'pp' else 'it'}"
    if plan.accumulation < plan.pp:
        yield f"micro-batches in flight: PyTorch's schedules need at least {plan.pp:,} in a step"
    for name in ("tp", "ep"):
        if getattr(plan, name) % 2 and getattr(plan, name) > 1:
            yield f"{name} {getattr(plan, name):,}: even numbers alone are lowered"
    if plan.accumulation > 1:
        yield "accumulation: the small plan has one micro-batch"
    if plan.ep > 1 and plan.tp > 1:
        yield f"tp {plan.tp:,} beside ep {plan.ep:,}: experts of several ranks are run without it"
    if plan.ep > 1 and plan.zero == 3:
        yield f"shares of ZeRO 3 beside ep {plan.ep:,}: experts of several ranks are run without them"
    elif plan.zero in (1, 2) or (plan.zero == 3 and plan.sharding == "flat"):
        yield f"shares of ZeRO {plan.zero}, {plan.sharding}: PyTorch's fully_shard has those of ZeRO 3, per-tensor"
    if plan.gathered_inputs == "again" and plan.sequence_parallel:
        yield "gathering inputs again: DTensor keeps them, and so does the small plan"


def _small(model: Model, few: Plan) -> Model:
    """A miniature whose sizes its ranks divide; DTensor would cut a table of positions where positions are cut."""
    small = miniature(model).model_copy(update={"vocab_size": VOCABULARY})
    if few.sequence_parallel and getattr(small.embedding, "positions", None) == "learned":
        small = small.model_copy(update={"embedding": small.embedding.model_copy(update={"positions": "none"})})
    if few.tp > 1:
        small = small.model_copy(update={"unembedding": small.unembedding.model_copy(update={"tied": False})})
    return small


def _keepings(few: Plan) -> tuple[Keeping, ...]:
    """Tensors that DTensor cut and tensors that it did not are stepped one by one."""
    if few.tp > 1 or not few.zero:
        return (Keeping("fp32", "adamw"),)
    return Keeping("fp32"), Keeping("fsdp-bf16", statistic=2)


def _degrees(plan: Plan) -> str:
    experts = f", experts over {plan.ep}" if plan.ep > 1 else ""
    return f"dp {plan.dp} x tp {plan.tp}{experts}" + (", positions cut" if plan.sequence_parallel else "")


def _in_flight(plan: Plan) -> Iterator[Check]:
    """Micro-batches that each stage holds of each of its chunks, at the plan's own degrees."""
    for stage, most in enumerate(most_held(plan)):
        what = f"micro-batches in flight, stage {stage} of {plan.pp}"
        yield same(what, in_flight(plan, stage), most, f"PyTorch's {SCHEDULES[plan.schedule]}")


def compare_ranks(model: Model, plan: Plan, run: Run, keeping: Keeping) -> Iterator[Check]:
    """What each rank keeps, saves and holds at its peaks, and that all together learn what one process learns."""
    found, few = run_ranks(model, plan, run, keeping), counted(model, plan, run, keeping)
    if plan.ep > 1:
        yield _routed(model, few.saved * len(found), found, keeping)
    for rank, seen in enumerate(found):
        where = f"rank {rank} of {len(found)}, {keeping.precision}"
        fewer = few.fewer[rank // plan.tp]
        yield same(f"parameters, {where}", few.parameters - fewer, seen.parameters, GLOO)
        yield same(f"saved bytes, {where}", few.saved, seen.saved, "autograd's saved tensors")
        yield _peak(f"peak of the passes, {where}", few.passes - fewer * few.state, seen, plan)
        due = few.step - fewer * (few.state + few.rooted)
        step = same(f"peak of the optimizer, {where}", due, seen.step, "the CPU allocator's record")
        yield step if step.equal or plan.tp == 1 else step._replace(reason=DTENSOR, required=False)
    yield from compare_collectives(model, plan, run, keeping, [seen.issued for seen in found])
    if found[0].alone:
        yield _losses(model, found[0])


def _routed(model: Model, counted: int, found: list[Seen], keeping: Keeping) -> Check:
    """Experts of some ranks get more vectors than those of others, and all together as many as are sent."""
    what, together = f"saved bytes, all ranks, {keeping.precision}", sum(seen.routed for seen in found)
    check = same(what, counted, together, "autograd's saved tensors, as the router chose")
    least, most = (which(seen.routed for seen in found) for which in (min, max))
    if check.equal:
        return check._replace(reason=f"= and {least:,} to {most:,} on a rank")
    idle = any(isinstance(part, Experts) and part.n_identity for _, part in parts(model))
    return check._replace(reason=IDENTITY, required=False) if idle else check


def counted(model: Model, plan: Plan, run: Run, keeping: Keeping, *, gloo: bool = True) -> Counted:
    """What is counted for the fullest rank; `gloo`, which has no reduce-scatter, reduces a copy of all of it."""
    taken = local(model.record(run.by_default(MEMORY_KERNEL)), plan)
    counts, recipe, totals, step = params(taken), keeping.recipe, [], 0
    for moment in alive(taken, taken.run, keeping):
        parts = moment.parts()
        total = sum(parts.values())
        if moment.phase == "step":
            step = total
            continue
        if gloo and moment.at == REDUCING:
            total += parts["reduce buffers"] * plan.dp // (plan.dp + 1)
        totals.append(total)
    by_rows = plan.zero > 0 and plan.sharding == "per-tensor"
    fewer = (lacking(plan, counts.tensors, rank) if by_rows else 0 for rank in range(plan.dp))
    return Counted(
        fewer=tuple(fewer),
        state=keeping.method.moments * recipe.moment,
        rooted=recipe.moment if keeping.method.temporaries == "all" else 0,
        parameters=held("weights", counts.tensors, taken.stage),
        saved=saved(taken, taken.run, keeping.widths, keeping.recompute, cast=recipe.autocast).total,
        passes=largest(totals),
        step=step,
    )


def _peak(what: str, counted: int, seen: Seen, plan: Plan) -> Check:
    """The peak of the tensors; what kernels and gloo need beside them is reported and not counted."""
    inside = seen.passes - seen.tensors
    check = same(what, counted, seen.tensors, GLOO)
    if plan.tp > 1 and not check.equal:
        return check._replace(reason=DTENSOR, required=False)
    return check._replace(reason=f"= and {inside:,} inside a kernel or gloo") if check.equal and inside > 0 else check


def _losses(model: Model, first: Seen) -> Check:
    """The losses of all ranks together, and those of one process that has all sequences: how many are the same."""
    off = [abs(one - other) for one, other in zip(first.losses, first.alone, strict=True)]
    close = sum(n <= TOLERANCE * max(1.0, *first.alone) for n in off)
    equal = close == len(off)
    reason = None if equal else f"DIFFERS by up to {max(off):.2g}"
    check = Check("losses of all ranks", len(off), close, equal, reason, "one process that has all sequences")
    drops = without_capacity(model) != model
    return check._replace(reason=DROPS, required=False) if drops and not equal else check
