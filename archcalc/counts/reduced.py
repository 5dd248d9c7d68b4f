"""What ranks exchange of weights: gradients that are added up, and weights that data-parallel ranks share.

Gradients of weights that every tensor-parallel rank has, norms under sequence parallelism among them, are added up
once a step, as Megatron-LM's finalize_model_grads does. Data-parallel ranks add theirs up once a step, and from ZeRO-2
on after every micro-batch, since none keeps them whole (Rajbhandari et al. 2020, arXiv:1910.02054, section 7; FSDP2).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

from archcalc.counts.exchanged import Collective, Operation, Phase, several
from archcalc.counts.parameters import Stored
from archcalc.plan.description import Plan
from archcalc.plan.holding import share
from archcalc.plan.local import Exchanges
from archcalc.plan.mesh import TP
from archcalc.plan.placing import Group, data_group, group
from archcalc.tape.legend import Size, add, anywhere, volume, where
from archcalc.tape.passes import Layers, Pass
from archcalc.tape.precision import Keeping

Key = tuple[str, int | None]

_LAST = "the backward pass of the last micro-batch"
_EACH = "the backward pass"
_NEXT = "the forward pass of the next step"
_BESIDE = "the layer that runs before"


class _What(NamedTuple):
    """A collective of data-parallel ranks: parameters, and bytes of each."""

    operation: Operation
    tensor: str
    phase: Phase
    count: Size
    parameters: Size
    width: int
    overlaps: str | None


def of_weights(
    taken: Pass,
    every: Sequence[Stored],
    exchanges: list[Exchanges],
    plan: Plan,
    keeping: Keeping,
    gpus_per_node: int,
) -> Iterator[Collective]:
    """The collectives of gradients and weights in a step, on the pass of one rank that has `every` tensor."""
    yield from _of_copies(taken, exchanges, plan, keeping, gpus_per_node)
    summed = _summed(taken, exchanges)
    apart = anywhere(plan.ep > 1)  # else experts are shared by the same ranks as all else
    for of_experts in (False, True) if apart else (False,):
        among = data_group(plan, gpus_per_node, of_experts=of_experts)
        mine = [tensor for tensor in every if not apart or tensor.of_experts == of_experts]
        if not any(_key(tensor.name, tensor.within) in summed for tensor in mine):
            continue
        for what in _of_data(mine, summed, plan, keeping, among.ranks):
            yield Collective(
                what.operation,
                among.axis,
                among.ranks,
                what.tensor,
                what.phase,
                where(several(among.ranks), what.count),
                what.parameters * what.width,
                among.inside,
                what.overlaps,
            )


def _of_data(mine: list[Stored], summed: set[Key], plan: Plan, keeping: Keeping, ranks: Size) -> Iterator[_What]:
    """What ranks exchange that have the same weights."""
    recipe, micro_batches = keeping.recipe, plan.accumulation
    learned = [tensor for tensor in mine if _key(tensor.name, tensor.within) in summed]
    if plan.zero == 0:
        size = add(tensor.parameters for tensor in learned)
        yield _What("all-reduce", "gradients", "gradients", 1, size, recipe.reduced, _LAST)
        return
    if plan.zero < 3:
        size = share(plan, learned, ranks) * ranks
        times, behind = (1, _LAST) if plan.zero == 1 else (micro_batches, _EACH)
        yield _What("reduce-scatter", "gradients", "gradients", times, size, recipe.reduced, behind)
        yield _What("all-gather", "weights", "step", 1, size, recipe.weight, _NEXT)
        return
    for layers, unit in _units(mine):
        name = "weights outside the layers" if layers is None else "weights of a layer"
        here = 1 if layers is None else layers.count
        times = here * micro_batches
        whole = _of_one(share(plan, unit, ranks), here, plan) * ranks
        yield _What("all-gather", name, "forward", times, whole, recipe.arriving, None if layers is None else _BESIDE)
        if layers is not None and plan.reshard_after_forward:  # what is outside stays until its gradients are there
            ahead = _BESIDE if plan.prefetch != "none" else None
            yield _What("all-gather", name, "backward", times, whole, recipe.arriving, ahead)
        taught = [tensor for tensor in unit if _key(tensor.name, tensor.within) in summed]
        reduced = _of_one(share(plan, taught, ranks), here, plan) * ranks
        yield _What(
            "reduce-scatter", name.replace("weights", "gradients"), "gradients", times, reduced, recipe.reduced, _EACH
        )


def _of_one(parameters: Size, layers: Size, plan: Plan) -> Size:
    """Of one layer, where alike layers were cut together."""
    return -(-parameters // layers) if plan.sharding == "flat" else parameters // layers


def _units(every: Iterable[Stored]) -> Iterator[tuple[Layers | None, list[Stored]]]:
    """Weights that are gathered together: those of a layer, and all that are outside of layers."""
    every = list(every)
    if outside := [tensor for tensor in every if tensor.within is None]:
        yield None, outside
    inside = [tensor for tensor in every if tensor.within is not None]
    for _, unit in groupby(inside, lambda tensor: id(tensor.within)):
        mine = list(unit)
        yield mine[0].within, mine


def _of_copies(
    taken: Pass, exchanges: list[Exchanges], plan: Plan, keeping: Keeping, gpus_per_node: int
) -> Iterator[Collective]:
    """Gradients of weights that several tensor-parallel ranks have, each of a part of what the weight was used for."""
    met: set[str] = set()
    for segment, found in zip(taken.segments, exchanges, strict=True):
        for one in found.each:
            axes = tuple(axis for axis in one.axes if axis in TP)
            if one.phase != "gradients" or not axes or one.tensor in met:
                continue
            if "{i}" not in one.tensor:
                met.add(one.tensor)
            among: Group = group(axes, found.mesh.ranks, plan, gpus_per_node)
            times = segment.repeat if "{i}" in one.tensor else 1
            size = volume(one.labels, segment.env) * keeping.recipe.reduced
            yield Collective(
                "all-reduce",
                among.axis,
                among.ranks,
                one.tensor,
                "gradients",
                where(several(among.ranks), times),
                size,
                among.inside,
            )


def _summed(taken: Pass, exchanges: list[Exchanges]) -> set[Key]:
    """The weights whose gradients are partial sums on each of several data-parallel ranks."""
    return {
        _key(one.tensor, segment.layers if "{i}" in one.tensor else None)
        for segment, found in zip(taken.segments, exchanges, strict=True)
        for one in found.each
        if one.phase == "gradients" and not {*one.axes} <= {*TP}
    }


def _key(name: str, within: Layers | None) -> Key:
    return name, None if within is None else id(within)
