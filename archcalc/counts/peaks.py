"""Every moment of a training step, or of a prefill and the decoding after it, that may be the peak of memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

from archcalc.counts.activations import RECOMPUTED, cache, recurrent_state, twice
from archcalc.counts.inference import moments
from archcalc.counts.liveness import Walk
from archcalc.counts.moments import Gradients, Moment
from archcalc.counts.optimizer import kept_state, scratch
from archcalc.counts.parameters import Parameters, kept_beside, params
from archcalc.counts.sharing import Turn
from archcalc.counts.stack import Place, Spread, Stack, is_many
from archcalc.counts.ways import Ways
from archcalc.tape.autocast import autocast
from archcalc.tape.legend import Mask, Size, add, choose, volume, where
from archcalc.tape.ops import Tensor
from archcalc.tape.passes import Pass, Segment
from archcalc.tape.precision import BITS, FORMATS, Keeping, compute_width
from archcalc.tape.roles import Role, Widths, widths


class Alive(NamedTuple):
    """Bytes in use at one moment, by name; computed on demand."""

    phase: str
    at: str
    parts: Callable[[], dict[str, Size]]

    @property
    def total(self) -> Size:
        return add(self.parts().values())


Sum = tuple[Size, ...]  # numbers that are still to be added


def of_training(taken: Pass, keeping: Keeping) -> Iterator[Alive]:
    """Forward and backward through the segments; then the optimizer's step."""
    recipe, counts, run = keeping.recipe, params(taken), taken.run
    taken = autocast(taken) if recipe.autocast else taken
    width = widths(recipe.compute, keeping.statistic, recipe.weight)
    state = {**kept_state(counts, keeping), "buffers": buffers(taken)}
    batch = 2 * width["index"] * run.batch * run.sequence  # tokens and targets
    span = RECOMPUTED[keeping.recompute]
    kinds = Gradients(0, recipe.weight) if keeping.holds else Gradients(recipe.gradient, 0)
    ways = Ways(taken, width, span, kinds)
    walks, sharing = ways.walks, ways.sharing
    stacks = [Stack(group) for group in taken.groups]
    constants, tables = (_given(taken.segments, width, role)[-1] for role in _GIVEN)
    angles = _given(taken.segments, width, "table", saved=True)
    recomputes = keeping.recompute != "none"

    def parts(
        moment: Moment, place: Place, before: Sum, gradients: Sum, *, inputs: Size, head: bool, waiting: Size = 0
    ) -> Alive:
        """`before` is saved by layers that come before this one, `gradients` are those of layers after it; `waiting`
        are those of parts of what was made for all layers.

        Both are added up when they are asked for: of many layers in letters that takes its time at each moment.
        """

        def made() -> dict[str, Size]:
            new, held = add(gradients) + moment.gradients, add(before)
            found = {
                **state,
                "gradients": state["gradients"] + (0 if keeping.holds else new),
                "saved activations": held + (0 if head else moment.saved),
                "saved by the head": moment.saved if head else 0,
                "recomputed": moment.recomputed,
                "temporaries": moment.transient + waiting + (new if keeping.holds else 0),
                "inputs and loss": inputs,
            }
            return found if place.there is True else {name: n * place.there for name, n in found.items()}

        return Alive(moment.phase, moment.op, made)

    before: Size = 0
    copied: Size = 0  # cast weights that nothing saved
    befores: list[tuple[Size, Spread]] = []
    for stack in stacks:
        moments_of = {id(segment): ways.forward(segment) for segment in stack.group}
        saved, copies = (stack.spread(partial(_amount, walks, name)) for name in ("saved", "copied"))
        for segment in stack.group:
            head = segment is taken.segments[-1]
            for place in stack.places(segment) if sharing.blocks else _fullest(stack, segment, saved.before):
                cast, kept = copied + copies.before(place), (before, saved.before(place))
                again_read = sharing.read_again(segment, place)
                for moment in moments_of[id(segment)]:
                    held = moment._replace(transient=moment.transient + cast + again_read)
                    yield parts(held, place, kept, (), inputs=batch + constants + tables, head=head)
        befores.append((before, saved))
        again = twice(taken.segments, width, span) if stack is stacks[0] else 0
        before, copied = before + saved.total - again, copied + copies.total
    gradients: Size = 0
    waiting: Size = 0
    parts_made = _handed_on(taken.segments[0], width)  # gone when the first layer is done with its own
    hands_on = bool(taken.segments[0].tape.handed_on)
    for stack, (before, saved) in reversed(list(zip(stacks, befores, strict=True))):
        for segment in stack.group:
            ways.backward(segment, Turn())  # what its layers hand on is known then
        # Angles stay until the backward pass of the first layer that turns by them; what is computed again reads all.
        held_again = constants + tables if recomputes else angles[taken.segments.index(stack.group[-1])]
        learned, wait = (stack.spread(partial(_amount, walks, name)) for name in ("gradients", "handed_back"))
        for segment in reversed(stack.group):
            head = segment is taken.segments[-1]
            inputs = batch + _LOSS + (0 if segment is taken.segments[0] else held_again)

            def held_at(
                place: Place, segment: Segment = segment, learned: Spread = learned, saved: Spread = saved
            ) -> Size:
                return saved.before(place) + learned.after(place, segment)

            # Of alike layers one is first, with the others' activations, and one last, with their gradients.
            first, begins = segment is taken.segments[0], not recomputes and len(stacks) > 1 and stack is stacks[1]
            places = [
                (
                    turn,
                    there,
                    (before, saved.before(place)),
                    (gradients, learned.after(place, segment), sharing.held(segment, place)),
                    0 if first else waiting + wait.after(place, segment) + sharing.waiting(segment, place),
                    choose(place.turn == 0, parts_made, 0) if begins and place.offset == 0 else 0,
                )
                for place in (
                    stack.places(segment, more=bool(sharing.blocks))
                    if hands_on or sharing.blocks
                    else _fullest(stack, segment, held_at)
                )
                for turn, there in sharing.turns(segment, place)
            ]
            for turn in dict.fromkeys(turn for turn, *_ in places):
                for moment in ways.backward(segment, turn):
                    for _, place, kept, later, owed, last_read in (one for one in places if one[0] == turn):
                        gone = last_read if moment.past_parts else 0
                        yield parts(moment, place, kept, later, inputs=inputs, head=head, waiting=owed - gone)
        gradients, waiting = gradients + learned.total, waiting + wait.total
    final = {
        **state,
        "gradients": state["gradients"] + (0 if keeping.holds else gradients + sharing.total),
        "temporaries": scratch(counts, keeping),
        "inputs and loss": batch + 4,
    }
    yield Alive("step", "the optimizer", lambda: final)


