"""Parameters, read off the tape: what a checkpoint stores, the tally of matrices, and the bridge between the two."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from archcalc.arguments import records
from archcalc.errors import TapeError
from archcalc.spec.model import Model
from archcalc.spec.shared import ROOT
from archcalc.tape.legend import BRIDGE, CATEGORIES, Mask, Size, add, product, volume, where
from archcalc.tape.ops import Op, Tensor, Weight
from archcalc.tape.passes import Layers, Pass, Segment, recorded

CONVENTIONS = {
    "stored": "distinct weights in a checkpoint; a tied table counts once, buffers do not count",
    "active": "stored parameters minus the experts that are not chosen for a token",
    "active_inner": "active parameters minus a token table that is only looked up, as an untied one is",
    "non_embedding": "stored parameters minus token table, learned positions, and an untied unembedding with its bias",
    "tally": "matrices of eight categories, without norms, biases and positions; a tied table counts in both roles",
    "orientation": "rows x columns of one matrix, output x input; the embedding has one column per token",
    "matrices": "query, key and value: one per head that has its own; output and projections: one per layer",
}


_TABLES = ("embedding.", "unembedding.")
_LOOKED_UP = ("embedding", "per_layer_embedding")


class Stored(NamedTuple):
    """A weight as a checkpoint holds it: `layers` tensors of one name and shape, in the layers `within`.

    Outside the layers `layers` is 1 and `within` is None. `category` is None for what the tally leaves out.
    `active` is what one token meets of `parameters` where that is not all: of experts those that are chosen for it.
    `learns` says whether it gets a gradient from the loss: an indexer does not. `of_experts` says whether
    expert-parallel ranks have different ones.
    """

    name: str
    shape: tuple[Size, ...]
    layers: Size
    within: Layers | None
    parameters: Size
    part: str
    active: Size | None = None
    learns: bool = True
    of_experts: bool = False

    @property
    def first(self) -> Size | None:
        """The index of the first layer that has it."""
        return None if self.within is None else self.within.start

    @property
    def category(self) -> str | None:
        return self.part if self.part in CATEGORIES else None


class Matrices(NamedTuple):
    """Alike matrices of a category: the shape of one, and how many."""

    rows: Size
    columns: Size
    matrices: Size
    parameters: Size


class Category(NamedTuple):
    """One of the eight kinds of matrix, with one entry of `shapes` for each shape that occurs."""

    category: str
    matrices: Size
    parameters: Size
    shapes: tuple[Matrices, ...]


class Tally(NamedTuple):
    """The matrices in the orientation of a column for each token; `total` counts a tied table twice."""

    total: Size
    matrices: Size
    categories: tuple[Category, ...]


class Term(NamedTuple):
    """A signed step of the bridge."""

    name: str
    parameters: Size


class Totals(NamedTuple):
    """The parameters of a model in all: `params` without what they are made of. See Parameters for each."""

    stored: Size
    active: Size
    active_inner: Size
    non_embedding: Size
    is_sparse: bool


class Parameters(NamedTuple):
    """Parameter counts of a model, in numbers of parameters, not bytes.

    `tally.total` plus the sum of `bridge` equals `stored`. See CONVENTIONS for what each count includes.
    """

    stored: Size
    active: Size
    active_inner: Size
    non_embedding: Size
    tally: Tally
    bridge: tuple[Term, ...]
    tensors: tuple[Stored, ...]

    @property
    def totals(self) -> Totals:
        """The counts without what they are made of."""
        return Totals(*self[:4], is_sparse=self.is_sparse)

    @property
    def learned(self) -> Size:
        """Parameters that get a gradient from the loss."""
        return self.stored - add(weight.parameters for weight in self.tensors if not weight.learns)

    @property
    def is_sparse(self) -> bool:
        """Whether a token meets some of the weights alone: those of experts that are chosen for it."""
        return any(weight.active is not None for weight in self.tensors)


class Inventory(NamedTuple):
    """The weights of a pass without a tally of them: what is kept of each, and sent, needs no more."""

    tensors: tuple[Stored, ...]


class Use(NamedTuple):
    """A weight in one of its parts; `again` where it has played another part before: a tied table is stored once."""

    weight: Weight
    op: Op
    segment: Segment
    again: bool
    there: Mask = True

    @property
    def times(self) -> Size:
        """How many such weights there are: one for each layer of the segment, unless layers share it."""
        return self.segment.repeat if "{i}" in self.weight.path else where(self.there, 1)

    @property
    def parameters(self) -> Size:
        return volume(self.weight.labels, self.segment.env) * self.times

    @property
    def active(self) -> Size:
        """What one token meets of a weight of experts, which are stored once for each."""
        stored, met, _ = self.weight.met
        return (
            volume((met if label == stored else label for label in self.weight.labels), self.segment.env) * self.times
        )

    @property
    def matrices(self) -> Matrices:
        """It as matrices of the tally. A token's vector is drawn as a column; a table stores it as a row."""
        env = self.segment.env
        rows, columns = (volume(axis, env) for axis in self.weight.matrix[:: -1 if self.op.kind == "lookup" else 1])
        return Matrices(rows, columns, volume(self.weight.each, env) * self.times, self.parameters)


def params(model: Model | Pass) -> Parameters:
    """Count the parameters of a model, or of what was recorded of it.

    A parameter's count is the product of the sizes of its axes; a tied table counts once. Sizes may be ints, or numpy
    arrays of one shape (see legend.environment). No tensor is allocated: the time grows with the number of different
    layer groups, not with the number of layers. Raises Invalid if `model` is not a Model.
    """
    records("params", model)
    uses = list(weight_uses(recorded(model).segments))
    stored = _distinct(uses)
    counted = _totals(uses)
    return Parameters(
        *counted[:4],
        tally=_tally(uses),
        bridge=tuple(_bridge(uses, stored)),
        tensors=stored,
    )


