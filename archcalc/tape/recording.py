"""The tape: a forward pass over named dimensions, recorded once. Every quantity is read off it.

A block records like this (one attention head's scores, much shortened):

    q = tape.linear("query", "B S G R K", x, "(G R K) D", each="G R", part="query", bias=True)
    a = tape.contract("scores", "B G R S T", q, k)

Nothing here knows a size: labels get theirs from an Env when a quantity is read.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from archcalc.errors import TapeError
from archcalc.tape.legend import labels, parse, stem
from archcalc.tape.ops import ONE, Op, Tensor, Weight, labels_of
from archcalc.tape.roles import CHOICES, ROLES, Role
from archcalc.tape.run import Run
from archcalc.tape.scopes import Scopes
from archcalc.tape.views import resolve

_Found = TypeVar("_Found")


class Tape(Scopes):
    """A recording; blocks write on it through the methods below.

    Every method raises TapeError for what cannot be: an output label from nowhere, a name or path used for two
    things, a contraction that sums over nothing.
    """

    def __init__(self, run: Run) -> None:
        super().__init__()
        self.run = run
        self.ops: list[Op] = []
        self._names: set[str] = set()
        self._stored: dict[str, tuple[tuple[str, ...], ...]] = {}
        self._known: tuple[int, dict[object, Any]] = 0, {}
        self.result: str | None = None
        """The name of what goes on to the next segment, where that is not what the last op makes."""
        self.handed_on: tuple[Tensor, ...] = ()
        """What else goes on: all segments behind read parts of it."""

    def weight(self, name: str, axes: str, part: str, each: str = "", met: str = "", **read: str) -> Weight:
        """A weight of the module in scope; `read` are labels that it is read under in place of stored ones."""
        weight = Weight.of(self._path(name), self._marked(axes), part, self._marked(each))._replace(
            met=tuple(self._marked(met).split())
        )
        return weight.relabel(**self._own_labels(read)) if read else weight

    def buffer(self, name: str, axes: str) -> Tensor:
        """What a checkpoint has beside the parameters of the module in scope, under its path."""
        return self.given(self._path(name), axes, "buffer")

    def given(self, name: str, axes: str, role: Role, by: str = "") -> Tensor:
        """Data that is there before the pass, one for each name and each of the sizes of `by`."""
        return Tensor(name, labels(self._marked(axes)), role, labels(self._marked(by)))

    def contract(
        self,
        name: str,
        out: str,
        *inputs: Tensor | Weight,
        role: Role = "activation",
        repeats: int = 0,
        keeps: bool = False,
        casts: bool = True,
    ) -> Tensor:
        """Multiply the inputs point by point and sum over the labels that `out` lacks.

        Gradients need the factors, and the output where its kernel `keeps` it.
        """
        output = self._output(name, labels(self._marked(out)), role)
        saves = tuple(x for x in inputs if isinstance(x, Tensor) and not ROLES[x.role].given and x.role != "fused")
        saves = (*saves, output) if keeps else saves
        op = Op("contraction", inputs, output, self._spans, saves, 2, repeats, casts=casts)
        if not {label for x in inputs for label in labels_of(x)} - set(op.output.labels):
            raise TapeError(f"{op.output.name}: a contraction that sums over nothing is pointwise")
        return self._record(op)

    def pointwise(
        self,
        name: str,
        *inputs: Tensor | Weight,
        role: Role = "activation",
        saves: tuple[Tensor, ...] = (),
        keeps: bool = False,
        per_point: int = 1,
        passes: bool = False,
        scratch: int = 0,
        converts: bool = False,
    ) -> Tensor:
        """One number out for each of the first input's, the others broadcast to it; a label that is ONE too.

        The backward pass reads `saves`, and the output itself where it `keeps` it.
        """
        first = labels_of(inputs[0])
        output = self._output(name, first, role)
        saves = (*saves, output) if keeps else saves
        op = Op(
            *("pointwise", inputs, output, self._spans, saves, per_point),
            passes=passes,
            scratch=scratch,
            converts=converts,
        )
        if {label for label in op.space if stem(label) != ONE} != {label for label in first if stem(label) != ONE}:
            raise TapeError(f"{op.output.name}: an input has a label that {' '.join(first)!r} lacks")
        return self._record(op)

    def sum(self, name: str, *inputs: Tensor | Weight, role: Role = "activation") -> Tensor:
        """Add the inputs point by point, the others broadcast to the first."""
        return self.pointwise(name, *inputs, role=role, passes=True)

    def copy(self, name: str, x: Tensor) -> Tensor:
        """The same numbers in another order in memory."""
        return self.pointwise(name, x, role=x.role, per_point=0, passes=True)

    def convert(self, name: str, x: Tensor, role: Role) -> Tensor:
        """The same numbers in the type of another role; nothing at all where both have one type."""
        return self.pointwise(name, x, role=role, per_point=0, passes=True, converts=True)

    def reduce(
        self, name: str, x: Tensor, over: str, role: Role = "activation", per_point: int = 1, *, passes: bool = False
    ) -> Tensor:
        """Fold the labels `over` away: a maximum, a mean; a sum `passes` its gradient on as it is."""
        gone = labels(self._marked(over))
        if missing := set(gone) - set(x.labels):
            raise TapeError(f"{name}: no label {sorted(missing)[0]!r} to fold among {' '.join(x.labels)!r}")
        left = tuple(label for label in x.labels if label not in gone)
        output = self._output(name, left, role)
        return self._record(Op("reduction", (x,), output, self._spans, (), per_point, passes=passes))

    def solve(self, name: str, out: str, triangle: Tensor, right: Tensor) -> Tensor:
        """Solve a triangular system of equations, inside a kernel: half the work of a product of the two.

        On the way back the right side's gradient is solved for too, and the triangle's is a product.
        """
        output = self._output(name, labels(self._marked(out)), "fused")
        return self._record(Op("reduction", (triangle, right), output, self._spans, (), 1, adjoint=2))

    def choose(self, name: str, scores: Tensor, out: str, role: Role = "choice") -> Tensor:
        """The numbers of the largest scores, as many as the label of `out` says that the scores lack."""
        output = self._output(name, labels(self._marked(out)), role)
        return self._record(Op("reduction", (scores,), output, self._spans, (), 1))

    def hide(self, name: str, out: str, chosen: Tensor, mask: Tensor) -> Tensor:
        """A mask for each sequence that hides what was not chosen, beside what the mask of all hides."""
        output = self._output(name, labels(self._marked(out)), "activation")
        return self._record(Op("reduction", (chosen, mask), output, self._spans, passes=True))

    def lookup(
        self,
        name: str,
        out: str,
        index: Tensor,
        table: Tensor | Weight,
        role: Role = "activation",
        saves: tuple[Tensor, ...] = (),
    ) -> Tensor:
        """Read rows of the table: labels of the index take the place of its own. Gradients go where it was read."""
        output = self._output(name, labels(self._marked(out)), role)
        op = Op("lookup", (index, table), output, self._spans, (index, *saves))
        if not set(index.labels) <= set(op.output.labels):
            raise TapeError(f"{op.output.name}: a lookup has the labels of its index")
        return self._record(op)

    def put(self, name: str, out: str, index: Tensor, rows: Tensor) -> Tensor:
        """Add rows to zeros at the places of the index: the way back of a lookup. Gradients are looked up there."""
        output = self._output(name, labels(self._marked(out)), rows.role)
        if not set(index.labels) <= set(rows.labels):
            raise TapeError(f"{output.name}: what is put has the labels of its index")
        return self._record(Op("put", (index, rows), output, self._spans, (index,)))

    def view(self, x: Tensor, role: Role | None = None, **new: str) -> Tensor:
        """The same numbers under other labels, or in another role: `tape.view(k, role="cache", S="T")`.

        Positions that the residual stream holds are computed by a mixer, keys that were made are read: on one device
        nothing happens, and between devices that hold parts a view is where they talk.
        """
        seen = x.relabel(**self._own_labels(new))
        name = f"{x.name}.as_{'_'.join(seen.labels) if new else role}"
        output = Tensor(name, seen.labels, role or x.role)
        if name in self._names:  # seen so before: two branches that share a norm
            return output
        return self._record(Op("view", (x,), output, self._spans, passes=True))

    def regroup(self, x: Tensor, out: str, role: Role | None = None) -> Tensor:
        """As many numbers under labels that are not a renaming of the old ones: tokens dealt out to experts."""
        name = f"{x.name}.as_{'_'.join(out.split())}"
        output = Tensor(name, labels(self._marked(out)), role or x.role)
        return self._record(Op("view", (x,), output, self._spans, passes=True))

    def hand_on(self, x: Tensor) -> None:
        """Keep a tensor for the segments behind, which read it as one of role `shared`."""
        self.handed_on = (*self.handed_on, x)

    def join(self, name: str, out: str, *inputs: Tensor) -> Tensor:
        """The last axes of the inputs side by side, under a label of their sum; an input that lacks heads has one for
        all.
        """
        output = self._output(name, labels(self._marked(out)), "activation")
        return self._record(Op("join", inputs, output, self._spans))

    def linear(
        self,
        name: str,
        out: str,
        x: Tensor,
        axes: str,
        *,
        part: str,
        bias: bool,
        each: str = "",
        role: Role = "activation",
        leaves: bool = False,
    ) -> Tensor:
        """A module with one matrix and perhaps a bias, added after the sum is whole.

        The last of a mixer `leaves` its positions: they are those of the residual stream again before the bias.
        """
        with self.scope(name):
            matrix = self.weight("weight", axes, part, each)
            y = self.contract("product", out, x, matrix, role="fused" if bias else role)
            if leaves:
                y = self.view(y, S="N")
            if not bias:
                return y
            stored = " ".join(f"({' '.join(axis)})" for axis in parse(axes)[:1])
            return self.sum("biased", y, self.weight("bias", stored, "biases"), role=role)

    def softmax(self, x: Tensor, over: str, role: Role = "activation") -> Tensor:
        """exp(x) over its sum, by way of the maximum so that no exponential overflows."""
        with self.span("softmax"):
            maximum = self.reduce("maximum", x, over, role="fused")
            exponential = self.pointwise("exponential", x, maximum, role="fused", per_point=2)
            total = self.reduce("sum", exponential, over, role="fused")
            return self.pointwise("probabilities", exponential, total, role=role, keeps=True)

    def dropout(self, name: str, x: Tensor) -> Tensor:
        """Zero some of x at random and scale the rest, where the run asks; what was dropped is a mask."""
        if not self.run.dropout:
            return x
        with self.span(name):
            mask = Tensor(".".join([*self._spans, "mask"]), x.labels, "mask")
            return self.pointwise("dropped", x, mask, saves=(mask,), per_point=2)

    @property
    def resolved(self) -> list[Op]:
        """The ops as one device does them, without views."""
        return self.once("resolved", lambda: resolve(self.ops))

    @property
    def weights(self) -> list[tuple[Op, Weight]]:
        """The weights that its ops read, each with its op."""
        return self.once("weights", lambda: [(op, weight) for op in self.resolved for weight in op.weights])

    def once(self, key: object, work: Callable[[], _Found]) -> _Found:
        """What follows from the ops alone, worked out once for all who ask; anew when another op is there."""
        if self._known[0] != len(self.ops):
            self._known = len(self.ops), {}
        known = self._known[1]
        if key not in known:
            known[key] = work()
        return cast("_Found", known[key])

    def _output(self, name: str, out: tuple[str, ...], role: Role) -> Tensor:
        return Tensor(".".join([*self._spans, name]), out, role)

    def _record(self, op: Op) -> Tensor:
        if op.output.name in self._names:
            raise TapeError(f"{op.output.name}: a tensor of this name is on the tape already")
        op = op if self._learns else op._replace(saves=(), learns=False)
        unknown = set(op.output.labels) - {label for x in op.inputs for label in labels_of(x)}
        if unknown and op.kind not in ("view", "join", "put") and op.output.role not in CHOICES:
            raise TapeError(f"{op.output.name}: output label {sorted(unknown)[0]!r} is in no input")
        for weight in op.weights:
            if self._stored.setdefault(weight.path, weight.stored) != weight.stored:
                raise TapeError(
                    f"{weight.path}: used with two shapes, {self._stored[weight.path]} and {weight.stored}"
                )
        self._names.add(op.output.name)
        self.ops.append(op)
        return op.output
