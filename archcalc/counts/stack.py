"""Layers that alternate, as a walk through a model meets them: what has been added up before one of them, and after.

Of layers of one kind only a few places can be where most is in use: at each place of the pattern the first turn and
the last, since what comes before grows by the same amount from turn to turn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from archcalc.tape.legend import Mask, Size, add, alongside
from archcalc.tape.passes import Layers, Segment, sequence


class Place(NamedTuple):
    """A layer: where in the pattern, in which turn, and whether it is there at all (of arrays: in which rows)."""

    offset: int
    turn: Size
    there: Mask


class Stack:
    """The segments of one group of layers, in the order of the forward pass."""

    def __init__(self, group: list[Segment]) -> None:
        self.group = group
        self.order = list(sequence(group))

    def places(self, segment: Segment, *, more: bool = False) -> Iterator[Place]:
        """The places of one kind where most can be in use, the last turn of each before the first.

        With `more` also those beside these, where the gradients of what layers share begin and end.
        """
        layers = segment.layers
        if layers is None:
            yield Place(0, 0, there=True)
            return
        for offset in layers.offsets:
            turns = layers.of(offset)
            there: Any = turns > 0
            if there is False:
                continue
            yield Place(offset, turns - 1, there)
            for least, turn in ((2, turns - 2), (3, turns - 3), (4, 1)) if more else ():
                beside: Any = turns > least
                if beside is not False:
                    yield Place(offset, turn, beside)
            once: Any = turns == 1  # of letters by their value; of arrays in each row
            if once is not True:
                yield Place(offset, 0, there)

    def spread(self, value: Callable[[Segment], Size]) -> Spread:
        """An amount of each layer, added up along the stack."""
        return Spread(self, value)


class Spread:
    """Amounts of the layers of a stack, added up."""

    def __init__(self, stack: Stack, value: Callable[[Segment], Size]) -> None:
        self.each = {id(segment): value(segment) for segment in stack.group}
        self.partial: list[Size] = [0]  # of the layers of one turn before each
        for segment in stack.order:
            self.partial.append(self.partial[-1] + self.each[id(segment)])
        self.total = add(self.each[id(segment)] * segment.repeat for segment in stack.group)

    def before(self, place: Place) -> Size:
        """The sum of all layers of the stack before one."""
        return self.partial[-1] * place.turn + self.partial[place.offset]

    def after(self, place: Place, segment: Segment) -> Size:
        """The sum of all layers of the stack after one."""
        return self.total - self.before(place) - self.each[id(segment)]


AXES = 2
"""Of what is counted for rows of plans: what differs in what is recomputed stands along an axis before these."""


def joined(places: Iterable[Place]) -> Iterator[Place]:
    """The places at one offset as one: their turns stand along a further axis, before all others."""
    by_offset: dict[int, list[Place]] = {}
    for place in places:
        by_offset.setdefault(place.offset, []).append(place)
    for offset, some in by_offset.items():
        turns, theres = ([place[i] for place in some] for i in (1, 2))
        yield Place(offset, alongside(turns, AXES + 1), alongside(theres, AXES + 1))


def is_many(layers: Layers | None) -> bool:
    """Whether the number of layers is an array."""
    return layers is not None and hasattr(layers.group, "dtype")
