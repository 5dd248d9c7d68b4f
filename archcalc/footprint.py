"""Memory of one device: what is alive at each moment of training or inference, and the terms of the peak."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import groupby
from typing import Literal, NamedTuple

from archcalc.activations import RECOMPUTED, Widths, cache, widths
from archcalc.arguments import has_segments, instance
from archcalc.count import Parameters, params
from archcalc.errors import Invalid, Problem, shown
from archcalc.legend import Size, add, largest, volume
from archcalc.liveness import Gradients, Moment, Uses, Walk
from archcalc.precision import BITS, DEFAULTS, MOMENTS, Keeping, compute_width, refuse_other_purpose
from archcalc.run import MEMORY_KERNEL, Run
from archcalc.spec import Model, Segment
from archcalc.tape import Tensor

Kind = Literal["exact", "modelled", "allowance"]

COUNTED = "parameters of the reference x width"
AUTOGRAD = "autograd's saved tensors (meta)"
RULES = "autograd's rules, exact on small steps"
CACHED = "the reference's own cache"


class Term(NamedTuple):
    """Bytes that are alive at the peak, and how they are known: exact by a witness, or modelled."""

    name: str
    bytes: Size
    kind: Kind
    witness: str


class Phase(NamedTuple):
    """The most bytes that are alive in one phase."""

    phase: str
    bytes: Size


class Memory(NamedTuple):
    """Bytes on one device: `total` is the largest of `phases`, and the sum of `terms`, what is alive at that moment.

    `peak` names the moment. `state` is what stays from step to step: weights, their gradients, the optimizer's.
    """

    purpose: Literal["training", "inference"]
    total: Size
    terms: tuple[Term, ...]
    phases: tuple[Phase, ...]
    peak: str
    state: Size


class Alive(NamedTuple):
    """What is alive at one moment, in bytes, by name; worked out when it is asked for."""

    phase: str
    at: str
    parts: Callable[[], dict[str, Size]]

    @property
    def total(self) -> Size:
        return add(self.parts().values())


class Chosen(NamedTuple):
    """Which of all moments is the peak, and which is the largest of each phase, by index."""

    peak: int
    phases: dict[str, int]


def memory(model: Model, run: Run, keeping: Keeping | None = None, chosen: Chosen | None = None) -> Memory:
    """What one device holds at the peak of a training step, or of a prompt read and a token added.

    `run.phase` is training, or prefill: then `run.sequence` positions are read, and as many are in the cache.

    Takes ints; for arrays see `peak_bytes`. Takes letters too, for which the moments should be `chosen` by ints: to
    add up the formulas of every moment takes its time.

    Raises Invalid for decode, which is part of prefill here, and for a keeping of the other purpose.
    """
    has_segments("memory", model)
    instance("memory", "run", run, Run)
    if keeping is not None:
        instance("memory", "keeping", keeping, Keeping)
    if run.phase == "decode":
        message, fix = "of memory is training or prefill", "prefill reads a prompt and adds a token"
        raise Invalid(Problem("Run", message, "phase", value=shown("decode"), suggestion=fix))
    keeping = _settled(run, keeping)
    refuse_other_purpose("training" if run.phase == "training" else "inference", keeping)
    found = list(alive(model, run, keeping))
    chosen = chosen or choose(found)
    peak = found[chosen.peak]
    terms = tuple(_term(name, n, run, keeping) for name, n in peak.parts().items() if n != 0)
    return Memory(
        "training" if run.phase == "training" else "inference",
        add(term.bytes for term in terms),
        terms,
        tuple(Phase(name, found[index].total) for name, index in chosen.phases.items()),
        f"{peak.phase}, {peak.at}",
        state_bytes(params(model), run, keeping),
    )


def choose(moments: list[Alive]) -> Chosen:
    """The largest moments, the first of equals."""
    totals = [moment.total for moment in moments]
    phases: dict[str, int] = {}
    for index, moment in enumerate(moments):
        if moment.phase not in phases or totals[index] > totals[phases[moment.phase]]:
            phases[moment.phase] = index
    peak = 0
    for index in phases.values():
        peak = index if totals[index] > totals[peak] else peak
    return Chosen(peak, phases)


def peak_bytes(model: Model, run: Run, keeping: Keeping | None = None) -> Size:
    """The total alone; takes arrays too."""
    return largest(moment.total for moment in alive(model, run, _settled(run, keeping)))


def state_bytes(counts: Parameters, run: Run, keeping: Keeping | None = None) -> Size:
    """What is kept of the parameters: in training 16 or 18 bytes each with mixed precision and AdamW."""
    keeping = _settled(run, keeping)
    if run.phase != "training":
        return _weight_bytes(counts, keeping)
    return add(_state(counts, keeping).values()) + (0 if keeping.holds else counts.stored * keeping.recipe.gradient)


def alive(model: Model, run: Run, keeping: Keeping) -> Iterator[Alive]:
    """Every moment that could be the peak."""
    run = run.by_default(MEMORY_KERNEL)
    return _training(model, run, keeping) if run.phase == "training" else _inference(model, run, keeping)


def _settled(run: Run, keeping: Keeping | None) -> Keeping:
    return keeping or Keeping(DEFAULTS["training" if run.phase == "training" else "inference"])


def _state(counts: Parameters, keeping: Keeping) -> dict[str, Size]:
    """What stays from step to step."""
    recipe, moments = keeping.recipe, MOMENTS[keeping.optimizer]
    counters = 0 if keeping.optimizer == "sgd" else 4 * _tensors(counts)  # AdamW's: how many steps were taken
    return {
        "weights": counts.stored * recipe.weight,
        "gradients": counts.stored * recipe.gradient if keeping.holds else 0,
        "master weights": counts.stored * recipe.master,
        "optimizer state": counts.stored * (moments * recipe.moment) + counters,
    }


def _tensors(counts: Parameters) -> Size:
    return add(tensor.layers for tensor in counts.tensors)


def _training(model: Model, run: Run, keeping: Keeping) -> Iterator[Alive]:
    """Forward and backward through the segments; then the optimizer's step."""
    recipe, counts = keeping.recipe, params(model)
    segments = model.segments(run)
    width = widths(recipe.compute, keeping.statistic)
    state = _state(counts, keeping)
    batch = 2 * width["index"] * run.batch * run.sequence  # tokens and targets
    span = RECOMPUTED[keeping.recompute]
    kinds = Gradients(0, recipe.compute) if keeping.holds else Gradients(recipe.gradient, 0)
    uses = Uses(segments)
    walks = [Walk(segment, width, span, gradients=kinds, uses=uses) for segment in segments]
    constants = _constants(segments, width)
    held_again = constants if keeping.recompute != "none" else 0

    def parts(moment: Moment, before: Size, gradients: Size, *, inputs: Size, head: bool) -> Alive:
        """`before` is saved by segments that come before this one, `gradients` are those of segments after it."""

        def made() -> dict[str, Size]:
            new = gradients + moment.gradients
            return {
                **state,
                "gradients": state["gradients"] + (0 if keeping.holds else new),
                "saved activations": before + (0 if head else moment.saved),
                "saved by the head": moment.saved if head else 0,
                "recomputed": moment.recomputed,
                "in passing": moment.transient + (new if keeping.holds else 0),
                "inputs and loss": inputs,
            }

        return Alive(moment.phase, moment.op, made)

    before: Size = 0
    befores: list[Size] = []
    for walk in walks:
        head, repeat = walk is walks[-1], walk.segment.repeat
        for moment in list(walk.forward()):
            yield parts(moment, before + (repeat - 1) * walk.saved, 0, inputs=batch + constants, head=head)
        befores.append(before)
        before = before + repeat * walk.saved
    gradients: Size = 0
    for walk, before in reversed(list(zip(walks, befores, strict=True))):
        head, others = walk is walks[-1], walk.segment.repeat - 1
        saved, inputs = walk.saved, batch + _LOSS + (held_again if walk is not walks[0] else 0)
        for moment in list(walk.backward()):
            # Of layers that are alike one is first, with the others' activations, and one last, with their gradients.
            yield parts(moment, before + others * saved, gradients, inputs=inputs, head=head)
            if walk.segment.first is not None:
                yield parts(moment, before, gradients + others * walk.gradients, inputs=inputs, head=head)
        gradients = gradients + walk.segment.repeat * walk.gradients
    final = {
        **state,
        "gradients": state["gradients"] + (0 if keeping.holds else gradients),
        "in passing": _scratch(counts, keeping),
        "inputs and loss": batch + 4,
    }
    yield Alive("step", "the optimizer", lambda: final)


