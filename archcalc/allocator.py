"""A real training step on the CPU, and the most bytes that its allocator recorded: the witness of footprint."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from archcalc.footprint import memory
from archcalc.precision import Keeping
from archcalc.run import Run
from archcalc.spec import Model

MOST_LAYERS = 2  # of each group of layers that are alike: one to be first, one to be last
LONGEST = 64
LARGEST_STEP = 1536 * 2**20  # bytes: beyond that a step takes more seconds than a proof may


def cut_down(model: Model) -> tuple[Model, Run]:
    """A model of few of its layers and a batch of short sequences: what is alive is the same but for their number."""
    layers = tuple(
        group.model_copy(update={"repeat": min(group.repeat, MOST_LAYERS)}) for group in model.layers[:MOST_LAYERS]
    )
    run = Run(batch=2, sequence=min(model.context_length, LONGEST), attention="flash")
    return model.model_copy(update={"layers": layers}), run


def predicted_step(model: Model, run: Run, keeping: Keeping) -> Recorded:
    """What `footprint` says of the same two stretches."""
    found = {phase.phase: phase.bytes for phase in memory(model, run, keeping).phases}
    step = found.pop("step")
    return Recorded(max(found.values()), step)


class Recorded(NamedTuple):
    """The most bytes alive in the forward and backward pass, and in the optimizer's step."""

    passes: int
    step: int


def record_step(model: Model, run: Run, keeping: Keeping) -> Recorded:
    """Run two steps with the reference and PyTorch's own optimizer, tensor by tensor; the peaks of the second.

    The optimizer makes its state in the first. Every allocation from the model's first on is in the record.

    `keeping.precision` must be fp32 or bf16: mixed precision has no one implementation.
    """
    import torch
    from torch.profiler import ProfilerActivity, profile, record_function

    from archcalc_reference import Transformer

    width = {"fp32": torch.float32, "bf16": torch.bfloat16}[keeping.precision]
    with _quiet(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        reference = Transformer(model).to(width)
        tokens, targets = (torch.zeros((run.batch, run.sequence), dtype=torch.long) for _ in range(2))
        weights = reference.parameters()
        optimizer: Any
        if keeping.optimizer == "adamw":
            optimizer = torch.optim.AdamW(weights, foreach=False)
        else:
            optimizer = torch.optim.SGD(weights, momentum=0.9, foreach=False)
        for turn in ("first", "second"):
            with record_function(f"{turn} passes"):
                loss = reference(tokens, targets, run.attention, recompute=keeping.recompute == "full").loss
                loss.backward()
            with record_function(f"{turn} step"):
                optimizer.step()
            optimizer.zero_grad(set_to_none=not keeping.accumulate)
            del loss
    events = list(record.profiler.kineto_results.events())
    return Recorded(*(_peak(events, name) for name in ("second passes", "second step")))


def _peak(events: list[Any], within: str) -> int:
    """The most bytes alive within a stretch, from the allocations and releases of the whole record."""
    stretch = next(event for event in events if event.name() == within)
    now = most = 0
    changes = [(event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]"]
    for at, change in sorted(changes, key=lambda found: found[0]):
        now += change
        if stretch.start_ns() <= at <= stretch.end_ns():
            most = max(most, now)
    return most


@contextmanager
def _quiet() -> Iterator[None]:
    """The profiler announces itself on standard error, unless told before it is first used."""
    before = os.environ.get("KINETO_LOG_LEVEL")
    os.environ["KINETO_LOG_LEVEL"] = "99"
    try:
        yield
    finally:
        if before is None:
            del os.environ["KINETO_LOG_LEVEL"]
        else:
            os.environ["KINETO_LOG_LEVEL"] = before
