"""Peak memory of one device in training or inference, and the terms that it consists of."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import groupby
from typing import Literal, NamedTuple

from archcalc.arguments import has_segments, instance
from archcalc.counts.activations import RECOMPUTED, Widths, cache, widths
from archcalc.counts.inference import moments
from archcalc.counts.liveness import Gradients, Moment, Uses, Walk
from archcalc.counts.parameters import Parameters, params
from archcalc.errors import Invalid, Problem, shown
from archcalc.spec.model import Model, Segment
from archcalc.tape.autocast import autocast
from archcalc.tape.legend import Size, add, largest, volume
from archcalc.tape.precision import BITS, DEFAULTS, Keeping, compute_width, refuse_other_purpose
from archcalc.tape.recording import Tensor
from archcalc.tape.run import MEMORY_KERNEL, Run

Kind = Literal["exact", "modelled", "allowance"]

COUNTED = "reference's parameters"
AUTOGRAD = "autograd's hooks (meta)"
RULES = "autograd's rules, exact on small steps"
CACHED = "the reference's own cache"
STEPS = "torch.optim's rules"
CALLS = "live tensors of each call, exact on small runs"


class Term(NamedTuple):
    """Bytes in use at the peak, and their status: exact (with the witness that proves it), modelled or allowance."""

    name: str
    bytes: Size
    kind: Kind
    witness: str


class Phase(NamedTuple):
    """The peak of one phase, in bytes."""

    phase: str
    bytes: Size


class Memory(NamedTuple):
    """Memory of one device, in bytes.

    `total` is the peak: the largest of `phases`, and the sum of `terms`. `peak` names the moment at which it occurs.
    `state` is what persists from step to step: weights, gradients and optimizer state.
    """

    purpose: Literal["training", "inference"]
    total: Size
    terms: tuple[Term, ...]
    phases: tuple[Phase, ...]
    peak: str
    state: Size


class Alive(NamedTuple):
    """Bytes in use at one moment, by name; computed on demand."""

    phase: str
    at: str
    parts: Callable[[], dict[str, Size]]

    @property
    def total(self) -> Size:
        return add(self.parts().values())


Sum = tuple[Size, ...]  # numbers that are still to be added


class Chosen(NamedTuple):
    """Which of all moments is the peak, and which is the largest of each phase, by index."""

    peak: int
    phases: dict[str, int]


def memory(model: Model, run: Run, keeping: Keeping | None = None, chosen: Chosen | None = None) -> Memory:
    """Peak memory of one device, in bytes: of a training step, or of a prefill followed by one decoding step.

    `run.phase` is training or prefill; a prefill reads `run.sequence` positions, and the cache holds as many.
    `keeping` gives precision, optimizer and recomputation; default: Keeping().

    Sizes are ints, or letters (for `explain`), for which `chosen` names the peak found with ints. For arrays see
    `peak_bytes`.

    Raises Invalid for the phase decode, and for settings of `keeping` that do not apply to the phase.
    """
    has_segments("memory", model)
    instance("memory", "run", run, Run)
    if keeping is not None:
        instance("memory", "keeping", keeping, Keeping)
    if run.phase == "decode":
        message = "must be training or prefill for memory"
        fix = "inference memory is that of a prefill and the decoding after it"
        raise Invalid(Problem("Run", message, "phase", value=shown("decode"), suggestion=fix))
    run, keeping = run.by_default(MEMORY_KERNEL), _settled(run, keeping)
    refuse_other_purpose("training" if run.phase == "training" else "inference", keeping)
    state = state_bytes(params(model), run, keeping)
    for where, name, n in (("Run", "batch", run.batch), ("Run", "sequence", run.sequence), ("Model", "", state)):
        if getattr(n, "ndim", 0):
            fix = "archcalc.sweep counts the column memory.total for many"
            raise Invalid(Problem(where, "must have single sizes for memory, no arrays", name, suggestion=fix))
    moments = alive(model, run, keeping)
    if chosen is None:
        every = list(moments)
        chosen = choose(every)
        moments = iter(every)
    wanted = {chosen.peak, *chosen.phases.values()}
    found = {index: moment for index, moment in enumerate(moments) if index in wanted}
    peak = found[chosen.peak]
    terms = tuple(_term(name, n, run, keeping, peak.phase) for name, n in peak.parts().items() if n != 0)
    return Memory(
        "training" if run.phase == "training" else "inference",
        add(term.bytes for term in terms),
        terms,
        tuple(Phase(name, found[index].total) for name, index in chosen.phases.items()),
        f"{peak.phase}, {peak.at}",
        state,
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
    recipe, method = keeping.recipe, keeping.method
    counters = 4 * _tensors(counts) if method.counts else 0  # how many steps were taken
    return {
        "weights": counts.stored * recipe.weight,
        "gradients": counts.stored * recipe.gradient if keeping.holds else 0,
        "master weights": counts.stored * recipe.master,
        "optimizer state": counts.stored * (method.moments * recipe.moment) + counters,
    }


def _tensors(counts: Parameters) -> Size:
    return add(tensor.layers for tensor in counts.tensors)


def _training(model: Model, run: Run, keeping: Keeping) -> Iterator[Alive]:
    """Forward and backward through the segments; then the optimizer's step."""
    recipe, counts = keeping.recipe, params(model)
    segments = autocast(model.segments(run)) if recipe.autocast else model.segments(run)
    width = widths(recipe.compute, keeping.statistic, recipe.weight)
    state = _state(counts, keeping)
    batch = 2 * width["index"] * run.batch * run.sequence  # tokens and targets
    span = RECOMPUTED[keeping.recompute]
    kinds = Gradients(0, recipe.weight) if keeping.holds else Gradients(recipe.gradient, 0)
    uses = Uses(segments)
    walks = [Walk(segment, width, span, gradients=kinds, uses=uses) for segment in segments]
    constants = _constants(segments, width)
    held_again = constants if keeping.recompute != "none" else 0

    def parts(moment: Moment, before: Sum, gradients: Sum, *, inputs: Size, head: bool) -> Alive:
        """`before` is saved by segments that come before this one, `gradients` are those of segments after it.

        Both are added up when they are asked for: of many layers in letters that takes its time at each moment.
        """

        def made() -> dict[str, Size]:
            new, held = add(gradients) + moment.gradients, add(before)
            return {
                **state,
                "gradients": state["gradients"] + (0 if keeping.holds else new),
                "saved activations": held + (0 if head else moment.saved),
                "saved by the head": moment.saved if head else 0,
                "recomputed": moment.recomputed,
                "temporaries": moment.transient + (new if keeping.holds else 0),
                "inputs and loss": inputs,
            }

        return Alive(moment.phase, moment.op, made)

    before: Size = 0
    copied: Size = 0  # cast weights that nothing saved
    befores: list[Size] = []
    for walk in walks:
        head, repeat = walk is walks[-1], walk.segment.repeat
        for moment in list(walk.forward()):
            held = moment._replace(transient=moment.transient + copied + (repeat - 1) * walk.copied)
            yield parts(held, (before, (repeat - 1) * walk.saved), (), inputs=batch + constants, head=head)
        befores.append(before)
        before = before + repeat * walk.saved
        copied = copied + repeat * walk.copied
    gradients: Size = 0
    for walk, before in reversed(list(zip(walks, befores, strict=True))):
        head, others = walk is walks[-1], walk.segment.repeat - 1
        saved, inputs = walk.saved, batch + _LOSS + (held_again if walk is not walks[0] else 0)
        for moment in list(walk.backward()):
            # Of layers that are alike one is first, with the others' activations, and one last, with their gradients.
            yield parts(moment, (before, others * saved), (gradients,), inputs=inputs, head=head)
            if walk.segment.first is not None:
                yield parts(moment, (before,), (gradients, others * walk.gradients), inputs=inputs, head=head)
        gradients = gradients + walk.segment.repeat * walk.gradients
    final = {
        **state,
        "gradients": state["gradients"] + (0 if keeping.holds else gradients),
        "temporaries": _scratch(counts, keeping),
        "inputs and loss": batch + 4,
    }
    yield Alive("step", "the optimizer", lambda: final)


