"""Every moment of a training step, or of a prefill and the decoding after it, that may be the peak of memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

from archcalc.counts.activations import RECOMPUTED, cache, recurrent_state, saved, twice
from archcalc.counts.given import GIVEN, given, handed_on
from archcalc.counts.inference import moments
from archcalc.counts.liveness import Walk
from archcalc.counts.moments import Gradients, Moment
from archcalc.counts.optimizer import gradients_held, kept_state, scratch
from archcalc.counts.parameters import Parameters, kept_beside, params
from archcalc.counts.sharded import Parts, is_sharded, step
from archcalc.counts.sharing import Turn
from archcalc.counts.stack import Place, Spread, Stack, is_many
from archcalc.counts.ways import Ways
from archcalc.tape.autocast import autocast
from archcalc.tape.legend import Size, add, choose, largest, volume
from archcalc.tape.passes import Pass, Segment, Stage
from archcalc.tape.precision import BITS, FORMATS, Keeping, compute_width
from archcalc.tape.roles import Widths, widths


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
    """Forward and backward through the segments; then the optimizer's step.

    A stage of a pipeline goes through one chunk of its segments while it holds what others saved.
    """
    counts, stage, width = params(taken), taken.stage, keeping.widths
    state = {**kept_state(counts, keeping, stage), "buffers": buffers(taken)}
    for chunk, others in _held_beside(taken, keeping, width):
        yield from _of_chunk(chunk, counts, keeping, width, state, others)
    final = {
        **state,
        "gradients": state["gradients"] + _new_gradients(counts, keeping, stage),
        "temporaries": scratch(counts, keeping, stage),
        "inputs and loss": entering(taken, keeping),
    }
    yield Alive("step", "the optimizer", lambda: final)


def way(taken: Pass, keeping: Keeping) -> Iterator[tuple[Size, Size]]:
    """Of each chunk of a stage the most that is in use beside the state while a micro-batch goes through it and back,
    and what it saves on its way.
    """
    counts, width = params(taken), keeping.widths
    for chunk, _ in _chunks(taken):
        most = largest(moment.total for moment in _of_chunk(chunk, counts, keeping, width, {}, 0))
        yield most, _saved(chunk, keeping, width)


def settled(taken: Pass, keeping: Keeping) -> tuple[Size, Size]:
    """What stays from step to step, and what the optimizer's step needs beside that and what comes in."""
    counts, stage = params(taken), taken.stage
    state = add(kept_state(counts, keeping, stage).values()) + buffers(taken)
    return state, _new_gradients(counts, keeping, stage) + scratch(counts, keeping, stage)


def entering(taken: Pass, keeping: Keeping) -> Size:
    """Tokens and targets of a micro-batch, and its loss."""
    return _batch(taken.segments, keeping.widths) + (4 if taken.ends else 0)


def _new_gradients(counts: Parameters, keeping: Keeping, stage: Stage) -> Size:
    """Gradients that the backward pass makes and the step reads, where they are not kept from step to step."""
    return 0 if keeping.holds else gradients_held(counts, stage) * keeping.recipe.gradient


def _batch(segments: list[Segment], width: Widths) -> Size:
    """Bytes of tokens, which the embedding reads, and of targets, which the head does."""
    ends = [segment for segment in segments if segment.layers is None]
    return add(width["index"] * volume(("B", "S"), segment.env) for segment in ends)


def _chunks(taken: Pass) -> Iterator[tuple[Pass, Size]]:
    """Each chunk of a stage, and of how many micro-batches it holds what it saved."""
    at = 0
    for count, micro_batches in taken.stage.chunks:
        stage = taken.stage._replace(chunks=((count, micro_batches),))
        yield Pass(taken.run, taken.segments[at : at + count], taken.source, stage), micro_batches
        at += count


def _saved(chunk: Pass, keeping: Keeping, width: Widths) -> Size:
    return saved(chunk, chunk.run, width, keeping.recompute, cast=keeping.recipe.autocast).total


