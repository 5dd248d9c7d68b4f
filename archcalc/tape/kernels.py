"""The kernels of a tape: ops joined by `fused` tensors are done in one, and nothing between them is ever stored.

So is what a reduction makes with the op that reads it next: a norm's kernel hands its statistics out beside its
output.
"""

from __future__ import annotations

from typing import NamedTuple

from archcalc.tape.ops import Op, Tensor
from archcalc.tape.roles import ROLES


class Node(NamedTuple):
    """Ops that are one kernel: what goes in from outside, what comes out, what its backward pass reads."""

    ops: tuple[Op, ...]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    saves: tuple[Tensor, ...]

    @property
    def name(self) -> str:
        return self.ops[-1].output.name

    @property
    def is_loss(self) -> bool:
        return "loss" in self.ops[0].spans


def nodes(ops: list[Op]) -> list[Node]:
    """The kernels of a tape, in order."""
    groups: list[list[Op]] = []
    for op in ops:
        group = [op]
        while groups and _joined(groups[-1], group):
            group = groups.pop() + group
        groups.append(group)
    return [_node(group) for group in groups]


def _joined(before: list[Op], after: list[Op]) -> bool:
    """Whether some ops are done in one kernel with those before them."""
    read = {x.name: x for op in after for x in op.inputs if isinstance(x, Tensor)}
    return any(op.output.name in read and (op.is_statistic or read[op.output.name].role == "fused") for op in before)


def _node(ops: list[Op]) -> Node:
    made = {op.output.name for op in ops}
    read = {x.name: x for op in ops for x in op.inputs if isinstance(x, Tensor) and x.name not in made}
    saved = {x.name: x for op in ops for x in op.saves}
    outputs = tuple(op.output for op in ops if op.output.role != "fused")
    return Node(tuple(ops), tuple(read.values()), outputs, tuple(saved.values()))


def is_given(tensor: Tensor) -> bool:
    """Whether it was there before the pass: what came with the batch, and constants."""
    return ROLES[tensor.role].given or (tensor.role == "index" and "B" in tensor.labels)


def as_far_as_needed(span: list[Node]) -> list[Node]:
    """A recomputation ends with the last tensor that was saved: PyTorch's checkpoint stops early."""
    saved = {x.name for node in span for x in node.saves}
    last = max(i for i, node in enumerate(span) if any(x.name in saved for x in node.outputs))
    return span[: last + 1]


def lifetimes(run: list[Node], stays: tuple[str, ...] = ()) -> dict[str, int]:
    """The kernel after which each tensor is dropped that nothing else keeps: the end of the longest call that got it.

    A call, of a module or a function, is a span of ops, and holds what it was given until it returns; a tensor was
    given to those calls that read it and did not make it. What `stays` is the next segment's.
    """
    ends = {node.ops[0].spans[:depth]: i for i, node in enumerate(run) for depth in range(len(node.ops[0].spans) + 1)}
    maker = {x.name: node.ops[0].spans for node in run for x in node.outputs}
    until: dict[str, int] = dict.fromkeys(stays or (run[-1].outputs[-1].name,), len(run))  # the next segment's
    for i, node in enumerate(run):
        spans = node.ops[0].spans
        for x in node.inputs:
            if x.name not in maker:  # it came from outside
                until[x.name] = len(run) - 1
                continue
            own = [a == b for a, b in zip(spans, maker[x.name], strict=False)]
            shared = [*own, False].index(False)
            until[x.name] = max(until.get(x.name, 0), i if shared == len(spans) else ends[spans[: shared + 1]])
    return until
