"""Parameters, read off the tape: what a checkpoint stores, the tally of matrices, and the bridge between the two."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

from archcalc.arguments import records
from archcalc.counts.weights import Matrices, Tapes, Use, played_on, tapes_of, weight_uses, where_used
from archcalc.spec.model import Model
from archcalc.tape.legend import BRIDGE, CATEGORIES, Size, add, product, volume, where
from archcalc.tape.ops import Tensor
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


def params(model: Model | Pass) -> Parameters:
    """Count the parameters of a model, or of what was recorded of it.

    A parameter's count is the product of the sizes of its axes; a tied table counts once. Sizes may be ints, or numpy
    arrays of one shape (see legend.environment). No tensor is allocated: the time grows with the number of different
    layer groups, not with the number of layers. Raises Invalid if `model` is not a Model.
    """
    records("params", model)
    segments = recorded(model).segments
    uses = list(weight_uses(segments))
    stored = _distinct(uses)
    return Parameters(
        *_totals(segments)[:4],
        tally=_tally(uses),
        bridge=tuple(_bridge(uses, stored)),
        tensors=stored,
    )


def totals(model: Model | Pass) -> Totals:
    """Count the parameters of a model without telling them apart, which takes less time than `params`.

    Raises Invalid if `model` is not a Model.
    """
    records("totals", model)
    return _totals(recorded(model).segments)


class Alike(NamedTuple):
    """Weights of a segment that are counted as one: their sizes have these labels, and they are in the same counts.

    `met` are the labels of what one token meets of them, `shared` is the path of one that layers share.
    """

    position: int
    shared: str
    labels: tuple[str, ...]
    met: tuple[str, ...]
    in_tables: bool
    looked_up: bool


def _totals(segments: Sequence[Segment]) -> Totals:
    there = where_used(segments)
    stored, active, inner, outside = [], [], [], []
    is_sparse = False
    for one, weights in alike(segments):
        segment = segments[one.position]
        times = where(there.get(one.shared, True), weights) if one.shared else segment.repeat * weights
        count = met = volume(one.labels, segment.env) * times
        if one.met != one.labels:
            met = volume(one.met, segment.env) * times
            is_sparse = True
        stored.append(count)
        active.append(met)
        # What is left is added up by itself: a difference of large numbers that are rounded is not exact.
        if not one.looked_up:
            inner.append(met)
        if not one.in_tables:
            outside.append(count)
    return Totals(add(stored), add(active), add(inner), add(outside), is_sparse)


def alike(segments: Sequence[Segment]) -> tuple[tuple[Alike, int], ...]:
    """The weights of segments, each that is stored once, by what their count is made of; and how many there are."""
    return _alike(tapes_of(segments))


@lru_cache(512)
def _alike(tapes: Tapes) -> tuple[tuple[Alike, int], ...]:
    played = played_on(tapes)
    multiplied = {one.weight.path for one in played if one.op.kind != "lookup"}
    found: Counter[Alike] = Counter()
    for position, _, weight, again in played:
        if not again:
            labels = tuple(weight.labels)
            met = labels
            if weight.met:
                stored, chosen, _ = weight.met
                met = tuple(chosen if label == stored else label for label in labels)
            looked_up = weight.part in _LOOKED_UP and weight.path not in multiplied
            shared = "" if "{i}" in weight.path else weight.path
            found[Alike(position, shared, labels, met, weight.path.startswith(_TABLES), looked_up)] += 1
    return tuple(found.items())


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