def _handed_on(segment: Segment, width: Widths) -> Size:
    """Bytes of what a segment makes for all layers behind it."""
    return add(volume(x.labels, segment.env) * width[x.role] for x in segment.tape.handed_on)


def _amount(walks: dict[int, Walk], name: str, segment: Segment) -> Size:
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


_GIVEN: tuple[Role, ...] = ("constant", "table")
_LOSS = 8  # the loss and its own gradient, fp32


def _given(segments: list[Segment], width: Widths, role: Role, *, saved: bool = False) -> list[Size]:
    """What is made once for a pass and read in all layers, of each segment and those before it together: masks of math
    attention, and angles of rotary positions. With `saved` what a backward pass reads again.
    """
    found: dict[str, list[tuple[tuple[Size, ...], Mask]]] = {}
    met: set[object] = set()
    totals: list[Size] = []
    total: Size = 0
    for segment in segments:
        there = segment.there
        ops = [op for op in segment.ops if op.learns or not saved]
        for x in [x for op in ops for x in op.inputs if isinstance(x, Tensor) and x.role == role]:
            sizes = tuple(segment.env[label] for label in x.by)
            one = tuple(id(n) if hasattr(n, "dtype") else n for n in sizes)
            key = x.name, one, None if there is True else id(segment)
            if key in met:
                continue
            met.add(key)
            new = _is_new(sizes, there, found.setdefault(x.name, []))
            found[x.name].append((sizes, there))
            total = total + where(new, volume(x.labels, segment.env) * width[role])
        totals.append(total)
    return totals


def _is_new(sizes: tuple[Size, ...], there: Mask, known: list[tuple[tuple[Size, ...], Mask]]) -> Mask:
    """Whether something is there that none of the known is, by the sizes that tell them apart; of arrays by row."""
    new = there
    for others, others_there in known:
        same = others_there
        for n, other in zip(sizes, others, strict=True):
            same = same & (n == other)
        new = new & (same ^ True)
    return new


def of_inference(taken: Pass, keeping: Keeping) -> Iterator[Alive]:
    """A prompt that fills the cache, then one more token that reads it."""
    weights = weight_bytes(params(taken), keeping)
    width = widths(compute_width(keeping.precision), keeping.statistic)
    run = taken.run
    held = {
        "weights": weights,
        "buffers": buffers(taken),
        "key-value cache": cache(taken, run, keeping.kv_width),
        "recurrent state": recurrent_state(taken, run, width),
    }
    for phase in (run, run._replace(phase="decode", sequence=1, context=run.read, causal="full")):
        segments = taken.rerun(phase).segments
        given = add(_given(segments, width, role)[-1] for role in _GIVEN)
        tokens = 8 * phase.batch * phase.positions
        for op, passing in moments(segments, width):
            parts = {**held, "temporaries": passing + given, "inputs": tokens}
            yield Alive(phase.phase, op, partial(dict, parts))


def buffers(taken: Pass) -> Size:
    """Bytes of what a checkpoint has beside its parameters, in fp32."""
    return add(4 * one.parameters for one in kept_beside(taken))


def weight_bytes(counts: Parameters, keeping: Keeping) -> Size:
    if keeping.precision in FORMATS:
        from archcalc.counts.formats import format_bytes

        return format_bytes(counts, keeping.precision)
    return -(-counts.stored * BITS[keeping.precision] // 8)
