"""The ways through the segments of a pass, each as often as its layers stand otherwise among those that share."""

from __future__ import annotations

from archcalc.counts.liveness import Walk
from archcalc.counts.moments import Gradients, Moment
from archcalc.counts.sharing import Sharing, Turn, used
from archcalc.counts.uses import Uses
from archcalc.tape.passes import Pass, Segment
from archcalc.tape.roles import Widths


class Ways:
    """The walk through each segment in the middle of others, and those of layers that stand at an end."""

    def __init__(self, taken: Pass, width: Widths, span: str | None, gradients: Gradients) -> None:
        self.sharing = Sharing(taken, width, gradients, span)
        self._made_of = width, span, gradients
        self._uses = Uses(taken.segments)
        self.walks = {id(segment): self._walk(segment, Turn()) for segment in taken.segments}
        self._forward: dict[int, list[Moment]] = {}
        self._backward: dict[tuple[int, Turn], list[Moment]] = {}

    def forward(self, segment: Segment) -> list[Moment]:
        """The moments of a layer of the segment in the forward pass."""
        if id(segment) not in self._forward:
            self._forward[id(segment)] = list(self.walks[id(segment)].forward())
        return self._forward[id(segment)]

    def backward(self, segment: Segment, turn: Turn) -> list[Moment]:
        """The moments in the backward pass of a layer that stands so among those that share."""
        key = id(segment), turn
        if key not in self._backward:
            walk = self.walks[id(segment)]
            if turn != Turn():
                walk = self._walk(segment, turn)
                for _ in walk.forward():
                    pass
            self._backward[key] = list(walk.backward())
        return self._backward[key]

    def _walk(self, segment: Segment, turn: Turn) -> Walk:
        """A way through a segment; a layer has what it shares in common with others behind and before it."""
        width, span, gradients = self._made_of
        if not self.sharing.blocks or segment.layers is None:
            return Walk(segment, width, span, gradients=gradients, uses=self._uses)
        own = Uses.of_layer(segment, behind=turn.behind, before=turn.before)
        waits = turn._replace(waits=turn.waits and (turn.first or used(segment) is not None))
        return Walk(segment, width, span, gradients=gradients, uses=own, turn=waits)
