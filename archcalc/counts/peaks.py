"""Every moment of a training step, or of a prefill and the decoding after it, that may be the peak of memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

from archcalc.counts.activations import cache, recurrent_state, saved, saved_by_name
from archcalc.counts.given import GIVEN, given
from archcalc.counts.inference import moments
from archcalc.counts.moments import Moment
from archcalc.counts.optimizer import gradients_held, kept_state, scratch
from archcalc.counts.parameters import Inventory, Parameters, kept_beside, params
from archcalc.counts.sharded import Parts
from archcalc.counts.stack import AXES
from archcalc.counts.stretches import AtOnce, Beside, Stretch, batch_bytes, stretches
from archcalc.counts.together import total
from archcalc.tape.autocast import autocast
from archcalc.tape.legend import Size, add, alongside, largest, where
from archcalc.tape.passes import Pass, Stage
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


def of_training(taken: Pass, keeping: Keeping) -> Iterator[Alive]:
    """Forward and backward through the segments; then the optimizer's step.

    A stage of a pipeline goes through one chunk of its segments while it holds what others saved.
    """
    counts, stage, width = params(taken), taken.stage, keeping.widths
    state = {**kept_state(counts, keeping, stage), "buffers": buffers(taken)}
    for chunk, others in _held_beside(taken, keeping, width):
        yield from _of_chunk(chunk, keeping, width, state, others)
    final = {
        **state,
        "gradients": state["gradients"] + _new_gradients(counts, keeping, stage),
        "temporaries": scratch(counts, keeping, stage),
        "inputs and loss": entering(taken, keeping),
    }
    yield Alive("step", "the optimizer", lambda: final)


def way(taken: Pass, keeping: Keeping, at_once: AtOnce) -> Iterator[tuple[Size, Size]]:
    """Of each chunk of a stage the most that is in use beside the state while a micro-batch goes through it and back,
    and what it saves on its way: both for each kind of recomputation.
    """
    for chunk, _ in _chunks(taken):
        segments = autocast(chunk).segments if keeping.recipe.autocast else chunk.segments
        each = [add(saved_by_name(segments, keeping.widths, span).values()) for span in at_once.spans]
        yield largest(_most(chunk, keeping, at_once)), alongside(each, AXES)


class Settled(NamedTuple):
    """What a rank has at the optimizer's step beside what comes in: what stays (`kept`, and `buffers`), gradients that
    are made anew in each step, and what the optimizer makes while it steps.
    """

    kept: Size
    buffers: Size
    gradients: Size
    scratch: Size


def settled(taken: Pass, counts: Parameters | Inventory, keeping: Keeping) -> Settled:
    """What a rank has at the optimizer's step, in bytes."""
    stage = taken.stage
    kept = add(kept_state(counts, keeping, stage).values())
    return Settled(kept, buffers(taken), _new_gradients(counts, keeping, stage), scratch(counts, keeping, stage))


def entering(taken: Pass, keeping: Keeping) -> Size:
    """Tokens and targets of a micro-batch, and its loss."""
    return batch_bytes(taken.segments, keeping.widths) + (4 if taken.ends else 0)


def _new_gradients(counts: Parameters | Inventory, keeping: Keeping, stage: Stage) -> Size:
    """Gradients that the backward pass makes and the step reads, where they are not kept from step to step."""
    return 0 if keeping.holds else gradients_held(counts, stage) * keeping.recipe.gradient


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


def _of_chunk(taken: Pass, keeping: Keeping, width: Widths, state: Parts, others: Size) -> Iterator[Alive]:
    """Every moment of a micro-batch's way through segments, and back."""
    for stretch in stretches(taken, keeping, width):
        for moment in stretch.moments:
            for beside in stretch.beside:
                made = partial(_parts, stretch, moment, beside, state, others)
                yield Alive(moment.phase, moment.op, made)


def _parts(stretch: Stretch, moment: Moment, beside: Beside, state: Parts, others: Size) -> Parts:
    held, head, place = add(beside.before), stretch.segment.name == "head", beside.place
    waiting = beside.waiting - beside.past_parts if moment.past_parts else beside.waiting
    found = {
        **state,
        "saved activations": held + (0 if head else moment.saved),
        "activations of other micro-batches": others,
        "saved by the head": moment.saved if head else 0,
        "recomputed": moment.recomputed,
        "temporaries": moment.transient + waiting,
        "inputs and loss": beside.inputs,
    }
    gradients = stretch.shares.gradients(moment.gradients, add(beside.gradients))
    for name, n in (*gradients.items(), *beside.more.items()):
        found[name] = found.get(name, 0) + n
    return found if place.there is True else {name: n * place.there for name, n in found.items()}


def _most(taken: Pass, keeping: Keeping, at_once: AtOnce) -> Iterator[Size]:
    """The largest moments of each stretch, of all places at which it is."""
    for stretch in stretches(taken, keeping, keeping.widths, at_once):
        for beside in stretch.beside:
            rest = add((*beside.before, *beside.gradients, *beside.more.values(), beside.inputs, beside.waiting))
            for one in stretch.moments:
                past = beside.past_parts if one.past_parts else 0
                found = where(beside.place.there, total(one) + rest - past)
                yield found.max(axis=0) if getattr(found, "ndim", 0) > AXES + 1 else found


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