_LOSS = 8  # the loss and its own gradient, fp32


def _constants(segments: list[Segment], width: Widths) -> Size:
    """What is made once for a pass and read in all layers: the mask of math attention."""
    found: dict[str, Size] = {}
    for segment in segments:
        for x in [x for op in segment.tape.ops for x in op.inputs if isinstance(x, Tensor) and x.role == "constant"]:
            found.setdefault(x.name, volume(x.labels, segment.env) * width["activation"])
    return add(found.values())


def _scratch(counts: Parameters, keeping: Keeping) -> Size:
    """What an optimizer makes beside its state, one tensor at a time.

    torch.optim.AdamW makes the root of the second moment and the divisor, while the last tensor's divisor is still
    there. SGD works in place. Both make a number a tensor, in two types. Mixed precision is taken for one kernel that
    needs nothing.
    """
    recipe = keeping.recipe
    if recipe.master:
        return 0
    scalars = 8 + recipe.moment
    if keeping.optimizer == "sgd":
        return scalars
    if keeping.optimizer == "adamw-foreach":
        return counts.stored * recipe.moment  # the roots of all second moments at once
    sizes: list[Size] = []
    for first, group in groupby(counts.tensors, lambda tensor: tensor.first):
        one_layer = [tensor.parameters // tensor.layers for tensor in group]
        sizes += one_layer if first is None else one_layer * 2  # a layer's first tensor follows a layer's last
    pairs = [2 * size + last for last, size in zip([0, *sizes], sizes, strict=False)]
    return largest(pairs) * recipe.moment + scalars


def _weight_bytes(counts: Parameters, keeping: Keeping) -> Size:
    return -(-counts.stored * BITS[keeping.precision] // 8)


def _inference(model: Model, run: Run, keeping: Keeping) -> Iterator[Alive]:
    """A prompt that fills the cache, then one more token that reads it."""
    weights, width = _weight_bytes(params(model), keeping), compute_width(keeping.precision)
    held = cache(model, run, keeping.kv_width)
    for phase in (run, run._replace(phase="decode", sequence=1, context=run.read, causal="full")):
        segments = model.segments(phase)
        constants = _constants(segments, widths(width))
        tokens = 8 * phase.batch * phase.positions
        for segment in segments:
            for moment in Walk(segment, widths(width), learns=False).forward():
                passing = moment.transient + constants
                parts = {"weights": weights, "key-value cache": held, "in passing": passing, "inputs": tokens}
                yield Alive(phase.phase, moment.op, partial(dict, parts))


def _term(name: str, n: Size, run: Run, keeping: Keeping) -> Term:
    """A part of the peak with how it is known: the parameters and what autograd saves are proven, the rest follows."""
    exact, modelled = partial(Term, name, n, "exact"), partial(Term, name, n, "modelled")
    if name == "weights" and run.phase != "training" and BITS[keeping.precision] < 16:
        return modelled("every weight at this width, without scales")
    if name in ("weights", "gradients", "master weights", "optimizer state"):
        return exact(COUNTED)
    if name == "key-value cache":
        own = keeping.kv_width == compute_width(keeping.precision)
        return exact(CACHED) if own else modelled("keys and values at this width, without scales")
    if name in ("saved activations", "saved by the head", "recomputed"):
        proven = not run.dropout and keeping.recompute != "selective"
        return exact(AUTOGRAD) if proven else modelled("what the tape's backward pass reads again")
    return modelled(RULES if run.phase == "training" else "a kernel's input and output at a time")
