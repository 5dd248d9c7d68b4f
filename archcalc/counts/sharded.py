"""What a rank holds while a step gathers shared weights and reduces their gradients, layer by layer.

As PyTorch's fully_shard does it (torch.distributed.fsdp, 2.13), with each layer a group, and the embedding, the final
norm and the head together the root:

- Forward, a layer's weights are gathered into a buffer and copied out of it. The copy goes when the layer is done, and
  the buffer when the next layer has its own. The root's weights stay from the first op to the end.
- Backward, they are gathered again, and before a layer's backward pass those of the layer that comes after it in this
  direction. When it is done its gradients are copied into another buffer, as wide as gradients are kept, and are
  reduced to the rank's share; that buffer stays until the next layer's is made. The root's gradients come last.

ZeRO of one flat buffer (DeepSpeed) has the same moments without the copies: Rajbhandari et al. 2020, arXiv:1910.02054.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple, Protocol

from archcalc.counts.liveness import Walk
from archcalc.counts.moments import Moment
from archcalc.counts.optimizer import held, one_of
from archcalc.counts.parameters import Parameters, Stored
from archcalc.counts.stack import Place, Stack
from archcalc.tape.legend import Mask, Size, add, anywhere, choose, volume, where
from archcalc.tape.ops import Tensor
from archcalc.tape.passes import RESIDUAL, Gathering, Pass, Segment
from archcalc.tape.precision import Keeping

Parts = dict[str, Size]
GATHERING, REDUCING = "gathering weights", "reducing gradients"


class Weights(NamedTuple):
    """Bytes of a group of weights that is gathered and reduced at once.

    `gathered` is all of it, and `cast` the rank's own share in the type that is gathered where it is kept in another.
    `reduced` are all its gradients as they are reduced, and `share` what the rank keeps of them.
    """

    gathered: Size = 0
    cast: Size = 0
    reduced: Size = 0
    share: Size = 0

    def only(self, mask: Mask) -> Weights:
        """These where the mask holds, nothing where not."""
        return Weights(*(where(mask, n) for n in self))


class Step(Protocol):
    """What a step holds beside the state, activations and gradients that are on their way."""

    def places(self, segment: Segment) -> Iterator[Place] | None:
        """The places of a segment where most can be in use; None where that does not depend on the step."""

    def left(self, walk: Walk) -> Size:
        """Bytes that stay of a segment's gradients until the optimizer's step."""

    def gradients(self, segment: Segment, new: Size, later: Size) -> Parts:
        """Gradients of this segment so far, and what stayed of those of segments behind it."""

    def forward(self, stack: Stack, segment: Segment, place: Place) -> Parts:
        """While the segment's ops run."""

    def backward(self, stack: Stack, segment: Segment, place: Place) -> Parts:
        """While their backward passes run."""

    def around(self, phase: str, stack: Stack, segment: Segment, place: Place) -> Iterator[tuple[Moment, Parts]]:
        """The moments before and after those, in one phase."""


class Whole:
    """A step of a rank that has all weights and gradients of its part of the model."""

    def __init__(self, keeping: Keeping) -> None:
        self.holds = keeping.holds

    def places(self, _segment: Segment) -> None:
        return None

    def left(self, walk: Walk) -> Size:
        return walk.gradients

    def gradients(self, _segment: Segment, new: Size, later: Size) -> Parts:
        return {"temporaries" if self.holds else "gradients": later + new}

    def forward(self, _stack: Stack, _segment: Segment, _place: Place) -> Parts:
        return {}

    def backward(self, _stack: Stack, _segment: Segment, _place: Place) -> Parts:
        return {}

    def around(self, _phase: str, _stack: Stack, _segment: Segment, _place: Place) -> Iterator[tuple[Moment, Parts]]:
        return iter(())


