"""What a rank holds while a step gathers shared weights and reduces their gradients, layer by layer.

As PyTorch's fully_shard does it (torch.distributed.fsdp of PyTorch 2.13), with each layer a group, and the embedding,
the final norm and the head together the root:

- Forward, a layer's weights are gathered into a buffer and copied out of it. The copy goes when the layer is done, and
  the buffer when the next layer has its own. The root's weights stay from the first op to the end.
- Backward, they are gathered again, and before a layer's backward pass those of the layer that comes after it in this
  direction. When it is done its gradients are copied into another buffer, as wide as gradients are kept, and are
  reduced to the rank's share; that buffer stays until the next layer's is made. The root's gradients come last.

Where ranks share one flat buffer, as DeepSpeed's do, nothing is copied: Rajbhandari et al. 2020, arXiv:1910.02054.
With ZeRO 2 weights are whole, and gradients are reduced in the same way.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from archcalc.counts.groups import Groups
from archcalc.counts.liveness import Walk
from archcalc.counts.moments import Moment
from archcalc.counts.stack import Place, Stack
from archcalc.counts.together import Together
from archcalc.tape.legend import Mask, Size, add, anywhere, volume, where
from archcalc.tape.ops import Tensor
from archcalc.tape.passes import RESIDUAL, Gathering, Pass, Segment
from archcalc.tape.precision import Keeping

Parts = dict[str, Size]
More = Iterator[tuple[Moment, Parts]]
GATHERING, COPYING, REDUCING = "gathering weights", "copying gradients", "reducing gradients"


class Step(Protocol):
    """What a step holds beside the state, activations and gradients that are on their way."""

    def places(self, segment: Segment) -> Iterator[Place] | None:
        """The places of a segment where most can be in use; None where that does not depend on the step."""

    def left(self, segment: Segment, walk: Walk | Together) -> Size:
        """Bytes that stay of a segment's gradients until the optimizer's step."""

    def gradients(self, new: Size, later: Size) -> Parts:
        """Gradients of this segment so far, and what stayed of those of segments behind it."""

    def forward(self, stack: Stack, segment: Segment, place: Place) -> Parts:
        """While the segment's ops run."""

    def backward(self, stack: Stack, segment: Segment, place: Place) -> Parts:
        """While their backward passes run."""

    def around(self, phase: str, stack: Stack, segment: Segment, place: Place) -> More:
        """The moments before and after those, in one phase."""


class Whole:
    """A step of a rank that has all weights and gradients of its part of the model."""

    def __init__(self, keeping: Keeping) -> None:
        self.holds = keeping.holds

    def places(self, _segment: Segment) -> None:
        return None

    def left(self, _segment: Segment, walk: Walk | Together) -> Size:
        return walk.gradients

    def gradients(self, new: Size, later: Size) -> Parts:
        return {"temporaries" if self.holds else "gradients": later + new}

    def forward(self, _stack: Stack, _segment: Segment, _place: Place) -> Parts:
        return {}

    def backward(self, _stack: Stack, _segment: Segment, _place: Place) -> Parts:
        return {}

    def around(self, _phase: str, _stack: Stack, _segment: Segment, _place: Place) -> More:
        return iter(())