def _held_beside(taken: Pass, keeping: Keeping, width: Widths) -> Iterator[tuple[Pass, Size]]:
    """Each chunk of a stage, with what is saved by other micro-batches and other chunks meanwhile."""
    found = list(_chunks(taken))
    if len(found) == 1 and found[0][1] == 1:
        yield found[0][0], 0
        return
    each = [_saved(chunk, keeping, width) for chunk, _ in found]
    every = add(n * each[i] for i, (_, n) in enumerate(found))
    for i, (chunk, n) in enumerate(found):
        if n:
            yield chunk, every - each[i]


def _of_chunk(
    taken: Pass, counts: Parameters, keeping: Keeping, width: Widths, state: Parts, others: Size
) -> Iterator[Alive]:
    """Every moment of a micro-batch's way through segments, and back."""
    recipe = keeping.recipe
    taken = autocast(taken) if recipe.autocast else taken
    batch = _batch(taken.segments, width)
    span = RECOMPUTED[keeping.recompute]
    ways = Ways(taken, width, span, _gradients(taken, keeping))
    walks, sharing = ways.walks, ways.sharing
    stacks = [Stack(group) for group in taken.groups]
    shares = step(taken, stacks, counts, keeping, walks)
    constants, tables = (given(taken.segments, width, role)[-1] for role in GIVEN)
    angles = given(taken.segments, width, "table", saved=True)
    recomputes = keeping.recompute != "none"

    def parts(
        moment: Moment,
        segment: Segment,
        place: Place,
        before: Sum,
        gradients: Sum,
        more: Parts,
        *,
        inputs: Size,
        waiting: Size = 0,
    ) -> Alive:
        """`before` is saved by layers that come before this one, `gradients` are those of layers after it; `waiting`
        are those of parts of what was made for all layers, and `more` is what is gathered and reduced.

        Both sums are added up when they are asked for: of many layers in letters that takes its time at each moment.
        """

        def made() -> dict[str, Size]:
            held, head = add(before), segment.name == "head"
            found = {
                **state,
                "saved activations": held + (0 if head else moment.saved),
                "activations of other micro-batches": others,
                "saved by the head": moment.saved if head else 0,
                "recomputed": moment.recomputed,
                "temporaries": moment.transient + waiting,
                "inputs and loss": inputs,
            }
            for name, n in (*shares.gradients(moment.gradients, add(gradients)).items(), *more.items()):
                found[name] = found.get(name, 0) + n
            return found if place.there is True else {name: n * place.there for name, n in found.items()}

        return Alive(moment.phase, moment.op, made)

    before: Size = 0
    copied: Size = 0  # cast weights that nothing saved
    befores: list[tuple[Size, Spread]] = []
    for stack in stacks:
        moments_of = {id(segment): ways.forward(segment) for segment in stack.group}
        saved_by, copies = (stack.spread(partial(_amount, walks, name)) for name in ("saved", "copied"))
        for segment in stack.group:
            fullest = stack.places(segment) if sharing.blocks else _fullest(stack, segment, saved_by.before)
            for place in shares.places(segment) or fullest:
                cast, kept = copied + copies.before(place), (before, saved_by.before(place))
                again_read = sharing.read_again(segment, place)
                during, at = shares.forward(stack, segment, place), shares.around("forward", stack, segment, place)
                for moment, more in (*at, *((moment, during) for moment in moments_of[id(segment)])):
                    held = moment._replace(transient=moment.transient + cast + again_read)
                    yield parts(held, segment, place, kept, (), more, inputs=batch + constants + tables)
        befores.append((before, saved_by))
        again = twice(taken.segments, width, span) if stack is stacks[0] else 0
        before, copied = before + saved_by.total - again, copied + copies.total
    gradients: Size = 0
    waiting: Size = 0
    parts_made = handed_on(taken.segments[0], width)  # gone when the first layer is done with its own
    hands_on = bool(taken.segments[0].tape.handed_on)
    for stack, (before, saved_by) in reversed(list(zip(stacks, befores, strict=True))):
        for segment in stack.group:
            ways.backward(segment, Turn())  # what its layers hand on is known then
        # Angles stay until the backward pass of the first layer that turns by them; what is computed again reads all.
        held_again = constants + tables if recomputes else angles[taken.segments.index(stack.group[-1])]
        learned = stack.spread(lambda segment: shares.left(walks[id(segment)]))
        wait = stack.spread(partial(_amount, walks, "handed_back"))
        for segment in reversed(stack.group):
            first = segment.name == "embedding"
            inputs = batch + (_LOSS if taken.ends else 0) + (0 if first else held_again)

            def held_at(
                place: Place, segment: Segment = segment, learned: Spread = learned, saved_by: Spread = saved_by
            ) -> Size:
                return saved_by.before(place) + learned.after(place, segment)

            # Of alike layers one is first, with the others' activations, and one last, with their gradients.
            begins = not recomputes and len(stacks) > 1 and stack is stacks[1]
            found = shares.places(segment)
            places = [
                (
                    turn,
                    there,
                    (before, saved_by.before(place)),
                    (gradients, learned.after(place, segment), sharing.held(segment, place)),
                    0 if first else waiting + wait.after(place, segment) + sharing.waiting(segment, place),
                    choose(place.turn == 0, parts_made, 0) if begins and place.offset == 0 else 0,
                    shares.backward(stack, segment, place),
                )
                for place in found
                or (
                    stack.places(segment, more=bool(sharing.blocks))
                    if hands_on or sharing.blocks
                    else _fullest(stack, segment, held_at)
                )
                for turn, there in sharing.turns(segment, place)
            ]
            for turn in dict.fromkeys(turn for turn, *_ in places):
                for moment in ways.backward(segment, turn):
                    for _, place, kept, later, owed, last_read, more in (one for one in places if one[0] == turn):
                        gone = last_read if moment.past_parts else 0
                        yield parts(moment, segment, place, kept, later, more, inputs=inputs, waiting=owed - gone)
            for _, place, kept, later, owed, _, _ in places:
                for moment, more in shares.around("backward", stack, segment, place):
                    yield parts(moment, segment, place, kept, later, more, inputs=inputs, waiting=owed)
        gradients, waiting = gradients + learned.total, waiting + wait.total


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


