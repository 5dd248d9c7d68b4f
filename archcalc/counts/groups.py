"""Groups of weights that ranks gather at once: each layer is one, and what is in no layer is the root."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from archcalc.counts.optimizer import as_modules, held, one_of
from archcalc.counts.parameters import Stored, tensors
from archcalc.counts.stack import Place, Stack
from archcalc.tape.legend import Mask, Size, add, choose, where
from archcalc.tape.passes import Gathering, Pass, Segment, Stage
from archcalc.tape.precision import Recipe


class Weights(NamedTuple):
    """Bytes of a group of weights.

    `gathered` is all of it, and `cast` the rank's own share in the type that is gathered where it is kept in another.
    `reduced` are all its gradients as they are reduced, and `share` what the rank keeps of them. `lingers` is that
    of its last tensor, which fully_shard has a name for until it is done.
    """

    gathered: Size = 0
    cast: Size = 0
    reduced: Size = 0
    share: Size = 0
    lingers: Size = 0


NOTHING = Weights()


class Groups:
    """The groups of a part of the model, and which of them come one after the other."""

    def __init__(self, taken: Pass, stacks: list[Stack], recipe: Recipe, how: Gathering) -> None:
        self.stacks, self.how = stacks, how
        self.layers = [stack for stack in stacks if stack.group[0].layers is not None]
        every = tensors(taken)
        self._of = {
            id(segment): _weights(_own(every, segment), recipe, taken.stage, how) for segment in taken.segments
        }
        self.root = _weights(_rooted(every, taken.segments), recipe, taken.stage, how)
        self.last = self._choose_last(self.layers[-1]) if self.layers else NOTHING

    def of(self, segment: Segment) -> Weights:
        """A segment's own, of one layer; nothing where it has none but the root's."""
        return self._of[id(segment)]

    def sent(self, group: Weights) -> Size:
        """A group as it is gathered, before it is computed with: nothing where there is nobody to gather it from."""
        return where(self.how.several, group.gathered) if self.how.weights else 0

    def copied(self, group: Weights) -> Size:
        """The same, where what is computed with is a copy of it."""
        return self.sent(group) if self.how.copies else 0

    def before(self, stack: Stack, segment: Segment, place: Place, first: Weights = NOTHING) -> Weights:
        """The layer before this one, or the last of all before the head; `first` before the first."""
        if segment.layers is None:
            return self.last if segment.name == "head" else first
        at = self.layers.index(stack)
        elsewhere = self._choose_last(self.layers[at - 1]) if at else first
        inside = self.of(stack.order[(place.offset - 1) % len(stack.order)])
        return _pick(place.turn * segment.layers.period + place.offset > 0, inside, elsewhere)

    def after(self, stack: Stack, segment: Segment, place: Place) -> Weights:
        """The layer after this one."""
        if segment.layers is None:
            return self.of(self.layers[0].order[0]) if segment.name == "embedding" and self.layers else NOTHING
        at = self.layers.index(stack)
        elsewhere = self.of(self.layers[at + 1].order[0]) if at + 1 < len(self.layers) else NOTHING
        inside = self.of(stack.order[(place.offset + 1) % len(stack.order)])
        index = place.turn * segment.layers.period + place.offset
        return _pick(index + 1 < segment.layers.group, inside, elsewhere)

    def all_before(self, stack: Stack, segment: Segment, place: Place) -> Size:
        """Gathered weights of all layers before this one."""
        full = [one.spread(lambda inner: self.of(inner).gathered if inner.layers else 0) for one in self.stacks]
        at = self.stacks.index(stack)
        inside = full[at].before(place) if segment.layers is not None else 0
        return add(one.total for one in full[:at]) + inside

    def _choose_last(self, stack: Stack) -> Weights:
        """The last layer of a stack, whose kind follows from how many there are."""
        found, layers = self.of(stack.order[0]), stack.group[0].layers
        count: Size = 1 if layers is None else getattr(layers.group, "value", layers.group)  # of a letter its value
        for offset, segment in enumerate(stack.order[1:], 1):
            found = _pick((count - 1) % len(stack.order) == offset, self.of(segment), found)
        return found


def _weights(mine: list[Stored], recipe: Recipe, stage: Stage, how: Gathering) -> Weights:
    learned = [tensor for tensor in mine if tensor.learns]
    gathers: Mask = True if recipe.gathered else how.several if how.weights else False
    casts: Mask = how.several if recipe.gathered and how.weights else False
    reduces: Mask = True if recipe.gathered else how.several
    last = as_modules(learned)[-1:] if how.copies else []
    return Weights(
        where(gathers, held("gathered", mine, stage) * recipe.arriving),
        where(casts, held("weights", mine, stage) * recipe.arriving),
        where(reduces, held("reduced", learned, stage) * recipe.reduced),
        held("gradients", learned, stage) * recipe.gradient,
        where(how.several, add(tensor.parameters for tensor in last) * recipe.arriving),
    )


def _own(every: Iterable[Stored], segment: Segment) -> list[Stored]:
    """The weights of one layer."""
    if segment.layers is None:
        return []
    return [one_of(tensor) for tensor in every if tensor.within is segment.layers]


def _rooted(every: Iterable[Stored], segments: Iterable[Segment]) -> list[Stored]:
    """The weights of a part of the model that belong to no layer of their own."""
    used = {weight.path for segment in segments for _, weight in segment.weights}
    return [tensor for tensor in every if tensor.within is None and tensor.name in used]


def _pick(mask: Mask, here: Weights, elsewhere: Weights) -> Weights:
    return Weights(*(choose(mask, a, b) for a, b in zip(here, elsewhere, strict=True)))
