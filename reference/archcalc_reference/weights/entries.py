"""A stored tensor and the parameters that stand in it.

Every layout is a list of pieces, rows of our parameters one after the other: a matrix as it is, query, key and value
side by side, the same head by head, one norm of many heads in a tensor for each. What is stored as (in, out) is
transposed.
"""

from __future__ import annotations

from typing import NamedTuple

from archcalc.huggingface.headers import Shape as Shape  # noqa: PLC0414  (as mypy reads an export)


class Piece(NamedTuple):
    """Rows `start` to `stop` of a parameter of ours."""

    parameter: str
    start: int
    stop: int

    @property
    def rows(self) -> int:
        return self.stop - self.start


class Entry(NamedTuple):
    """A stored tensor: its name, its shape, and the rows of our parameters that it holds one after the other.

    Of `stacked` ones the first axis is the experts', and each expert has all its parts: one after the other, or
    `woven`, a row of each in turn. Where it is transposed, the matrices are.
    """

    name: str
    shape: Shape
    pieces: tuple[Piece, ...]
    transposed: bool = False
    stacked: bool = False
    woven: bool = False

    @property
    def parameters(self) -> tuple[str, ...]:
        """The parameters of ours that it holds, or parts of."""
        return tuple(dict.fromkeys(piece.parameter for piece in self.pieces))

    @property
    def upright(self) -> Shape:
        """Its shape with matrices as (out, in)."""
        return _turned(self.shape) if self.transposed else self.shape


def _turned(shape: Shape) -> Shape:
    return (*shape[:-2], *shape[:-3:-1])


def plain(name: str, parameter: str, shape: Shape, *, transposed: bool = False) -> Entry:
    """A stored tensor that is one whole parameter."""
    rows = shape[0] if shape else 1
    return Entry(name, _turned(shape) if transposed else shape, (Piece(parameter, 0, rows),), transposed)


def side_by_side(name: str, parts: dict[str, Shape], blocks: int, *, transposed: bool = False) -> Entry:
    """A stored tensor of several parameters: the first of `blocks` equal blocks of rows of each, then the second.

    Raises ValueError where a part's rows are not so many blocks.
    """
    if any(shape[0] % blocks for shape in parts.values()):
        raise ValueError(f"{name}: {blocks} blocks of {[shape[0] for shape in parts.values()]} rows")
    rows, rest = sum(shape[0] for shape in parts.values()), next(iter(parts.values()))[1:]
    whole = (rows, *rest)
    return Entry(name, _turned(whole) if transposed else whole, _blocks(parts, blocks), transposed)


def stacked(name: str, parts: dict[str, Shape], *, transposed: bool = False, woven: bool = False) -> Entry:
    """A stored tensor of several parameters of experts: of each expert all its parts."""
    experts, _, *rest = next(iter(parts.values()))
    whole = (experts, sum(shape[1] for shape in parts.values()), *rest)
    turned = transposed and bool(rest)
    return Entry(name, _turned(whole) if turned else whole, _blocks(parts, experts), turned, stacked=True, woven=woven)


def _blocks(parts: dict[str, Shape], blocks: int) -> tuple[Piece, ...]:
    return tuple(
        Piece(parameter, block * (shape[0] // blocks), (block + 1) * (shape[0] // blocks))
        for block in range(blocks)
        for parameter, shape in parts.items()
    )


def by_row(name: str, parameter: str, shape: Shape) -> list[Entry]:
    """A stored tensor for each row of a parameter; {h} in the name is the row."""
    return [Entry(name.format(h=h), shape[1:], (Piece(parameter, h, h + 1),)) for h in range(shape[0])]
