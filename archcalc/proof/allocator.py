"""A real training step on the CPU, and the most bytes that its allocator recorded: the witness of memory."""

from __future__ import annotations

import gc
import os
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from archcalc.counts.memory import memory
from archcalc.errors import Invalid, Problem
from archcalc.spec.model import Model
from archcalc.tape.precision import Keeping
from archcalc.tape.run import MEMORY_KERNEL, Run

MOST_LAYERS = 2  # of each group of layers that are alike: one to be first, one to be last
LONGEST = 64
LARGEST_STEP = 1536 * 2**20  # bytes: beyond that a step takes more seconds than a proof may


def cut_down(model: Model) -> tuple[Model, Run]:
    """A model of few of its layers and a batch of short sequences: memory differs only by their number."""
    layers = tuple(
        group.model_copy(update={"repeat": min(group.repeat, MOST_LAYERS)}) for group in model.layers[:MOST_LAYERS]
    )
    run = Run(batch=2, sequence=min(model.context_length, LONGEST), attention="flash")
    return model.model_copy(update={"layers": layers}), run


def predicted_step(model: Model, run: Run, keeping: Keeping) -> Recorded:
    """What `memory` says of the same two stretches."""
    found = {phase.phase: phase.bytes for phase in memory(model, run, keeping).phases}
    step = found.pop("step")
    return Recorded(max(found.values()), step, max(found.values()))


class Recorded(NamedTuple):
    """The peak bytes of the forward and backward pass, and of the optimizer's step.

    `tensors` is the part of `passes` that kernels handed out as tensors. What is more is what a kernel needed inside:
    other kernels, on another device or at another size, need another amount, so that it is recorded and not counted.
    """

    passes: int
    step: int
    tensors: int


def refuse_unrun(run: Run, keeping: Keeping) -> None:
    """Raise Invalid for a step that the reference does not know how to take."""
    for what, asked in (("dropout", run.dropout), ("selective recomputation", keeping.recompute == "selective")):
        if asked:
            raise Invalid(Problem("record_step", f"{what} is not in the reference"))
    if not keeping.recipe.measured:
        raise Invalid(Problem("record_step", f"{keeping.precision} is not in the reference"))
    if keeping.method.kept == "blocks":
        raise Invalid(Problem("record_step", f"{keeping.optimizer} is not in PyTorch"))
    if keeping.recipe.gathered:
        fix = "archcalc.proof.processes runs it, on one rank too"
        raise Invalid(Problem("record_step", f"{keeping.precision} is of weights that are gathered", suggestion=fix))