def totals(model: Model | Pass) -> Totals:
    """Count the parameters of a model without telling them apart, in a third of the time that `params` takes.

    Raises Invalid if `model` is not a Model.
    """
    records("totals", model)
    return _totals(weight_uses(recorded(model).segments))


def _totals(uses: Iterable[Use]) -> Totals:
    multiplied: set[str] = set()
    found: list[tuple[Weight, Size, Size]] = []
    for use in uses:
        weight = use.weight
        if use.op.kind != "lookup":
            multiplied.add(weight.path)
        if not use.again:
            count = use.parameters
            found.append((weight, count, use.active if weight.met else count))
    # What is left is added up by itself: a difference of large numbers that are rounded is not exact.
    return Totals(
        stored=add(count for _, count, _ in found),
        active=add(met for *_, met in found),
        active_inner=add(met for w, _, met in found if w.part not in _LOOKED_UP or w.path in multiplied),
        non_embedding=add(count for w, count, _ in found if not w.path.startswith(_TABLES)),
        is_sparse=any(w.met for w, *_ in found),
    )


def tensors(taken: Pass) -> tuple[Stored, ...]:
    """The weights of a pass alone, each once."""
    return _distinct(weight_uses(taken.segments))


def _distinct(uses: Iterable[Use]) -> tuple[Stored, ...]:
    return tuple(_stored(use) for use in uses if not use.again)


def kept_beside(taken: Pass) -> Iterator[Stored]:
    """What a checkpoint has beside its parameters: numbers that no gradient changes, of each layer its own."""
    for segment in taken.segments:
        own = {x.name: x for op in segment.ops for x in op.inputs if isinstance(x, Tensor) and x.role == "buffer"}
        for name, x in own.items():
            shape = tuple(segment.env[label] for label in x.labels)
            count = volume(x.labels, segment.env) * segment.repeat
            yield Stored(name, shape, segment.repeat, segment.layers, count, x.role, learns=False)


def weight_uses(segments: list[Segment]) -> Iterator[Use]:
    """Every weight in the order of the forward pass, once for each part that it plays."""
    parts: dict[tuple[str, int | None], set[str]] = {}
    shared: dict[str, tuple[tuple[str, ...], ...]] = {}
    there = _where_used(segments)
    for position, segment in enumerate(segments):
        for op, weight in segment.weights:
            own = "{i}" in weight.path
            if not own and shared.setdefault(weight.path, weight.stored) != weight.stored:
                raise TapeError(f"{weight.path}: stored once and used with two shapes")
            played = parts.setdefault((weight.path, position if own else None), set())
            if weight.part not in played:
                yield Use(weight, op, segment, again=bool(played), there=there.get(weight.path, True))
                played.add(weight.part)


def _where_used(segments: list[Segment]) -> dict[str, Mask]:
    """Where the weights of shared blocks are used at all: of arrays a pattern may be longer than the group."""
    found: dict[str, Mask] = {}
    for segment in segments:
        for path in {weight.path for _, weight in segment.weights if weight.path.startswith(ROOT)}:
            found[path] = found.get(path, False) | segment.there
    return found


def _stored(use: Use) -> Stored:
    shape = tuple(volume(axis, use.segment.env) for axis in use.weight.axes)
    within = use.segment.layers if "{i}" in use.weight.path else None
    active = use.active if use.weight.met else None
    by_expert = {label for chain in use.segment.cuts.get("ep", ()) for label in chain}
    of_experts = not by_expert.isdisjoint(use.weight.labels)
    path, part = use.weight.path, use.weight.part
    times = use.times
    return Stored(path, shape, times, within, product(shape) * times, part, active, use.op.learns, of_experts)


def _tally(uses: list[Use]) -> Tally:
    categories = [_category(name, [use for use in uses if use.weight.part == name]) for name in CATEGORIES]
    return Tally(add(c.parameters for c in categories), add(c.matrices for c in categories), tuple(categories))


def _category(name: str, uses: list[Use]) -> Category:
    shapes: dict[object, Matrices] = {}
    for use in uses:
        one = use.matrices
        key = len(shapes) if hasattr(one.parameters, "dtype") else (one.rows, one.columns)  # arrays have no one shape
        if so_far := shapes.get(key):
            matrices, parameters = so_far.matrices + one.matrices, so_far.parameters + one.parameters
            one = Matrices(one.rows, one.columns, matrices, parameters)
        shapes[key] = one
    found = tuple(shapes.values())
    return Category(name, add(m.matrices for m in found), add(m.parameters for m in found), found)


def _bridge(uses: list[Use], stored: tuple[Stored, ...]) -> Iterator[Term]:
    """From the tally to what is stored: less each further part of a tied table, plus all that is not a matrix."""
    for use in uses:
        if use.again:
            yield Term(f"tied {use.weight.part}", -use.parameters)
    for part in outside_the_tally(stored):
        yield Term(part, add(weight.parameters for weight in stored if weight.part == part))


def outside_the_tally(stored: Iterable[Stored]) -> list[str]:
    """The parts that are no category: those of every model first, then in the order of the forward pass."""
    there = dict.fromkeys(weight.part for weight in stored if weight.part not in CATEGORIES)
    return [*(part for part in BRIDGE if part in there), *(part for part in there if part not in BRIDGE)]
