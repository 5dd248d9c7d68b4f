"""The ways through the segments of a pass, each as often as its layers stand otherwise among those that share."""

from __future__ import annotations

from collections.abc import Sequence

from archcalc.counts.liveness import Walk
from archcalc.counts.moments import Gradients, Moment
from archcalc.counts.sharing import Sharing, Turn, used
from archcalc.counts.together import Together
from archcalc.counts.uses import Uses
from archcalc.tape.passes import Pass, Segment
from archcalc.tape.roles import Widths


class Walked:
    """Walks that are done, for passes that have segments in common."""

    def __init__(self) -> None:
        self.walks: dict[object, Walk | Together] = {}
        self.forward: dict[object, list[Moment]] = {}
        self.backward: dict[object, list[Moment]] = {}


class Ways:
    """The walk through each segment in the middle of others, and those of layers that stand at an end.

    With `known` walks of other passes there is only the largest moment of each, for all of the `spans` together.
    """

    def __init__(
        self,
        taken: Pass,
        width: Widths,
        spans: Sequence[str | None],
        gradients: Gradients,
        known: Walked | None = None,
    ) -> None:
        self.sharing = Sharing(taken, width, gradients, spans)
        self._made_of = width, tuple(spans), gradients
        self._uses = {span: Uses(taken.segments) for span in spans}
        self._together = known is not None
        self._own, self._shared = Walked(), known or Walked()
        self.walks: dict[int, Walk | Together] = {id(segment): self._middle(segment) for segment in taken.segments}

    def forward(self, segment: Segment) -> list[Moment]:
        """The moments of a layer of the segment in the forward pass."""
        known, key = self._place(segment)
        if key not in known.forward:
            known.forward[key] = list(self.walks[id(segment)].forward())
        return known.forward[key]

    def backward(self, segment: Segment, turn: Turn) -> list[Moment]:
        """The moments in the backward pass of a layer that stands so among those that share."""
        known, key = self._place(segment)
        key = key, turn
        if key not in known.backward:
            walk = self.walks[id(segment)]
            if turn != Turn():
                walk = self._walk(segment, turn)
                for _ in walk.forward():
                    pass
            known.backward[key] = list(walk.backward())
        return known.backward[key]

    def _middle(self, segment: Segment) -> Walk | Together:
        known, key = self._place(segment)
        if key not in known.walks:
            known.walks[key] = self._walk(segment, Turn())
        return known.walks[key]

    def _place(self, segment: Segment) -> tuple[Walked, object]:
        """Where the walk through a segment is kept. Layers that share nothing are the same in every pass."""
        if self.sharing.blocks or segment.layers is None or segment.tape.handed_on:
            return self._own, id(segment)
        _, spans, gradients = self._made_of
        return self._shared, (id(segment.env), id(segment.tape), spans, gradients)

    def _walk(self, segment: Segment, turn: Turn) -> Walk | Together:
        """The ways through a segment; a layer has what it shares in common with others behind and before it."""
        _, spans, _ = self._made_of
        if not self._together:
            return self._one(segment, spans[0], turn)
        if segment.layers is None:  # nothing of it is recomputed
            return Together([self._one(segment, spans[0], turn)])
        return Together([self._one(segment, span, turn) for span in spans])

    def _one(self, segment: Segment, span: str | None, turn: Turn) -> Walk:
        width, _, gradients = self._made_of
        if not self.sharing.blocks or segment.layers is None:
            return Walk(segment, width, span, gradients=gradients, uses=self._uses[span])
        own = Uses.of_layer(segment, behind=turn.behind, before=turn.before)
        waits = turn._replace(waits=turn.waits and (turn.first or used(segment) is not None))
        return Walk(segment, width, span, gradients=gradients, uses=own, turn=waits)
