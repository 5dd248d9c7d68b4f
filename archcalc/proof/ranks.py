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
from archcalc.plan.rules import refuse
from archcalc.proof.alone import compare_losses
from archcalc.proof.lowering import lowered, lowered_stages, not_run, small_for, with_layers
from archcalc.proof.miniature import described, without_capacity
from archcalc.proof.pipelines import compare_held, compare_stages, schedule_of
from archcalc.proof.processes import Seen, run_ranks
from archcalc.proof.sending import compare_collectives
from archcalc.spec.model import Model
from archcalc.tape.legend import largest
from archcalc.tape.precision import Keeping
from archcalc.tape.run import MEMORY_KERNEL, Run

GLOO = "real processes over gloo"
DTENSOR = "DTensor has the token table's gradient whole, and copies of what it lays out anew"
IDENTITY = "how many experts compute is a matter of routing; counted are as many as are likely"
DROPS = "each rank drops vectors of its own where buffers of experts are full"


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
    few, stages, lacking = lowered(plan), lowered_stages(plan), list(not_run(model, plan))
    small = small_for(model, few)
    run = Run(batch=few.micro_batch, sequence=small.context_length, attention="flash")
    checks: list[Check] = []
    if 1 < plan.pp <= plan.accumulation:
        checks += ran("micro-batches in flight", compare_held(plan))
    if stages is not None:
        checks += _of_stages(model, stages, lacking)
    try:
        for keeping in _keepings(few) if few.world > 1 else ():
            checks += ran(f"steps of {few.world} ranks", compare_ranks(small, few, run, keeping))
    except Invalid as refused:
        lacking.append(f"steps of {few.world} ranks: {refused}")
    if not checks:
        raise Invalid(Problem("archcalc verify", f"has nothing of this plan to run: {'; '.join(lacking)}"))
    how = [f"its {schedule_of(plan)}"] * (plan.pp > 1)
    how += [f"{stages.pp} processes over gloo, a stage of a small model each"] if stages else []
    how += [f"{few.world} processes over gloo ({_degrees(few)}) with {described(small)}"] if few.world > 1 else []
    return Verdict(model.name, tuple(checks), f"PyTorch {torch.__version__}, {', '.join(how)}", tuple(lacking))


def _of_stages(model: Model, few: Plan, lacking: list[str]) -> Iterator[Check]:
    """A small pipeline in real processes; why it is not run is added to what is lacking."""
    small = with_layers(small_for(model, few), few)
    run = Run(batch=few.micro_batch, sequence=small.context_length, attention="flash").by_default(MEMORY_KERNEL)
    try:
        refuse(few, small, run)
        yield from ran(f"steps of {few.pp} stages", compare_stages(small, few, run, Keeping("fp32", "adamw")))
    except Invalid as refused:
        lacking.append(f"steps of {few.pp} stages: {refused}")


def _keepings(few: Plan) -> tuple[Keeping, ...]:
    """Tensors that DTensor cut and tensors that it did not are stepped one by one."""
    again = few.recompute or "none"
    if few.tp > 1 or not few.zero:
        return (Keeping("fp32", "adamw", again),)
    return Keeping("fp32", recompute=again), Keeping("fsdp-bf16", recompute=again, statistic=2)


def _degrees(plan: Plan) -> str:
    experts = f", experts over {plan.ep}" if plan.ep > 1 else ""
    return f"dp {plan.dp} x tp {plan.tp}{experts}" + (", positions cut" if plan.sequence_parallel else "")


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
    """Whether all ranks together learn what one process learns; not where buffers of experts can be full."""
    check = compare_losses(first.losses, first.alone)
    drops = without_capacity(model) != model
    return check._replace(reason=DROPS, required=False) if drops and not check.equal else check
