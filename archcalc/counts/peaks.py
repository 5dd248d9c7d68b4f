"""Every moment of a training step, or of a prefill and the decoding after it, that may be the peak of memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

from archcalc.counts.activations import RECOMPUTED, cache
from archcalc.counts.inference import moments
from archcalc.counts.liveness import Gradients, Moment, Uses, Walk
from archcalc.counts.optimizer import kept_state, scratch
from archcalc.counts.parameters import Parameters, params
from archcalc.counts.stack import Place, Spread, Stack, is_many
from archcalc.tape.autocast import autocast
from archcalc.tape.legend import Size, add, largest, volume
from archcalc.tape.ops import Tensor
from archcalc.tape.passes import Pass, Segment
from archcalc.tape.precision import BITS, Keeping, compute_width
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
    state = kept_state(counts, keeping)
    batch = 2 * width["index"] * run.batch * run.sequence  # tokens and targets
    span = RECOMPUTED[keeping.recompute]
    kinds = Gradients(0, recipe.weight) if keeping.holds else Gradients(recipe.gradient, 0)
    uses = Uses(taken.segments)
    walks = {id(segment): Walk(segment, width, span, gradients=kinds, uses=uses) for segment in taken.segments}
    stacks = [Stack(group) for group in taken.groups]
    constants, tables = _given(taken.segments, width, "constant"), _given(taken.segments, width, "table")
    recomputes = keeping.recompute != "none"

    def parts(moment: Moment, place: Place, before: Sum, gradients: Sum, *, inputs: Size, head: bool) -> Alive:
        """`before` is saved by layers that come before this one, `gradients` are those of layers after it.

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
                "temporaries": moment.transient + (new if keeping.holds else 0),
                "inputs and loss": inputs,
            }
            return found if place.there is True else {name: n * place.there for name, n in found.items()}

        return Alive(moment.phase, moment.op, made)

    before: Size = 0
    copied: Size = 0  # cast weights that nothing saved
    befores: list[tuple[Size, Spread]] = []
    for stack in stacks:
        moments_of = {id(segment): list(walks[id(segment)].forward()) for segment in stack.group}
        saved, copies = (stack.spread(partial(_amount, walks, name)) for name in ("saved", "copied"))
        for segment in stack.group:
            head = segment is taken.segments[-1]
            for place in _fullest(stack, segment, saved.before):
                cast = copied + copies.before(place)
                for moment in moments_of[id(segment)]:
                    held = moment._replace(transient=moment.transient + cast)
                    yield parts(
                        held, place, (before, saved.before(place)), (), inputs=batch + constants + tables, head=head
                    )
        befores.append((before, saved))
        before, copied = before + saved.total, copied + copies.total
    gradients: Size = 0
    for stack, (before, saved) in reversed(list(zip(stacks, befores, strict=True))):
        moments_of = {id(segment): list(walks[id(segment)].backward()) for segment in stack.group}
        # Angles stay until the backward pass of the first layer that turns by them; what is computed again reads all.
        before_it = taken.segments[: taken.segments.index(stack.group[-1]) + 1]
        held_again = constants + tables if recomputes else _given(before_it, width, "table")
        learned = stack.spread(partial(_amount, walks, "gradients"))
        for segment in reversed(stack.group):
            head = segment is taken.segments[-1]
            inputs = batch + _LOSS + (0 if segment is taken.segments[0] else held_again)

            def held_at(
                place: Place, segment: Segment = segment, learned: Spread = learned, saved: Spread = saved
            ) -> Size:
                return saved.before(place) + learned.after(place, segment)

            places = list(_fullest(stack, segment, held_at))
            for moment in moments_of[id(segment)]:
                # Of alike layers one is first, with the others' activations, and one last, with their gradients.
                for place in places:
                    sums = (before, saved.before(place)), (gradients, learned.after(place, segment))
                    yield parts(moment, place, *sums, inputs=inputs, head=head)
        gradients = gradients + learned.total
    final = {
        **state,
        "gradients": state["gradients"] + (0 if keeping.holds else gradients),
        "temporaries": scratch(counts, keeping),
        "inputs and loss": batch + 4,
    }
    yield Alive("step", "the optimizer", lambda: final)


def _amount(walks: dict[int, Walk], name: str, segment: Segment) -> Size:
    found: Size = getattr(walks[id(segment)], name)
    return found


def _fullest(stack: Stack, segment: Segment, held: Callable[[Place], Size]) -> Iterator[Place]:
    """The place of a kind at which most is held by other layers; of arrays, and of one kind alone, all that may be."""
    places = list(stack.places(segment))
    if len(stack.order) == 1 or is_many(segment.layers):
        yield from places
        return
    most = places[0]
    for place in places[1:]:
        most = place if held(place) > held(most) else most
    yield most


_LOSS = 8  # the loss and its own gradient, fp32


def _given(segments: list[Segment], width: Widths, role: Role) -> Size:
    """What is made once for a pass and read in all layers: masks of math attention, and angles of rotary positions."""
    found: dict[str, Size] = {}
    for segment in segments:
        for x in [x for op in segment.ops for x in op.inputs if isinstance(x, Tensor) and x.role == role]:
            size = volume(x.labels, segment.env) * width[role]
            if segment.layers is not None and is_many(segment.layers):  # a pattern longer than some of the groups
                size = largest((found.get(x.name, 0), size * (segment.repeat > 0)))
                found[x.name] = size
            found.setdefault(x.name, size)
    return add(found.values())


def of_inference(taken: Pass, keeping: Keeping) -> Iterator[Alive]:
    """A prompt that fills the cache, then one more token that reads it."""
    weights = weight_bytes(params(taken), keeping)
    width = widths(compute_width(keeping.precision), keeping.statistic)
    run = taken.run
    held = cache(taken, run, keeping.kv_width)
    for phase in (run, run._replace(phase="decode", sequence=1, context=run.read, causal="full")):
        segments = taken.rerun(phase).segments
        given = _given(segments, width, "constant") + _given(segments, width, "table")
        tokens = 8 * phase.batch * phase.positions
        for op, passing in moments(segments, width):
            parts = {"weights": weights, "key-value cache": held, "temporaries": passing + given, "inputs": tokens}
            yield Alive(phase.phase, op, partial(dict, parts))


def weight_bytes(counts: Parameters, keeping: Keeping) -> Size:
    return -(-counts.stored * BITS[keeping.precision] // 8)
