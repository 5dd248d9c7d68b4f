"""The weights of a pass and the parts that they play in it, told by the tapes alone: no size is looked at."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

from archcalc.errors import TapeError
from archcalc.spec.shared import ROOT
from archcalc.tape.legend import Mask, Size, volume, where
from archcalc.tape.ops import Op, Weight
from archcalc.tape.passes import Segment
from archcalc.tape.recording import Tape


class Matrices(NamedTuple):
    """Alike matrices of a category: the shape of one, and how many."""

    rows: Size
    columns: Size
    matrices: Size
    parameters: Size


class Use(NamedTuple):
    """A weight in one of its parts; `again` where it has played another part before: a tied table is stored once."""

    weight: Weight
    op: Op
    segment: Segment
    again: bool
    there: Mask = True

    @property
    def times(self) -> Size:
        """How many such weights there are: one for each layer of the segment, unless layers share it."""
        return self.segment.repeat if "{i}" in self.weight.path else where(self.there, 1)

    @property
    def parameters(self) -> Size:
        return volume(self.weight.labels, self.segment.env) * self.times

    @property
    def active(self) -> Size:
        """What one token meets of a weight of experts, which are stored once for each."""
        stored, met, _ = self.weight.met
        return (
            volume((met if label == stored else label for label in self.weight.labels), self.segment.env) * self.times
        )

    @property
    def matrices(self) -> Matrices:
        """It as matrices of the tally. A token's vector is drawn as a column; a table stores it as a row."""
        env = self.segment.env
        rows, columns = (volume(axis, env) for axis in self.weight.matrix[:: -1 if self.op.kind == "lookup" else 1])
        return Matrices(rows, columns, volume(self.weight.each, env) * self.times, self.parameters)


def weight_uses(segments: Sequence[Segment]) -> Iterator[Use]:
    """Every weight in the order of the forward pass, once for each part that it plays."""
    there = where_used(segments)
    for position, op, weight, again in played_on(tapes_of(segments)):
        yield Use(weight, op, segments[position], again, there.get(weight.path, True))


class Played(NamedTuple):
    """A part that a weight plays: in which segment, by which op, and whether it has played another before."""

    position: int
    op: Op
    weight: Weight
    again: bool


Tapes = tuple[tuple[Tape, int], ...]


def tapes_of(segments: Iterable[Segment]) -> Tapes:
    """The tapes, each with how many ops are on it: what is known of them is known of all models with these."""
    return tuple((segment.tape, len(segment.tape.ops)) for segment in segments)


@lru_cache(512)
def played_on(tapes: Tapes) -> tuple[Played, ...]:
    """The parts that the weights of these tapes play, one of each. No size is looked at."""
    parts: dict[tuple[str, int | None], set[str]] = {}
    shared: dict[str, tuple[tuple[str, ...], ...]] = {}
    found: list[Played] = []
    for position, (tape, _) in enumerate(tapes):
        for op, weight in tape.weights:
            own = "{i}" in weight.path
            if not own and shared.setdefault(weight.path, weight.stored) != weight.stored:
                raise TapeError(f"{weight.path}: stored once and used with two shapes")
            played = parts.setdefault((weight.path, position if own else None), set())
            if weight.part not in played:
                found.append(Played(position, op, weight, bool(played)))
                played.add(weight.part)
    return tuple(found)


def where_used(segments: Sequence[Segment]) -> dict[str, Mask]:
    """Where the weights of shared blocks are used at all: of arrays a pattern may be longer than the group."""
    found: dict[str, Mask] = {}
    for position, path in _shared(tapes_of(segments)):
        found[path] = found.get(path, False) | segments[position].there
    return found


@lru_cache(512)
def _shared(tapes: Tapes) -> tuple[tuple[int, str], ...]:
    """The weights of shared blocks, by their paths, and the segments that use them."""
    return tuple(
        (position, path)
        for position, (tape, _) in enumerate(tapes)
        for path in dict.fromkeys(weight.path for _, weight in tape.weights if weight.path.startswith(ROOT))
    )
