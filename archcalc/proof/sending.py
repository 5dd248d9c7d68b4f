"""The collectives that ran in a step of real processes, beside those that are counted for a rank of the plan."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from archcalc.checks.verdict import Check
from archcalc.counts.collectives import collectives
from archcalc.counts.exchanged import Operation
from archcalc.plan.description import Plan
from archcalc.proof.issued import Issued
from archcalc.spec.model import Model
from archcalc.tape.precision import Keeping
from archcalc.tape.run import Run
from archcalc.units import several

CALLS = "collectives that PyTorch called"
COPIES = "DTensor adds biases of rows before it scatters, and AdamW reduces gradients of norms at each use"
TABLE = "DTensor has the token table's gradient whole on each tensor-parallel rank"
LEFT_OUT = "how many vectors each rank sends to each expert is left out of the counts"


class Sort(NamedTuple):
    """Collectives of one operation over one axis of the plan, in the forward pass or behind it."""

    axis: str
    operation: Operation
    forward: bool

    @property
    def words(self) -> str:
        """What a reader calls them."""
        return f"{self.operation} over {self.axis}, {'forward' if self.forward else 'backward'}"


def compare_collectives(
    model: Model, plan: Plan, run: Run, keeping: Keeping, each: Sequence[Iterable[Issued]]
) -> Iterator[Check]:
    """The bytes of all ranks by operation, axis and pass, and how many collectives of which sizes each rank called.

    `each` has what each rank of the plan issued in a step. Of an all-to-all the sizes follow from routing, and add up
    over all ranks to what is counted. Gradients without ZeRO are counted as one tensor, however they are put together.
    """
    counted, ran = _counted(model, plan, run, keeping), [_ran(plan, one) for one in each]
    sorts = dict.fromkeys((*counted, *(sort for found in ran for sort in found)))
    for sort in sorts:
        mine, theirs = counted.get(sort, Counter()), [found.get(sort, Counter()) for found in ran]
        predicted, measured = _bytes(mine) * len(ran), sum(map(_bytes, theirs))
        routed, whole = sort.operation == "all-to-all", sort.axis in ("dp", "edp") and not plan.zero
        if routed:
            alike = all(found.total() == mine.total() for found in theirs)
        else:
            alike = whole or all(found == mine for found in theirs)
        equal = predicted == measured and alike
        times = f"{several(theirs[0].total(), 'collective')} a rank"
        reason = f"= in {times}" if equal else f"DIFFERS: {times}, {mine.total():,} counted"
        check = Check(f"bytes of {sort.words}, {keeping.precision}", predicted, measured, equal, reason, CALLS)
        known = _another_way(plan, sort)
        yield check if equal or known is None else check._replace(reason=known, required=False)
    if told := sum(one.bytes * one.times for found in each for one in found if one.told):
        what = f"bytes of numbers of vectors, {keeping.precision}"
        yield Check(what, 0, told, equal=False, reason=LEFT_OUT, source=CALLS, required=False)


def _another_way(plan: Plan, sort: Sort) -> str | None:
    """Why PyTorch exchanges something else than is counted, where it is known to."""
    if plan.sequence_parallel and sort == Sort("tp", "all-reduce", forward=False):
        return COPIES
    if plan.tp > 1 and not plan.zero and sort.axis == "dp":
        return TABLE
    return None


def _counted(model: Model, plan: Plan, run: Run, keeping: Keeping) -> dict[Sort, Counter[int]]:
    found: dict[Sort, Counter[int]] = {}
    for one in collectives(model.record(run), plan, keeping):
        sort = Sort(one.axis, one.operation, one.phase == "forward")
        found.setdefault(sort, Counter())[int(one.bytes)] += int(one.count)
    return found


def _ran(plan: Plan, issued: Iterable[Issued]) -> dict[Sort, Counter[int]]:
    found: dict[Sort, Counter[int]] = {}
    for one in issued:
        if not one.told:
            sort = Sort(_axis(plan, one), one.operation, one.phase == "forward")
            found.setdefault(sort, Counter())[one.bytes] += one.times
    return found


def _axis(plan: Plan, one: Issued) -> str:
    """The axis of the plan along which some ranks differ: tensor-parallel ranks are neighbours."""
    if plan.tp > 1 and one.ranks[1] - one.ranks[0] == 1:
        return "tp"
    if one.operation == "all-to-all":
        return "ep"
    return "dp" if len(one.ranks) == plan.dp else "edp"


def _bytes(sizes: Counter[int]) -> int:
    return sum(size * times for size, times in sizes.items())
