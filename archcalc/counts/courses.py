"""What the way through a segment is like whatever its sizes are: worked out once for each tape and recomputed span."""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

from archcalc.counts.activations import kept
from archcalc.counts.moments import parts_read
from archcalc.tape.autocast import copies
from archcalc.tape.kernels import Node, as_far_as_needed, lifetimes, nodes
from archcalc.tape.ops import Tensor
from archcalc.tape.passes import Segment


class Forward(NamedTuple):
    """Kernels that run one after the other.

    Attributes:
        enters: what they read and do not make.
        until: the kernel after which each tensor is dropped that nothing else keeps.
        stays: the names of what is not dropped until the forward pass ends.
    """

    nodes: list[Node]
    enters: list[Tensor]
    until: dict[str, int]
    stays: set[str]


class Course:
    """The kernels of a segment, which of them run again where `span` is recomputed, and what they keep."""

    def __init__(self, segment: Segment, span: str | None) -> None:
        ops = segment.ops
        self.nodes = nodes(ops)
        self.again = [node for node in self.nodes if span in node.ops[0].spans]
        self.keeps = kept(ops, span)
        self.copies = copies(ops)
        self.parts = parts_read(self.nodes)
        self.unlearned = {op.output.name for op in ops if op.is_statistic or not op.learns}
        self._stays = segment.stays

    @cached_property
    def forward(self) -> Forward:
        """From the segment's input to its output."""
        return self._run(self.nodes, lifetimes(self.nodes, self._stays))

    @cached_property
    def recomputed(self) -> Forward:
        """What the backward pass runs again."""
        return self._run(as_far_as_needed(self.again), lifetimes(self.again))

    def _run(self, run: list[Node], until: dict[str, int]) -> Forward:
        made = {x.name for node in run for x in node.outputs}
        enters = {x.name: x for node in run for x in node.inputs if x.name not in made}
        loss = [node for node in run if node.is_loss]
        logits = {x.name for node in loss[:2] for x in node.inputs}  # as they are, and in full precision
        stays = {run[-1].outputs[-1].name, *self._stays, *logits, *self.copies}
        return Forward(run, list(enters.values()), until, stays)
