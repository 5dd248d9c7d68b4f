"""Stages of a pipeline beside PyTorch's: how many micro-batches each holds, what it has, and what it sends."""

from __future__ import annotations

from collections.abc import Iterator

from archcalc.checks.verdict import Check, same
from archcalc.counts.collectives import collectives
from archcalc.counts.optimizer import held
from archcalc.counts.parameters import params
from archcalc.plan.description import Plan
from archcalc.plan.local import local
from archcalc.plan.stages import in_flight
from archcalc.proof.alone import compare_losses
from archcalc.proof.private import actions
from archcalc.proof.processes import run_stages
from archcalc.proof.sending import CALLS
from archcalc.spec.model import Model
from archcalc.tape.precision import Keeping
from archcalc.tape.run import Run


def schedule_of(plan: Plan) -> str:
    """The name of PyTorch's schedule."""
    from archcalc_reference.parallel.pipeline import SCHEDULES

    return SCHEDULES[plan.schedule]


def compare_held(plan: Plan) -> Iterator[Check]:
    """Micro-batches that each stage holds of each of its chunks, at the plan's own degrees."""
    for stage, most in enumerate(most_held(plan)):
        what = f"micro-batches in flight, stage {stage} of {plan.pp}"
        yield same(what, in_flight(plan, stage), most, f"PyTorch's {schedule_of(plan)}")


def compare_stages(model: Model, plan: Plan, run: Run, keeping: Keeping) -> Iterator[Check]:
    """What each stage has and sends in a step of real processes, and that all learn what one process learns."""
    found, whole = run_stages(model, plan, run, keeping), model.record(run)
    for stage, seen in enumerate(found):
        where, taken = f"stage {stage} of {plan.pp}", local(whole, plan, stage)
        parameters = held("weights", params(taken).tensors, taken.stage)
        yield same(f"parameters, {where}", parameters, seen.parameters, schedule_of(plan))
        due = [one for one in collectives(whole, plan, keeping, stage) if one.operation == "send"]
        sent = [one for one in seen.issued if one.operation == "send" and not one.told]
        messages = sum(int(one.count) for one in due), sum(one.times for one in sent)
        sizes = {int(one.bytes) for one in due}, {one.bytes for one in sent}
        check = same(
            f"bytes sent, {where}",
            sum(int(one.count * one.bytes) for one in due),
            sum(one.times * one.bytes for one in sent),
            CALLS,
        )
        equal = check.equal and messages[0] == messages[1] and sizes[0] == sizes[1]
        told = f"{'=' if equal else 'DIFFERS:'} in {messages[1]:,} messages"
        yield check._replace(equal=equal, reason=told if equal else f"{told}, {messages[0]:,} counted")
    yield compare_losses(found[0].losses, found[0].alone)


def most_held(plan: Plan) -> list[list[int]]:
    """Of each rank and each of its chunks the micro-batches that it holds, when it holds most of all together."""
    return [_fullest(done, plan) for done in actions(schedule_of(plan), plan.pp, plan.chunks, plan.accumulation)]


def _fullest(done: list[tuple[str, int, int]], plan: Plan) -> list[int]:
    held, most = [0] * plan.chunks, [0] * plan.chunks
    for phase, stage, _ in done:
        held[stage // plan.pp] += 1 if phase == "forward" else -1
        if sum(held) > sum(most):
            most = list(held)
    return most