class Sharded:
    """A step in which weights are gathered, or gradients reduced, layer by layer."""

    def __init__(
        self,
        taken: Pass,
        stacks: list[Stack],
        keeping: Keeping,
        walks: dict[int, Walk | Together],
    ) -> None:
        self.how = taken.stage.gathering or Gathering(weights=False, several=False)
        self.groups = Groups(taken, stacks, keeping.recipe, self.how)
        self.walks, self.holds = walks, keeping.holds
        self.first = taken.segments[0]
        self.heads = [segment for segment in taken.segments if segment.name == "head"]

    def places(self, segment: Segment) -> Iterator[Place]:
        """The first two turns and the last two: what neighbours leave behind differs at both ends."""
        layers = segment.layers
        if layers is None:
            yield Place(0, 0, there=True)
            return
        for offset in layers.offsets:
            turns = layers.of(offset)
            for least, turn in ((1, turns - 1), (2, turns - 2), (3, 0), (4, 1)):
                there: Mask = turns > least - 1
                if there is not False:
                    yield Place(offset, turn, there)

    def left(self, segment: Segment, _walk: Walk | Together) -> Size:
        return 0 if self.holds or segment.layers is None else self.groups.of(segment).share

    def gradients(self, new: Size, later: Size) -> Parts:
        return {"gradients": later, "unsharded gradients": new}

    def forward(self, stack: Stack, segment: Segment, place: Place) -> Parts:
        groups = self.groups
        own, after = groups.of(segment), groups.after(stack, segment, place)
        newest = own if segment.layers else groups.root if segment.name == "embedding" else groups.last
        ahead = self.how.prefetch == "both" and segment.layers is not None
        return {
            "gathered weights": self._kept(stack, segment, place) + own.gathered,
            "gather buffers": groups.copied(newest),
            "prefetched weights": groups.sent(after) if ahead else 0,
        }

    def backward(self, stack: Stack, segment: Segment, place: Place) -> Parts:
        groups = self.groups
        before = groups.before(stack, segment, place)
        return {
            "gathered weights": self._kept(stack, segment, place) + groups.of(segment).gathered,
            "prefetched weights": groups.sent(before) if self._prefetches else 0,
            "reduce buffers": groups.after(stack, segment, place).reduced,
            "unsharded gradients": self._of_head(segment),
        }

    def around(self, phase: str, stack: Stack, segment: Segment, place: Place) -> More:
        if phase == "forward":
            yield from self._gathered(stack, segment, place)
        else:
            yield from self._gathered_again(stack, segment, place)
            if segment.layers is not None:
                yield from self._reduced(stack, segment, place)
            if segment is self.first:
                yield from self._root_reduced(segment, place)

    def _gathered(self, stack: Stack, segment: Segment, place: Place) -> More:
        """A buffer is filled while that of the layer before is still there; the root's comes first of all."""
        groups, how = self.groups, self.how
        streams = [x for op in segment.ops for x in op.inputs if isinstance(x, Tensor) and x.name == RESIDUAL.name]
        width = self.walks[id(segment)].width
        read = add(volume(x.labels, segment.env) * width[x.role] for x in streams[:1])
        moment = Moment("forward", GATHERING, 0, 0, 0, read)
        if segment.layers is None:
            if segment is self.first:
                yield moment, {"gather buffers": groups.sent(groups.root) + groups.root.cast}
            return
        own, kept = groups.of(segment), self._kept(stack, segment, place)
        behind = groups.copied(groups.before(stack, segment, place, first=groups.root))
        yield moment, {"gathered weights": kept, "gather buffers": behind + groups.sent(own) + own.cast}
        if how.prefetch == "both":
            during = self.forward(stack, segment, place)
            cast = groups.after(stack, segment, place).cast
            yield moment, {**during, "gather buffers": during["gather buffers"] + cast}

    def _gathered_again(self, stack: Stack, segment: Segment, place: Place) -> More:
        """What was fetched is copied out of its buffer; then the next is fetched."""
        moment = self.walks[id(segment)].entry._replace(op=GATHERING)
        own, now = self.groups.of(segment), self.backward(stack, segment, place)
        if segment.layers is not None and not self.how.stays:
            if not self._prefetches:
                without = now["gathered weights"] - own.gathered
                yield moment, {**now, "gathered weights": without, "gather buffers": self.groups.sent(own) + own.cast}
            yield moment, {**now, "prefetched weights": 0, "gather buffers": self.groups.copied(own)}
        if self._prefetches:
            yield moment, {**now, "gather buffers": self.groups.before(stack, segment, place).cast}

    def _reduced(self, stack: Stack, segment: Segment, place: Place) -> More:
        """All gradients of a layer beside the buffer that they are copied to; then that buffer beside the share."""
        walk = self.walks[id(segment)]
        own, now = self.groups.of(segment), self.backward(stack, segment, place)
        now["gathered weights"] = now["gathered weights"] - own.gathered
        moment = Moment("backward", COPYING, walk.saved, walk.recomputed, walk.gradients, walk.transient)
        yield moment, {**now, "reduce buffers": own.reduced}
        left = moment._replace(op=REDUCING, gradients=own.lingers)
        yield left, {**now, "reduce buffers": own.reduced + own.share}

    def _root_reduced(self, segment: Segment, place: Place) -> More:
        """The root's gradients, when the first layer of all is done, and the embedding with it."""
        done: Mask = (place.turn == 0) & (place.offset == 0)
        if not anywhere(done):
            return
        kept = 0 if self.holds else self.groups.of(segment).share
        mine = self.walks[id(segment)].gradients if segment.layers is None else 0
        moment = Moment("backward", COPYING, 0, 0, mine + self._of_head(segment), 0)
        root = self.groups.root
        reduced, share = where(done, root.reduced), where(done, root.share)
        yield moment, {"gradients": kept, "reduce buffers": reduced}
        gone = moment._replace(op=REDUCING, gradients=root.lingers)
        yield gone, {"gradients": kept, "reduce buffers": reduced + share}

    @property
    def _prefetches(self) -> bool:
        """Whether the backward pass gathers the next layer while one runs."""
        return self.how.prefetch != "none" and not self.how.stays

    def _of_head(self, segment: Segment) -> Size:
        """Gradients of the head, which wait for the embedding's, when those of another segment come."""
        return add(self.walks[id(head)].gradients for head in self.heads if head is not segment)

    def _kept(self, stack: Stack, segment: Segment, place: Place) -> Size:
        """Gathered weights of the root, and of layers before this one where they stay."""
        before = self.groups.all_before(stack, segment, place) if self.how.stays else 0
        return self.groups.root.gathered + before


def is_sharded(taken: Pass, keeping: Keeping) -> bool:
    """Whether weights are gathered in a step, or their gradients reduced before it ends."""
    return taken.stage.gathering is not None or keeping.recipe.gathered > 0


def step(taken: Pass, stacks: list[Stack], keeping: Keeping, walks: dict[int, Walk | Together]) -> Step:
    """How the parts of a model get their weights in a step, and where their gradients go."""
    return Sharded(taken, stacks, keeping, walks) if is_sharded(taken, keeping) else Whole(keeping)
