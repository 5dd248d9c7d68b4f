"""What stands on a tape: tensors, weights, and the ops that read them. None of it knows a size."""

from __future__ import annotations

from functools import lru_cache
from typing import Literal, NamedTuple

from archcalc.errors import TapeError
from archcalc.tape.legend import PAIRS, labels, parse, stem
from archcalc.tape.roles import CHOICES, Role

Kind = Literal["contraction", "pointwise", "reduction", "lookup", "put", "view", "join", "exchange"]
ONE = "unit"
"""The label of an axis that has one number, which is broadcast to any other tensor: xIELU's learned numbers."""


class Tensor(NamedTuple):
    """Data on its way through the model.

    Attributes:
        name: where it was made, unique on its tape.
        labels: one per axis.
        role: says how wide a number is and who keeps it: see ROLES.
        by: labels whose sizes tell apart what is there before the pass and goes by one name: masks by their window.
    """

    name: str
    labels: tuple[str, ...]
    role: Role = "activation"
    by: tuple[str, ...] = ()

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
        part: a category of the tally, or else a term of the bridge, by any name.
        read: the labels that it is read under, where those are not the stored ones.
        met: of experts three labels: how many are stored, how many of them a token meets, and meets at the most.
    """

    path: str
    axes: tuple[tuple[str, ...], ...]
    part: str
    each: tuple[str, ...] = ()
    read: tuple[str, ...] | None = None
    met: tuple[str, ...] = ()

    @classmethod
    def of(cls, path: str, axes: str, part: str, each: str = "") -> Weight:
        """A weight from its axes as text: `Weight.of("query.weight", "(G R K) D", "query", each="G R")`."""
        weight = cls(path, parse(axes), part, labels(each))
        if not part:
            raise TapeError(f"{path}: belongs to no category and no term of the bridge")
        if missing := set(weight.each) - set(weight.labels):
            raise TapeError(f"{path}: counted per {sorted(missing)[0]!r}, which it lacks")
        return weight

    @property
    def labels(self) -> tuple[str, ...]:
        """All labels, in storage order: those of its shape, of its shards and of its gradient."""
        return _flat(self.axes)

    @property
    def stored(self) -> tuple[tuple[str, ...], ...]:
        """The stored axes without the marks of a layer's blocks: what two uses of one weight have alike."""
        return tuple(tuple(map(stem, axis)) for axis in self.axes)

    @property
    def read_labels(self) -> tuple[str, ...]:
        """The labels that work is done over."""
        return self.labels if self.read is None else self.read

    def relabel(self, **new: str) -> Weight:
        """The same weight read under other labels: `gate.relabel(E="M")`, the experts that a token goes to."""
        if missing := set(new) - set(self.read_labels):
            raise TapeError(f"{self.path}: no label {sorted(missing)[0]!r} among {' '.join(self.read_labels)!r}")
        return self._replace(read=labels(" ".join(new.get(label, label) for label in self.read_labels)))

    @property
    def matrix(self) -> tuple[tuple[str, ...], ...]:
        """The axes of one matrix of the tally: the stored axes without the labels counted over."""
        axes = (tuple(label for label in axis if label not in self.each) for axis in self.axes)
        return tuple(axis for axis in axes if axis)


@lru_cache(4_096)  # every count of every pass asks
def _flat(axes: tuple[tuple[str, ...], ...]) -> tuple[str, ...]:
    return tuple(label for axis in axes for label in axis)


def labels_of(x: Tensor | Weight) -> tuple[str, ...]:
    """The labels under which an op reads it."""
    return x.read_labels if isinstance(x, Weight) else x.labels


class Op(NamedTuple):
    """One step of the forward pass.

    A contraction sums over the labels that its output lacks; a lookup reads rows of a table, and to put is to add rows
    at some places; a reduction folds labels away without weights; a view is the same numbers under other labels; a
    join puts features of several tensors side by side; an exchange is what ranks of a parallel plan tell each other;
    the rest is pointwise.

    Attributes:
        spans: the scopes and spans that it stands in, outermost first.
        saves: data that its backward pass reads again.
        per_point: FLOPs for each point of its space: 2 in a contraction, a model of the work elsewhere.
        repeats: how often the backward pass computes a contraction anew, beside the two of its gradients.
        passes: whether the output's gradient is the inputs' own: a sum, or another type of the same numbers.
        converts: whether it is nothing at all where input and output have one type.
        scratch: how many tensors as large as its output its backward pass makes on the way, and drops.
        adjoint: FLOPs for each point of its space of a product in its backward pass, of an op that is none itself.
        casts: whether torch.autocast has it done in bf16; a kernel of its own takes what comes as it is.
        learns: whether it has a backward pass at all.
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
    converts: bool = False
    adjoint: int = 0
    casts: bool = True
    learns: bool = True

    @property
    def is_statistic(self) -> bool:
        """Whether it is what a kernel hands out beside its output: no sum, and no choice."""
        return self.kind == "reduction" and not self.passes and self.output.role not in CHOICES

    @property
    def weights(self) -> tuple[Weight, ...]:
        """The weights that it reads."""
        return tuple(x for x in self.inputs if isinstance(x, Weight))

    @property
    def space(self) -> tuple[str, ...]:
        """Every label that it ranges over, each once; a query position and a key position are a pair, Q.

        A table is read at some of its places, and adds none; nor do the positions before those that a convolution
        makes, nor a single number, nor the positions that an indexer chose.
        """
        return _space(self)


@lru_cache(4_096)
def _space(op: Op) -> tuple[str, ...]:
    read = [x for x in op.inputs if isinstance(x, Weight) or x.role not in ("table", "recent", "positions")]
    labels = dict.fromkeys(label for x in (*read, op.output) for label in labels_of(x) if label != "unit")
    if op.kind == "contraction" and "S" in labels:
        for keys in labels:
            if stem(keys) in PAIRS:
                pair = PAIRS[stem(keys)] + keys.removeprefix(stem(keys))
                return tuple(pair if label == "S" else label for label in labels if label != keys)
    return tuple(labels)
