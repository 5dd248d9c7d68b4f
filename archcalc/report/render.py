"""A sheet in the format asked for."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial
from itertools import islice, zip_longest
from textwrap import wrap
from typing import Any

from archcalc.errors import printable
from archcalc.escaping import csv_text, json_text, markdown, markdown_cell, markdown_words
from archcalc.report.cells import width as places
from archcalc.report.narrow import Grid, brief, narrowed
from archcalc.report.sheet import Bytes, Cell, Fields, Folded, Format, Rows, Sheet, Table
from archcalc.units import binary, grouped, shape

NARROWEST, WIDEST = 80, 100
LABEL = 11


def render(sheet: Sheet, form: Format, width: int = WIDEST, *, style: bool = False) -> str:
    """The sheet as text that ends with a newline.

    `width` bounds the prose of a table between NARROWEST and WIDEST; `style` allows escapes for a terminal.
    """
    return "".join(rendered(sheet, form, width, style=style))


def rendered(sheet: Sheet, form: Format, width: int = WIDEST, *, style: bool = False) -> Iterator[str]:
    """The same in pieces, as they are made: a million rows are never in memory together."""
    if form == "json":
        yield from _json(sheet.payload)
    elif form == "csv":
        yield from _csv(sheet)
    elif form == "markdown":
        yield "\n\n".join([f"## {markdown_words(sheet.title)}", *_markdown(sheet.review or sheet.blocks)]) + "\n"
    else:
        width = max(NARROWEST, min(width, WIDEST))
        title = "\n".join(wrap(printable(sheet.title), width))
        yield "\n\n".join([_bold(title) if style else title, *_text(sheet, width, style=style)]) + "\n"


def _bold(text: str) -> str:
    return f"\x1b[1m{text}\x1b[0m"


def _cell(cell: Cell) -> str:
    if cell is None:
        return ""
    if isinstance(cell, int):
        return grouped(cell)
    if isinstance(cell, Bytes):
        return f"{cell.n:+,}" if cell.signed else grouped(cell.n)
    return shape(cell) if isinstance(cell, tuple) else printable(cell)


def _short(cell: Cell) -> str:
    """A cell whose figure has four digits: of bytes in binary units."""
    if isinstance(cell, Bytes):
        return ("+" if cell.signed and cell.n > 0 else "") + binary(cell.n)
    return brief(_cell(cell))


def _grid(table: Table, shortened: frozenset[int] = frozenset()) -> Grid:
    """The table's cells as text; figures in `shortened` columns have four digits."""

    def row(cells: tuple[Cell, ...]) -> tuple[str, ...]:
        return tuple(_short(cell) if at in shortened else _cell(cell) for at, cell in enumerate(cells))

    foot = () if table.total is None else (table.total, *table.more)
    heads = tuple(printable(column.head) for column in table.columns)
    right = tuple(column.right for column in table.columns)
    return Grid(heads, right, tuple(map(row, table.rows)), tuple(map(row, foot)), table.keys)


def _tabulate(grid: Grid, form: str) -> str:
    from tabulate import SEPARATING_LINE, tabulate

    hidden: list[str] = []
    if form == "simple":
        grid = _masked(grid, hidden)
    rows: list[Any] = [*grid.body, *([SEPARATING_LINE] if grid.foot and form == "simple" else []), *grid.foot]
    if form == "pipe":
        rows = [[markdown_cell(cell) for cell in row] for row in rows]
    heads = [markdown_cell(head) if form == "pipe" else head for head in grid.heads]
    align = ["right" if right else "left" for right in grid.right]
    text = tabulate(rows, heads, tablefmt=form, colalign=align, disable_numparse=True, preserve_whitespace=True)
    rest = iter(hidden)
    return "\n".join(re.sub(f"{_MASK}+", lambda _: next(rest), line).rstrip() for line in text.split("\n"))


_MASK = "\ue000"  # a character of no meaning