class Sharded:
    """A step in which weights are gathered, or gradients reduced, layer by layer."""

    def __init__(
        self, taken: Pass, stacks: list[Stack], counts: Parameters, keeping: Keeping, walks: dict[int, Walk]
    ) -> None:
        self.stacks, self.walks, self.keeping, self.stage = stacks, walks, keeping, taken.stage
        self.how = taken.stage.gathering or Gathering(weights=False, several=False)
        self.of = {id(segment): self._weights(_own(counts, segment)) for segment in taken.segments}
        self.root = self._weights(_rooted(counts, taken.segments))
        self.layers = [stack for stack in self.stacks if stack.group[0].layers is not None]
        self.ends = [segment for segment in taken.segments if segment.layers is None]
        self.first = taken.segments[0]

    def _weights(self, tensors: list[Stored]) -> Weights:
        recipe, how = self.keeping.recipe, self.how
        learned = [tensor for tensor in tensors if tensor.learns]
        there: Mask = True if recipe.gathered else how.several if how.weights else False
        copied = how.several if recipe.gathered and how.weights else False
        return Weights(
            where(there, held("gathered", tensors, self.stage) * recipe.arriving),
            where(copied, held("weights", tensors, self.stage) * recipe.arriving),
            where(there | how.several, held("reduced", learned, self.stage) * recipe.gradient),
            held("gradients", learned, self.stage) * recipe.gradient,
        )

    # --- what the step asks ---

    def places(self, segment: Segment) -> Iterator[Place]:
        """The first two turns and the last two: what neighbours leave behind differs at both ends."""
        layers = segment.layers
        if layers is None:
            yield Place(0, 0, there=True)
            return
        for offset in layers.offsets:
            turns = layers.of(offset)
            for least, turn in ((1, turns - 1), (2, turns - 2), (3, 0), (4, 1)):
                there: Mask = turns >= least
                if there is not False:
                    yield Place(offset, turn, there)

    def left(self, walk: Walk) -> Size:
        own = self.of[id(walk.segment)]
        return 0 if self.keeping.holds or walk.segment.layers is None else own.share

    def gradients(self, segment: Segment, new: Size, later: Size) -> Parts:
        return {"gradients": later, "unsharded gradients": self._of_root(segment) + new}

    def forward(self, stack: Stack, segment: Segment, place: Place) -> Parts:
        own, ahead = self.of[id(segment)], self._next(stack, segment, place)
        behind = self.root if segment.name == "embedding" else self._last() if segment.layers is None else own
        return {
            "gathered weights": self.root.gathered + self._kept(stack, segment, place) + own.gathered,
            "gather buffers": self._copy(behind),
            "prefetched weights": self._sent(ahead) if self.how.prefetch == "both" else 0,
        }

    def backward(self, stack: Stack, segment: Segment, place: Place) -> Parts:
        own, before = self.of[id(segment)], self._before(stack, segment, place)
        return {
            "gathered weights": self.root.gathered + self._kept(stack, segment, place) + own.gathered,
            "prefetched weights": self._sent(before) if self._fetches_back else 0,
            "reduce buffers": self._behind(stack, segment, place).reduced,
        }

    def around(self, phase: str, stack: Stack, segment: Segment, place: Place) -> Iterator[tuple[Moment, Parts]]:
        if phase == "forward":
            yield from self._gathered(stack, segment, place)
        elif phase == "backward":
            yield from self._gathered_again(stack, segment, place)
        else:
            yield from self._reduced(stack, segment, place)

    # --- moments ---

    def _gathered(self, stack: Stack, segment: Segment, place: Place) -> Iterator[tuple[Moment, Parts]]:
        """A buffer is filled while that of the layer before is still there; the root's comes first of all."""
        streams = [x for op in segment.ops for x in op.inputs if isinstance(x, Tensor) and x.name == RESIDUAL.name]
        width = self.walks[id(segment)].width
        read = add(volume(x.labels, segment.env) * width[x.role] for x in streams[:1])
        moment = Moment("forward", GATHERING, 0, 0, 0, read)
        if segment.layers is None:
            if segment is self.first:
                yield moment, {"gather buffers": self._sent(self.root) + self.root.cast}
            return
        own = self.of[id(segment)]
        held_now = self.root.gathered + self._kept(stack, segment, place)
        yield (
            moment,
            {
                "gathered weights": held_now,
                "gather buffers": self._copy(self._before(stack, segment, place, first=self.root))
                + self._sent(own)
                + own.cast,
            },
        )
        if self.how.prefetch == "both":
            ahead = self._next(stack, segment, place)
            yield (
                moment,
                {
                    "gathered weights": held_now + own.gathered,
                    "gather buffers": self._copy(own),
                    "prefetched weights": self._sent(ahead) + ahead.cast,
                },
            )

    def _gathered_again(self, stack: Stack, segment: Segment, place: Place) -> Iterator[tuple[Moment, Parts]]:
        """What was fetched is copied out of its buffer; then the next is fetched."""
        moment = self.walks[id(segment)].entry._replace(op=GATHERING)
        now = self.backward(stack, segment, place)
        own, before = self.of[id(segment)], self._before(stack, segment, place)
        if segment.layers is not None and not self.how.stays:
            if not self._fetches_back:
                gathered = now["gathered weights"] - own.gathered
                yield moment, {**now, "gathered weights": gathered, "gather buffers": self._sent(own) + own.cast}
            yield moment, {**now, "prefetched weights": 0, "gather buffers": self._copy(own)}
        if self._fetches_back:
            yield moment, {**now, "gather buffers": before.cast}

    def _reduced(self, stack: Stack, segment: Segment, place: Place) -> Iterator[tuple[Moment, Parts]]:
        """All gradients of a layer beside the buffer that they are copied to; then that buffer beside the share."""
        walk = self.walks[id(segment)]
        own, now = self.of[id(segment)], self.backward(stack, segment, place)
        if segment.layers is not None:
            moment = Moment("backward", REDUCING, walk.saved, walk.recomputed, walk.gradients, walk.transient)
            after = {
                "gathered weights": now["gathered weights"] - own.gathered,
                "prefetched weights": now["prefetched weights"],
            }
            yield moment, {**after, "reduce buffers": own.reduced}
            yield moment._replace(gradients=0), {**after, "reduce buffers": own.reduced + own.share}
        if segment is self.first:
            yield from self._root_reduced(segment, place)

    def _root_reduced(self, segment: Segment, place: Place) -> Iterator[tuple[Moment, Parts]]:
        """The root's gradients, when the first layer of all is done, and the embedding with it."""
        done: Mask = (place.turn == 0) & (place.offset == 0)
        if not anywhere(done):
            return
        own = self.of[id(segment)]
        kept = 0 if self.keeping.holds else own.share
        mine = self.walks[id(segment)].gradients if segment.layers is None else 0
        moment = Moment("backward", REDUCING, 0, 0, mine, 0)
        reduced, share = where(done, self.root.reduced), where(done, self.root.share)
        yield moment, {"gradients": kept, "reduce buffers": reduced}
        gone = -self._of_root(segment)
        yield moment._replace(gradients=gone), {"gradients": kept, "reduce buffers": reduced + share}

    # --- neighbours ---

    @property
    def _fetches_back(self) -> bool:
        return self.how.prefetch != "none" and not self.how.stays

    def _sent(self, group: Weights) -> Size:
        """A group as it is gathered, before it is computed with: nothing where there is nobody to gather it from."""
        return where(self.how.several, group.gathered) if self.how.weights else 0

    def _copy(self, group: Weights) -> Size:
        """The same, where what is computed with is a copy of it."""
        return self._sent(group) if self.how.copies else 0

    def _of_root(self, segment: Segment) -> Size:
        """Gradients of the root that are there when a segment's come."""
        return add(self.walks[id(end)].gradients for end in self.ends if end.name == "head" and end is not segment)

    def _last(self) -> Weights:
        """The last layer."""
        return _choose_last(self.layers[-1], self.of) if self.layers else Weights()

    def _kept(self, stack: Stack, segment: Segment, place: Place) -> Size:
        """Weights of layers before this one that stay gathered."""
        if not self.how.stays:
            return 0
        at = self.stacks.index(stack)
        full = [one.spread(lambda s: self.of[id(s)].gathered if s.layers else 0) for one in self.stacks]
        inside = full[at].before(place) if segment.layers is not None else 0
        return add(one.total for one in full[:at]) + inside

    def _before(self, stack: Stack, segment: Segment, place: Place, first: Weights = Weights()) -> Weights:  # noqa: B008
        """The layer before this one, or the last of all before the head; `first` before the first."""
        if segment.layers is None:
            return self._last() if segment.name == "head" else first
        at = self.layers.index(stack)
        elsewhere = _choose_last(self.layers[at - 1], self.of) if at else first
        inside = self.of[id(stack.order[(place.offset - 1) % len(stack.order)])]
        return _pick(place.turn * segment.layers.period + place.offset > 0, inside, elsewhere)

    def _next(self, stack: Stack, segment: Segment, place: Place) -> Weights:
        """The layer after this one."""
        if segment.layers is None:
            return Weights()
        at = self.layers.index(stack)
        elsewhere = self.of[id(self.layers[at + 1].order[0])] if at + 1 < len(self.layers) else Weights()
        inside = self.of[id(stack.order[(place.offset + 1) % len(stack.order)])]
        index = place.turn * segment.layers.period + place.offset
        return _pick(index + 1 < segment.layers.group, inside, elsewhere)

    def _behind(self, stack: Stack, segment: Segment, place: Place) -> Weights:
        """The layer whose gradients are being reduced: the one after this, and after the first layer that one."""
        if segment.layers is not None:
            return self._next(stack, segment, place)
        return self.of[id(self.layers[0].order[0])] if segment.name == "embedding" and self.layers else Weights()


