"""Rows of a grid of plans that differ in numbers and in what they recompute, counted as arrays.

What a micro-batch needs on its way does not depend on how many ranks share the state, or on how many micro-batches are
in flight: it is worked out once for all rows that are alike in the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from archcalc.counts.collectives import Sent, sent_for_weights, sent_in_passes
from archcalc.counts.parameters import Inventory, Stored, tensors
from archcalc.counts.peaks import Settled, entering, settled, way
from archcalc.counts.pipelined import messages, ties
from archcalc.counts.stretches import AtOnce
from archcalc.counts.ways import Walked
from archcalc.plan.description import Plan
from archcalc.plan.local import Exchanges, localized, share
from archcalc.plan.placing import GPUS_PER_NODE
from archcalc.plan.stages import chunks_of, in_flight
from archcalc.shapes.stacked import Stages, stacked
from archcalc.spec.model import Model
from archcalc.tape.legend import Size, add, largest
from archcalc.tape.passes import Pass, Segment
from archcalc.tape.precision import Keeping, Recompute
from archcalc.tape.run import Run

NUMBERS = ("dp", "tp", "cp", "pp", "ep", "micro_batch", "accumulation")
"""Fields that may be arrays; rows that differ in another field are counted apart."""
_CUTTING = ("tp", "cp", "ep")
_ON_THE_WAY = (*_CUTTING, "micro_batch")
_STAGES = ("pp",)
_KEPT = ("pp", "dp")
_SHARED = ("zero", "sharding", "reshard_after_forward", "prefetch")
"""What says how data-parallel ranks share a step, and cuts nothing."""


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
    one_of = np.full(sorts, count, dtype=np.int64)
    one_of[codes] = np.arange(count)
    there = np.flatnonzero(one_of < count)
    number = np.zeros(sorts, dtype=np.int64)
    number[there] = np.arange(len(there))
    return one_of[there].tolist(), number.take(codes)


_FEW = 8  # times as many possible sorts as rows: more are sorted


class _Sorts(NamedTuple):
    """The sorts of rows of a plan by some fields, and which of them each row is of.

    There are two kinds of fields: those that cut sizes stand along the first axis of what is counted, and the others
    along the second. `at_each` is where a row is among the sorts of each kind of recomputation, one kind after the
    other. `key` tells sorts apart, and `cuts` those that cut segments otherwise.
    """

    plan: Plan
    counts: tuple[int, int]
    at: Any
    at_each: Any
    key: tuple[object, ...]
    cuts: tuple[object, ...]

    def of(self, n: Any) -> Any:
        """A number of each sort, or of each kind of recomputation and each sort, for each row."""
        import numpy as np

        axes = getattr(n, "ndim", 0)
        if not axes:
            return n
        if axes <= len(self.counts):
            return np.broadcast_to(n, self.counts).reshape(-1).take(self.at)
        return np.broadcast_to(n, (len(n), *self.counts)).reshape(-1).take(self.at_each)


class Rows:
    """Rows of a plan whose words are alike but for what they recompute: of the `kinds` each has one."""

    def __init__(self, plan: Plan, kinds: tuple[Recompute, ...], kind: Any) -> None:
        self.plan, self.kinds, self.kind = plan, kinds, kind
        self.arrays = {name: value for name in NUMBERS if hasattr(value := getattr(plan, name), "dtype")}
        self.count = len(kind)
        self._known: dict[object, _Sorts] = {}
        self._groups: dict[object, tuple[list[int], Any]] = {}
        others = (name for name in Plan.model_fields if name not in (*NUMBERS, *_SHARED))
        self._words = tuple(getattr(plan, name) for name in others)

    def some(self, rows: Any) -> Rows:
        """Some of the rows."""
        plan = self.plan.model_copy(update={name: value[rows] for name, value in self.arrays.items()})
        return Rows(plan, self.kinds, self.kind[rows])

    def grouped(self, fields: Sequence[str]) -> tuple[list[int], Any]:
        """One row of each sort by some fields, and the sort of every row."""
        if fields not in self._groups:
            self._groups[fields] = groups([self.arrays[name] for name in fields if name in self.arrays], self.count)
        return self._groups[fields]

    def by(self, cutting: Sequence[str], others: Sequence[str]) -> _Sorts:
        """The sorts of rows by some fields; of the rest one value stands for all."""
        if (cutting, others) not in self._known:
            self._known[cutting, others] = self._sorted(cutting, others)
        return self._known[cutting, others]

    def _sorted(self, cutting: Sequence[str], others: Sequence[str]) -> _Sorts:
        chosen: dict[str, Any] = {}
        sorts = []
        for axis, fields in enumerate((cutting, others)):
            first, sort = self.grouped(fields)
            sorts.append((len(first), sort))
            for name, value in ((name, self.arrays[name]) for name in fields if name in self.arrays):
                chosen[name] = value[first] * 1.0 if axis else value[first, None] * 1.0
        (rows, one), (columns, other) = sorts
        rest: dict[str, Any] = {name: 1 for name in self.arrays if name not in chosen}
        if (
            "dp" in rest
        ):  # experts are on some of these ranks; of several the tapes are those that weights are read off
            rest["dp"] = 2 * chosen.get("ep", self.plan.ep)
        plan = self.plan.model_copy(update={**rest, **chosen})
        at = one * columns + other
        numbers = {name: _known(getattr(plan, name)) for name in NUMBERS}
        cuts = tuple(n for name, n in numbers.items() if name not in _STAGES)
        key = *self._words, *numbers.values()
        return _Sorts(plan, (rows, columns), at, self.kind * (rows * columns) + at, key, (*self._words, *cuts))


class Counter:
    """Counts rows whose words are alike, and remembers what does not depend on all that tells rows apart."""

    def __init__(self, model: Model, run: Run, columns: set[str]) -> None:
        self._columns = columns
        self._whole = model.record(run._replace(batch=1))
        self._known: dict[object, Any] = {}
        self._walked = Walked()

    def count(self, every: Rows, keeping: Keeping) -> dict[str, Any]:
        """Of each number the most of any stage, in every row."""
        import numpy as np

        plan = every.plan
        most = {name: np.zeros(every.count) for name in self._columns}
        lengths = np.unique(plan.pp).tolist()
        known: dict[tuple[int, ...], tuple[Any, Rows]] = {tuple(lengths): (slice(None), every)}
        key = plan.schedule, plan.chunks, plan.stage_layers, plan.recompute_layers, *lengths
        for stages in self._once(key, lambda: stacked(self._whole, plan, lengths)):
            there = tuple(stages.at)
            if there not in known:
                rows = np.flatnonzero(np.isin(plan.pp, there))
                known[there] = rows, every.some(rows)
            at, here = known[there]
            for name, values in self._of(stages, here, keeping._replace(accumulate=keeping.holds)).items():
                most[name][at] = np.maximum(most[name][at], values)
        if "ranks" in most:
            most["ranks"] = most["ranks"] + plan.world
        return most

    def _of(self, stages: Stages, rows: Rows, keeping: Keeping) -> dict[str, Any]:
        """The numbers of a rank of one stage."""
        keeps = rows.by(_CUTTING, _KEPT)
        parameters, has = self._settled(stages, keeps, keeping)
        counted = {"parameters.stored": keeps.of(parameters), "memory.state": keeps.of(has.kept + has.gradients)}
        if "memory.total" in self._columns:
            gathers = rows.plan.zero > 1  # and then what is in use depends on the ranks that share it
            passing = rows.by(_ON_THE_WAY, _KEPT if gathers else _STAGES)
            ways, comes_in = self._way(stages, passing, keeping, rows.kinds, gathers=gathers)
            ways = [tuple(map(passing.of, one)) for one in ways]
            flights = self._flights(stages, rows)
            others = add(n * saved for n, (_, saved) in zip(flights, ways, strict=True))
            on_the_way = [(n > 0) * (others - saved + full) for n, (full, saved) in zip(flights, ways, strict=True)]
            steps = keeps.of(has.gradients + has.scratch) + passing.of(comes_in)
            counted["memory.total"] = keeps.of(has.kept + has.buffers) + largest((steps, *on_the_way))
        if "traffic.sent" in self._columns:
            counted["traffic.sent"] = self._sent(stages, rows, keeping)
        return {name: value for name, value in counted.items() if name in self._columns}

    def _once(self, key: object, work: Callable[[], Any]) -> Any:
        if key not in self._known:
            self._known[key] = work()
        return self._known[key]

    def _taken(self, stages: Stages, sorts: _Sorts) -> tuple[Pass, list[Exchanges]]:
        """The pass of a rank of a stage, and what it exchanges."""
        plan = sorts.plan
        # Layers are known by which they are, and not by their number.
        parts = self._once(("parts", id(stages), _known(plan.pp)), lambda: stages.of(plan.pp))

        def cut(segment: Segment) -> tuple[Segment, Exchanges]:
            """As the rank has it; what its layers are does not depend on how many there are."""
            key = "cut", id(segment.tape), id(segment.env), sorts.cuts
            found, exchanges = self._once(key, lambda: localized(_of_batch(segment, plan.micro_batch), plan))
            return found.replace(layers=segment.layers), exchanges

        both = [cut(segment) for part in parts for segment in part]
        stage = share(plan, chunks_of(parts, [1] * len(parts)))
        taken = Pass(self._whole.run, [segment for segment, _ in both], self._whole.source, stage)
        return taken, [told for _, told in both]

    def _tensors(self, stages: Stages, sorts: _Sorts, taken: Pass) -> tuple[Stored, ...]:
        """The weights of a rank of a stage, however ranks share them."""
        found: tuple[Stored, ...] = self._once(("tensors", id(stages), sorts.key), lambda: tensors(taken))
        return found

    def _settled(self, stages: Stages, sorts: _Sorts, keeping: Keeping) -> tuple[Size, Settled]:
        """Parameters, and what a rank has at the optimizer's step."""

        def work() -> tuple[Size, Settled]:
            taken, _ = self._taken(stages, sorts)
            counts = Inventory(self._tensors(stages, sorts, taken))
            return add(one.parameters for one in counts.tensors), settled(taken, counts, keeping)

        key = "settled", id(stages), sorts.key, _shared(sorts.plan), keeping
        found: tuple[Size, Settled] = self._once(key, work)
        return found

    def _way(
        self, stages: Stages, sorts: _Sorts, keeping: Keeping, kinds: tuple[Recompute, ...], *, gathers: bool
    ) -> Any:
        """Of each chunk the most in use on the way and what is saved; and what comes in of the whole stage."""

        def work() -> Any:
            taken, _ = self._taken(stages, sorts)
            return list(way(taken, keeping, AtOnce(kinds, self._walked))), entering(taken, keeping)

        return self._once(("way", id(stages), sorts.key, gathers and _shared(sorts.plan), keeping, kinds), work)

    def _flights(self, stages: Stages, rows: Rows) -> list[Any]:
        """Micro-batches in flight of each chunk, in every row."""

        def held(pp: int, accumulation: int) -> list[int]:
            def work() -> list[int]:
                plan = rows.plan.model_copy(update={"pp": pp, "accumulation": accumulation})
                return [1] if pp == 1 else list(in_flight(plan, stages.at[pp]))

            key = "in flight", rows.plan.schedule, rows.plan.chunks, pp, stages.at[pp], accumulation
            found: list[int] = self._once(key, work)
            return found

        return _by_number((rows.plan.pp, rows.plan.accumulation), rows.grouped(("pp", "accumulation")), held)

    def _sent(self, stages: Stages, rows: Rows, keeping: Keeping) -> Any:
        """Bytes that a rank sends in a step: with each micro-batch, and once."""
        passing, keeps = rows.by(_ON_THE_WAY, _STAGES), rows.by(_CUTTING, _KEPT)

        def in_passes() -> Size:
            taken, exchanges = self._taken(stages, passing)
            told = _messages(stages, passing.plan)
            return sent_in_passes(taken, exchanges, passing.plan, keeping, told, rows.kinds)

        def for_weights() -> Sent:
            taken, exchanges = self._taken(stages, keeps)
            every = self._tensors(stages, keeps, taken)
            sent = sent_for_weights(taken, every, exchanges, keeps.plan, keeping)
            pp, stage = next(iter(stages.at.items()))
            tied = ties(self._whole, keeps.plan.model_copy(update={"pp": pp}), stage, keeping, GPUS_PER_NODE)
            return sent._replace(once=sent.once + add(one.count * one.sent for one in tied))

        each = self._once(("passes", id(stages), passing.key, keeping, rows.kinds), in_passes)
        weights: Sent = self._once(("weights", id(stages), keeps.key, _shared(keeps.plan), keeping), for_weights)
        return (passing.of(each) + keeps.of(weights.each)) * rows.plan.accumulation + keeps.of(weights.once)


