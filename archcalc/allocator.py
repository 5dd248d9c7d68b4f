"""A real training step on the CPU, and the most bytes that its allocator recorded: the witness of footprint."""

from __future__ import annotations

import gc
import os
import weakref
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
    return Recorded(max(found.values()), step, max(found.values()))


class Recorded(NamedTuple):
    """The most bytes alive in the forward and backward pass, and in the optimizer's step.

    `tensors` is the part of `passes` that kernels handed out as tensors. What is more is what a kernel needed inside:
    other kernels, on another device or at another size, need another amount, so that it is recorded and not counted.
    """

    passes: int
    step: int
    tensors: int


def record_step(model: Model, run: Run, keeping: Keeping) -> Recorded:
    """Run two steps with the reference and PyTorch's own optimizer, tensor by tensor; the peaks of the second.

    The optimizer makes its state in the first. Every allocation from the model's first on is in the record.

    `keeping.precision` must be fp32 or bf16: mixed precision has no one implementation.
    """
    import torch
    from torch.profiler import ProfilerActivity, profile, record_function

    from archcalc_reference import Transformer

    width = {"fp32": torch.float32, "bf16": torch.bfloat16}[keeping.precision]
    with undisturbed(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        reference = Transformer(model).to(width)
        tokens, targets = (torch.zeros((run.batch, run.sequence), dtype=torch.long) for _ in range(2))
        weights = reference.parameters()
        optimizer: Any
        if keeping.optimizer == "adamw":
            optimizer = torch.optim.AdamW(weights, foreach=False)
        else:
            optimizer = torch.optim.SGD(weights, momentum=0.9, foreach=False)
        for turn in ("first", "second"):
            held = [tokens, targets, *reference.parameters()]
            live = _tensors([*held, *(weight.grad for weight in reference.parameters() if weight.grad is not None)])
            with record_function(f"{turn} passes"), live:
                loss = reference(tokens, targets, run.attention, recompute=keeping.recompute == "full").loss
                loss.backward()
            with record_function(f"{turn} step"):
                optimizer.step()
            optimizer.zero_grad(set_to_none=not keeping.accumulate)
            del loss
    before, passes = peak_within(record, "second passes")
    return Recorded(passes, peak_within(record, "second step")[1], before + live.most)


def _tensors(held: list[Any]) -> Any:
    """A mode of PyTorch that adds up the storages that ops give back, while they are there; not of what is `held`."""
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    class Live(TorchDispatchMode):  # type: ignore[misc]  # torch's own types are not read
        def __init__(self) -> None:
            super().__init__()
            self.known = {tensor.untyped_storage()._cdata: 0 for tensor in held}  # noqa: SLF001  (as below)
            self.now = self.most = 0

        def __torch_dispatch__(self, op: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
            found = op(*args, **(kwargs or {}))
            for tensor in tree_leaves(found):
                if hasattr(tensor, "untyped_storage"):
                    self.add(tensor.untyped_storage())
            self.most = max(self.most, self.now)
            return found

        def add(self, storage: Any) -> None:
            identity = storage._cdata  # noqa: SLF001  (data_ptr is 0 for every empty storage)
            if identity not in self.known:
                self.known[identity] = storage.nbytes()
                self.now += storage.nbytes()
                weakref.finalize(storage, self.drop, identity)

        def drop(self, identity: int) -> None:
            self.now -= self.known.pop(identity)

    return Live()


def peak_within(record: Any, within: str) -> tuple[int, int]:
    """Bytes alive when a stretch begins, and the most within it, from every allocation and release recorded."""
    events = list(record.profiler.kineto_results.events())
    stretch = next(event for event in events if event.name() == within)
    changes = [(event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]"]
    now = before = most = 0
    for at, change in sorted(changes, key=lambda found: found[0]):
        now += change
        if at < stretch.start_ns():
            before = now
        elif at <= stretch.end_ns():
            most = max(most, now)
    return before, most


@contextmanager
def undisturbed() -> Iterator[None]:
    """Nothing of an earlier time is dropped meanwhile, and the profiler does not announce itself on standard error.

    Python's collector waits until the end: to run it first would take longer than the step, where PyTorch is loaded.
    """
    before, collects = os.environ.get("KINETO_LOG_LEVEL"), gc.isenabled()
    os.environ["KINETO_LOG_LEVEL"] = "99"
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()
        if before is None:
            del os.environ["KINETO_LOG_LEVEL"]
        else:
            os.environ["KINETO_LOG_LEVEL"] = before
