"""Grids of plans: one model under many plans, counted as arrays by the functions that count one plan.

Rows that differ in words are counted apart, and so are stages that hold other layers. What a micro-batch needs on its
way does not depend on how many ranks share the state, or on how many micro-batches are in flight: it is worked out
once for all rows that are alike in the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from archcalc.arguments import instance
from archcalc.counts.collectives import Sent, sent_for_weights, sent_in_passes
from archcalc.counts.parameters import params
from archcalc.counts.peaks import entering, settled, way
from archcalc.errors import Invalid, Problem, shown
from archcalc.plan.description import Plan
from archcalc.plan.local import local
from archcalc.plan.rules import RULES, Rule, Subject
from archcalc.plan.stages import alike, in_flight
from archcalc.spec.model import Model
from archcalc.tape.legend import largest
from archcalc.tape.passes import Pass
from archcalc.tape.precision import Keeping
from archcalc.tape.run import MEMORY_KERNEL, Run

NUMBERS = ("dp", "tp", "cp", "pp", "ep", "micro_batch", "accumulation")
"""Fields that may be arrays; rows that differ in another field are counted apart."""
WORDS = ("sequence_parallel", "schedule", "chunks", "etp", "zero", "sharding", "gathered_inputs", "recompute")
_AXES = ("tp", "cp", "ep", "accumulation")
_ON_THE_WAY = ("tp", "cp", "ep", "micro_batch")
_KEPT = ("tp", "cp", "ep", "dp")


class PlanGrid(NamedTuple):
    """A row for each plan that breaks no rule: the fields that are varied, and what is counted of each.

    `counted` has the columns of COLUMNS that were asked for: each of the rank that has the most of it. `left_out`
    counts the plans that break a rule, by the rule.
    """

    plan: Plan
    run: Run
    keeping: Keeping
    fields: dict[str, Any]
    counted: dict[str, Any]
    left_out: dict[str, int]

    def __len__(self) -> int:
        return len(next(iter(self.counted.values())))

    def rows(self, most: int | None = None) -> Iterator[tuple[Any, ...]]:
        """The rows as Python's values, the first `most` of them."""
        columns = [column[:most].tolist() for column in self.fields.values()]
        numbers = [list(map(int, column[:most].tolist())) for column in self.counted.values()]
        yield from zip(*columns, *numbers, strict=True)


COLUMNS: dict[str, tuple[str, str]] = {
    "ranks": ("ranks", "of the plan: dp x cp x tp x pp"),
    "parameters.stored": ("parameters", "of the rank that has the most"),
    "memory.state": ("bytes", "kept between steps by the rank that keeps the most"),
    "memory.total": ("bytes", "peak of the fullest rank"),
    "traffic.sent": ("bytes", "sent in a step by the rank that sends the most"),
}
"""What can be counted of every plan: the unit, and what it means."""


def sweep_plans(
    model: Model,
    vary: Mapping[str, Sequence[Any]],
    plan: Plan,
    run: Run,
    keeping: Keeping,
    columns: Sequence[str] = ("ranks", "parameters.stored", "memory.state", "memory.total"),
) -> PlanGrid:
    """Count a model under every plan of a grid: `vary` maps fields of a plan, or recompute, to their values.

    `run` gives the sequence and the attention; the last field varies fastest. `columns` are names of COLUMNS. Raises
    Invalid for a field or a column that is not there.
    """
    import numpy as np

    instance("sweep_plans", "plan", plan, Plan)
    for name in vary:
        if name not in (*NUMBERS, *WORDS):
            known = ", ".join((*NUMBERS, *WORDS))
            raise Invalid(Problem("sweep_plans", "is no field of a plan that can be varied", name, suggestion=known))
    for name in columns:
        if name not in COLUMNS:
            fix = f"one of {', '.join(COLUMNS)}"
            raise Invalid(Problem("--columns", "unknown column of a plan", value=shown(name), suggestion=fix))
    run = run.by_default(MEMORY_KERNEL)
    shape = tuple(len(values) for values in vary.values())
    at = dict(zip(vary, np.indices(shape, dtype=np.int32).reshape(len(shape), -1), strict=True))
    grid = _Grid({name: list(values) for name, values in vary.items()}, at, int(np.prod(shape, dtype=np.int64)))
    possible, left_out = _possible(model, grid, plan, run)
    grid = _Grid(grid.values, {name: index[possible] for name, index in at.items()}, int(possible.sum()))
    found = {name: np.zeros(grid.rows) for name in columns}
    counter = _Counter(model, run, set(columns))
    for rows, one, kept in _alike(grid, plan, keeping):
        for name, values in counter.count(one, kept).items():
            found[name][rows] = values
    return PlanGrid(plan, run, keeping, {name: grid.column(name) for name in vary}, found, left_out)


