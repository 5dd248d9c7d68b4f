"""The tape: a forward pass over named dimensions, recorded once. Every quantity is read off it.

A block records like this (one attention head's scores, much shortened):

    q = tape.linear("query", "B S G R K", x, "(G R K) D", each="G R", part="query", bias=True)
    a = tape.contract("scores", "B G R S T", q, k)

Nothing here knows a size: labels get theirs from an Env when a quantity is read.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, NamedTuple

from archcalc.errors import TapeError
from archcalc.tape.legend import BRIDGE, CATEGORIES, labels, parse
from archcalc.tape.run import Run

Role = Literal["activation", "cache", "fused", "statistic", "float", "mask", "index", "constant"]
Kind = Literal["contraction", "pointwise", "reduction", "lookup"]


class Tensor(NamedTuple):
    """Data on its way through the model.

    Attributes:
        name: where it was made, unique on its tape.
        labels: one per axis.
        role: says how wide a number is and who keeps it. `cache` is kept for later tokens, `fused` never leaves its
            kernel, `statistic` is what a norm keeps of its input, `float` is worked out in fp32 whatever the rest is,
            `mask` says what was dropped, `index` holds token or position numbers, `constant` is known before the run.
    """

    name: str
    labels: tuple[str, ...]
    role: Role = "activation"

    def relabel(self, **new: str) -> Tensor:
        """The same numbers under other labels: `k.relabel(S="T")`, keys made at S are read at T."""
        if missing := set(new) - set(self.labels):
            raise TapeError(f"{self.name}: no label {sorted(missing)[0]!r} among {' '.join(self.labels)!r}")
        return self._replace(labels=labels(" ".join(new.get(label, label) for label in self.labels)))


class Weight(NamedTuple):
    """One use of learned numbers; two uses of one path are one weight.

    Attributes:
        path: its name in a checkpoint, `{i}` standing for the layer.
        axes: the stored axes in storage order (output first), each a group of labels.
        each: per which labels one matrix of the tally is counted.
        part: a category of the tally, or a term of the bridge.
    """

    path: str
    axes: tuple[tuple[str, ...], ...]
    part: str
    each: tuple[str, ...] = ()

    @classmethod
    def of(cls, path: str, axes: str, part: str, each: str = "") -> Weight:
        """A weight from its axes as text: `Weight.of("query.weight", "(G R K) D", "query", each="G R")`."""
        weight = cls(path, parse(axes), part, labels(each))
        if part not in CATEGORIES and part not in BRIDGE:
            raise TapeError(f"{path}: {part!r} is neither a category nor a term of the bridge")
        if missing := set(weight.each) - set(weight.labels):
            raise TapeError(f"{path}: counted per {sorted(missing)[0]!r}, which it lacks")
        return weight

    @property
    def labels(self) -> tuple[str, ...]:
        """All labels, in storage order."""
        return tuple(label for axis in self.axes for label in axis)

    @property
    def matrix(self) -> tuple[tuple[str, ...], ...]:
        """The axes of one matrix of the tally: the stored axes without the labels counted over."""
        return tuple(tuple(label for label in axis if label not in self.each) for axis in self.axes)


class Op(NamedTuple):
    """One step of the forward pass.

    A contraction sums over the labels that its output lacks; a lookup reads rows of a table; a reduction folds labels
    away without weights; the rest is pointwise.

    Attributes:
        spans: the scopes and spans that it stands in, outermost first.
        saves: data that its backward pass reads again.
        per_point: FLOPs for each point of its space: 2 in a contraction, a model of the work elsewhere.
        repeats: how often the backward pass computes a contraction anew, beside the two of its gradients.
        passes: whether the output's gradient is the inputs' own: a sum, or another type of the same numbers.
        scratch: how many tensors as large as its output its backward pass makes on the way, and drops.
    """

    kind: Kind
    inputs: tuple[Tensor | Weight, ...]
    output: Tensor
    spans: tuple[str, ...]
    saves: tuple[Tensor, ...] = ()
    per_point: int = 0
    repeats: int = 0
    passes: bool = False
    scratch: int = 0

    @property
    def weights(self) -> tuple[Weight, ...]:
        """The weights that it reads."""
        return tuple(x for x in self.inputs if isinstance(x, Weight))

    @property
    def space(self) -> tuple[str, ...]:
        """Every label that it ranges over, each once; a query position and a key position are a pair, Q."""
        labels = dict.fromkeys(label for x in (*self.inputs, self.output) for label in x.labels)
        if self.kind == "contraction" and "S" in labels and "T" in labels:
            return tuple("Q" if label == "S" else label for label in labels if label != "T")
        return tuple(labels)


class Tape:
    """A recording; blocks write on it through the methods below.

    Every method raises TapeError for what cannot be: an output label from nowhere, a name or path used for two
    things, a contraction that sums over nothing.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self.ops: list[Op] = []
        self._scopes: list[tuple[str, bool]] = []
        self._names: set[str] = set()
        self._stored: dict[str, tuple[tuple[str, ...], ...]] = {}

    @contextmanager
    def scope(self, name: str) -> Iterator[None]:
        """A module: its name becomes part of the weights' paths, and a span of its ops."""
        self._scopes.append((name, True))
        yield
        self._scopes.pop()

    @contextmanager
    def span(self, name: str) -> Iterator[None]:
        """A stretch of ops with a name, such as what is recomputed together; no part of any path."""
        self._scopes.append((name, False))
        yield
        self._scopes.pop()

    def weight(self, name: str, axes: str, part: str, each: str = "") -> Weight:
        """A weight of the module in scope."""
        return Weight.of(".".join([*(scope for scope, named in self._scopes if named), name]), axes, part, each)

    def contract(
        self,
        name: str,
        out: str,
        *inputs: Tensor | Weight,
        role: Role = "activation",
        repeats: int = 0,
        keeps: bool = False,
    ) -> Tensor:
        """Multiply the inputs point by point and sum over the labels that `out` lacks.

        Gradients need the factors, and the output where its kernel `keeps` it.
        """
        output = self._output(name, labels(out), role)
        saves = tuple(x for x in inputs if isinstance(x, Tensor) and x.role != "fused")
        op = Op("contraction", inputs, output, self._spans, (*saves, output) if keeps else saves, 2, repeats)
        if not {label for x in inputs for label in x.labels} - set(op.output.labels):
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
    ) -> Tensor:
        """One number out for each of the first input's, the others broadcast to it.

        The backward pass reads `saves`, and the output itself where it `keeps` it.
        """
        first = inputs[0].labels
        output = self._output(name, first, role)
        saves = (*saves, output) if keeps else saves
        op = Op("pointwise", inputs, output, self._spans, saves, per_point, passes=passes, scratch=scratch)
        if set(op.space) != set(first):
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
        return self.pointwise(name, x, role=role, per_point=0, passes=True)

    def reduce(self, name: str, x: Tensor, over: str, role: Role = "activation", per_point: int = 1) -> Tensor:
        """Fold the labels `over` away: a maximum, a sum, a mean."""
        gone = labels(over)
        if missing := set(gone) - set(x.labels):
            raise TapeError(f"{name}: no label {sorted(missing)[0]!r} to fold among {' '.join(x.labels)!r}")
        left = tuple(label for label in x.labels if label not in gone)
        return self._record(Op("reduction", (x,), self._output(name, left, role), self._spans, (), per_point))

    def lookup(self, name: str, out: str, index: Tensor, table: Tensor | Weight, role: Role = "activation") -> Tensor:
        """Read the table at the index, which replaces one label of the table; the gradient goes where it was read."""
        op = Op("lookup", (index, table), self._output(name, labels(out), role), self._spans, (index,))
        if len(set(table.labels) - set(op.output.labels)) != 1:
            raise TapeError(f"{op.output.name}: a lookup replaces exactly one label of its table")
        return self._record(op)

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
    ) -> Tensor:
        """A module with one matrix and perhaps a bias, added after the sum is whole."""
        with self.scope(name):
            if not bias:
                return self.contract("product", out, x, self.weight("weight", axes, part, each), role=role)
            y = self.contract("product", out, x, self.weight("weight", axes, part, each), role="fused")
            stored = " ".join(f"({' '.join(axis)})" for axis in parse(axes)[:1])
            return self.sum("biased", y, self.weight("bias", stored, "biases"), role=role)

    def softmax(self, x: Tensor, over: str) -> Tensor:
        """exp(x) over its sum, by way of the maximum so that no exponential overflows."""
        with self.span("softmax"):
            maximum = self.reduce("maximum", x, over, role="fused")
            exponential = self.pointwise("exponential", x, maximum, role="fused", per_point=2)
            total = self.reduce("sum", exponential, over, role="fused")
            return self.pointwise("probabilities", exponential, total, keeps=True)

    def dropout(self, name: str, x: Tensor) -> Tensor:
        """Zero some of x at random and scale the rest, where the run asks; what was dropped is a mask."""
        if not self.run.dropout:
            return x
        with self.span(name):
            mask = Tensor(".".join([*self._spans, "mask"]), x.labels, "mask")
            return self.pointwise("dropped", x, mask, saves=(mask,), per_point=2)

    @property
    def _spans(self) -> tuple[str, ...]:
        return tuple(name for name, _ in self._scopes)

    def _output(self, name: str, out: tuple[str, ...], role: Role) -> Tensor:
        return Tensor(".".join([*self._spans, name]), out, role)

    def _record(self, op: Op) -> Tensor:
        if op.output.name in self._names:
            raise TapeError(f"{op.output.name}: a tensor of this name is on the tape already")
        if unknown := set(op.output.labels) - {label for x in op.inputs for label in x.labels}:
            raise TapeError(f"{op.output.name}: output label {sorted(unknown)[0]!r} is in no input")
        for weight in op.weights:
            if self._stored.setdefault(weight.path, weight.axes) != weight.axes:
                raise TapeError(f"{weight.path}: used with two shapes, {self._stored[weight.path]} and {weight.axes}")
        self._names.add(op.output.name)
        self.ops.append(op)
        return op.output
