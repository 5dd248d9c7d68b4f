"""Stages of pipelines of several lengths that differ in nothing but how many layers they have, as one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from archcalc.plan.description import Plan
from archcalc.plan.stages import alike, parts_of
from archcalc.tape.legend import Size
from archcalc.tape.passes import Pass, Segment

Parts = list[list[Segment]]


class Stages(NamedTuple):
    """One stage of each of several pipelines, by their numbers of stages: where it is, and its parts of the model."""

    at: dict[int, int]
    parts: dict[int, Parts]

    def of(self, pp: Size) -> Parts:
        """The parts of a pipeline; of an array of them with the layers that each has."""
        import numpy as np

        if not hasattr(pp, "dtype"):
            return self.parts[pp]
        every = list(self.parts.values())
        rows = np.searchsorted(list(self.parts), pp)
        arrays: dict[tuple[int, ...], Size] = {}

        def column(values: tuple[int, ...]) -> Size:
            """The same array for the same numbers: a group of layers is known by its first."""
            if values not in arrays:
                arrays[values] = np.array(values, dtype=float)[rows] if len({*values}) > 1 else values[0]
            return arrays[values]

        return [
            [_stacked(segments, column) for segments in zip(*chunks, strict=True)]
            for chunks in zip(*every, strict=True)
        ]


def _stacked(segments: tuple[Segment, ...], column: Any) -> Segment:
    """Segments that differ in their numbers of layers alone, as one."""
    layers = [segment.layers for segment in segments if segment.layers is not None]
    if not layers:
        return segments[0]
    first, group = (column(tuple(int(getattr(one, name)) for one in layers)) for name in ("first", "group"))
    return segments[0].replace(layers=layers[0]._replace(first=first, group=group))


def stacked(whole: Pass, plan: Plan, lengths: Iterable[int]) -> list[Stages]:
    """The sorts of stages of pipelines with so many stages each.

    Of stages with the same layers it has the first, which holds most micro-batches, and the first and the last of all.
    """
    found: dict[object, Stages] = {}
    for pp in sorted(lengths):
        mine: dict[object, int] = {}
        for stage, parts in _sorts(whole, plan.model_copy(update={"pp": pp, "accumulation": 1})):
            kind = pp > 1, tuple(tuple(map(_structure, part)) for part in parts)
            mine[kind] = mine.get(kind, 0) + 1
            stages = found.setdefault((kind, mine[kind]), Stages({}, {}))
            stages.at[pp], stages.parts[pp] = stage, parts
    return list(found.values())


def _sorts(whole: Pass, plan: Plan) -> Iterator[tuple[int, Parts]]:
    for stages in alike(plan, whole.segments):  # of one micro-batch as many are in flight in all of them
        yield stages[0], parts_of(whole, plan, stages[0])


def _structure(segment: Segment) -> object:
    """What tells segments apart, their numbers of layers aside."""
    layers = segment.layers
    return id(segment.tape), segment.places, None if layers is None else (layers.period, layers.offsets)
