"""What an optimizer keeps from step to step, and what it makes while it steps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby, takewhile
from typing import Literal

from archcalc.counts.parameters import Inventory, Parameters, Stored
from archcalc.counts.stack import is_many
from archcalc.spec.shared import ROOT
from archcalc.tape.legend import Mask, Size, add, choose, largest, least, product, where
from archcalc.tape.passes import Stage
from archcalc.tape.precision import Keeping


def kept_state(counts: Parameters | Inventory, keeping: Keeping, stage: Stage | None = None) -> dict[str, Size]:
    """What stays from step to step, of a rank of a plan what it has in its `stage`."""
    recipe = keeping.recipe
    learned = learning(counts)
    return {
        "weights": _weights(counts, keeping, stage),
        "gradients": held("gradients", learned, stage) * recipe.gradient if keeping.holds else 0,
        "master weights": 0 if keeping.offload else held("optimizer", learned, stage) * recipe.master,
        "optimizer state": 0 if keeping.offload else _state(learned, keeping, stage),
    }


def kept_on_host(counts: Parameters | Inventory, keeping: Keeping, stage: Stage | None = None) -> Size:
    """Bytes of the host's memory for an optimizer that steps there: its state, a copy of the weights that it steps,
    and one of their gradients (Ren et al. 2021, arXiv:2101.06840); of a rank its share.
    """
    if not keeping.offload:
        return 0
    recipe, learned = keeping.recipe, learning(counts)
    stepped = held("optimizer", learned, stage)
    return stepped * ((recipe.master or recipe.weight) + recipe.reduced) + _state(learned, keeping, stage)


def _weights(counts: Parameters | Inventory, keeping: Keeping, stage: Stage | None) -> Size:
    recipe, narrow = keeping.recipe, keeping.recipe.matrix
    found = held("weights", counts.tensors, stage) * recipe.weight
    if not narrow:
        return found
    matrices = [tensor for tensor in counts.tensors if is_hidden_matrix(tensor) and tensor.part != "router"]
    return found - held("weights", matrices, stage) * (recipe.weight - narrow)


def _state(learned: list[Stored], keeping: Keeping, stage: Stage | None) -> Size:
    """What an optimizer keeps beside the weights, with a count of steps for each tensor where it has one."""
    method, width = keeping.method, keeping.recipe.moment
    if method.kept == "factors":
        return add(tensor.layers * factors(tensor.shape) * width for tensor in learned) + _counters(learned)
    if method.kept == "momentum":
        others = [tensor for tensor in learned if not is_hidden_matrix(tensor)]
        return (
            add(t.parameters for t in learned) * width + add(t.parameters for t in others) * width + _counters(others)
        )
    if method.kept == "blocks":
        return _in_blocks(learned, stage)
    counters = _counters(learned) if method.counts and not (stage and stage.flat) else 0
    return held("optimizer", learned, stage) * (method.moments * width) + counters


def factors(shape: tuple[Size, ...]) -> Size:
    """Numbers that Adafactor keeps of a tensor: of a matrix one for each row and each column, of a vector all."""
    if len(shape) < _MATRIX:
        return product(shape)
    *each, rows, columns = shape
    return product(each) * (rows + columns)


def is_hidden_matrix(tensor: Stored) -> bool:
    """Whether it is a matrix of a layer, or those of a layer's experts: what Muon steps, each for itself."""
    return tensor.within is not None and len(tensor.shape) == _MATRIX + tensor.of_experts


_MATRIX = 2  # axes
BLOCK, LEAST = 256, 4096
"""Numbers of a block of 8-bit moments, and of the smallest tensor that has them: bitsandbytes 0.50, optim."""
_TABLES = 2 * 256 * 4
"""What 256 bytes stand for, of a signed and an unsigned moment, in fp32: one of each for all tensors."""


def _in_blocks(learned: list[Stored], stage: Stage | None) -> Size:
    """Two moments of one byte with an fp32 scale for each block; in fp32 those of small tensors."""
    if stage is not None and stage.flat:
        return _bytes_in_blocks(held("optimizer", learned, stage)) + _TABLES
    return add(t.layers * _bytes_in_blocks(held("optimizer", [one_of(t)], stage)) for t in learned) + _TABLES


