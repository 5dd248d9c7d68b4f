"""A plan rank by rank: what each process of a small model holds, beside what is counted for a rank of the plan."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from archcalc.checks.verdict import Check, ran, same
from archcalc.counts.activations import saved
from archcalc.counts.memory import alive
from archcalc.counts.optimizer import held
from archcalc.counts.parameters import params
from archcalc.counts.sharded import REDUCING
from archcalc.plan.description import Plan
from archcalc.plan.local import local
from archcalc.proof.miniature import miniature
from archcalc.proof.processes import MOST_RANKS, Seen, run_ranks
from archcalc.spec.model import Model
from archcalc.tape.legend import largest
from archcalc.tape.precision import Keeping
from archcalc.tape.roles import widths
from archcalc.tape.run import MEMORY_KERNEL, Run

TOLERANCE = 1e-5
GLOO = "real processes over gloo"
VOCABULARY = 96  # rows that 2, 3 and 4 ranks divide


class Counted(NamedTuple):
    """What is counted for a rank: parameters that it keeps, and bytes."""

    parameters: int
    saved: int
    passes: int
    step: int


def prove_plan(model: Model, plan: Plan) -> Iterator[Check]:
    """Compare steps of a small model of the same architecture, in as many processes as PyTorch can run here.

    Degrees are lowered until there are at most four ranks. A plan that the reference cannot run is refused by Invalid.
    """
    small, few = miniature(model).model_copy(update={"vocab_size": VOCABULARY}), lowered(plan)
    run = Run(batch=few.micro_batch, sequence=small.context_length, attention="flash")
    for keeping in (Keeping("fp32"), Keeping("fsdp-bf16", statistic=2)):
        yield from ran(f"steps of {few.world} ranks", compare_ranks(small, few, run, keeping))


def lowered(plan: Plan) -> Plan:
    """A plan of the same kind with few ranks, and few sequences."""
    dp = next(n for n in range(min(plan.dp, MOST_RANKS), 0, -1) if plan.dp % n == 0)
    return plan.model_copy(update={"dp": dp, "micro_batch": min(plan.micro_batch, 2)})


def compare_ranks(model: Model, plan: Plan, run: Run, keeping: Keeping) -> Iterator[Check]:
    """What each rank keeps, saves and holds at its peaks, and that all together learn what one process learns."""
    found, few = run_ranks(model, plan, run, keeping), counted(model, plan, run, keeping)
    for rank, seen in enumerate(found):
        where = f"rank {rank} of {len(found)}, {keeping.precision}"
        yield same(f"parameters, {where}", few.parameters, seen.parameters, GLOO)
        yield same(f"saved bytes, {where}", few.saved, seen.saved, "autograd's saved tensors")
        yield _peak(f"peak of the passes, {where}", few.passes, seen)
        # The last ranks may have fewer rows than others, and no more than these have state.
        step = same(f"peak of the optimizer, {where}", few.step, seen.step, "the CPU allocator's record")
        fewer = not step.equal and seen.step < few.step and rank > 0
        yield step._replace(equal=True, reason="= less what it has fewer rows") if fewer else step
    if found[0].alone:
        yield _losses(found[0])


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
    width = widths(recipe.compute, keeping.statistic, recipe.arriving)
    return Counted(
        parameters=held("weights", counts.tensors, taken.stage),
        saved=saved(taken, taken.run, width, keeping.recompute, cast=recipe.autocast).total,
        passes=largest(totals),
        step=step,
    )


def _peak(what: str, counted: int, seen: Seen) -> Check:
    """The peak of the tensors; what kernels and gloo need beside them is reported and not counted."""
    inside = seen.passes - seen.tensors
    check = same(what, counted, seen.tensors, GLOO)
    return check._replace(reason=f"= and {inside:,} inside a kernel or gloo") if check.equal and inside > 0 else check


def _losses(first: Seen) -> Check:
    """The losses of all ranks together, and those of one process that has all sequences."""
    off = max(abs(one - other) for one, other in zip(first.losses, first.alone, strict=True))
    equal = off <= TOLERANCE * max(1.0, *first.alone)
    reason = None if equal else f"DIFFERS by up to {off:.2g}"
    return Check("losses of all ranks", first.alone, first.losses, equal, reason, "one process with all sequences")
