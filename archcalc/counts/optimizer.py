"""What an optimizer keeps from step to step, and what it makes while it steps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby, takewhile
from typing import Literal

from archcalc.counts.parameters import Inventory, Parameters, Stored
from archcalc.counts.stack import is_many
from archcalc.spec.shared import ROOT
from archcalc.tape.legend import Mask, Size, add, choose, largest, product, where
from archcalc.tape.passes import Stage
from archcalc.tape.precision import Keeping


def kept_state(counts: Parameters | Inventory, keeping: Keeping, stage: Stage | None = None) -> dict[str, Size]:
    """What stays from step to step, of a rank of a plan what it has in its `stage`."""
    recipe, method = keeping.recipe, keeping.method
    learned = _learned(counts)
    steps, moments = held("optimizer", learned, stage), method.moments * recipe.moment
    counters = 4 * _tensors(counts) if method.counts and not (stage and stage.flat) else 0  # how many steps were taken
    return {
        "weights": held("weights", counts.tensors, stage) * recipe.weight,
        "gradients": held("gradients", learned, stage) * recipe.gradient if keeping.holds else 0,
        "master weights": steps * recipe.master,
        "optimizer state": steps * moments + counters,
    }


def gradients_held(counts: Parameters | Inventory, stage: Stage | None) -> Size:
    """Parameters whose gradients a rank has when it steps."""
    return held("gradients", _learned(counts), stage)


What = Literal["weights", "gradients", "optimizer", "gathered", "reduced"]


def held(what: What, tensors: Sequence[Stored], stage: Stage | None) -> Size:
    """Parameters of which a rank keeps, gathers or reduces something: all of them, or its share under a plan."""
    if stage is None or stage.held is None:
        return add(tensor.parameters for tensor in tensors)
    return stage.held(what, tensors)


def scratch(counts: Parameters | Inventory, keeping: Keeping, stage: Stage | None = None) -> Size:
    """What the optimizer makes while it steps, beside its state: numbers as wide as its moments.

    torch.optim.AdamW makes the root of the second moment and the divisor of each tensor, while the last tensor's
    divisor is still there; with foreach the roots of all tensors at once. What is fused, and SGD, make nothing. Where
    PyTorch counts steps, or multiplies in place, a number in two types is made as well.
    """
    width, method = keeping.recipe.moment, keeping.method
    if method.temporaries == "none":
        return 12 if method.counts else (8 + width) * method.moments
    if method.temporaries == "all":
        return held("optimizer", _learned(counts), stage) * width + 8 + width
    if stage is not None and stage.flat:
        return 2 * held("optimizer", _learned(counts), stage) * width + 8 + width
    most: Size = 0
    last: Size = 0
    for _, group in groupby(_as_listed(_learned(counts)), lambda tensor: tensor.within and id(tensor.within.first)):
        for size, there in _in_order(as_modules(list(group)), stage):
            most = largest((most, where(there, 2 * size + last)))
            last = choose(there, size, last)
    return most * width + 8 + width


def _as_listed(tensors: list[Stored]) -> list[Stored]:
    """The tensors of a model as PyTorch lists them: blocks that layers share come before the layers."""
    shared = [tensor for tensor in tensors if tensor.name.startswith(ROOT)]
    others = [tensor for tensor in tensors if not tensor.name.startswith(ROOT)]
    before = list(takewhile(lambda tensor: tensor.within is None, others)) if shared else []
    return [*before, *shared, *others[len(before) :]]


def as_modules(tensors: list[Stored]) -> list[Stored]:
    """The tensors of a group as PyTorch lists those of modules: a module's own come before those of modules inside."""
    order: dict[str, tuple[int, ...]] = {"": ()}
    for place, tensor in enumerate(tensors):
        module = ""
        for name in tensor.name.split(".")[:-1]:
            above, module = order[module], f"{module}.{name}"
            order.setdefault(module, (*above, place))
    return sorted(tensors, key=lambda tensor: order[f".{tensor.name}".rpartition(".")[0]])


def one_of(tensor: Stored) -> Stored:
    """One of the tensors of a name: that of one layer."""
    return tensor._replace(layers=1, parameters=product(tensor.shape))


def _in_order(tensors: list[Stored], stage: Stage | None) -> Iterator[tuple[Size, Mask]]:
    """The sizes of a group's tensors as its layers follow each other, for two turns of the pattern at most.

    A layer's first tensor follows a layer's last. Of arrays a layer is there in some rows alone.
    """
    within = tensors[0].within
    if within is None:
        yield from ((held("optimizer", [tensor], stage), True) for tensor in tensors)
        return
    turns = 2 * within.period
    for i in range(turns if is_many(within) else min(int(within.group), turns)):
        there = within.group > i if is_many(within) else True
        for tensor in tensors:
            if tensor.within is not None and i % within.period in tensor.within.offsets:
                yield held("optimizer", [one_of(tensor)], stage), there


def _tensors(counts: Parameters | Inventory) -> Size:
    return add(tensor.layers for tensor in _learned(counts))


def _learned(counts: Parameters | Inventory) -> list[Stored]:
    return [tensor for tensor in counts.tensors if tensor.learns]
