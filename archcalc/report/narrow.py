"""Tables that fit the terminal: heads fold, then words, then figures shorten, then columns move to a table below."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from textwrap import wrap

from archcalc.report.cells import width as places
from archcalc.units import short

GAP = 2  # spaces between two columns
HEAD_PADDING = 2  # that tabulate gives a column beyond its head
LEAST_WORDS = 16  # a column of words is not folded to less
_INTEGER = re.compile(r"( *[+-]?)(\d{1,3}(?:,\d{3})+)")
_BAR = re.compile(r"[█▏▎▍▌▋▊▉]*")


@dataclass(frozen=True)
class Grid:
    """A table's cells as text; `body` and `foot` are its rows above and below the line.

    `right` says which columns are set to the right, as figures are. The first `keys` columns tell rows apart; they are
    never shortened, and stand in each of several parts.
    """

    heads: tuple[str, ...]
    right: tuple[bool, ...]
    body: tuple[tuple[str, ...], ...]
    foot: tuple[tuple[str, ...], ...] = ()
    keys: int = 1

    @property
    def widths(self) -> list[int]:
        """What each column takes."""
        cells = [max(map(_width, column), default=0) for column in zip(*self.body, *self.foot, strict=True)]
        return [
            max(_width(head) + HEAD_PADDING, most)
            for head, most in zip(self.heads, cells or [0] * len(self.heads), strict=True)
        ]

    @property
    def width(self) -> int:
        """What the whole table takes."""
        return sum(self.widths) + GAP * (len(self.heads) - 1)


def narrowed(make: Callable[[frozenset[int]], Grid], width: int) -> list[Grid]:
    """A table in at most `width` places, where that is possible: one grid, or several that stand one below the other.

    `make` gives the table with the figures of some columns shortened. A table that has room is left as it is; what
    cannot be parted, such as a long word, stays whole.
    """
    whole = make(frozenset())
    if whole.width <= width:
        return [whole]
    widths = whole.widths
    figures = sorted(
        (column for column in range(whole.keys, len(widths)) if whole.right[column]), key=lambda at: (-widths[at], -at)
    )
    for columns in range(len(figures) + 1):
        grid = _fold_heads(make(frozenset(figures[:columns])))
        folded = _fold_words(grid, width)
        if folded.width <= width:
            return [folded]
    return _split(grid, width)


def brief(text: str) -> str:
    """A whole number in four digits: 1,076,543,210,000 is 1.077T. What that does not shorten stays as it is."""
    match = _INTEGER.fullmatch(text)
    if match is None:
        return text
    figure = match[1] + short(int(match[2].replace(",", "")))
    return figure if len(figure) < len(text) else text


def _width(cell: str) -> int:
    return max(map(places, cell.split("\n")))


def _fold_heads(grid: Grid) -> Grid:
    """No head is wider than the cells below it, but for its longest word."""
    widths = replace(grid, heads=("",) * len(grid.heads)).widths
    heads = tuple(_fold(head, most - HEAD_PADDING, "") for head, most in zip(grid.heads, widths, strict=True))
    return replace(grid, heads=heads)


def _fold_words(grid: Grid, width: int) -> Grid:
    """Columns of words folded, the widest first, until the table has room."""
    widths = grid.widths
    for column in sorted(range(len(widths)), key=lambda at: -widths[at]):
        excess = grid.width - width
        if excess > 0:
            grid = _fold_column(grid, column, max(widths[column] - excess, LEAST_WORDS))
    return grid


def _fold_column(grid: Grid, column: int, most: int) -> Grid:
    """A column of words on lines of at most `most` characters; one of figures or bars as it is."""
    if grid.right[column] or all(_BAR.fullmatch(row[column]) for row in (*grid.body, *grid.foot)):
        return grid
    return _with_column(grid, column, lambda cell: _fold(cell, most))


def _fold_sentences(grid: Grid, column: int, most: int) -> Grid:
    """What words there are among the figures of a column, on lines of at most `most` characters."""
    return _with_column(grid, column, lambda cell: _fold(cell, most, "") if _WORDS.match(cell) else cell)


_WORDS = re.compile(r"[A-Za-z_]{2,}.* ")


def _with_column(grid: Grid, column: int, change: Callable[[str], str]) -> Grid:
    body, foot = (
        tuple((*row[:column], change(row[column]), *row[column + 1 :]) for row in rows)
        for rows in (grid.body, grid.foot)
    )
    return replace(grid, body=body, foot=foot)


def _split(grid: Grid, width: int) -> list[Grid]:
    """Several tables, each with the keys and as many of the other columns as there is room for.

    A column without a head, such as a percentage, stays with the one before it.
    """
    half = width // 2 - GAP
    for column, right in enumerate(grid.right):
        grid = (_fold_sentences if right else _fold_column)(grid, column, half)
    widths = grid.widths
    keys = list(range(grid.keys))
    groups: list[list[int]] = []
    for column in range(grid.keys, len(widths)):
        if grid.heads[column] or not groups:
            groups.append([])
        groups[-1].append(column)
    own = taken = sum(widths[key] + GAP for key in keys) - GAP
    parts: list[list[int]] = [list(keys)]
    for group in groups:
        size = sum(GAP + widths[column] for column in group)
        if len(parts[-1]) > len(keys) and taken + size > width:
            parts.append(list(keys))
            taken = own
        parts[-1] += group
        taken += size
    return _told_once([_columns(grid, part) for part in parts])


def _told_once(parts: list[Grid]) -> list[Grid]:
    """A row below the line only in parts where it has a figure, or in the first where it has none."""

    def says(row: tuple[str, ...], part: Grid) -> bool:
        return any(row[part.keys :])

    silent = [not any(map(says, same, parts)) for same in zip(*(part.foot for part in parts), strict=True)]
    return [
        replace(
            part,
            foot=tuple(
                row for row, never in zip(part.foot, silent, strict=True) if says(row, part) or (never and at == 0)
            ),
        )
        for at, part in enumerate(parts)
    ]


def _columns(grid: Grid, chosen: list[int]) -> Grid:
    def part(row: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(row[at] for at in chosen)

    right = tuple(grid.right[at] for at in chosen)
    return Grid(part(grid.heads), right, tuple(map(part, grid.body)), tuple(map(part, grid.foot)), grid.keys)


def _fold(cell: str, most: int, indent: str = "  ") -> str:
    """A cell on lines of at most `most` characters; lines after the first are indented."""
    if _width(cell) <= most:
        return cell
    lead = cell[: len(cell) - len(cell.lstrip())]
    room = max(most - len(lead + indent), 1)
    lines = wrap(
        " ".join(piece for word in cell.split() for piece in _pieces(word, room)),
        max(most, 1),
        initial_indent=lead,
        subsequent_indent=lead + indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return "\n".join(lines)


def _pieces(word: str, most: int) -> list[str]:
    """A word in pieces of at most `most` characters that end at a dot; one without dots stays whole."""
    at = word.rfind(".", 0, most) + 1
    return [word] if len(word) <= most or not at else [word[:at], *_pieces(word[at:], most)]
