"""The sheet of a sweep: a row for each shape, what followed, what was left out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from archcalc.counts.quantities import QUANTITIES
from archcalc.report.sheet import (
    Bytes,
    Cell,
    Fields,
    Rows,
    Sheet,
    Table,
    caveats,
    figures,
    kept_words,
    kernel_words,
    notes,
    payload,
)
from archcalc.shapes.grid import Grid
from archcalc.tape.legend import Size
from archcalc.units import grouped, several

MOST_ROWS = 50
_FIGURES = "computed in float64: exact below 2^53, to within 1e-12 above"


def grid_sheet(grid: Grid) -> Sheet:
    """The shapes in the order of the grid, the first MOST_ROWS of them in a table."""
    rows = Rows(tuple(grid.columns), grid.rows)
    varied = " x ".join(axis.name for axis in grid.axes)
    found = grid.found
    above = (("Adjusted", tuple(dict.fromkeys(map(str, grid.followed)))), ("Left out", left_out(grid)))
    more = len(grid) - MOST_ROWS
    below = (
        ("Rows", (f"{several(more, 'more row')}; --format csv has all of them",) if more > 0 else ()),
        ("Columns", tuple(f"{name}: {column.meaning}" for name, column in grid.columns.items() if name in QUANTITIES)),
        ("Counted", (_run(grid), _FIGURES)),
    )
    table = Table(figures(*grid.columns), tuple(_cells(grid)), keys=len(grid.axes))
    return Sheet(
        title=f"{found.name}: {several(len(grid), 'shape')}, varying {varied}, each at {_pass(grid)}",
        blocks=(
            *_fields(above),
            *([table] if len(grid) else []),
            Fields((*(row for row in below if row[1]), *caveats(found))),
        ),
        payload=payload(
            found.name,
            columns=[
                {"name": name, "unit": column.unit, "meaning": column.meaning} for name, column in grid.columns.items()
            ],
            rows=rows,
            followed=[step._asdict() for step in grid.followed],
            left_out=[{"reason": reason, "shapes": shapes} for reason, shapes in grid.left_out.items()],
            conventions=_conventions(grid),
            **notes(found),
        ),
        records=rows,
    )


def _cells(grid: Grid) -> Iterator[tuple[Cell, ...]]:
    """The first rows, with bytes as bytes."""
    sizes = [column.unit == "bytes" for column in grid.columns.values()]
    for row in grid.rows(MOST_ROWS):
        yield tuple(Bytes(n) if is_bytes else n for n, is_bytes in zip(row, sizes, strict=True))


def _fields(rows: tuple[tuple[str, tuple[str, ...]], ...]) -> tuple[Fields, ...]:
    """A block of what there is to say, none where there is nothing."""
    said = tuple(row for row in rows if row[1])
    return (Fields(said),) if said else ()


def reasons(grid: Grid) -> str:
    """Why shapes are left out, and how many for each reason."""
    return "; ".join(f"{grouped(count)} where {reason}" for reason, count in grid.left_out.items())


def left_out(grid: Grid) -> tuple[str, ...]:
    """How many shapes are left out and why, where some are."""
    if not grid.left_out:
        return ()
    gone = sum(grid.left_out.values())
    shapes = len(grid) + gone
    return (f"{grouped(gone)} of {several(shapes, 'shape')}: {reasons(grid)}",)


def _pass(grid: Grid) -> str:
    """The pass that is counted, with the name of what is varied in it."""
    sizes = {name: _size(grid, name) for name in ("batch", "sequence")}
    batch, sequence = (grouped(n) if isinstance(n, int) else n for n in sizes.values())
    return f"{batch} x {sequence} tokens"


def _run(grid: Grid) -> str:
    """How it is counted."""
    asked = grid.asked
    return f"{kernel_words(asked)}, causal full; {kept_words(asked)}"


def _size(grid: Grid, name: str) -> Size:
    """A size of the run: a number, or the name of what it is in each row."""
    n = getattr(grid.asked.work, name)
    if not hasattr(n, "dtype"):
        return n
    return "batch" if name == "batch" else "seq" if "seq" in grid.columns else "context_length"


def _conventions(grid: Grid) -> dict[str, Any]:
    return {
        "batch": _size(grid, "batch"),
        "sequence": _size(grid, "sequence"),
        "attention": grid.asked.kernels,
        "for": grid.asked.purpose,
        **grid.asked.keeping._asdict(),
        "causal": grid.asked.work.causal,
        "figures": _FIGURES,
    }
