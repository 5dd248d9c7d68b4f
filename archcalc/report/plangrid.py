"""The sheet of a grid of plans: a row for each that breaks no rule, what was left out."""

from __future__ import annotations

from typing import Any

from archcalc.plan.idle import idle
from archcalc.report.grid import MOST_ROWS
from archcalc.report.memory import training_lines
from archcalc.report.ranks import plan_lines, plan_numbers, plan_payload
from archcalc.report.sheet import Bytes, Cell, Fields, Rows, Sheet, Table, caveats, figures, notes, payload
from archcalc.shapes.plans import COLUMNS, PlanGrid
from archcalc.spec.catalogue import Found
from archcalc.units import grouped, several


def plan_grid_sheet(found: Found, grid: PlanGrid) -> Sheet:
    """The plans in the order of the grid, the first MOST_ROWS of them in a table."""
    names = (*grid.fields, *grid.counted)
    rows = Rows(names, grid.rows)
    more = len(grid) - MOST_ROWS
    below = (
        ("Left out", left_out(grid)),
        ("Rows", (f"{several(more, 'more row')}; --format csv has all of them",) if more > 0 else ()),
        ("Columns", tuple(f"{name}: {COLUMNS[name][1]}" for name in grid.counted)),
        ("Plan", ("what is not varied is that of", *_lines(found, grid))),
        ("Counted", training_lines(found.model, grid.run, grid.keeping, grid.fields)),
        *caveats(found),
    )
    return Sheet(
        title=f"{found.name}: {several(len(grid), 'plan')}, varying {' x '.join(grid.fields)}",
        blocks=(
            Table(figures(*grid.fields, *grid.counted), tuple(_cells(grid)), keys=len(grid.fields)),
            Fields(tuple(row for row in below if row[1])),
        ),
        payload=payload(
            found.name,
            **({"plan": plan_numbers(grid.plan)} if _decides(grid) else plan_payload(grid.plan, found.model)),
            columns=[{"name": name, "unit": COLUMNS[name][0], "meaning": COLUMNS[name][1]} for name in grid.counted],
            rows=rows,
            left_out=[{"reason": reason, "plans": plans} for reason, plans in grid.left_out.items()],
            conventions={
                "sequence": grid.run.sequence,
                "attention": grid.run.kernel,
                "dropout": grid.run.dropout,
                **{name: value for name, value in grid.keeping._asdict().items() if name not in _said(grid)},
            },
            **notes(found),
        ),
        records=rows,
    )


def _lines(found: Found, grid: PlanGrid) -> tuple[str, ...]:
    """The plan that is varied; what it asks for in vain only where all rows do."""
    lines = plan_lines(grid.plan, found.model)
    vain = idle(grid.plan, found.model) if _decides(grid) else ()
    return tuple(line for line in lines if line not in vain)


def _decides(grid: PlanGrid) -> bool:
    """Whether a field is varied that decides what others are for."""
    return not {"dp", "cp", "pp", "zero", "sequence_parallel", "etp"}.isdisjoint(grid.fields)


def left_out(grid: PlanGrid) -> tuple[str, ...]:
    """How many plans are left out and why, where some are."""
    gone = sum(grid.left_out.values())
    if not gone:
        return ()
    first = f"{grouped(gone)} of {several(len(grid) + gone, 'plan')}"
    return (first, *(f"{grouped(count)}: {reason}" for reason, count in grid.left_out.items()))


def _said(grid: PlanGrid) -> set[str]:
    """What rows say of how numbers are kept."""
    return {"recompute"} & {*grid.fields} | ({"accumulate"} if "accumulation" in grid.fields else set())


def _cells(grid: PlanGrid) -> list[tuple[Cell, ...]]:
    """The first rows, with bytes as bytes and words as a spec has them."""
    sizes = [COLUMNS[name][0] == "bytes" for name in grid.counted]
    found = []
    for row in grid.rows(MOST_ROWS):
        told, counted = row[: len(grid.fields)], row[len(grid.fields) :]
        numbers = (Bytes(n) if is_bytes else n for n, is_bytes in zip(counted, sizes, strict=True))
        found.append((*map(_told, told), *numbers))
    return found


def _told(value: Any) -> Cell:
    return str(value).lower() if isinstance(value, bool) or value is None else value
