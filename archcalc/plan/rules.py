"""What makes a plan infeasible: rules as data, each with both numbers and the nearest that can be.

`archcalc plan --rules` lists them. Nothing is rounded in silence: what does not divide is refused, or padded by a
policy that the plan names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from math import gcd
from typing import NamedTuple

from archcalc.blocks.base import Mixer, parts
from archcalc.blocks.constraints import nearest_divisors
from archcalc.errors import Invalid, Problem
from archcalc.plan.description import Plan
from archcalc.plan.mesh import PADDED, mesh, undivided
from archcalc.spec.crossing import reads_other_layers
from archcalc.spec.layers import Layer
from archcalc.spec.model import Model
from archcalc.tape.legend import LABELS, product, stem
from archcalc.tape.passes import Segment
from archcalc.tape.precision import Keeping
from archcalc.tape.run import Run


class Broken(NamedTuple):
    """How a plan breaks a rule: the field, what must hold, its value, and what would do.

    `whole` is the size of the model that tp does not divide, where it is one.
    """

    field: str
    what: str
    value: str
    nearest: str | None = None
    whole: int | None = None


class Subject:
    """What a plan is held against."""

    def __init__(self, model: Model, run: Run, keeping: Keeping | None = None) -> None:
        self.model, self.run, self.taken, self.keeping = model, run, model.record(run), keeping

    @cached_property
    def mixers(self) -> dict[str, Mixer]:
        """A mixer of each kind."""
        return {part.kind: part for _, part in parts(self.model) if isinstance(part, Mixer)}

    @cached_property
    def layers(self) -> list[Layer]:
        """Every kind of layers."""
        return [kind.layer for group in self.model.layers for kind in group.kinds_in()]

    @cached_property
    def shares_blocks(self) -> bool:
        """Whether layers share blocks."""
        return any(branch.added is not None for layer in self.layers for branch in layer.residual_branches)

    @cached_property
    def reads_others(self) -> bool:
        """Whether layers read what other layers made."""
        return any(map(reads_other_layers, self.layers))


class Rule(NamedTuple):
    """A rule with its name, in words, the fields of a plan that it reads, and what finds how a plan breaks it.

    It may read the sequence of the run too, as every rule may read the model.
    """

    name: str
    text: str
    reads: tuple[str, ...]
    find: Callable[[Plan, Subject], Iterator[Broken]]


def refuse(plan: Plan, model: Model, run: Run, where: str = "plan", keeping: Keeping | None = None) -> None:
    """Raises Invalid with every rule that a plan breaks for a model and a run of one micro-batch."""
    subject = Subject(model, run, keeping)
    if once := dict.fromkeys(one for rule in RULES for one in rule.find(plan, subject)):
        raise Invalid(*(Problem(where, one.what, one.field, value=one.value, suggestion=one.nearest) for one in once))


def near(n: int, whole: int, times: int = 1) -> str | None:
    """The two nearest degrees that divide a size which `times` other ranks share."""
    return None if whole % times else nearest_divisors(n, whole // times)


def _tensor(plan: Plan, subject: Subject) -> Iterator[Broken]:
    if plan.tp == 1:
        return
    found = [
        (segment, chain, [segment.stated[label] for label in chain])
        for segment in subject.taken.segments
        for chain in segment.cuts.get("tp", ())
        if chain[0] not in PADDED and all(label in segment.stated for label in chain)
    ]
    every = 0
    for _, _, sizes in found:
        every = gcd(every, product(sizes))
    for segment, chain, sizes in found:
        whole = product(sizes)
        if whole % plan.tp:
            what = f"must divide {_field(chain)} ({whole:,})"
            yield Broken("tp", what, f"{plan.tp:,}", near(plan.tp, every), whole)
        elif len(chain) > 1 and not _wrong(segment, plan).isdisjoint(chain):
            what = f"must cut {sizes[0]:,} key/value heads and the {whole // sizes[0]:,} query heads of each evenly"
            yield Broken("tp", what, f"{plan.tp:,}", near(plan.tp, sizes[0]), whole)


def _wrong(segment: Segment, plan: Plan) -> set[str]:
    return {one.label for one in undivided(segment, mesh(segment, plan)) if one.axis == "tp"}


def _field(chain: tuple[str, ...]) -> str:
    """A label as the spec calls it."""
    if len(chain) > 1:
        return "n_heads"
    words = LABELS[stem(chain[0])]
    return words.partition("(")[2].rstrip(")") or words


def _unsupported(plan: Plan, subject: Subject) -> Iterator[Broken]:
    for kind, mixer in subject.mixers.items():
        for axis in ("tp", "cp"):
            if getattr(plan, axis) > 1 and mixer.cuts is None:
                yield Broken(axis, f"is not supported for {kind} mixers", f"{getattr(plan, axis):,}")
    shares = subject.shares_blocks
    for field in ("tp", "cp", "pp", "zero"):
        if shares and getattr(plan, field) > 1:
            yield Broken(field, "is not supported for blocks that layers share", f"{getattr(plan, field):,}")
    if plan.sequence_parallel and getattr(subject.model.embedding, "per_layer", None) is not None:
        yield Broken("sequence_parallel", "is not supported where each layer has vectors of its own", "true")
    if shares and plan.recompute_layers:
        what = "is not supported for blocks that layers share"
        yield Broken("recompute_layers", what, f"{plan.recompute_layers:,}")
    if plan.recompute_layers and subject.reads_others:
        what = "is not supported where layers read what other layers made"
        yield Broken("recompute_layers", what, f"{plan.recompute_layers:,}")
    if plan.pp > 1 and subject.reads_others:
        yield Broken("pp", "is not supported where layers read what other layers made", f"{plan.pp:,}")


def _purpose(plan: Plan, subject: Subject) -> Iterator[Broken]:
    trains = subject.run.phase == "training"
    for field in ("cache_block",) if trains else _OF_TRAINING:
        value = getattr(plan, field)
        if value != Plan.model_fields[field].default:
            what = f"applies only to {'inference' if trains else 'training'}"
            yield Broken(field, what, str(value).lower() if isinstance(value, bool) else str(value))


_OF_TRAINING = (
    "sequence_parallel",
    "cp",
    "schedule",
    "chunks",
    "zero",
    "accumulation",
    "optimizer",
    "recompute",
    "recompute_layers",
    "offload_optimizer",
)


def _sequence(plan: Plan, subject: Subject) -> Iterator[Broken]:
    if subject.run.phase != "training":
        return
    shared = plan.parts_of_a_sequence
    positions = subject.run.positions
    if positions % shared:
        both = "cp x tp" if plan.sequence_parallel and plan.cp > 1 else "tp" if plan.sequence_parallel else "cp"
        what = f"must be a multiple of {both} ({shared:,})"
        below = positions // shared * shared
        fix = " or ".join(f"{n:,}" for n in (below, below + shared) if n)
        yield Broken("sequence", what, f"{positions:,}", f"nearest: {fix}")


def _pipeline(plan: Plan, subject: Subject) -> Iterator[Broken]:
    n_layers, stages = int(subject.model.n_layers), plan.virtual_stages
    if plan.stage_layers is not None:
        if (given := sum(plan.stage_layers)) != n_layers:
            yield Broken("stage_layers", f"must sum up to n_layers ({n_layers:,})", f"{given:,}")
        if 0 in plan.stage_layers[1:-1]:
            what = "must be at least 1 where a stage has neither the embedding nor the head"
            yield Broken("stage_layers", what, ",".join(map(str, plan.stage_layers)))
    elif n_layers % stages:
        fix = f"{near(plan.pp, n_layers, plan.chunks) or 'no pp divides it'}, or give stage_layers"
        yield Broken(
            "pp", f"{'times chunks ' * (plan.chunks > 1)}must divide n_layers ({n_layers:,})", f"{stages:,}", fix
        )
    if plan.schedule == "interleaved" and plan.accumulation % plan.pp:
        above = -(-plan.accumulation // plan.pp) * plan.pp
        what = f"must be a multiple of pp ({plan.pp}) in an interleaved schedule"
        yield Broken("accumulation", what, f"{plan.accumulation:,}", f"nearest: {above:,}")


def _experts(plan: Plan, subject: Subject) -> Iterator[Broken]:
    if plan.expert_tp not in (1, plan.tp):
        yield Broken("etp", f"must be 1 or tp ({plan.tp:,})", f"{plan.expert_tp:,}")
        return
    if plan.spreads_experts and plan.ep % plan.tp:
        above = -(-plan.ep // plan.tp) * plan.tp
        yield Broken("ep", f"must be a multiple of tp ({plan.tp:,}) with etp 1", f"{plan.ep:,}", f"nearest: {above:,}")
        return
    over_dp = plan.ep_of_dp
    if plan.dp % over_dp:
        name, whole = ("dp x tp", plan.dp * plan.tp) if plan.spreads_experts else ("dp", plan.dp)
        yield Broken("ep", f"must divide {name} ({whole:,})", f"{plan.ep:,}", near(plan.ep, whole))
    if plan.ep == 1 and plan.expert_tp == plan.tp:
        return
    if not any("ep" in segment.cuts for segment in subject.taken.segments):
        yield Broken("ep", "needs a model with experts", f"{plan.ep:,}")
        return
    if plan.spreads_experts and not plan.sequence_parallel:
        yield Broken("etp", "below tp needs sequence_parallel, which gives each rank tokens of its own", "1")
    for segment in subject.taken.segments:
        for axis, degree in (("ep", plan.ep), ("etp", plan.expert_tp)):
            for chain in segment.cuts.get(axis, ()):
                n = segment.stated[chain[0]]
                if n % degree:
                    yield Broken(axis, f"must divide {_field(chain)} ({n:,})", f"{degree:,}", near(degree, n))


def _recipe(plan: Plan, subject: Subject) -> Iterator[Broken]:
    keeping = subject.keeping
    if keeping is None or subject.run.phase != "training" or not plan.zero:
        return
    if not keeping.method.splits:
        what = f"is not supported with {keeping.optimizer}, which steps whole matrices"
        yield Broken("zero", what, f"{plan.zero}", "nearest: 0")
    if keeping.recipe.matrix and plan.zero == _WEIGHTS:
        yield Broken(
            "zero", f"is not supported with {keeping.precision}, whose weights have scales", "3", "nearest: 2"
        )


_WEIGHTS = 3  # the stage of ZeRO that shares them


RULES: tuple[Rule, ...] = (
    Rule(
        "tensor",
        "tp divides the heads of every attention and the hidden features of every MLP; where it exceeds the key/value "
        "heads it is a multiple of them, and ranks hold copies of keys and values; rows of the token table need not "
        "divide: the last rank has fewer, or vocab_divisible_by pads them",
        ("tp",),
        _tensor,
    ),
    Rule(
        "supported",
        "every mixer, and every way in which layers read each other, is one that the axis can cut",
        ("tp", "cp", "pp", "zero", "sequence_parallel", "recompute_layers"),
        _unsupported,
    ),
    Rule(
        "purpose",
        "sequence_parallel, cp, schedule, chunks, zero, accumulation, optimizer, recomputation and offload are of "
        "training alone, cache_block of inference",
        (*_OF_TRAINING, "cache_block"),
        _purpose,
    ),
    Rule(
        "recipe",
        "ZeRO shares what an optimizer can step in parts: not Adafactor's and Muon's state; ZeRO 3 no weights in fp8",
        ("zero", "optimizer", "precision"),
        _recipe,
    ),
    Rule(
        "sequence",
        "cp, times tp with sequence_parallel, divides the positions of a sequence",
        ("cp", "tp", "sequence_parallel"),
        _sequence,
    ),
    Rule(
        "pipeline",
        "pp x chunks divides the layers, or stage_layers says how many each stage has; interleaved schedules take "
        "micro-batches by multiples of pp",
        ("pp", "chunks", "schedule", "accumulation", "stage_layers"),
        _pipeline,
    ),
    Rule(
        "experts",
        "ep divides the experts and dp; etp is tp, or 1 with sequence_parallel: then ep divides dp x tp and is a "
        "multiple of tp",
        ("ep", "etp", "tp", "dp", "sequence_parallel"),
        _experts,
    ),
)
