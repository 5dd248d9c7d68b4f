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
from archcalc.errors import Invalid, Problem
from archcalc.plan.description import Plan
from archcalc.plan.local import local
from archcalc.plan.rules import RULES, Rule, Subject
from archcalc.plan.stages import alike, in_flight
from archcalc.spec.model import Model
from archcalc.tape.legend import largest
from archcalc.tape.passes import Once, Pass
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

    `total` is the peak of the fullest rank in bytes, `state` what the rank with most of it keeps between steps,
    `parameters` those of the rank with most, and `sent` the bytes that the rank sends in a step that sends the most.
    `left_out` counts the plans that break a rule, by the rule.
    """

    fields: dict[str, Any]
    world: Any
    parameters: Any
    state: Any
    total: Any
    sent: Any
    left_out: dict[str, int]

    def __len__(self) -> int:
        return len(self.total)


def sweep_plans(model: Model, vary: Mapping[str, Sequence[Any]], plan: Plan, run: Run, keeping: Keeping) -> PlanGrid:
    """Count a model under every plan of a grid: `vary` maps fields of a plan, or recompute, to their values.

    `run` gives the sequence and the attention; the last field varies fastest. Raises Invalid for a field that a plan
    does not have.
    """
    import numpy as np

    instance("sweep_plans", "plan", plan, Plan)
    for name in vary:
        if name not in (*NUMBERS, *WORDS):
            known = ", ".join((*NUMBERS, *WORDS))
            raise Invalid(Problem("sweep_plans", "is no field of a plan that can be varied", name, suggestion=known))
    run = run.by_default(MEMORY_KERNEL)
    shape = tuple(len(values) for values in vary.values())
    at = dict(zip(vary, np.indices(shape, dtype=np.int32).reshape(len(shape), -1), strict=True))
    grid = _Grid({name: list(values) for name, values in vary.items()}, at, int(np.prod(shape, dtype=np.int64)))
    possible, left_out = _possible(model, grid, plan, run)
    grid = _Grid(grid.values, {name: index[possible] for name, index in at.items()}, int(possible.sum()))
    found = {name: np.zeros(grid.count) for name in ("world", "parameters", "state", "total", "sent")}
    counter = _Counter(model, run)
    for rows, one, kept in _alike(grid, plan, keeping):
        for name, values in counter.count(one, kept).items():
            found[name][rows] = values
    return PlanGrid({name: grid.column(name) for name in vary}, left_out=left_out, **found)


class _Grid(NamedTuple):
    """The values of each field that is varied, and which of them each of `count` rows has."""

    values: dict[str, list[Any]]
    at: dict[str, Any]
    count: int

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

    possible = np.ones(grid.count, dtype=bool)
    left_out: dict[str, int] = {}
    subject = Subject(model, run, model.record(run))
    alone = plan.model_dump(by_alias=True)

    def strike(fields: Sequence[str], why: Callable[[dict[str, Any]], str | None]) -> None:
        first, sort = _groups([grid.at[name] for name in fields if name in grid.at], grid.count)
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
    first, sort = _groups([*(grid.at[name] for name in words), *several], grid.count)
    columns = {name: grid.column(name) for name in grid.at if name in NUMBERS and name != "pp"}
    for group, index in enumerate(first if grid.count else ()):
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

    def __init__(self, model: Model, run: Run) -> None:
        self._once, self._run = Once(model), run
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
        moving = _rows(plan, _ON_THE_WAY, count) if gathers else passing
        most = {name: np.zeros(count) for name in ("parameters", "state", "total", "sent")}
        for stage in _stages(self._once.record(self._run._replace(batch=1)), plan):
            ways = [tuple(map(passing.of, one)) for one in self._way(passing.plan, keeping, stage, gathers=gathers)]
            parameters, state, step = map(keeps.of, self._settled(keeps.plan, keeping, stage))
            flights = _flights(plan, stage)
            others = sum(n * saved for n, (_, saved, _) in zip(flights, ways, strict=True))
            on_the_way = [(n > 0) * (others - saved + full) for n, (full, saved, _) in zip(flights, ways, strict=True)]
            total = state + largest((step + ways[0][2], *on_the_way))
            here = {"parameters": parameters, "state": state, "total": total}
            here["sent"] = self._sent(moving, keeps, keeping, stage, plan.accumulation)
            for name, value in here.items():
                most[name] = np.maximum(most[name], value)
        return {"world": plan.world, **most}

    def _sent(self, moving: _Rows, keeps: _Rows, keeping: Keeping, stage: int, micro_batches: Any) -> Any:
        """Bytes that a rank sends in a step, in every row."""
        kept = keeping._replace(accumulate=keeping.holds)
        passes = _sizes(moving.plan, ("zero", "sharding", "accumulation")), kept, stage
        if passes not in self._passing:
            whole = self._once.record(self._run._replace(batch=moving.plan.micro_batch))
            self._passing[passes] = sent_in_passes(whole, moving.plan, keeping, stage)
        step = _sizes(keeps.plan, ("accumulation",)), kept._replace(recompute="none"), stage
        if step not in self._shared:
            one = self._once.record(self._run._replace(batch=1))
            self._shared[step] = sent_for_weights(one, keeps.plan, keeping, stage)
        weights = self._shared[step]
        each = moving.of(self._passing[passes]) + keeps.of(weights.each)
        return each * micro_batches + keeps.of(weights.once)

    def _settled(self, plan: Plan, keeping: Keeping, stage: int) -> tuple[Any, Any, Any]:
        """Parameters, what stays from step to step, and what the step needs beside it."""
        key = _sizes(plan), keeping._replace(accumulate=keeping.holds), stage
        if key not in self._kept:
            holds = local(self._once.record(self._run._replace(batch=1)), plan, stage)
            self._kept[key] = (params(holds).stored, *settled(holds, keeping))
        return self._kept[key]

    def _way(self, plan: Plan, keeping: Keeping, stage: int, *, gathers: bool) -> list[tuple[Any, Any, Any]]:
        """Of each chunk the most in use on the way and what is saved; and what comes in of the whole stage."""
        key = _sizes(plan, () if gathers else ("zero", "sharding")), keeping._replace(accumulate=keeping.holds), stage
        if key not in self._ways:
            taken = local(self._once.record(self._run._replace(batch=plan.micro_batch)), plan, stage)
            comes_in = entering(taken, keeping)
            self._ways[key] = [(most, saved, comes_in) for most, saved in way(taken, keeping)]
        return self._ways[key]


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
