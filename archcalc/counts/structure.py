"""The totals of a model by its structure: sums of products of sizes, made once for all that differ in sizes alone.

A tape knows no sizes, so the structure tells what is added up and which block states each factor. Thousands of specs
that are checked in one go have few structures: one model of each is recorded, and the sizes of all others are put in.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import Any, NamedTuple

from pydantic import BaseModel

from archcalc.blocks.base import parts
from archcalc.counts.parameters import Alike, Totals, alike, totals
from archcalc.errors import Where
from archcalc.spec.layers import Scope
from archcalc.spec.model import Model
from archcalc.tape.legend import Env
from archcalc.tape.passes import Layers, Segment
from archcalc.tape.run import ONE

Parts = Sequence[tuple[Where, BaseModel]]
_SHAPE = frozenset(("embedding", "layers", "final_norm", "unembedding"))
"""The fields of a model in which parameters are."""
_WORDS = frozenset((str, bool, type(None)))


class _Stated(NamedTuple):
    """A size that a part states, by its index."""

    part: int
    label: str


class _Derived(NamedTuple):
    """A size that a part derives of what is stated, by its index."""

    part: int
    label: str


class _Repeat(NamedTuple):
    """How many layers of a kind a group has."""

    group: int
    period: int
    offsets: tuple[int, ...]


_Factor = str | _Stated | _Derived | _Repeat
"""A size of the frame by its label, or one of the others."""


class _Product(NamedTuple):
    """Alike weights: how many, the places of their factors among the sizes, and those of what a token meets."""

    weights: int
    stored: tuple[int, ...]
    met: tuple[int, ...]
    in_tables: bool
    looked_up: bool


class _Sums(NamedTuple):
    """What is added up of a structure."""

    sizes: tuple[_Factor, ...]
    products: tuple[_Product, ...]
    is_sparse: bool


_known: dict[object, _Sums | None] = {}
"""Of the structures that were met last; None of one whose sizes are not all stated by its blocks."""
_MOST_KNOWN = 512


def totals_of(model: Model, its_parts: Parts | None = None) -> Totals:
    """The totals of a valid model, equal to those of `totals`; quicker from the second model of a structure on.

    `its_parts` are its parts, where they were collected already.
    """
    every = parts(model) if its_parts is None else its_parts
    shape = [part for where, part in every if where and where[0] in _SHAPE]
    if any(group.repeat < group.period for group in model.layers):
        return totals(model)  # a kind has no layer
    key = structure(shape)
    if key not in _known:
        if len(_known) >= _MOST_KNOWN:
            _known.clear()
        _known[key] = _sums(model, shape)
    sums = _known[key]
    return totals(model) if sums is None else _put_in(sums, model, shape)


def structure(shape: Iterable[BaseModel]) -> object:
    """What is left of parts where their sizes are not looked at: kinds, words, booleans, and what is in what."""
    return tuple([_told_of(part) for part in shape])


def _told_of(part: BaseModel) -> object:
    kind, values = part.__class__, vars(part)
    told = [value if type(value := values[name]) in _WORDS else _told(value) for name in _telling(kind)]
    return (kind, *told)


@cache
def _telling(kind: type[BaseModel]) -> tuple[str, ...]:
    """The fields of a class that are more than a number."""
    fields = kind.__pydantic_fields__.items()
    return tuple(name for name, field in fields if field.annotation not in (int, float))


def _told(value: object) -> object:
    """Of a part its kind: what is in it is told where its own turn comes."""
    if isinstance(value, tuple):
        return tuple(map(_told, value))
    if isinstance(value, dict):
        return tuple((key, _told(inner)) for key, inner in value.items())
    return value if type(value) in _WORDS else type(value)


def _sums(model: Model, shape: Sequence[BaseModel]) -> _Sums | None:
    """What is added up of a model's structure; None where a factor is not stated by a block that stands once."""
    indices = {id(part): index for index, part in enumerate(shape)}
    segments, scopes = model.record().segments, model.scopes()
    grouped = any(len(segment.places) > 1 for segment in segments)  # by their sizes
    if len(indices) < len(shape) or len(segments) != len(scopes) or grouped:
        return None
    frame = _frame(model)
    stating = [_stating(inside, indices, frame) for inside in scopes]
    places: dict[_Factor, int] = {}

    def placed(one: Alike, labels: Iterable[str]) -> tuple[int, ...]:
        times = [] if one.shared else _repeat(segments[one.position])
        factors = [*times, *(stating[one.position].get(label, label) for label in labels)]
        return tuple([places.setdefault(factor, len(places)) for factor in factors])

    products: list[_Product] = []
    for one, weights in alike(segments):
        stored = placed(one, one.labels)
        met = stored if one.met == one.labels else placed(one, one.met)
        products.append(_Product(weights, stored, met, one.in_tables, one.looked_up))
    if any(isinstance(factor, str) and factor not in frame for factor in places):
        return None
    sums = _Sums(tuple(places), tuple(products), any(one.met != one.stored for one in products))
    return sums if _put_in(sums, model, shape) == totals(model) else None  # of what is not known here


def _frame(model: Model) -> Env:
    """The sizes that no block states."""
    return {**model.frame(ONE), "layers": model.n_layers}


def _stating(scopes: Iterable[Scope], indices: dict[int, int], frame: Env) -> dict[str, _Factor]:
    """What states the size of each label of a segment, or derives it."""
    found: dict[str, _Factor] = {}
    derived: dict[str, _Factor] = {}
    for blocks, own, sizes in scopes:
        for block, each in zip(blocks, sizes, strict=True):
            index = indices.get(id(block))
            if index is None:
                continue  # what it states is then stated by nobody
            found = {own.get(label, label): _Stated(index, label) for label in each} | found
            derived |= {own.get(x, x): _Derived(index, x) for x in block.derived({**frame, **each}, ONE)}
    return found | derived


def _repeat(segment: Segment) -> list[_Factor]:
    if segment.layers is None:
        return []
    (_, group, *_rest), layers = segment.places[0], segment.layers
    return [_Repeat(int(group), layers.period, layers.offsets)]


def _put_in(sums: _Sums, model: Model, shape: Sequence[BaseModel]) -> Totals:
    sizes = [*_sizes(sums.sizes, model, shape)]
    stored = active = inner = outside = 0
    for weights, factors, chosen, in_tables, looked_up in sums.products:
        count = weights
        for place in factors:
            count *= sizes[place]
        met = count
        if chosen is not factors:
            met = weights
            for place in chosen:
                met *= sizes[place]
        stored += count
        active += met
        inner += 0 if looked_up else met
        outside += 0 if in_tables else count
    return Totals(stored, active, inner, outside, sums.is_sparse)


def _sizes(factors: Iterable[_Factor], model: Model, shape: Sequence[Any]) -> Iterator[int]:
    """What the factors are in a model."""
    frame, known = _frame(model), dict[int, Env]()
    for factor in factors:
        if isinstance(factor, str):
            yield frame[factor]
        elif isinstance(factor, _Derived):
            yield shape[factor.part].derived({**frame, **shape[factor.part].sizes()}, ONE)[factor.label]
        elif isinstance(factor, _Repeat):
            group, period, offsets = factor
            yield Layers(0, model.layers[group].repeat, period, offsets).count
        else:
            index, label = factor
            if index not in known:
                known[index] = shape[index].sizes()
            yield known[index][label]
