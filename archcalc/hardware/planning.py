"""Whether a plan fits a device on every rank, and the smallest single changes after which it would."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from archcalc.blocks.base import LARGEST_SIZE
from archcalc.counts.rankwise import Ranks, ranks
from archcalc.errors import Invalid
from archcalc.hardware.devices import Device
from archcalc.hardware.fitting import RESERVE, basis, capacity, most, usable
from archcalc.plan.description import Plan
from archcalc.plan.stages import layers_of
from archcalc.spec.model import Model
from archcalc.tape.precision import Keeping
from archcalc.tape.run import Run


class Remedy(NamedTuple):
    """A single change of a plan: in words, what it costs, and the peak of the fullest rank after it, in bytes."""

    change: str
    cost: str
    total: int
    fits: bool


class PlanFit(NamedTuple):
    """A plan on a device, in bytes of the fullest rank; see Fit for `capacity` and `usable`.

    `remedies` are single changes after which it fits, the cheapest sort first; where none does, those that come
    nearest. `largest_micro_batch` and `longest_context` are those that still fit, the rest as asked; 0 where none
    does.
    """

    device: str
    basis: str
    capacity: int
    reserve: int
    percent: int
    usable: int
    left: int
    fits: bool
    largest_micro_batch: int
    longest_context: int
    remedies: tuple[Remedy, ...]


def fit_plan(model: Model, found: Ranks, device: Device, reserve: int = RESERVE) -> PlanFit:
    """Hold the fullest rank of a plan against a device, `reserve` percent of which is set aside."""
    room = usable(device, reserve)
    plan, run, keeping = found.plan, found.run, found.keeping
    total = int(found.fullest.memory.total)

    def fits_batch(n: int) -> bool:
        return _total(model, plan.model_copy(update={"micro_batch": n}), run, keeping) <= room

    share = plan.parts_of_a_sequence  # a context is cut evenly

    def fits_context(n: int) -> bool:
        return _total(model, plan, run._replace(sequence=n * share), keeping) <= room

    fits = total <= room
    remedies = () if fits else tuple(_remedies(model, found, room))
    return PlanFit(
        device=device.name,
        basis=basis(device),
        capacity=capacity(device),
        reserve=capacity(device) - room,
        percent=reserve,
        usable=room,
        left=room - total,
        fits=fits,
        largest_micro_batch=most(fits_batch, LARGEST_SIZE),
        longest_context=share * most(fits_context, model.context_length // share),
        remedies=remedies,
    )


_MOST_REMEDIES = 5


def _remedies(model: Model, found: Ranks, room: int) -> Iterator[Remedy]:
    """Single changes that make it fit; where none does, the three that save most."""
    tried = list(_tried(model, found, room))
    enough = [one for one in tried if one.fits]
    if enough:
        yield from enough[:_MOST_REMEDIES]
        return
    now = int(found.fullest.memory.total)
    yield from sorted((one for one in tried if one.total < now), key=lambda one: one.total)[:3]


def _tried(model: Model, found: Ranks, room: int) -> Iterator[Remedy]:
    for change, cost, plan, keeping in _changes(model, found, room):
        try:
            total = _total(model, plan, found.run, keeping)
        except Invalid:
            continue
        yield Remedy(change, cost, total, total <= room)


def _changes(model: Model, found: Ranks, room: int) -> Iterator[tuple[str, str, Plan, Keeping]]:
    """Single changes, those that cost least first: what ranks share, what is computed again, more ranks."""
    plan, run, keeping = found.plan, found.run, found.keeping

    def to(**fields: Any) -> Plan:
        return plan.model_copy(update=fields)

    trains = run.phase == "training"
    if trains and plan.tp > 1 and not plan.sequence_parallel:
        yield "sequence_parallel", "no further ranks", to(sequence_parallel=True), keeping
    if trains and plan.dp * plan.cp > 1:
        for zero in range(plan.zero + 1, 4):
            costs = "weights are gathered for each layer" if zero == 3 else "no further ranks"
            yield f"zero {zero}", costs, to(zero=zero), keeping
    half = plan.micro_batch // 2
    if half and not (trains and plan.micro_batch % 2):  # a step has as many sequences as before
        more = {"accumulation": plan.accumulation * 2} if trains else {}
        yield f"micro_batch {half:,}", "smaller products", to(micro_batch=half, **more), keeping
    if trains and keeping.recompute != "full":
        if keeping.recompute == "none":
            again = keeping._replace(recompute="selective")
            yield "recompute selective", "the core of attention is computed again", plan, again
        full = keeping._replace(recompute="full")
        if few := _fewest(lambda n: _total(model, to(recompute_layers=n), run, full) <= room, model, plan):
            cost = "one more forward pass of these layers of each stage"
            yield f"recompute full, recompute_layers {few:,}", cost, to(recompute_layers=few), full
        else:
            yield "recompute full", "one more forward pass", to(recompute_layers=None), full
    if trains and not keeping.offload:
        yield "offload_optimizer", "the optimizer steps on the host", plan, keeping._replace(offload=True)
    for field in ("tp", "pp", "dp"):
        if field == "dp" and not (trains and plan.zero):
            continue
        degree = getattr(plan, field) * 2
        evenly = {"stage_layers": None} if field == "pp" else {}  # those given are of the stages there are
        yield f"{field} {degree:,}", f"{plan.world * 2:,} ranks", to(**{field: degree}, **evenly), keeping


def _fewest(fits: Callable[[int], bool], model: Model, plan: Plan) -> int:
    """The smallest number of a stage's layers with which it fits, where fewer than all do; 0 where there is none."""
    most = max(map(len, layers_of(plan, int(model.n_layers))))
    low, high = 0, most
    try:
        if not fits(high):
            return 0
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if fits(middle) else (middle, high)
    except Invalid:  # layers that read others are recomputed together
        return 0
    return high if high < most else 0


def _total(model: Model, plan: Plan, run: Run, keeping: Keeping) -> int:
    return int(ranks(model, plan, run, keeping).fullest.memory.total)
