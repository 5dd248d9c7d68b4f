"""Gradients that layers add up in the backward pass: of weights that they share, and of the tokens' own vectors.

The last layer that uses a shared block is the first to make its gradients; each layer before it adds to them, and
they stay. What layers read of the tokens' own vectors goes back to the embedding in the same way.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import reduce
from itertools import product
from typing import NamedTuple

from archcalc.counts.activations import kept
from archcalc.counts.moments import Gradients
from archcalc.counts.stack import AXES, Place
from archcalc.spec.shared import ROOT
from archcalc.tape.legend import Mask, Size, add, alongside, choose, volume, where
from archcalc.tape.ops import Weight
from archcalc.tape.passes import RESIDUAL, Pass, Segment
from archcalc.tape.roles import Widths


class Turn(NamedTuple):
    """Where a layer stands among those that share: whether others behind it use its block, or before it; whether a
    gradient of the tokens' own vectors waits; and whether it is the first layer, whose input these are.
    """

    behind: bool = True
    before: bool = True
    waits: bool = True
    first: bool = False


class _Block(NamedTuple):
    """A shared block: the first and the last layer that use it, and the bytes of its gradients."""

    first: Size
    last: Size
    bytes: Size


class Sharing:
    """The uses of shared blocks in a pass."""

    def __init__(self, taken: Pass, width: Widths, gradients: Gradients, spans: Sequence[str | None]) -> None:
        self.stays = gradients.stays
        self.blocks: dict[str, _Block] = {}
        for segment in taken.segments:
            if (name := used(segment)) is None or segment.layers is None:
                continue
            weights = {weight.path: weight for weight in shared_weights(segment)}
            held = add(volume(weight.labels, segment.env) for weight in weights.values())
            first, last = _ends(segment)
            new = _Block(first, last, where(segment.there, held * (gradients.stays or gradients.passing)))
            known = self.blocks.get(name, new)
            earliest, latest = (choose(new.first < known.first, new.first, known.first), _later(new.last, known.last))
            self.blocks[name] = _Block(earliest, latest, _later(new.bytes, known.bytes))
        self.last: Size = reduce(_later, (block.last for block in self.blocks.values()), -1)
        self.tokens: Size = 0
        self._unsaved: Size = 0
        if not self.blocks:
            return
        tokens = volume(RESIDUAL.labels, taken.segments[0].env) * width[RESIDUAL.role]
        self.tokens = choose(self.last > -1, tokens, 0)
        embedding, first_layer = taken.segments[:2]
        saved = embedding.result in kept(embedding.ops)
        keeps = [saved or RESIDUAL.name in kept(first_layer.ops, span) for span in spans]
        self._unsaved = alongside([0 if kept_there else self.tokens for kept_there in keeps], AXES)

    @property
    def total(self) -> Size:
        """Bytes of gradients that stay until the step."""
        return add(block.bytes for block in self.blocks.values()) if self.stays else 0

    def turns(self, segment: Segment, place: Place) -> Iterator[tuple[Turn, Place]]:
        """Where the layer at a place stands; of arrays all cases that there may be, and in which rows each is."""
        if not self.blocks or segment.layers is None:
            yield Turn(), place
            return
        at = _index(segment, place)
        block = self.blocks.get(used(segment) or "")
        behind: Mask = block is not None and at < block.last
        before: Mask = block is not None and at > block.first
        for turn in map(Turn._make, product((True, False), repeat=4)):
            there = place.there
            for wanted, holds in zip(turn, (behind, before, at < self.last, at == 0), strict=True):
                there = there & (holds if wanted else holds ^ True)
            if there is not False:
                yield turn, place._replace(there=there)

    def held(self, segment: Segment, place: Place) -> Size:
        """Bytes of gradients of shared weights that layers behind one have made, where it adds nothing yet."""
        if segment.layers is None:
            return self.total if segment.name == "embedding" else 0
        at = _index(segment, place)
        return add(
            block.bytes * (at < block.last) * (True if self.stays else (at < block.first) ^ True)
            for block in self.blocks.values()
        )

    def read_again(self, segment: Segment, place: Place) -> Size:
        """Bytes of the tokens' own vectors in the forward pass, behind a first layer that does not save them."""
        if segment.layers is None:
            return 0 if segment.name == "embedding" else self._unsaved
        return self._unsaved * (_index(segment, place) > 0)

    def waiting(self, segment: Segment, place: Place) -> Size:
        """Bytes of the gradient of the tokens' own vectors that waits beside a layer that has none of it in hand."""
        if segment.layers is None or used(segment) is not None:
            return 0
        at = _index(segment, place)
        return self.tokens * (at < self.last) * (at > 0)


def shared_weights(segment: Segment) -> list[Weight]:
    """What a layer reads of a shared block."""
    return [weight for _, weight in segment.weights if weight.path.startswith(ROOT)]


def used(segment: Segment) -> str | None:
    """The name of the shared block that a layer uses."""
    found = shared_weights(segment)
    return found[0].path.split(".")[1] if found else None


def _index(segment: Segment, place: Place) -> Size:
    assert segment.layers is not None  # noqa: S101  (of what is no layer nobody asks)
    return segment.layers.first + place.offset + segment.layers.period * place.turn


def _ends(segment: Segment) -> tuple[Size, Size]:
    """The first and the last layer of a kind."""
    layers = segment.layers
    assert layers is not None  # noqa: S101  (the caller asked)
    lasts = (
        choose(layers.of(offset) > 0, layers.first + offset + layers.period * (layers.of(offset) - 1), -1)
        for offset in layers.offsets
    )
    start = layers.first + layers.offsets[0]
    return choose(layers.of(layers.offsets[0]) > 0, start, _NOWHERE), reduce(_later, lasts)


_NOWHERE = 2**40
"""Beyond the last layer."""


def _later(one: Size, other: Size) -> Size:
    return choose(other > one, other, one)
