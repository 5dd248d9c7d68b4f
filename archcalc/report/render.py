"""A sheet in the format asked for."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from math import isfinite
from textwrap import wrap
from typing import Any

from archcalc.errors import printable
from archcalc.report.narrow import Grid, brief, narrowed
from archcalc.report.sheet import Cell, Fields, Format, Rows, Sheet, Table
from archcalc.units import grouped, shape

NARROWEST, WIDEST = 80, 100
LABEL = 11


def render(sheet: Sheet, form: Format, width: int = WIDEST, *, style: bool = False) -> str:
    """The sheet as text that ends with a newline.

    `width` bounds the prose of a table between NARROWEST and WIDEST; `style` allows escapes for a terminal.
    """
    if form == "json":
        return _json(_finite(sheet.payload)) + "\n"
    if form == "csv":
        return _csv(sheet)
    if form == "markdown":
        return "\n\n".join([f"## {sheet.title}", *_markdown(sheet)]) + "\n"
    width = max(NARROWEST, min(width, WIDEST))
    title = "\n".join(wrap(sheet.title, width))
    return "\n\n".join([_bold(title) if style else title, *_text(sheet, width, style=style)]) + "\n"


def _bold(text: str) -> str:
    return f"\x1b[1m{text}\x1b[0m"


def _cell(cell: Cell) -> str:
    if cell is None:
        return ""
    if isinstance(cell, int):
        return grouped(cell)
    return shape(cell) if isinstance(cell, tuple) else printable(cell)


def _grid(table: Table, shortened: frozenset[int] = frozenset()) -> Grid:
    """The table's cells as text; figures in `shortened` columns have four digits."""

    def row(cells: tuple[Cell, ...]) -> tuple[str, ...]:
        texts = map(_cell, cells)
        return tuple(brief(text) if at in shortened else text for at, text in enumerate(texts))

    foot = () if table.total is None else (table.total, *table.more)
    heads, right = zip(*table.columns, strict=True)
    return Grid(heads, right, tuple(map(row, table.rows)), tuple(map(row, foot)))


def _tabulate(grid: Grid, form: str) -> str:
    from tabulate import SEPARATING_LINE, tabulate

    rows: list[Any] = [*grid.body, *([SEPARATING_LINE] if grid.foot and form == "simple" else []), *grid.foot]
    if form == "pipe":
        rows = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    align = ["right" if right else "left" for right in grid.right]
    text = tabulate(rows, grid.heads, tablefmt=form, colalign=align, disable_numparse=True, preserve_whitespace=True)
    return "\n".join(line.rstrip() for line in text.splitlines())


def _text(sheet: Sheet, width: int, *, style: bool) -> Iterator[str]:
    for block in sheet.blocks:
        if isinstance(block, Fields):
            yield "\n".join(line for label, paragraphs in block.rows for line in _field(label, paragraphs, width))
        else:
            title = [_bold(block.title) if style else block.title] if block.title else []
            tables = [_tabulate(grid, "simple") for grid in narrowed(partial(_grid, block), width)]
            yield "\n".join([*title, "\n\n".join(tables)])


def _field(label: str, paragraphs: tuple[str, ...], width: int) -> Iterator[str]:
    """A label, and its paragraphs wrapped beside it."""
    lead = label.ljust(LABEL)
    for paragraph in map(printable, paragraphs):
        yield from wrap(paragraph, width, initial_indent=lead, subsequent_indent=" " * LABEL, break_on_hyphens=False)
        lead = " " * LABEL


def _markdown(sheet: Sheet) -> Iterator[str]:
    for block in sheet.blocks:
        if isinstance(block, Fields):
            for label, paragraphs in block.rows:
                yield f"**{label}**  \n" + "  \n".join(map(printable, paragraphs))
        else:
            yield "\n\n".join([*([f"### {block.title}"] if block.title else []), _tabulate(_grid(block), "pipe")])


def _finite(value: Any) -> Any:
    """JSON knows neither NaN nor infinity: null stands for them."""
    if isinstance(value, float):
        return value if isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    return [_finite(one) for one in value] if isinstance(value, list | tuple) else value


def _json(payload: dict[str, Any]) -> str:
    """Indented, but Rows stand one on a line."""
    import json

    rows = payload.get("rows")
    if not isinstance(rows, Rows):
        return json.dumps(payload, indent=2, ensure_ascii=False)
    lines = (
        json.dumps(list(rows.make())).replace("[[", "[\n    [").replace("], [", "],\n    [").replace("]]", "]\n  ]")
    )
    frame = json.dumps({**payload, "rows": []}, indent=2, ensure_ascii=False)
    return frame.replace('"rows": []', f'"rows": {lines}', 1)  # a text's own quotes have a backslash


def _csv(sheet: Sheet) -> str:
    import csv
    import io

    out = io.StringIO()
    records = sheet.records
    if isinstance(records, Rows):
        lines = csv.writer(out, lineterminator="\n")
        lines.writerow(records.heads)
        lines.writerows(records.make())
    elif records:
        writer = csv.DictWriter(out, list(records[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(records)
    return out.getvalue()
