"""Peak memory of one device in training or inference, and the terms that it consists of."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Literal, NamedTuple

from archcalc.arguments import instance, records
from archcalc.counts.optimizer import gradients_held, kept_on_host, kept_state
from archcalc.counts.parameters import Parameters, params
from archcalc.counts.peaks import Alive, of_inference, of_training, weight_bytes
from archcalc.errors import Invalid, Problem, shown
from archcalc.spec.model import Model
from archcalc.tape.legend import Size, add, largest
from archcalc.tape.passes import Pass, Stage, recorded
from archcalc.tape.precision import BITS, DEFAULTS, FORMATS, Keeping, compute_width, refuse_other_purpose
from archcalc.tape.run import MEMORY_KERNEL, Run

Kind = Literal["exact", "modelled", "allowance"]

COUNTED = "reference's parameters"
AUTOGRAD = "autograd's hooks (meta)"
RULES = "autograd's rules, exact on small steps"
FSDP = "PyTorch's fully_shard, exact on small steps"
LAYERS = "weights of one layer gathered, and those of the next; not measured"
CACHED = "the reference's own cache"
STEPS = "torch.optim's rules"
RANK = "the pass of one rank, by the same rules"
KEPT = ("weights", "gradients", "master weights", "optimizer state", "buffers")
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
    `state` is what persists from step to step: weights, gradients and optimizer state. `host` is what an optimizer
    that steps there has in the host's memory, and no part of `total`.
    """

    purpose: Literal["training", "inference"]
    total: Size
    terms: tuple[Term, ...]
    phases: tuple[Phase, ...]
    peak: str
    state: Size
    host: Size = 0


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
    counts = params(taken)
    state = state_bytes(counts, run, keeping, taken.stage)
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
    kind = partial(_of_rank if taken.stage.planned else _term, run=run, keeping=keeping, phase=peak.phase)
    terms = tuple(kind(name, n, stage=taken.stage) for name, n in peak.parts().items() if n != 0)
    return Memory(
        "training" if run.phase == "training" else "inference",
        add(term.bytes for term in terms),
        terms,
        tuple(Phase(name, found[index].total) for name, index in chosen.phases.items()),
        f"{peak.phase}, {peak.at}",
        state,
        kept_on_host(counts, keeping, taken.stage),
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


NOT_OP_BY_OP = "changes nothing: no activation of the model is GELU, which alone is run op by op in transformers"
"""What is said where the eager kernel is asked for in vain."""


def runs_op_by_op(model: Model) -> bool:
    """Whether an activation function of the model has a form that runs op by op."""
    fused, eager = (model.record(Run(activation=kernel)).segments for kernel in ("fused", "eager"))
    return any(len(one.ops) != len(other.ops) for one, other in zip(fused, eager, strict=True))


def state_bytes(counts: Parameters, run: Run, keeping: Keeping | None = None, stage: Stage | None = None) -> Size:
    """What is kept of the parameters: in training 16 or 18 bytes each with mixed precision and AdamW."""
    keeping = _settled(run, keeping)
    if run.phase != "training":
        return weight_bytes(counts, keeping)
    new = 0 if keeping.holds else gradients_held(counts, stage) * keeping.recipe.gradient
    return add(kept_state(counts, keeping, stage).values()) + new


def alive(model: Model | Pass, run: Run, keeping: Keeping) -> Iterator[Alive]:
    """Every moment that could be the peak."""
    taken = recorded(model, run.by_default(MEMORY_KERNEL))
    return of_training(taken, keeping) if run.phase == "training" else of_inference(taken, keeping)


def _settled(run: Run, keeping: Keeping | None) -> Keeping:
    return keeping or Keeping(DEFAULTS["training" if run.phase == "training" else "inference"])


SHARED = ("gathered weights", "gather buffers", "prefetched weights", "reduce buffers", "unsharded gradients")
"""What a rank has of weights and gradients that it shares with others, while a step uses them."""


def _of_rank(name: str, n: Size, run: Run, keeping: Keeping, phase: str, stage: Stage) -> Term:
    """A part of the peak of one rank of a plan that cuts the model."""
    if name in (*KEPT, *SHARED):
        return _term(name, n, run, keeping, phase, stage)
    return Term(name, n, "modelled", RANK)


def _term(name: str, n: Size, run: Run, keeping: Keeping, phase: str, stage: Stage) -> Term:
    """A part of the peak with how it is known: exact where PyTorch was run with this recipe and held the same."""
    exact, modelled = partial(Term, name, n, "exact"), partial(Term, name, n, "modelled")
    trains = run.phase == "training"
    ran = BITS.get(keeping.precision, 0) >= 16
    if trains:
        ran = keeping.recipe.measured and not run.dropout and keeping.recompute != "selective"
    if name == "weights" and not trains and keeping.precision in FORMATS:
        return modelled(f"each tensor as {keeping.precision} stores it, with scales")
    if name == "weights" and not trains and not ran:
        return modelled("all weights at this width, without scales")
    if name == "weights" and trains and keeping.recipe.matrix:
        return modelled("matrices of layers at their width, without scales")
    if name in KEPT:
        return exact(COUNTED)
    if name == "key-value cache":
        own = ran and keeping.kv_width == compute_width(keeping.precision)
        return exact(CACHED) if own else modelled("keys and values at this width, without scales")
    if name == "recurrent state":
        return exact(CACHED) if ran else modelled("states in fp32")
    if name in SHARED:
        return exact(FSDP) if ran and (stage.gathering is None or stage.gathering.copies) else modelled(LAYERS)
    if name in ("saved activations", "saved by the head", "recomputed"):
        return exact(AUTOGRAD) if ran else modelled("tensors that the backward pass reads")
    if phase == "step":
        # torch.optim takes no gradients that are narrower than the weights that it steps.
        narrower = keeping.recipe.master and not keeping.recipe.holds
        measured = "exact on small steps" if keeping.method.kept == "moments" else "within 0.1% on small steps"
        unmeasured = narrower or keeping.method.kept == "blocks" or not keeping.recipe.measured
        return modelled(STEPS + ("; not measured" if unmeasured else f", {measured}"))
    if trains:
        return modelled(RULES if ran and run.attention == "flash" else "autograd's rules; not measured")
    return modelled(CALLS if ran else "live tensors of each call; not measured")
