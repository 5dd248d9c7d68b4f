"""What ranks tell each other, by one rule for every op of a tape.

On each axis of the mesh a tensor is cut along one of its labels, whole on every rank, or a partial sum: something cut
was summed over. A collective is the change from how a tensor was made to how it is read:

- partial to whole: all-reduce; partial to cut: reduce-scatter;
- cut to whole: all-gather; cut along one label to cut along another: all-to-all; whole to cut: nothing.

On the way back each has its transpose. The gradient of what an op reads is partial on the axes that cut the op and not
what it reads; it is reduced once, however many ops read the tensor. Over data-parallel axes only gradients of weights
are reduced: what has no sequences of its own hands its partial gradient on to them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

from archcalc.plan.mesh import DP, TP, Mesh
from archcalc.tape.legend import stem
from archcalc.tape.ops import Op, Tensor, Weight, labels_of
from archcalc.tape.passes import Segment
from archcalc.tape.roles import ROLES, Role

_BATCH = ("B", "N", "S", "Q")
"""What only a loss sums over: each rank has that of its own sequences and positions, and gradients are added up."""

Operation = Literal["all-reduce", "reduce-scatter", "all-gather", "all-to-all"]
Phase = Literal["forward", "backward", "gradients"]
Labels = tuple[str, ...]
Changed = dict[str, list[tuple[Operation, Labels, Labels]]]
"""Of each exchange by its output: the operations, their axes, and the labels of the whole."""

_TRANSPOSES: dict[Operation, Operation] = {
    "reduce-scatter": "all-gather",
    "all-gather": "reduce-scatter",
    "all-to-all": "all-to-all",
}


class Exchange(NamedTuple):
    """One collective of a layer.

    Attributes:
        phase: `gradients` are those of weights, at the end of the backward pass.
        axes: the axes of the mesh that it is over.
        tensor: the name of the tensor, or a weight's path.
        labels: of the whole tensor on one rank of those axes: before a scatter, after a gather.
        role: of its numbers; None for a gradient of a weight.
        spans: the scopes in which it happens.
    """

    phase: Phase
    operation: Operation
    axes: tuple[str, ...]
    tensor: str
    labels: tuple[str, ...]
    role: Role | None
    spans: tuple[str, ...]


class Divided(NamedTuple):
    """A segment's ops as one rank does them, exchanges among them, and the collectives of both passes."""

    ops: list[Op]
    exchanges: list[Exchange]


def divide(segment: Segment, mesh: Mesh) -> Divided:
    """What one rank of the mesh does of a segment, and what it exchanges."""
    forward = _Forward(mesh)
    for op in segment.tape.ops:
        forward.take(op)
    forward.finish(segment)
    return Divided(forward.ops, [*forward.found, *_backward(forward.ops, forward.changed, mesh)])


