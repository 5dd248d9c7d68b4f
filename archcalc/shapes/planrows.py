"""Rows of a grid of plans that have the same stages, counted as arrays.

What a micro-batch needs on its way does not depend on how many ranks share the state, or on how many micro-batches are
in flight: it is worked out once for all rows that are alike in the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from archcalc.counts.collectives import Sent, sent_for_weights, sent_in_passes
from archcalc.counts.parameters import params
from archcalc.counts.peaks import entering, settled, way
from archcalc.plan.description import Plan
from archcalc.plan.local import local
from archcalc.plan.stages import alike, in_flight
from archcalc.spec.model import Model
from archcalc.tape.legend import largest
from archcalc.tape.passes import Pass
from archcalc.tape.precision import Keeping
from archcalc.tape.run import Run

NUMBERS = ("dp", "tp", "cp", "pp", "ep", "micro_batch", "accumulation")
"""Fields that may be arrays; rows that differ in another field are counted apart."""
_ON_THE_WAY = ("tp", "cp", "ep", "micro_batch")
_KEPT = ("tp", "cp", "ep", "dp")


def groups(columns: Sequence[Any], count: int) -> tuple[list[int], Any]:
    """One row of each sort by some columns, and the sort of every row."""
    import numpy as np

    codes, sorts = np.zeros(count, dtype=np.int64), 1
    for column in columns:
        low = int(column.min()) if count else 0
        codes = codes * (width := int(column.max()) - low + 1 if count else 1) + (column - low)
        sorts *= width
    if sorts > _FEW * count:
        _, first, inverse = np.unique(codes, return_index=True, return_inverse=True)
        return first.tolist(), inverse.reshape(-1)
    first_of = np.full(sorts, count, dtype=np.int64)
    first_of[codes[::-1]] = np.arange(count - 1, -1, -1)  # the last that is written is the first row
    there = np.flatnonzero(first_of < count)
    number = np.zeros(sorts, dtype=np.int64)
    number[there] = np.arange(len(there))
    return first_of[there].tolist(), number[codes]


_FEW = 8  # times as many possible sorts as rows: more are sorted


class _Rows(NamedTuple):
    """Rows of a plan that are alike in some fields, one of each, and which of them each row of the grid is like."""

    plan: Plan
    sort: Any

    def of(self, n: Any) -> Any:
        """A number of each sort, for each row of the grid."""
        return n[self.sort] if getattr(n, "ndim", 0) else n


def _rows(plan: Plan, fields: Sequence[str], count: int) -> _Rows:
    """The sorts of rows by some fields; of the others one value stands for all."""
    mine = {name: getattr(plan, name) for name in fields}
    arrays = {name: value for name, value in mine.items() if hasattr(value, "dtype")}
    first, sort = groups(list(arrays.values()), count)
    chosen = {name: value[first] * 1.0 for name, value in arrays.items()}
    others = {name: 1 for name in NUMBERS if name not in fields and hasattr(getattr(plan, name), "dtype")}
    found = plan.model_copy(update={**others, **chosen})
    if "dp" in others:  # experts are on some of these ranks
        found = found.model_copy(update={"dp": found.ep})
    return _Rows(found, sort)


def _stages(whole: Pass, plan: Plan) -> list[int]:
    """Of stages with the same layers the first, which holds most micro-batches; the first and the last of all."""
    if plan.pp == 1:
        return [0]
    same = plan.model_copy(update={"accumulation": 1})  # as many micro-batches in all of them
    return [stages[0] for stages in alike(same, whole.segments)]


class Counter:
    """Counts rows that have the same stages, and remembers what does not depend on all that tells rows apart."""

    def __init__(self, model: Model, run: Run, columns: set[str]) -> None:
        self._columns = columns
        self._whole = model.record(run._replace(batch=1))
        self._ways: dict[object, list[tuple[Any, Any, Any]]] = {}
        self._kept: dict[object, tuple[Any, Any, Any]] = {}
        self._passing: dict[object, Any] = {}
        self._shared: dict[object, Sent] = {}

    def count(self, plan: Plan, keeping: Keeping) -> dict[str, Any]:
        """Of each number the most of any stage, in every row."""
        import numpy as np

        arrays = [value for name in NUMBERS if hasattr(value := getattr(plan, name), "dtype")]
        count = len(arrays[0]) if arrays else 1
        gathers = plan.zero > 1  # and then what is in use on the way depends on the ranks that share it
        passing = _rows(plan, (*_ON_THE_WAY, "dp") if gathers else _ON_THE_WAY, count)
        keeps = _rows(plan, _KEPT, count)
        most = {name: np.zeros(count) for name in self._columns}
        for stage in _stages(self._whole, plan):
            ways = [tuple(map(passing.of, one)) for one in self._way(passing.plan, keeping, stage, gathers=gathers)]
            parameters, state, step = map(keeps.of, self._settled(keeps.plan, keeping, stage))
            flights = _flights(plan, stage)
            others = sum(n * saved for n, (_, saved, _) in zip(flights, ways, strict=True))
            on_the_way = [(n > 0) * (others - saved + full) for n, (full, saved, _) in zip(flights, ways, strict=True)]
            total = state + largest((step + ways[0][2], *on_the_way))
            counted = {"parameters.stored": parameters, "memory.state": state, "memory.total": total}
            if "traffic.sent" in most:
                counted["traffic.sent"] = self._sent(plan, keeping, stage, count)
            for name in most.keys() & counted.keys():
                most[name] = np.maximum(most[name], counted[name])
        if "ranks" in most:
            most["ranks"] = most["ranks"] + plan.world
        return most

    def _sent(self, plan: Plan, keeping: Keeping, stage: int, count: int) -> Any:
        """Bytes that a rank sends in a step: with each micro-batch, and once."""
        kept = keeping._replace(accumulate=keeping.holds)
        passing, keeps = _rows(plan, _ON_THE_WAY, count), _rows(plan, _KEPT, count)
        passes = _sizes(passing.plan, ("zero", "sharding")), kept, stage
        if passes not in self._passing:
            whole = _with_batch(self._whole, passing.plan.micro_batch)
            self._passing[passes] = sent_in_passes(whole, passing.plan, keeping, stage)
        step = _sizes(keeps.plan), kept._replace(recompute="none"), stage
        if step not in self._shared:
            self._shared[step] = sent_for_weights(self._whole, keeps.plan, keeping, stage)
        weights = self._shared[step]
        each = passing.of(self._passing[passes]) + keeps.of(weights.each)
        return each * plan.accumulation + keeps.of(weights.once)

    def _settled(self, plan: Plan, keeping: Keeping, stage: int) -> tuple[Any, Any, Any]:
        """Parameters, what stays from step to step, and what the step needs beside it."""
        key = _sizes(plan), keeping._replace(accumulate=keeping.holds), stage
        if key not in self._kept:
            holds = local(self._whole, plan, stage)
            self._kept[key] = (params(holds).stored, *settled(holds, keeping))
        return self._kept[key]

    def _way(self, plan: Plan, keeping: Keeping, stage: int, *, gathers: bool) -> list[tuple[Any, Any, Any]]:
        """Of each chunk the most in use on the way and what is saved; and what comes in of the whole stage."""
        key = _sizes(plan, () if gathers else ("zero", "sharding")), keeping._replace(accumulate=keeping.holds), stage
        if key not in self._ways:
            taken = local(_with_batch(self._whole, plan.micro_batch), plan, stage)
            comes_in = entering(taken, keeping)
            self._ways[key] = [(most, saved, comes_in) for most, saved in way(taken, keeping)]
        return self._ways[key]


def _with_batch(taken: Pass, batch: Any) -> Pass:
    """The same pass of another batch."""
    segments = [segment.replace(stated={**segment.stated, "B": batch}) for segment in taken.segments]
    return Pass(taken.run._replace(batch=batch), segments, taken.source, taken.stage)


def _sizes(plan: Plan, but: Sequence[str] = ()) -> tuple[object, ...]:
    """What tells two plans apart, some fields aside."""
    found = (getattr(plan, name) for name in Plan.model_fields if name not in but)
    return tuple(n.tobytes() if hasattr(n, "dtype") else n for n in found)


def _flights(plan: Plan, stage: int) -> list[Any]:
    """Micro-batches in flight of each chunk, in every row."""
    import numpy as np

    if plan.pp == 1:
        return [1]
    if not hasattr(plan.accumulation, "dtype"):
        return list(in_flight(plan, stage))
    values, inverse = np.unique(plan.accumulation, return_inverse=True)
    each = [in_flight(plan.model_copy(update={"accumulation": int(n)}), stage) for n in values]
    return [np.array(chunk, dtype=float)[inverse] for chunk in zip(*each, strict=True)]
