"""What the ranks of a layer exchange in both passes: activations and their gradients, read off a divided tape."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

from archcalc.counts.activations import RECOMPUTED
from archcalc.counts.stack import AXES
from archcalc.plan.description import Plan
from archcalc.plan.exchange import Exchange
from archcalc.plan.local import Exchanges, gathers_positions
from archcalc.plan.mesh import TP
from archcalc.plan.placing import group
from archcalc.tape.autocast import autocast
from archcalc.tape.kernels import as_far_as_needed, nodes
from archcalc.tape.legend import Mask, Size, alongside, volume, where
from archcalc.tape.ops import Op, Tensor
from archcalc.tape.passes import Pass, Segment
from archcalc.tape.precision import Keeping, Recompute, compute_width
from archcalc.tape.roles import ROLES, Widths, widths

Operation = Literal["all-reduce", "reduce-scatter", "all-gather", "all-to-all", "send"]
Phase = Literal["forward", "backward", "recompute", "gradients", "step"]

_SHARES: dict[Operation, int] = {"all-reduce": 2, "reduce-scatter": 1, "all-gather": 1, "all-to-all": 1}
"""How often a ring passes on each of a tensor's parts but one; an all-reduce is a scatter and a gather."""


class Collective(NamedTuple):
    """Collectives of one sort, or messages of a pipeline, as one rank takes part in them.

    Attributes:
        axis: of the plan: tp, cp, ep, pp; `dp`, `dp+cp` for weights, `edp` for those of experts.
        ranks: how many take part.
        tensor: what is exchanged, `{i}` standing for the layer.
        count: how many in a step.
        bytes: of one, the whole tensor on one rank: before a scatter, after a gather.
        inside: whether those who take part are all in one node.
        overlaps: what it may be hidden behind (modelled); None where what follows waits for it.
    """

    operation: Operation
    axis: str
    ranks: Size
    tensor: str
    phase: Phase
    count: Size
    bytes: Size
    inside: Mask
    overlaps: str | None = None

    @property
    def sent(self) -> Size:
        """Bytes of one that a rank sends by a ring: (n - 1) parts of n, twice in an all-reduce."""
        if self.operation == "send":
            return self.bytes
        return _SHARES[self.operation] * (self.ranks - 1) * -(-self.bytes // self.ranks)

    @property
    def scope(self) -> Literal["node", "across"]:
        """Inside a node, or across nodes."""
        return "node" if self.inside else "across"


_INPUT = "the gradient of the input"
_WEIGHTS = "the gradients of weights"


def of_activations(
    taken: Pass,
    exchanges: list[Exchanges],
    plan: Plan,
    keeping: Keeping,
    gpus_per_node: int,
    recompute: Sequence[Recompute] = (),
) -> Iterator[Collective]:
    """The collectives of every layer in a step, on the pass of one rank: forward, recomputed and backward.

    With several kinds in `recompute`, in place of that of `keeping`, counts stand along a first axis.
    """
    spans = [RECOMPUTED[kind] for kind in recompute or (keeping.recompute,)]
    trains = taken.run.phase == "training"
    width = stream_widths(taken, keeping)
    cast = autocast(taken).segments if trains and keeping.recipe.autocast else taken.segments
    for segment, typed, found in zip(taken.segments, cast, exchanges, strict=True):
        types = _Types(typed.ops, width)
        again = [_recomputed(segment, span) if trains else set() for span in spans]
        gathered = _gathered_again(segment) if plan.gathered_inputs == "again" else set()
        for one in found.each:
            if one.phase == "gradients" or (one.phase == "backward" and not trains):
                continue
            among = group(one.axes, found.mesh.ranks, plan, gpus_per_node)
            times = segment.repeat * (plan.accumulation if trains else 1)
            what = Collective(
                one.operation,
                among.axis,
                among.ranks,
                types.plain(one.tensor),
                one.phase,
                where(several(among.ranks), times),
                volume(one.labels, segment.env) * types.width(one.tensor, one),
                among.inside,
                _hidden(one),
            )
            yield what
            if one.phase == "forward" and any(one.tensor in made for made in again):
                times = alongside([where(one.tensor in made, what.count) for made in again], AXES)
                yield what._replace(phase="recompute", count=times)
            if trains and one.phase == "forward" and one.tensor in gathered:
                yield what._replace(phase="backward", overlaps=_INPUT)


def stream_widths(taken: Pass, keeping: Keeping) -> Widths:
    """Bytes of numbers as they are computed."""
    if taken.run.phase == "training":
        return keeping.widths
    return widths(compute_width(keeping.precision), keeping.statistic)


def several(ranks: Size) -> Mask:
    """Whether anyone takes part beside the rank itself: of arrays in each row."""
    return ranks > 1 if hasattr(ranks, "dtype") else True


def _hidden(one: Exchange) -> str | None:
    """What a collective may be hidden behind, as Megatron-LM hides it: gradients of inputs that are reduced, behind
    those of the weights that read them.
    """
    reduces = one.operation in ("all-reduce", "reduce-scatter")
    return _WEIGHTS if one.phase == "backward" and reduces and {*one.axes} <= {*TP} else None


def _recomputed(segment: Segment, span: str | None) -> set[str]:
    """What is made again in the backward pass, as far as PyTorch's checkpoint goes."""

    def work() -> set[str]:
        inside = [node for node in nodes(segment.ops) if span in node.ops[0].spans]
        again = as_far_as_needed(inside) if inside else []
        return {op.output.name for node in again for op in node.ops}

    return segment.tape.once(("recomputed", span), work)


def _gathered_again(segment: Segment) -> set[str]:
    """Inputs of linear layers whose positions were gathered and that no rank keeps."""
    names: set[str] = set()
    kept = {x.name for op in segment.ops for x in op.saves}
    for op in segment.ops:
        if gathers_positions(op):
            read = [other for other in segment.ops if op.output in other.inputs and other.weights]
            if read and op.output.name not in kept:
                names.add(op.output.name)
    return names


class _Types:
    """Bytes of a number of each tensor of a tape, by what made it."""

    def __init__(self, ops: list[Op], width: Widths) -> None:
        self.makers = {op.output.name: op for op in ops}
        self.of = width

    def plain(self, name: str) -> str:
        """What was made, of a view of it."""
        while (name not in self.makers or self.makers[name].kind == "exchange") and ".as_" in name:
            name = name.rpartition(".as_")[0]
        return name

    def width(self, name: str, one: Exchange) -> int:
        """Of what is exchanged: what a kernel has inside is as wide as what it reads."""
        maker = self.makers.get(name) or self.makers.get(self.plain(name))
        if maker is None:
            return self.of[one.role or "activation"]
        return self._made(maker)

    def _made(self, op: Op) -> int:
        if op.output.role != "fused":
            return self.of[op.output.role]
        read = [x for x in op.inputs if isinstance(x, Tensor) and (ROLES[x.role].learns or x.role == "fused")]
        return max(
            self._made(self.makers[x.name]) if x.role == "fused" and x.name in self.makers else self.of[x.role]
            for x in read
        )
