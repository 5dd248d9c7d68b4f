"""How many micro-batches each stage of a pipeline holds, by the schedules that PyTorch runs."""

from __future__ import annotations

from archcalc.plan.description import Plan
from archcalc.proof.private import actions

SCHEDULES = {"gpipe": "ScheduleGPipe", "1f1b": "Schedule1F1B", "interleaved": "ScheduleInterleaved1F1B"}


def most_held(plan: Plan) -> list[list[int]]:
    """Of each rank and each of its chunks the micro-batches that it holds, when it holds most of all together."""
    return [
        _fullest(done, plan) for done in actions(SCHEDULES[plan.schedule], plan.pp, plan.chunks, plan.accumulation)
    ]


def _fullest(done: list[tuple[str, int, int]], plan: Plan) -> list[int]:
    held, most = [0] * plan.chunks, [0] * plan.chunks
    for phase, stage, _ in done:
        held[stage // plan.pp] += 1 if phase == "forward" else -1
        if sum(held) > sum(most):
            most = list(held)
    return most