class _Forward:
    """The forward pass, op by op: which tensors are partial sums, and which views are exchanges."""

    def __init__(self, mesh: Mesh) -> None:
        self.mesh = mesh
        self.ops: list[Op] = []
        self.found: list[Exchange] = []
        self.partial: dict[str, tuple[str, ...]] = {}
        self.made: dict[str, Tensor] = {}
        self.changed: Changed = {}

    def take(self, op: Op) -> None:
        if op.kind == "view":
            self._view(op)
            return
        for x in op.inputs:
            self._whole(x, op)
        self.ops.append(op)
        self.made[op.output.name] = op.output
        if op.kind in ("contraction", "lookup", "put", "reduction"):
            here = self.mesh.cut(_read(op))
            there = self.mesh.cut(op.output.labels)
            lost = tuple(axis for axis, label in here.items() if axis not in there and label not in _BATCH)
            if lost:
                self.partial[op.output.name] = lost

    def finish(self, segment: Segment) -> None:
        """What is still partial, such as a loss, is whole in the end."""
        for name, axes in self.partial.items():
            x = self.made[name]
            self._tell("all-reduce", axes, x, x.labels, segment.tape.ops[-1].spans)

    def _tell(self, what: Operation, axes: Labels, x: Tensor, labels: Labels, spans: Labels) -> None:
        self.found.append(Exchange("forward", what, axes, x.name, labels, x.role, spans))

    def _whole(self, x: Tensor | Weight, op: Op) -> None:
        """Reduce what an op reads, where it is a partial sum."""
        if isinstance(x, Tensor) and (axes := self.partial.pop(x.name, ())):
            self._tell("all-reduce", axes, x, x.labels, op.spans)

    def _view(self, op: Op) -> None:
        x, y = op.inputs[0], op.output
        assert isinstance(x, Tensor)  # noqa: S101  (a weight is read under other labels by itself)
        before, after = self.mesh.cut(x.labels), self.mesh.cut(y.labels)
        partial = self.partial.pop(x.name, ())
        steps: dict[tuple[Operation, Labels], list[str]] = {}
        for axis in dict.fromkeys((*before, *after, *partial)):
            was, now = before.get(axis), after.get(axis)
            what: Operation
            if axis in partial:
                what, whole = "reduce-scatter" if now else "all-reduce", x.labels
            elif was and not now:
                what, whole = "all-gather", y.labels
            elif was and now and _moves(axis, was, now):
                what, whole = "all-to-all", y.labels
            else:
                continue
            steps.setdefault((what, whole), []).append(axis)
        self.made[y.name] = y
        if not steps:
            self.ops.append(op)
            return
        changes = [(what, tuple(axes), whole) for (what, whole), axes in steps.items()]
        for what, axes, whole in changes:
            self._tell(what, axes, y, whole, op.spans)
        self.changed[y.name] = changes
        self.ops.append(op._replace(kind="exchange"))


def _moves(axis: str, was: str, now: str) -> bool:
    """Whether rows go to other ranks of an axis where they are no longer those that tokens send but those of experts.

    Ranks that hold the same experts keep what they have, and positions are cut alike under all their labels.
    """
    return axis in ("ep", *TP) and {stem(was), stem(now)} == {"sent", "M"}


def _read(op: Op) -> tuple[str, ...]:
    """The labels that an op ranges over; of a lookup those of its table too."""
    if op.kind in ("lookup", "put"):
        return tuple(dict.fromkeys(label for x in op.inputs for label in labels_of(x)))
    return op.space


def _backward(ops: list[Op], changed: Changed, mesh: Mesh) -> Iterator[Exchange]:
    """The adjoint, from the last op to the first, then the gradients of weights."""
    partial: dict[str, set[str]] = {}
    weights: dict[str, tuple[Weight, set[str]]] = {}
    for op in reversed(ops):
        if not op.learns or op.is_statistic:
            continue
        here = partial.pop(op.output.name, set())
        late = {axis for axis in here if axis in DP}
        now = tuple(axis for axis in (*mesh.ranks,) if axis in here and axis not in late)
        if op.kind == "exchange":
            x = op.inputs[0]
            gone: set[str] = set()
            for what, axes, whole in changed[op.output.name]:
                if what in _TRANSPOSES:
                    yield Exchange(
                        "backward", _TRANSPOSES[what], axes, op.output.name, whole, op.output.role, op.spans
                    )
                gone |= set(axes)
            now = tuple(axis for axis in now if axis not in gone)
        if now:
            yield Exchange("backward", "all-reduce", now, op.output.name, op.output.labels, op.output.role, op.spans)
        space = mesh.cut(tuple(dict.fromkeys((*_read(op), *op.output.labels))))
        for x in op.inputs:
            if isinstance(x, Weight):
                mine = mesh.cut(x.labels)
                lacks = {axis for axis in space if axis not in mine}
                weights.setdefault(x.path, (x, set()))[1].update(lacks | late)
            elif ROLES[x.role].learns:
                mine = mesh.cut(x.labels)
                lacks = {axis for axis in space if axis not in mine} if op.kind != "exchange" else set()
                partial.setdefault(x.name, set()).update(lacks | late)
    for weight, over in weights.values():
        found = tuple(axis for axis in mesh.ranks if axis in over)
        if found:
            yield Exchange("gradients", "all-reduce", found, weight.path, weight.labels, None, ())