def _of_batch(segment: Segment, batch: Size) -> Segment:
    return segment.replace(stated={**segment.stated, "B": batch})


def _known(n: Any) -> object:
    """What tells a value apart from others, of an array its numbers."""
    return n.tobytes() if hasattr(n, "dtype") else n


def _shared(plan: Plan) -> tuple[object, ...]:
    """How data-parallel ranks share a step."""
    return tuple(getattr(plan, name) for name in _SHARED)


def _messages(stages: Stages, plan: Plan) -> Any:
    """How often a rank sends to another stage with each micro-batch, in every row."""
    import numpy as np

    def sent(pp: int) -> list[int]:
        return [sum(messages(plan.model_copy(update={"pp": pp}), stages.at[pp], trains=True).values())]

    pp = np.atleast_1d(plan.pp).astype(np.int64)
    (found,) = _by_number((pp,), groups([pp], len(pp)), sent)
    return found


def _by_number(numbers: Sequence[Any], grouped: tuple[list[int], Any], work: Callable[..., list[int]]) -> list[Any]:
    """What follows from a few numbers of each row: worked out for one row of each sort."""
    import numpy as np

    first, sort = grouped
    each = [work(*(int(n[row]) if hasattr(n, "dtype") else n for n in numbers)) for row in first]
    return [np.array(one, dtype=float).take(sort) for one in zip(*each, strict=True)]