_LOSS = 8  # the loss and its own gradient, fp32


def _gradients(taken: Pass, keeping: Keeping) -> Gradients:
    """Widths of a weight's gradient: what is shared stays as it is made until it is reduced."""
    if is_sharded(taken, keeping):
        return Gradients(keeping.recipe.arriving, 0)
    return Gradients(0, keeping.recipe.weight) if keeping.holds else Gradients(keeping.recipe.gradient, 0)


def of_inference(taken: Pass, keeping: Keeping) -> Iterator[Alive]:
    """A prompt that fills the cache, then one more token that reads it."""
    weights = weight_bytes(params(taken), keeping)
    width = widths(compute_width(keeping.precision), keeping.statistic)
    run = taken.run
    held = {
        "weights": weights,
        "buffers": buffers(taken),
        "key-value cache": cache(taken, run, keeping.kv_width, block=taken.stage.block),
        "recurrent state": recurrent_state(taken, run, width),
    }
    for phase in (run, run._replace(phase="decode", sequence=1, context=run.read, causal="full")):
        segments = taken.rerun(phase).segments
        made = add(given(segments, width, role)[-1] for role in GIVEN)
        tokens = 8 * phase.batch * phase.positions
        for op, passing in moments(segments, width):
            parts = {**held, "temporaries": passing + made, "inputs": tokens}
            yield Alive(phase.phase, op, partial(dict, parts))


def buffers(taken: Pass) -> Size:
    """Bytes of what a checkpoint has beside its parameters, in fp32."""
    return add(4 * one.parameters for one in kept_beside(taken))


def weight_bytes(counts: Parameters, keeping: Keeping) -> Size:
    if keeping.precision in FORMATS:
        from archcalc.counts.formats import format_bytes

        return format_bytes(counts, keeping.precision)
    return -(-counts.stored * BITS[keeping.precision] // 8)
