"""Grids of plans: one model under many plans, counted as arrays by the functions that count one plan.

Rows that differ in words are counted apart, what they recompute aside, and so are stages that hold other layers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from archcalc.arguments import instance, size
from archcalc.errors import Invalid, Problem, shown
from archcalc.plan.description import HOW, MOST_STAGES, NEEDS, Plan
from archcalc.plan.rules import RULES, Rule, Subject
from archcalc.shapes.planrows import NUMBERS, Counter, Rows, groups
from archcalc.spec.model import Model
from archcalc.tape.precision import Keeping
from archcalc.tape.run import MEMORY_KERNEL, Run

RECIPE = ("precision", "optimizer", "recompute")
"""Fields of a Keeping that may be varied too."""
WORDS = (
    "sequence_parallel",
    "schedule",
    "chunks",
    "etp",
    "zero",
    "sharding",
    "gathered_inputs",
    "recompute_layers",
    *RECIPE,
)
_AXES = ("tp", "cp", "ep", "accumulation")


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
    """Count a model under every plan of a grid: `vary` maps fields of a plan to their values.

    `run` gives the sequence and the attention; the last field varies fastest. `columns` are names of COLUMNS. Raises
    Invalid for a field or a column that is not there.
    """
    import numpy as np

    instance("sweep_plans", "plan", plan, Plan)
    for name in vary:
        if name not in (*NUMBERS, *WORDS):
            known = ", ".join((*NUMBERS, *WORDS))
            raise Invalid(Problem("sweep_plans", "is not a field of a plan", name, suggestion=known))
        for value in vary[name] if name in NUMBERS else ():
            size("sweep_plans", name, value)
    for name in columns:
        if name not in COLUMNS:
            fix = f"one of {', '.join(COLUMNS)}"
            raise Invalid(Problem("--columns", "unknown column of a plan", value=shown(name), suggestion=fix))
    run = run.by_default(MEMORY_KERNEL)
    shape = tuple(len(values) for values in vary.values())
    at = dict(zip(vary, np.indices(shape, dtype=np.int32).reshape(len(shape), -1), strict=True))
    grid = _Grid({name: list(values) for name, values in vary.items()}, at, int(np.prod(shape, dtype=np.int64)))
    possible, left_out = _possible(model, grid, plan, run, keeping)
    grid = _Grid(grid.values, {name: index[possible] for name, index in at.items()}, int(possible.sum()))
    found = {name: np.zeros(grid.rows) for name in columns}
    counter = Counter(model, run, set(columns))
    with np.errstate(divide="ignore", invalid="ignore"):  # of sorts of rows that no plan is of
        for at, rows, kept in _alike(grid, plan, keeping):
            for name, values in counter.count(rows, kept).items():
                found[name][at] = values
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


def _possible(model: Model, grid: _Grid, plan: Plan, run: Run, keeping: Keeping) -> tuple[Any, dict[str, int]]:
    """Which rows break no rule; and how many are left out for each. A rule looks at each sort of rows once."""
    import numpy as np
    from pydantic import ValidationError

    possible = np.ones(grid.rows, dtype=bool)
    left_out: dict[str, int] = {}
    subject = Subject(model, run, keeping)
    alone = plan.model_dump(by_alias=True)

    def contradiction(fields: dict[str, Any]) -> str | None:
        """What the description of a plan says of fields that contradict each other."""
        one = plan.model_copy(update={name: fields[name] for name in grid.at})
        vain = [name for name in HOW if name not in grid.at and not NEEDS[name].met(one)]
        try:
            Plan.model_validate({name: value for name, value in fields.items() if name not in vain})
        except ValidationError as error:
            return str(error.errors(include_url=False)[0]["msg"])
        return None

    def broken(rule: Rule, fields: dict[str, Any]) -> str | None:
        subject.keeping = keeping._replace(**{name: fields[name] for name in RECIPE if name in grid.at})
        found = next(rule.find(plan.model_copy(update={name: fields[name] for name in grid.at}), subject), None)
        return None if found is None else f"{found.field} {found.what}"

    def strike(sorts: Mapping[str, Any], why: Callable[[dict[str, Any]], str | None]) -> None:
        first, sort = groups(list(sorts.values()), grid.rows)
        reasons = [why({**alone, **grid.row(index)}) for index in first]
        for reason in dict.fromkeys(one for one in reasons if one):
            wrong = np.array([one == reason for one in reasons])[sort] & possible
            if wrong.any():
                left_out[reason] = left_out.get(reason, 0) + int(wrong.sum())
                possible[wrong] = False

    words = {name: index for name, index in grid.at.items() if name not in _ANY}
    strike(words | _few(grid, plan), contradiction)
    for rule in RULES:
        strike({name: grid.at[name] for name in rule.reads if name in grid.at}, partial(broken, rule))
    return possible, left_out


def _few(grid: _Grid, plan: Plan) -> dict[str, Any]:
    """Of degrees that other fields need to be at least 2, whether they are; stages may be too many, too."""
    found = {"tp": grid.column("tp") > 1} if "tp" in grid.at else {}
    if "pp" in grid.at and plan.stage_layers is None and "stage_layers" not in grid.at:
        stages = grid.column("pp")
        found["pp"] = (stages > 1) + (stages > MOST_STAGES) * 1
    return {name: sort.astype(int) for name, sort in found.items()}


_ANY = ("dp", "cp", "ep", "micro_batch", "accumulation", "precision", "optimizer")
"""Fields that contradict no other by themselves."""


def _alike(grid: _Grid, plan: Plan, keeping: Keeping) -> Iterator[tuple[Any, Rows, Keeping]]:
    """Rows whose words are alike, and that have several ranks on the same axes: the numbers of the plan as arrays.

    They may differ in what they recompute.
    """
    import numpy as np

    words = [name for name in grid.at if name in WORDS and name != "recompute"]
    several = [(grid.column(name) > 1).astype(np.int32) for name in _AXES if name in grid.at]  # one rank is no axis
    first, sort = groups([*(grid.at[name] for name in words), *several], grid.rows)
    columns = {name: grid.column(name) for name in grid.at if name in NUMBERS}
    for group, index in enumerate(first if grid.rows else ()):
        rows = np.flatnonzero(sort == group)
        fixed = {name: value for name, value in grid.row(index).items() if name in words}
        kept = keeping._replace(**{name: fixed[name] for name in RECIPE if name in fixed})
        one = plan.model_copy(update={**fixed, **{name: column[rows] for name, column in columns.items()}})
        accumulates = bool(np.any(np.asarray(one.accumulation) > 1))
        kinds, kind = (keeping.recompute,), np.zeros(len(rows), dtype=np.int32)
        if fixed.get("recompute_layers"):
            kinds = ("full",)
        elif "recompute" in grid.at:
            kinds, kind = tuple(grid.values["recompute"]), grid.at["recompute"][rows]
        kept = kept._replace(recompute="none", accumulate=accumulates or kept.accumulate)
        yield rows, Rows(one, kinds, kind), kept
