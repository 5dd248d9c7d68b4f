"""What stages of a pipeline send each other: the residual stream, its gradient, and that of a table that two have.

Narayanan et al. 2021, arXiv:2104.04473: a stage sends what each of its chunks makes to the stage of the next chunk,
for every micro-batch; of several chunks that of the last stage goes to the first. Megatron-LM sends while it computes
other chunks where the schedule is interleaved, and waits otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator

from archcalc.counts.exchanged import Collective, Phase, stream_widths
from archcalc.plan.description import Plan
from archcalc.plan.local import localize
from archcalc.plan.placing import stages_inside
from archcalc.plan.stages import of_stage
from archcalc.tape.legend import Size, volume
from archcalc.tape.passes import RESIDUAL, Pass, Segment
from archcalc.tape.precision import Keeping

_CHUNKS = "the computation of other chunks"


def sends(whole: Pass, plan: Plan, stage: int, keeping: Keeping, gpus_per_node: int) -> Iterator[Collective]:
    """What a rank of a stage sends to other stages in a step."""
    if plan.pp == 1:
        return
    trains = whole.run.phase == "training"
    size = message_bytes(whole, localize(whole.segments[0], plan), keeping)
    micro_batches = plan.accumulation if trains else 1
    overlaps = _CHUNKS if plan.schedule == "interleaved" else None
    for (phase, other), times in messages(plan, stage, trains=trains).items():
        name = RESIDUAL.name if phase == "forward" else f"gradient of {RESIDUAL.name}"
        inside = stages_inside(plan, stage, other, gpus_per_node)
        yield Collective("send", "pp", 2, name, phase, times * micro_batches, size, inside, overlaps)


def messages(plan: Plan, stage: int, *, trains: bool) -> dict[tuple[Phase, int], int]:
    """How often a rank sends with each micro-batch, by the pass and the stage that it sends to."""
    found: dict[tuple[Phase, int], int] = {}
    for chunk in range(plan.chunks if plan.pp > 1 else 0):
        virtual = chunk * plan.pp + stage
        if virtual + 1 < plan.virtual_stages:
            to: tuple[Phase, int] = "forward", (stage + 1) % plan.pp
            found[to] = found.get(to, 0) + 1
        if virtual and trains:
            to = "backward", (stage - 1) % plan.pp
            found[to] = found.get(to, 0) + 1
    return found


def message_bytes(taken: Pass, segment: Segment, keeping: Keeping) -> Size:
    """Bytes of the residual stream of one micro-batch, as a segment of the rank has it."""
    wide = taken.run.phase == "training" and keeping.recipe.autocast
    return volume(RESIDUAL.labels, segment.env) * (4 if wide else stream_widths(taken, keeping)[RESIDUAL.role])


def ties(whole: Pass, plan: Plan, stage: int, keeping: Keeping, gpus_per_node: int) -> Iterator[Collective]:
    """Gradients of weights outside the layers that the first stage has and the last: a tied token table."""
    last = plan.pp - 1
    if plan.pp == 1 or stage not in (0, last):
        return
    first, end = (of_stage(whole.groups, plan, one) for one in (0, last))
    here, there = (_outside(part) for part in (first, end))
    for path in here:
        if path in there:
            segment = localize(here[path], plan)
            labels = next(weight.labels for _, weight in segment.weights if weight.path == path)
            size = volume(labels, segment.env) * keeping.recipe.reduced
            inside = stages_inside(plan, 0, last, gpus_per_node)
            yield Collective("all-reduce", "pp", 2, path, "gradients", 1, size, inside)


def _outside(chunks: list[list[Segment]]) -> dict[str, Segment]:
    """The weights that belong to no layer, with the segment that has each."""
    segments = [segment for chunk in chunks for segment in chunk]
    return {weight.path: segment for segment in segments for _, weight in segment.weights if "{i}" not in weight.path}
