"""The way of a micro-batch through a part of the model, and back: moments of each layer, and what is beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import NamedTuple

from archcalc.counts.activations import RECOMPUTED, twice
from archcalc.counts.given import GIVEN, given, handed_on
from archcalc.counts.liveness import Walk
from archcalc.counts.moments import Gradients, Moment
from archcalc.counts.sharded import Parts, Step, is_sharded, step
from archcalc.counts.sharing import Turn
from archcalc.counts.stack import AXES, Place, Spread, Stack, is_many, joined
from archcalc.counts.together import Together
from archcalc.counts.ways import Walked, Ways
from archcalc.tape.autocast import autocast
from archcalc.tape.legend import Size, add, alongside, choose, volume
from archcalc.tape.passes import Pass, Segment
from archcalc.tape.precision import Keeping, Recompute
from archcalc.tape.roles import Widths

Sum = tuple[Size, ...]  # numbers that are still to be added


class Beside(NamedTuple):
    """What is in use beside the moments of one layer.

    `before` is saved by layers that come before it, `gradients` are those of layers after it; `waiting` are those of
    parts of what was made for all layers, less what is gone `past_parts`, and `more` is what is gathered and reduced.
    Both sums are added up when they are asked for: of many layers in letters that takes its time at each moment.
    """

    place: Place
    before: Sum
    gradients: Sum
    more: Parts
    inputs: Size
    waiting: Size = 0
    past_parts: Size = 0


class Stretch(NamedTuple):
    """Moments of a layer, each at several places, with what is in use beside them there."""

    segment: Segment
    shares: Step
    moments: list[Moment]
    beside: list[Beside]


def batch_bytes(segments: list[Segment], width: Widths) -> Size:
    """Bytes of tokens, which the embedding reads, and of targets, which the head does."""
    ends = [segment for segment in segments if segment.layers is None]
    return add(width["index"] * volume(("B", "S"), segment.env) for segment in ends)


class AtOnce(NamedTuple):
    """Ways of a micro-batch that are counted together: what is recomputed in each, and layers of other passes.

    Of the moments there are then the largest alone, and places at which a layer may stand are one place.
    """

    recompute: tuple[Recompute, ...]
    known: Walked

    @property
    def spans(self) -> list[str | None]:
        """What is recomputed, by the names of spans of the tape."""
        return [RECOMPUTED[kind] for kind in self.recompute]


def stretches(taken: Pass, keeping: Keeping, width: Widths, at_once: AtOnce | None = None) -> Iterator[Stretch]:
    """Every moment of a micro-batch's way through segments, and back; or of several, `at_once`."""
    recipe = keeping.recipe
    taken = autocast(taken) if recipe.autocast else taken
    batch = batch_bytes(taken.segments, width)
    spans = at_once.spans if at_once else [RECOMPUTED[keeping.recompute]]
    ways = Ways(taken, width, spans, _gradients(taken, keeping), at_once.known if at_once else None)
    walks, sharing = ways.walks, ways.sharing
    stacks = [Stack(group) for group in taken.groups]
    shares = step(taken, stacks, keeping, walks)
    constants, tables = (given(taken.segments, width, role)[-1] for role in GIVEN)
    angles = given(taken.segments, width, "table", saved=True)
    together: Callable[[Iterable[Place]], Iterable[Place]] = joined if at_once else iter

    def of_each(number: Callable[[str | None], Size]) -> Size:
        """A number that depends on what is recomputed, in each way."""
        return alongside([number(span) for span in spans], AXES)

    before: Size = 0
    copied: Size = 0  # cast weights that nothing saved
    befores: list[tuple[Size, Spread]] = []
    for stack in stacks:
        moments_of = {id(segment): ways.forward(segment) for segment in stack.group}
        saved_by, copies = (stack.spread(partial(_amount, walks, name)) for name in ("leaves", "copied"))
        for segment in stack.group:
            fullest = stack.places(segment) if sharing.blocks else _fullest(stack, segment, saved_by.before)
            for place in together(shares.places(segment) or fullest):
                cast, kept = copied + copies.before(place), (before, saved_by.before(place))
                during, at = shares.forward(stack, segment, place), shares.around("forward", stack, segment, place)
                for moments, more in (*(([moment], more) for moment, more in at), (moments_of[id(segment)], during)):
                    inputs, again_read = batch + constants + tables, sharing.read_again(segment, place)
                    here = Beside(place, kept, (), more, inputs, cast + again_read)
                    yield Stretch(segment, shares, moments, [here])
        befores.append((before, saved_by))
        again = of_each(partial(twice, taken.segments, width)) if stack is stacks[0] else 0
        before, copied = before + saved_by.total - again, copied + copies.total
    gradients: Size = 0
    waiting: Size = 0
    # Gone when the first layer is done with its own; what is computed again needs them longer.
    parts_made = of_each(lambda span: 0 if span else handed_on(taken.segments[0], width))
    hands_on = bool(taken.segments[0].tape.handed_on)
    for stack, (before, saved_by) in reversed(list(zip(stacks, befores, strict=True))):
        for segment in stack.group:
            ways.backward(segment, Turn())  # what its layers hand on is known then
        # Angles stay until the backward pass of the first layer that turns by them; what is computed again reads all.
        turned_by = angles[taken.segments.index(stack.group[-1])]
        held_again = of_each(partial(_angles, constants + tables, turned_by))
        learned = stack.spread(lambda segment: shares.left(segment, walks[id(segment)]))
        wait = stack.spread(partial(_amount, walks, "handed_back"))
        for segment in reversed(stack.group):
            first = segment.name == "embedding"
            inputs = batch + (_LOSS if taken.ends else 0) + (0 if first else held_again)

            def held_at(
                place: Place, segment: Segment = segment, learned: Spread = learned, saved_by: Spread = saved_by
            ) -> Size:
                return saved_by.before(place) + learned.after(place, segment)

            # Of alike layers one is first, with the others' activations, and one last, with their gradients.
            begins = len(stacks) > 1 and stack is stacks[1]
            found = shares.places(segment)
            every: list[Beside] = []
            beside: dict[Turn, list[Beside]] = {}
            for place in together(
                found
                or (
                    stack.places(segment, more=bool(sharing.blocks))
                    if hands_on or sharing.blocks
                    else _fullest(stack, segment, held_at)
                )
            ):
                for turn, there in sharing.turns(segment, place):
                    here = Beside(
                        there,
                        (before, saved_by.before(place)),
                        (gradients, learned.after(place, segment), sharing.held(segment, place)),
                        shares.backward(stack, segment, place),
                        inputs,
                        0 if first else waiting + wait.after(place, segment) + sharing.waiting(segment, place),
                        choose(place.turn == 0, parts_made, 0) if begins and place.offset == 0 else 0,
                    )
                    beside.setdefault(turn, []).append(here)
                    every.append(here)
            for turn, mine in beside.items():
                yield Stretch(segment, shares, ways.backward(segment, turn), mine)
            for here in every:
                for moment, more in shares.around("backward", stack, segment, here.place):
                    yield Stretch(segment, shares, [moment], [here._replace(more=more, past_parts=0)])
        gradients, waiting = gradients + learned.total, waiting + wait.total