def record_step(model: Model, run: Run, keeping: Keeping, layers: int | None = None) -> Recorded:
    """Run two steps with the reference and PyTorch's own optimizer; the peaks of the second.

    Of full recomputation `layers` has the first ones alone recomputed.

    The optimizer makes its state in the first. Every allocation from the model's first on is in the record.

    With mixed precision the optimizer steps fp32 copies of bf16 weights. Their gradients are fp32, since torch.optim
    takes no others: with mixed-16 they are made for the step, so that of it the passes alone are as counted.
    """
    refuse_unrun(run, keeping)
    run = run.by_default(MEMORY_KERNEL)
    import torch
    from torch.profiler import ProfilerActivity, profile, record_function

    from archcalc_reference import Transformer
    from archcalc_reference.model.dealing import balanced

    recipe, recompute = keeping.recipe, keeping.recompute == "full" and (layers or True)
    width = torch.float32 if recipe.weight == 4 else torch.bfloat16
    with undisturbed(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        reference = Transformer(model).to(width)
        tokens, targets = (torch.zeros((run.batch, run.sequence), dtype=torch.long) for _ in range(2))
        every = list(reference.parameters())
        named = {name: weight for name, weight in reference.named_parameters() if weight.requires_grad}
        weights = list(named.values())
        masters = [weight.detach().float().requires_grad_() for weight in weights] if recipe.master else weights
        if recipe.holds:
            _add_to_held(weights, masters)
        optimizer = make_optimizer(keeping, dict(zip(named, masters, strict=True)))
        for turn in ("first", "second"):
            grads = [x.grad for x in {*weights, *masters} if x.grad is not None]
            live = _tensors([tokens, targets, *every, *masters, *grads])
            del grads
            with record_function(f"{turn} passes"), balanced(reference), live:
                with torch.autocast("cpu", torch.bfloat16, enabled=recipe.autocast):
                    loss = reference(tokens, targets, run.kernel, recompute=recompute).loss
                loss.backward()
            with record_function(f"{turn} step"):
                if recipe.master and not recipe.holds:
                    for weight, master in zip(weights, masters, strict=True):
                        master.grad = weight.grad.float()
                optimizer.step()
            if recipe.master and not recipe.holds:
                optimizer.zero_grad()
            for x in weights if not recipe.holds else masters:
                if keeping.holds and x.grad is not None:
                    x.grad.zero_()
                else:
                    x.grad = None
            del loss
    before, passes = peak_within(record, "second passes")
    return Recorded(passes, peak_within(record, "second step")[1], before + live.most)


def _add_to_held(weights: list[Any], masters: list[Any]) -> None:
    """Each weight's gradient is added to its master's, which stays, as soon as it is there."""
    import torch

    for weight, master in zip(weights, masters, strict=True):
        master.grad = torch.zeros_like(master)

        def add(weight: Any, master: Any = master) -> None:
            master.grad.add_(weight.grad)
            weight.grad = None

        weight.register_post_accumulate_grad_hook(add)


def make_optimizer(keeping: Keeping, weights: dict[str, Any]) -> Any:
    """PyTorch's optimizer of that name, of weights by their names."""
    import torch

    every = list(weights.values())
    how: dict[str, Any] = {
        "adamw-foreach": {"foreach": True},
        "adamw-fused": {"fused": True},
        "adamw": {"foreach": False},
    }
    if keeping.optimizer in how:
        return torch.optim.AdamW(every, **how[keeping.optimizer])
    if keeping.optimizer == "adafactor":
        return torch.optim.Adafactor(every, foreach=False)
    if keeping.optimizer == "muon":
        return _Muon(weights)
    return torch.optim.SGD(every, momentum=0.9 * keeping.method.moments, foreach=False)


_MATRIX = 2  # axes


class _Muon:
    """Muon for the matrices of layers, and fused AdamW for all else."""

    def __init__(self, weights: dict[str, Any]) -> None:
        import torch

        hidden = [x for name, x in weights.items() if name.startswith("layers.") and x.ndim == _MATRIX]
        own = {id(x) for x in hidden}
        others = [x for x in weights.values() if id(x) not in own]
        self.parts = [torch.optim.Muon(hidden), torch.optim.AdamW(others, fused=True)]

    @property
    def state(self) -> dict[Any, Any]:
        """Of each weight."""
        return {x: kept for part in self.parts for x, kept in part.state.items()}

    def step(self) -> None:
        """One step of both."""
        for part in self.parts:
            part.step()

    def zero_grad(self, *, set_to_none: bool = True) -> None:
        """Drop gradients, or make them zero."""
        for part in self.parts:
            part.zero_grad(set_to_none=set_to_none)


def record_inference(model: Model, run: Run, keeping: Keeping) -> dict[str, Recorded]:
    """Read a prompt into a cache that is as long, then the last token alone: the peaks of `prefill` and `decode`.

    `step` of each is 0. `keeping.precision` must be fp32 or bf16, and the cache's the same.
    """
    run = run.by_default(MEMORY_KERNEL)
    import torch
    from torch.profiler import ProfilerActivity, profile, record_function

    from archcalc_reference.model.dealing import balanced
    from archcalc_reference.model.transformer import Cache, Transformer

    width = {"fp32": torch.float32, "bf16": torch.bfloat16}[keeping.precision]
    handed_out = {}
    # Not in inference mode: there PyTorch does not show what attention hands out beside its output.
    with torch.no_grad(), undisturbed(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        reference = Transformer(model).to(width)
        cache = Cache(model, run.batch, run.read, width)
        given = [*reference.parameters(), *cache.tensors]
        for phase, positions in (("prefill", run.read), ("decode", 1)):
            cache.filled = run.read - positions
            tokens = torch.zeros((run.batch, positions), dtype=torch.long)
            live = _tensors([tokens, *given])
            with record_function(phase), balanced(reference), live:
                logits = reference(tokens, kernel=run.kernel, cache=cache, last=run.logits == "last").logits
            handed_out[phase] = live.most
            del tokens, logits
    found = {}
    for phase, most in handed_out.items():
        before, peak = peak_within(record, phase)
        found[phase] = Recorded(peak, 0, before + most)
    return found


def _tensors(held: list[Any]) -> Any:
    """A mode of PyTorch that adds up the storages that ops give back, while they are there; not of what is `held`."""
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    given = [identity(tensor.untyped_storage()) for tensor in held]

    class Live(TorchDispatchMode):  # type: ignore[misc]  # torch's own types are not read
        def __init__(self) -> None:
            super().__init__()
            self.known = dict.fromkeys(given, 0)
            self.now = self.most = 0

        def __torch_dispatch__(self, op: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
            found = op(*args, **(kwargs or {}))
            for tensor in tree_leaves(found):
                if hasattr(tensor, "untyped_storage"):
                    self.add(tensor.untyped_storage())
            self.most = max(self.most, self.now)
            return found

        def add(self, storage: Any) -> None:
            place = identity(storage)
            if place not in self.known:
                self.known[place] = storage.nbytes()
                self.now += storage.nbytes()
                weakref.finalize(storage, self.drop, place)

        def drop(self, place: int) -> None:
            self.now -= self.known.pop(place)

    return Live()


def identity(storage: Any) -> int:
    """What is the same for all views of one storage: data_ptr is 0 for all on the meta device, and for empty ones."""
    found: int = storage._cdata  # noqa: SLF001
    return found


def peak_within(record: Any, within: str) -> tuple[int, int]:
    """Bytes in use when a stretch begins, and its peak, from every allocation and release recorded."""
    events = list(record.profiler.kineto_results.events())
    stretch = next(event for event in events if event.name() == within)
    changes = [(event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]"]
    now = before = 0
    most: int | None = None
    for at, change in sorted(changes, key=lambda found: found[0]):
        now += change
        if at < stretch.start_ns():
            before = now
        elif at <= stretch.end_ns():
            most = max(now, before if most is None else most)
    return before, before if most is None else most


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
