"""What ranks tell each other, by one rule for every op of a tape.

On each axis of the mesh a tensor is cut along one of its labels, whole on every rank, or a partial sum: something cut
was summed over. A collective is the change from how a tensor was made to how it is read:

- partial to whole: all-reduce; partial to cut: reduce-scatter;
- cut to whole: all-gather; cut along one label to cut along another: all-to-all; whole to cut: nothing.

On the way back each has its transpose. The gradient of what an op reads is partial on the axes that cut the op and not
what it reads; it is reduced once, however many ops read the tensor. Over axes of sequences and positions only
gradients of weights are reduced, and what is scattered: all else hands its partial gradient on to them.
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

_INSIDE = ("fused", "statistic")
"""Roles of what has a gradient inside a kernel alone."""

LATE = (*DP, "cp")
"""Axes whose ranks have sequences or positions of their own."""

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
    """What one rank of the mesh does of a segment, and what it exchanges. Sizes do not matter."""
    mesh = mesh.structure
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
                what, whole = "all-to-all", x.labels
            else:
                continue
            steps.setdefault((what, whole), []).append(axis)
        self.made[y.name] = y
        if not steps:
            self.ops.append(op)
            return
        if any(what == "reduce-scatter" for what, _ in steps):  # rows are sent once they are whole
            steps = {
                (what, y.labels if what == "all-to-all" else whole): axes for (what, whole), axes in steps.items()
            }
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
    waits = _Waiting(ops, changed, mesh).waits
    for op in reversed(ops):
        if not op.learns:
            continue
        y = op.output
        here = partial.pop(y.name, set())
        late = {axis for axis in here if axis in LATE or waits(op, axis)}
        labels = y.labels
        if op.kind == "exchange" and (ROLES[y.role].learns or y.role == "fused"):
            changes = changed[y.name]
            for what, axes, whole in changes:
                if what in _TRANSPOSES:
                    yield Exchange("backward", _TRANSPOSES[what], axes, y.name, whole, y.role, op.spans)
            gone = {axis for _, axes, _ in changes for axis in axes}
            here, late, labels = here - gone, late - gone, labels_of(op.inputs[0])
        now = tuple(axis for axis in mesh.ranks if axis in here and axis not in late)
        if now:
            yield Exchange("backward", "all-reduce", now, y.name, labels, y.role, op.spans)
        if op.is_statistic:
            continue
        for x, lacks in _lacking(op, mesh):
            if isinstance(x, Weight):
                weights.setdefault(x.path, (x, set()))[1].update(lacks | late)
            else:
                partial.setdefault(x.name, set()).update(lacks | late)
    for weight, over in weights.values():
        found = tuple(axis for axis in mesh.ranks if axis in over)
        if found:
            yield Exchange("gradients", "all-reduce", found, weight.path, weight.labels, None, ())


def _lacking(op: Op, mesh: Mesh) -> Iterator[tuple[Tensor | Weight, set[str]]]:
    """What gets a gradient from an op, with the axes on which that is a partial sum: they cut the op, and not it."""
    space = mesh.cut(tuple(dict.fromkeys((*_read(op), *op.output.labels)))) if op.kind != "exchange" else {}
    for x in op.inputs:
        if isinstance(x, Weight) or ROLES[x.role].learns or x.role == "statistic":
            mine = mesh.cut(x.labels)
            yield x, {axis for axis in space if axis not in mine}


class _Waiting:
    """Whether a partial gradient is handed on as it is: where all that it goes on to is reduced over that axis anyway.

    So the gradients of keys and values that several ranks have wait for that of the layer's input, and those of
    weights on the way are reduced once.
    """

    def __init__(self, ops: list[Op], changed: Changed, mesh: Mesh) -> None:
        self.mesh = mesh
        self.makers = {op.output.name: op for op in ops if op.learns}
        self.reduced: dict[str, set[str]] = {}
        for op in ops:
            for x, lacks in _lacking(op, mesh) if op.learns and not op.is_statistic else ():
                if isinstance(x, Tensor):
                    self.reduced.setdefault(x.name, set()).update(lacks)
        for name, changes in changed.items():
            gathered = {axis for what, axes, _ in changes if what == "all-gather" for axis in axes}
            self.reduced.setdefault(name, set()).update(gathered)
        self.known: dict[tuple[str, str], bool] = {}

    def waits(self, op: Op, axis: str) -> bool:
        """Whether the gradient of what an op makes is reduced later."""
        into = [x for x in op.inputs if isinstance(x, Tensor) and (ROLES[x.role].learns or x.role in _INSIDE)]
        whole = all(axis not in self.mesh.cut(x.labels) for x in into)
        return bool(into) and whole and all(self._reaches(x.name, axis) for x in into)

    def _reaches(self, name: str, axis: str) -> bool:
        key = name, axis
        if key not in self.known:
            maker = self.makers.get(name)
            further = maker is not None and self.waits(maker, axis)
            self.known[key] = axis in self.reduced.get(name, ()) or further
        return self.known[key]