class _Grid(NamedTuple):
    """The values of each field that is varied, and which of them each of so many rows has."""

    values: dict[str, list[Any]]
    at: dict[str, Any]
    rows: int

    def column(self, name: str) -> Any:
        """The values of all rows: numbers, or words."""
        import numpy as np

        values = self.values[name]
        whole = all(isinstance(value, int) and not isinstance(value, bool) for value in values)
        return np.array(values, dtype=np.int64 if whole else object)[self.at[name]]

    def row(self, index: int) -> dict[str, Any]:
        """The fields of one row."""
        return {name: values[int(self.at[name][index])] for name, values in self.values.items()}


def _groups(columns: Sequence[Any], count: int) -> tuple[list[int], Any]:
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


def _possible(model: Model, grid: _Grid, plan: Plan, run: Run) -> tuple[Any, dict[str, int]]:
    """Which rows break no rule; and how many are left out for each. A rule looks at each sort of rows once."""
    import numpy as np

    possible = np.ones(grid.rows, dtype=bool)
    left_out: dict[str, int] = {}
    subject = Subject(model, run, model.record(run))
    alone = plan.model_dump(by_alias=True)

    def strike(fields: Sequence[str], why: Callable[[dict[str, Any]], str | None]) -> None:
        first, sort = _groups([grid.at[name] for name in fields if name in grid.at], grid.rows)
        reasons = [why({**alone, **grid.row(index)}) for index in first]
        for reason in dict.fromkeys(one for one in reasons if one):
            wrong = np.array([one == reason for one in reasons])[sort] & possible
            if wrong.any():
                left_out[reason] = left_out.get(reason, 0) + int(wrong.sum())
                possible[wrong] = False

    strike([name for name in grid.at if name not in _ANY], _contradiction)
    for rule in RULES:
        strike(rule.reads, partial(_broken, rule, subject))
    return possible, left_out


_ANY = ("dp", "cp", "ep", "micro_batch", "accumulation", "recompute")
"""Fields that contradict no other by themselves."""


def _contradiction(fields: dict[str, Any]) -> str | None:
    """What the description of a plan says of fields that contradict each other."""
    from pydantic import ValidationError

    try:
        Plan.model_validate({name: value for name, value in fields.items() if name != "recompute"})
    except ValidationError as error:
        return str(error.errors(include_url=False)[0]["msg"])
    return None


def _broken(rule: Rule, subject: Subject, fields: dict[str, Any]) -> str | None:
    found = next(rule.find(Plan.model_construct(**fields), subject), None)
    return None if found is None else f"{found.field} {found.what}"


def _alike(grid: _Grid, plan: Plan, keeping: Keeping) -> Iterator[tuple[Any, Plan, Keeping]]:
    """Rows whose words are alike, and whose stages are: the numbers of the plan as arrays."""
    import numpy as np

    words = [name for name in grid.at if name in WORDS or name == "pp"]
    several = [(grid.column(name) > 1).astype(np.int32) for name in _AXES if name in grid.at]  # one rank is no axis
    first, sort = _groups([*(grid.at[name] for name in words), *several], grid.rows)
    columns = {name: grid.column(name) for name in grid.at if name in NUMBERS and name != "pp"}
    for group, index in enumerate(first if grid.rows else ()):
        rows = np.flatnonzero(sort == group)
        fixed = {name: value for name, value in grid.row(index).items() if name in words}
        kept = keeping._replace(recompute=fixed.pop("recompute")) if "recompute" in fixed else keeping
        one = plan.model_copy(update={**fixed, **{name: column[rows] for name, column in columns.items()}})
        accumulates = bool(np.any(np.asarray(one.accumulation) > 1))
        yield rows, one, kept._replace(accumulate=True) if accumulates else kept


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
    first, sort = _groups(list(arrays.values()), count)
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


class _Counter:
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
