"""What the parallel plans of a project make of a spec: what they cannot divide, and what they divide badly."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from archcalc.blocks.attention import MultiHead
from archcalc.blocks.base import Block
from archcalc.blocks.experts import Experts
from archcalc.blocks.mlp import DenseMLP
from archcalc.checks.lint.sizes import ALIGNED, SOURCE, fits, said
from archcalc.checks.rules import Finding, Rule
from archcalc.checks.subject import Subject
from archcalc.errors import Where
from archcalc.plan.rules import Broken
from archcalc.tape.legend import product

_STAGES = ("pp", "stage_layers")


def _kind(one: Broken) -> str:
    """Which rule tells it, by the field of the plan and what it does not divide."""
    if one.what.startswith("is not supported") or one.what.startswith("applies only"):
        return "AC124"
    if one.field == "tp":
        return "AC120"
    if one.field in _STAGES:
        return "AC121"
    if one.field in ("ep", "etp"):
        return "AC122"
    return "AC123" if one.field == "sequence" else "AC124"


def _broken(rule: str) -> Callable[[Subject], Iterator[Finding]]:
    """Finds what the plans break of one kind."""

    def looks(subject: Subject) -> Iterator[Finding]:
        for planned in subject.planned:
            for one in planned.broken:
                if _kind(one) == rule:
                    yield Finding(
                        f"plan {planned.name}: {one.field} {one.what}",
                        _place(subject, rule, one),
                        one.value,
                        one.nearest,
                    )

    return looks


def _place(subject: Subject, rule: str, one: Broken) -> Where:
    """Where the spec says what the plan does not divide."""
    if rule == "AC123":
        return ("context_length",)
    if rule == "AC122":
        return next((where for where, _ in subject.each(Experts)), ("layers",))
    if rule == "AC120":
        for where, part in subject.each(Block):
            sizes = part.sizes()
            for chain in (part.cuts or {}).get("tp", ()):
                if product(sizes[label] for label in chain if label in sizes) == one.whole:
                    return where
    return ("layers",)


def _copied(subject: Subject) -> Iterator[Finding]:
    for planned in subject.planned:
        tp = planned.plan.tp
        for where, part in subject.each(MultiHead):
            if not planned.broken and tp > part.n_kv_heads and not part.shared_kv:
                times = tp // part.n_kv_heads
                yield Finding(
                    f"plan {planned.name}: {tp:,} ranks share {part.n_kv_heads:,} key/value heads, so that {times:,} "
                    f"hold each: their cache is {times:,} times the model's in all",
                    (*where, "n_kv_heads"),
                    f"{part.n_kv_heads:,}",
                    f"{tp:,} or more key/value heads, or tp of at most {part.n_kv_heads:,}",
                )


def _parts(subject: Subject) -> Iterator[Finding]:
    """Sizes that fit tensor cores in whole, and do not as one rank has them."""
    for planned in subject.planned:
        plan = planned.plan
        if planned.broken:
            continue
        for where, part in subject.each(DenseMLP, Experts):
            ranks = plan.expert_tp if isinstance(part, Experts) else plan.tp
            mine = part.d_ff // ranks
            if ranks > 1 and fits(part.d_ff) and mine % ALIGNED:
                yield Finding(
                    f"plan {planned.name}: each of {ranks:,} ranks has {mine:,} hidden features, which "
                    f"{said(mine) if mine > ALIGNED else 'is less than 64'}",
                    (*where, "d_ff"),
                    f"{part.d_ff:,}",
                    f"a multiple of {ALIGNED * ranks:,} gives each rank a multiple of {ALIGNED}",
                )


_RULES_OF_PLANS = "archcalc plan --rules, which refuses the same plan"
_NEEDS = "a plan that the project names cannot run this spec at all"

RULES = (
    Rule(
        "AC120",
        "heads-over-ranks",
        "tensor-parallel ranks do not divide the heads or the hidden features",
        f"{_NEEDS}: each rank has whole heads, and as many hidden features as the others",
        _RULES_OF_PLANS,
        "choose heads and d_ff that are multiples of tp, or another tp",
        "error",
        "plan",
        _broken("AC120"),
        "n_heads: 25, with a plan of tp 8",
    ),
    Rule(
        "AC121",
        "layers-over-stages",
        "pipeline stages do not divide the layers",
        f"{_NEEDS}: stages have as many layers each, unless stage_layers says how many",
        _RULES_OF_PLANS,
        "choose layers that are a multiple of pp x chunks, or give the plan stage_layers",
        "error",
        "plan",
        _broken("AC121"),
        "repeat: 61, with a plan of pp 8",
    ),
    Rule(
        "AC122",
        "experts-over-ranks",
        "expert-parallel ranks do not divide the experts",
        f"{_NEEDS}: each rank has whole experts, and as many as the others",
        _RULES_OF_PLANS,
        "choose experts that are a multiple of ep, or another ep",
        "error",
        "plan",
        _broken("AC122"),
        "n_experts: 60, with a plan of ep 8",
    ),
    Rule(
        "AC123",
        "positions-over-ranks",
        "the ranks that share a sequence do not divide the context",
        f"{_NEEDS} at its full context: a rank has as many positions as the others",
        _RULES_OF_PLANS,
        "choose a context that is a multiple of cp, times tp with sequence_parallel",
        "error",
        "plan",
        _broken("AC123"),
        "context_length: 1000, with a plan of cp 16",
    ),
    Rule(
        "AC124",
        "plan-unsupported",
        "a plan asks for what a mixer of the spec, or the plan itself, cannot do",
        f"{_NEEDS}",
        _RULES_OF_PLANS,
        "choose another plan",
        "error",
        "plan",
        _broken("AC124"),
        "a plan of cp 2, and mixers that keep a state from position to position",
    ),
    Rule(
        "AC125",
        "kv-heads-copied",
        "there are fewer key/value heads than tensor-parallel ranks",
        "a rank needs the keys and values of its query heads, so several ranks hold the same ones: more ranks no "
        "longer make the cache of one smaller",
        "arithmetic, shown in the message; LMDeploy's documentation, Context Parallel: with tp above the key/value "
        "heads the cache that is left is cut by as much",
        "have as many key/value heads as tensor-parallel ranks, or share positions among ranks in place of heads",
        needs="plan",
        looks=_copied,
        example="n_kv_heads: 4, with a plan of tp 8",
    ),
    Rule(
        "AC126",
        "rank-size-unaligned",
        "hidden features are a multiple of 64, and those of one rank are not",
        "a rank's product is what its tensor cores see: 11,008 hidden features are 43 x 256, and an eighth of them is "
        "1,376, a multiple of 32",
        SOURCE,
        "choose d_ff as a multiple of 64 x tp",
        needs="plan",
        looks=_parts,
        example="d_ff: 11008, with a plan of tp 8",
    ),
)