_LOSS = 8  # the loss and its own gradient, fp32


def _constants(segments: list[Segment], width: Widths) -> Size:
    """What is made once for a pass and read in all layers: the mask of math attention."""
    found: dict[str, Size] = {}
    for segment in segments:
        for x in [x for op in segment.tape.ops for x in op.inputs if isinstance(x, Tensor) and x.role == "constant"]:
            found.setdefault(x.name, volume(x.labels, segment.env) * width["constant"])
    return add(found.values())


def _scratch(counts: Parameters, keeping: Keeping) -> Size:
    """What the optimizer makes while it steps, beside its state: numbers as wide as its moments.

    torch.optim.AdamW makes the root of the second moment and the divisor of each tensor, while the last tensor's
    divisor is still there; with foreach the roots of all tensors at once. What is fused, and SGD, make nothing. Where
    PyTorch counts steps, or multiplies in place, a number in two types is made as well.
    """
    width, method = keeping.recipe.moment, keeping.method
    if method.temporaries == "none":
        return 12 if method.counts else (8 + width) * method.moments
    if method.temporaries == "all":
        return counts.stored * width + 8 + width
    sizes: list[Size] = []
    for first, group in groupby(counts.tensors, lambda tensor: tensor.first):
        one_layer = [tensor.parameters // tensor.layers for tensor in group]
        sizes += one_layer if first is None else one_layer * 2  # a layer's first tensor follows a layer's last
    pairs = [2 * size + last for last, size in zip([0, *sizes], sizes, strict=False)]
    return largest(pairs) * width + 8 + width


def _weight_bytes(counts: Parameters, keeping: Keeping) -> Size:
    return -(-counts.stored * BITS[keeping.precision] // 8)


def _inference(model: Model, run: Run, keeping: Keeping) -> Iterator[Alive]:
    """A prompt that fills the cache, then one more token that reads it."""
    weights = _weight_bytes(params(model), keeping)
    width = widths(compute_width(keeping.precision), keeping.statistic)
    held = cache(model, run, keeping.kv_width)
    for phase in (run, run._replace(phase="decode", sequence=1, context=run.read, causal="full")):
        segments = model.segments(phase)
        constants = _constants(segments, width)
        tokens = 8 * phase.batch * phase.positions
        for op, passing in moments(segments, width):
            parts = {"weights": weights, "key-value cache": held, "temporaries": passing + constants, "inputs": tokens}
            yield Alive(phase.phase, op, partial(dict, parts))


def _term(name: str, n: Size, run: Run, keeping: Keeping, phase: str) -> Term:
    """A part of the peak with how it is known: exact where PyTorch was run with this recipe and held the same."""
    exact, modelled = partial(Term, name, n, "exact"), partial(Term, name, n, "modelled")
    trains = run.phase == "training"
    ran = not run.dropout and keeping.recompute != "selective" if trains else BITS[keeping.precision] >= 16
    if name == "weights" and not trains and not ran:
        return modelled("all weights at this width, without scales")
    if name in ("weights", "gradients", "master weights", "optimizer state"):
        return exact(COUNTED)
    if name == "key-value cache":
        own = ran and keeping.kv_width == compute_width(keeping.precision)
        return exact(CACHED) if own else modelled("keys and values at this width, without scales")
    if name in ("saved activations", "saved by the head", "recomputed"):
        return exact(AUTOGRAD) if ran else modelled("tensors that the backward pass reads")
    if phase == "step":
        # torch.optim takes no gradients that are narrower than the weights that it steps.
        narrower = keeping.recipe.master and not keeping.recipe.holds
        return modelled(STEPS + ("; not measured" if narrower else ", exact on small steps"))
    if trains:
        return modelled(RULES if ran and run.attention == "flash" else "autograd's rules; not measured")
    return modelled(CALLS if ran else "live tensors of each call; not measured")