def _angles(all_of_them: Size, turned_by: Size, span: str | None) -> Size:
    return all_of_them if span else turned_by


def _amount(walks: dict[int, Walk | Together], name: str, segment: Segment) -> Size:
    found: Size = getattr(walks[id(segment)], name)
    return found


def _fullest(stack: Stack, segment: Segment, held: Callable[[Place], Size]) -> Iterator[Place]:
    """The place of a kind at which most is held by other layers; of arrays, and of one kind alone, all that may be."""
    places = list(stack.places(segment))
    if len(stack.order) == 1 or is_many(segment.layers):
        yield from places
        return
    amounts = [held(place) for place in places]
    if any(hasattr(amount, "dtype") for amount in amounts):
        yield from places
        return
    most = 0
    for i, amount in enumerate(amounts):
        most = i if amount > amounts[most] else most
    yield places[most]


_LOSS = 8  # the loss and its own gradient, fp32


def _gradients(taken: Pass, keeping: Keeping) -> Gradients:
    """Widths of a weight's gradient: what is shared stays as it is made until it is reduced."""
    if is_sharded(taken, keeping):
        return Gradients(keeping.recipe.arriving, 0)
    return Gradients(0, keeping.recipe.weight) if keeping.holds else Gradients(keeping.recipe.gradient, 0)