def step(taken: Pass, stacks: list[Stack], counts: Parameters, keeping: Keeping, walks: dict[int, Walk]) -> Step:
    """How the parts of a model get their weights in a step, and where their gradients go."""
    return Sharded(taken, stacks, counts, keeping, walks) if is_sharded(taken, keeping) else Whole(keeping)


def is_sharded(taken: Pass, keeping: Keeping) -> bool:
    """Whether weights are gathered in a step, or their gradients reduced before it ends."""
    return taken.stage.gathering is not None or keeping.recipe.gathered > 0


def _own(counts: Parameters, segment: Segment) -> list[Stored]:
    """The weights of one layer."""
    if segment.layers is None:
        return []
    return [one_of(tensor) for tensor in counts.tensors if tensor.within is segment.layers]


def _rooted(counts: Parameters, segments: Iterable[Segment]) -> list[Stored]:
    """The weights of a part of the model that belong to no layer of their own."""
    used = {weight.path for segment in segments for op in segment.ops for weight in op.weights}
    return [tensor for tensor in counts.tensors if tensor.within is None and tensor.name in used]


def _pick(mask: Mask, here: Weights, elsewhere: Weights) -> Weights:
    return Weights(*(choose(mask, a, b) for a, b in zip(here, elsewhere, strict=True)))


def _choose_last(stack: Stack, of: dict[int, Weights]) -> Weights:
    """The last layer of a stack, whose kind follows from how many there are."""
    found = of[id(stack.order[0])]
    layers = stack.group[0].layers
    for offset, segment in enumerate(stack.order[1:], 1):
        found = _pick((layers.group - 1) % layers.period == offset, of[id(segment)], found) if layers else found
    return found
