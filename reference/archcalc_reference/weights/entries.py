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
    """A stored tensor: its name, its shape, and the rows of our parameters that it holds one after the other."""

    name: str
    shape: Shape
    pieces: tuple[Piece, ...]
    transposed: bool = False

    @property
    def parameters(self) -> tuple[str, ...]:
        """The parameters of ours that it holds, or parts of."""
        return tuple(dict.fromkeys(piece.parameter for piece in self.pieces))


def plain(name: str, parameter: str, shape: Shape, *, transposed: bool = False) -> Entry:
    """A stored tensor that is one whole parameter."""
    rows = shape[0] if shape else 1
    return Entry(name, shape[::-1] if transposed else shape, (Piece(parameter, 0, rows),), transposed)


def side_by_side(
    name: str, parts: dict[str, Shape], blocks: int, *, transposed: bool = False, stacked: bool = False
) -> Entry:
    """A stored tensor of several parameters: the first of `blocks` equal blocks of rows of each, then the second.

    Of what is `stacked`, matrices of experts, a block is one of them with the rows of all its parts. Raises ValueError where a part's rows are not so many blocks.
    """
    if any(shape[0] % blocks for shape in parts.values()):
        raise ValueError(f"{name}: {blocks} blocks of {[shape[0] for shape in parts.values()]} rows")
    pieces = [
        Piece(parameter, block * (shape[0] // blocks), (block + 1) * (shape[0] // blocks))
        for block in range(blocks)
        for parameter, shape in parts.items()
    ]
    rows, rest = sum(shape[0] for shape in parts.values()), next(iter(parts.values()))[1:]
    whole = (rows, *rest)
    if stacked:
        whole = (blocks, sum(shape[1] for shape in parts.values()), *rest[1:])
    return Entry(name, whole[::-1] if transposed else whole, tuple(pieces), transposed)


def by_row(name: str, parameter: str, shape: Shape) -> list[Entry]:
    """A stored tensor for each row of a parameter; {h} in the name is the row."""
    return [Entry(name.format(h=h), shape[1:], (Piece(parameter, h, h + 1),)) for h in range(shape[0])]
