"""Peak memory of one device in training or inference, and the terms that it consists of."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import groupby
from typing import Literal, NamedTuple

from archcalc.arguments import instance, records
from archcalc.counts.activations import RECOMPUTED, cache
from archcalc.counts.inference import moments
from archcalc.counts.liveness import Gradients, Moment, Uses, Walk
from archcalc.counts.parameters import Parameters, Stored, params
from archcalc.counts.stack import Place, Spread, Stack, is_many
from archcalc.errors import Invalid, Problem, shown
from archcalc.spec.model import Model
from archcalc.tape.autocast import autocast
from archcalc.tape.legend import Size, add, largest, volume
from archcalc.tape.passes import Pass, Segment, recorded
from archcalc.tape.precision import BITS, DEFAULTS, Keeping, compute_width, refuse_other_purpose
from archcalc.tape.recording import Tensor
from archcalc.tape.roles import Role, Widths, widths
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


def memory(model: Model | Pass, run: Run, keeping: Keeping | None = None, chosen: Chosen | None = None) -> Memory:
    """Peak memory of one device, in bytes: of a training step, or of a prefill followed by one decoding step.

    `run.phase` is training or prefill; a prefill reads `run.sequence` positions, and the cache holds as many.
    `keeping` gives precision, optimizer and recomputation; default: Keeping().

    Sizes are ints, or letters (for `explain`), for which `chosen` names the peak found with ints. For arrays see
    `peak_bytes`.

    Raises Invalid for the phase decode, and for settings of `keeping` that do not apply to the phase.
    """
    records("memory", model)
    instance("memory", "run", run, Run)
    if keeping is not None:
        instance("memory", "keeping", keeping, Keeping)
    if run.phase == "decode":
        message = "must be training or prefill for memory"
        fix = "inference memory is that of a prefill and the decoding after it"
        raise Invalid(Problem("Run", message, "phase", value=shown("decode"), suggestion=fix))
    run, keeping = run.by_default(MEMORY_KERNEL), _settled(run, keeping)
    refuse_other_purpose("training" if run.phase == "training" else "inference", keeping)
    taken = recorded(model, run)
    state = state_bytes(params(taken), run, keeping)
    for where, name, n in (("Run", "batch", run.batch), ("Run", "sequence", run.sequence), ("Model", "", state)):
        if getattr(n, "ndim", 0):
            fix = "archcalc.sweep counts the column memory.total for many"
            raise Invalid(Problem(where, "must have single sizes for memory, no arrays", name, suggestion=fix))
    moments = alive(taken, run, keeping)
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


def peak_bytes(model: Model | Pass, run: Run, keeping: Keeping | None = None) -> Size:
    """The total alone; takes arrays too."""
    return largest(moment.total for moment in alive(model, run, _settled(run, keeping)))


def runs_op_by_op(model: Model) -> bool:
    """Whether an activation function of the model has a form that runs op by op."""
    fused, eager = (model.record(Run(activation=kernel)).segments for kernel in ("fused", "eager"))
    return any(len(one.ops) != len(other.ops) for one, other in zip(fused, eager, strict=True))


def state_bytes(counts: Parameters, run: Run, keeping: Keeping | None = None) -> Size:
    """What is kept of the parameters: in training 16 or 18 bytes each with mixed precision and AdamW."""
    keeping = _settled(run, keeping)
    if run.phase != "training":
        return _weight_bytes(counts, keeping)
    return add(_state(counts, keeping).values()) + (0 if keeping.holds else counts.stored * keeping.recipe.gradient)


def alive(model: Model | Pass, run: Run, keeping: Keeping) -> Iterator[Alive]:
    """Every moment that could be the peak."""
    taken = recorded(model, run.by_default(MEMORY_KERNEL))
    return _training(taken, keeping) if run.phase == "training" else _inference(taken, keeping)


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


def _training(taken: Pass, keeping: Keeping) -> Iterator[Alive]:
    """Forward and backward through the segments; then the optimizer's step."""
    recipe, counts, run = keeping.recipe, params(taken), taken.run
    taken = autocast(taken) if recipe.autocast else taken
    width = widths(recipe.compute, keeping.statistic, recipe.weight)
    state = _state(counts, keeping)
    batch = 2 * width["index"] * run.batch * run.sequence  # tokens and targets
    span = RECOMPUTED[keeping.recompute]
    kinds = Gradients(0, recipe.weight) if keeping.holds else Gradients(recipe.gradient, 0)
    uses = Uses(taken.segments)
    walks = {id(segment): Walk(segment, width, span, gradients=kinds, uses=uses) for segment in taken.segments}
    stacks = [Stack(group) for group in taken.groups]
    constants, tables = _given(taken.segments, width, "constant"), _given(taken.segments, width, "table")
    read_again = tables + (constants if keeping.recompute != "none" else 0)

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
        learned = stack.spread(partial(_amount, walks, "gradients"))
        for segment in reversed(stack.group):
            head = segment is taken.segments[-1]
            inputs = batch + _LOSS + (0 if segment is taken.segments[0] else read_again)

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
        "temporaries": _scratch(counts, keeping),
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
    for _, group in groupby(counts.tensors, lambda tensor: tensor.within and id(tensor.within.first)):
        sizes += _in_order(list(group))
    pairs = [2 * size + last for last, size in zip([0, *sizes], sizes, strict=False)]
    return largest(pairs) * width + 8 + width


def _in_order(tensors: list[Stored]) -> list[Size]:
    """The sizes of a group's tensors as its layers follow each other, for two turns of the pattern at most.

    A layer's first tensor follows a layer's last.
    """
    within = tensors[0].within
    if within is None:
        return [tensor.parameters for tensor in tensors]
    turns = 2 * within.period
    order = range(turns if is_many(within) else min(int(within.group), turns))
    return [
        tensor.parameters // tensor.layers
        for i in order
        for tensor in tensors
        if tensor.within is not None and i % within.period in tensor.within.offsets
    ]


def _weight_bytes(counts: Parameters, keeping: Keeping) -> Size:
    return -(-counts.stored * BITS[keeping.precision] // 8)


def _inference(taken: Pass, keeping: Keeping) -> Iterator[Alive]:
    """A prompt that fills the cache, then one more token that reads it."""
    weights = _weight_bytes(params(taken), keeping)
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