def _masked(grid: Grid, hidden: list[str]) -> Grid:
    """The grid with as many masks as places in each line that takes more or fewer places than it has characters.

    tabulate counts characters. What is masked is added to `hidden`, in the order in which it is printed.
    """

    def mask(line: str) -> str:
        if line.isascii() or (places(line) == len(line) and _MASK not in line):
            return line
        hidden.append(line)
        return _MASK * max(places(line), 1)

    def row(cells: tuple[str, ...]) -> tuple[str, ...]:
        if all(map(str.isascii, cells)):
            return cells
        lines = zip_longest(*(cell.split("\n") for cell in cells))
        columns = zip(*([None if line is None else mask(line) for line in one] for one in lines), strict=True)
        return tuple("\n".join(line for line in column if line is not None) for column in columns)

    return replace(grid, heads=row(grid.heads), body=tuple(map(row, grid.body)), foot=tuple(map(row, grid.foot)))


def _text(sheet: Sheet, width: int, *, style: bool) -> Iterator[str]:
    for block in sheet.blocks:
        if isinstance(block, Fields):
            yield "\n".join(line for label, paragraphs in block.rows for line in _field(label, paragraphs, width))
        else:
            above = printable(block.title)
            title = [_bold(above) if style else above] if above else []
            tables = [_tabulate(grid, "simple") for grid in narrowed(partial(_grid, block), width)]
            yield "\n".join([*title, "\n\n".join(tables)])


def _field(label: str, paragraphs: tuple[str, ...], width: int) -> Iterator[str]:
    """A label, and its paragraphs wrapped beside it."""
    lead = printable(label).ljust(LABEL - 1) + " "
    for paragraph in map(printable, paragraphs):
        yield from wrap(paragraph, width, initial_indent=lead, subsequent_indent=" " * LABEL, break_on_hyphens=False)
        lead = " " * LABEL


def _markdown(blocks: Iterable[Table | Fields | Folded]) -> Iterator[str]:
    for block in blocks:
        if isinstance(block, Folded):
            inside = "\n\n".join(_markdown(block.blocks))
            yield f"<details><summary>{markdown_words(block.title)}</summary>\n\n{inside}\n\n</details>"
        elif isinstance(block, Fields):
            for label, paragraphs in block.rows:
                yield f"**{markdown_words(label)}**  \n" + "  \n".join(map(markdown, filter(str.strip, paragraphs)))
        else:
            above = [f"### {markdown_words(block.title)}"] if block.title else []
            yield "\n\n".join([*above, _tabulate(_grid(block), "pipe")])


_ROWS = 4_096  # that are put in words at a time
_LONG = 1_000


def _json(payload: dict[str, Any]) -> Iterator[str]:
    """Indented, but Rows stand one on a line, and so do the values of a long list, which are written faster then."""
    before = "{"
    for key, value in payload.items():
        yield f"{before}\n  {json_text(key)}: "
        before = ","
        if isinstance(value, Rows) or (isinstance(value, list) and len(value) > _LONG):
            yield from _lines(value.make() if isinstance(value, Rows) else value)
        else:
            yield json_text(value, indent=2).replace("\n", "\n  ")  # a text has no end of line that is not escaped
    yield "{}\n" if before == "{" else "\n}\n"


def _lines(values: Iterable[Any]) -> Iterator[str]:
    comma = "[\n    "
    for some in _pieces(values):
        yield comma + ",\n    ".join(map(json_text, some))
        comma = ",\n    "
    yield "[]" if comma[0] == "[" else "\n  ]"


def _csv(sheet: Sheet) -> Iterator[str]:
    """Rows under heads; every text without what a terminal might obey."""
    import csv
    import io

    records = sheet.records
    if isinstance(records, Rows):
        heads, rows = records.heads, records.make()
    else:
        heads = tuple(records[0]) if records else ()
        rows = (tuple(record.get(head, "") for head in heads) for record in records)
    if not heads:
        return
    out = io.StringIO()
    lines = csv.writer(out, lineterminator="\n")
    lines.writerow(map(csv_text, heads))
    yield out.getvalue()
    for some in _pieces(rows):
        out.seek(0)
        out.truncate()
        lines.writerows(map(csv_text, row) for row in some)
        yield out.getvalue()


def _pieces(rows: Iterable[Any]) -> Iterator[list[Any]]:
    """Rows, some at a time."""
    rows = iter(rows)
    while some := list(islice(rows, _ROWS)):
        yield some