def _bytes_in_blocks(n: Size) -> Size:
    return choose(n < LEAST, 8 * n, 2 * n + 2 * 4 * -(-n // BLOCK))


def gradients_held(counts: Parameters | Inventory, stage: Stage | None) -> Size:
    """Parameters whose gradients a rank has when it steps."""
    return held("gradients", learning(counts), stage)


What = Literal["weights", "gradients", "optimizer", "gathered", "reduced"]


def held(what: What, tensors: Sequence[Stored], stage: Stage | None) -> Size:
    """Parameters of which a rank keeps, gathers or reduces something: all of them, or its share under a plan."""
    if stage is None or stage.held is None:
        return add(tensor.parameters for tensor in tensors)
    return stage.held(what, tensors)


def scratch(counts: Parameters | Inventory, keeping: Keeping, stage: Stage | None = None) -> Size:
    """What the optimizer makes while it steps, beside its state.

    torch.optim.AdamW makes the root of the second moment and the divisor of each tensor, while the last tensor's
    divisor is still there; with foreach the roots of all tensors at once. Adafactor makes an update of each tensor,
    while the last one's is still there, out of the means of its rows and columns; Muon an update of one matrix, see
    `orthogonalizing`. What is fused, and SGD, make nothing, nor does what steps on the host. Where PyTorch counts
    steps, or multiplies in place, a number in two types is made as well.
    """
    width, method = keeping.recipe.moment, keeping.method
    learned = learning(counts)
    if keeping.offload:
        return 0
    if method.temporaries == "none":
        return 12 if method.counts else (8 + width) * method.moments
    if method.temporaries == "all":
        return held("optimizer", learned, stage) * width + 8 + width
    if method.kept == "momentum":
        return largest(where(there, orthogonalizing(tensor, width)) for tensor, there in _matrices(learned)) + 12
    if stage is not None and stage.flat:
        return 2 * held("optimizer", learned, stage) * width + 8 + width
    most: Size = 0
    last: Size = 0
    for _, group in groupby(_as_listed(learned), lambda tensor: tensor.within and id(tensor.within.first)):
        for tensor, there in _in_order(as_modules(list(group))):
            size = held("optimizer", [tensor], stage)
            beside = factors(tensor.shape) + 1 if method.kept == "factors" else size
            most = largest((most, where(there, size + beside + last)))
            last = choose(there, size, last)
    return most * width + 8 + width


def orthogonalizing(tensor: Stored, width: Size) -> Size:
    """Bytes that torch.optim.Muon needs for one matrix: its update, `width` bytes a number, and in bf16 two iterates
    of Newton and Schulz, with two products of the shorter side with itself.
    """
    *_, rows, columns = tensor.shape
    short = least(rows, columns)
    return rows * columns * (width + 2 * _BF16) + 2 * _BF16 * short * short


_BF16 = 2  # bytes


def _matrices(tensors: list[Stored]) -> Iterator[tuple[Stored, Mask]]:
    """Those that Muon steps, and whether they are there: of arrays in which rows."""
    for tensor in tensors:
        if is_hidden_matrix(tensor):
            yield tensor, tensor.layers > 0 if is_many(tensor.within) else True


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


def _in_order(tensors: list[Stored]) -> Iterator[tuple[Stored, Mask]]:
    """A group's tensors, one by one, as its layers follow each other, for two turns of the pattern at most.

    A layer's first tensor follows a layer's last. Of arrays a layer is there in some rows alone.
    """
    within = tensors[0].within
    if within is None:
        yield from ((tensor, True) for tensor in tensors)
        return
    turns = 2 * within.period
    for i in range(turns if is_many(within) else min(int(within.group), turns)):
        there = within.group > i if is_many(within) else True
        for tensor in tensors:
            if tensor.within is not None and i % within.period in tensor.within.offsets:
                yield one_of(tensor), there


def _counters(tensors: list[Stored]) -> Size:
    """Bytes that count how many steps were taken, of each tensor."""
    return 4 * add(tensor.layers for tensor in tensors)


def learning(counts: Parameters | Inventory) -> list[Stored]:
    """The tensors that an optimizer steps."""
    return [tensor for tensor in counts.tensors if tensor.learns]
