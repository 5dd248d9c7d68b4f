"""The axes of a grid: which fields are varied, and over which sizes, as `--vary n_layers=12,24` says it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Any, NamedTuple

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from archcalc.blocks.base import LARGEST_SIZE
from archcalc.errors import LONGEST_VALUE, Invalid, Problem, cut, shown, written
from archcalc.spec.catalogue import Found
from archcalc.spec.model import Model
from archcalc.spec.names import fields, places
from archcalc.spec.question import ask
from archcalc.spec.scalars import resolve
from archcalc.spec.source import Where, dotted
from archcalc.spec.validation import validate
from archcalc.tape.legend import Size
from archcalc.units import grouped, parse_length

MOST_SHAPES = 1_000_000
"""For a spec with one group of layers; divided by the number of groups."""
FLAG = "--vary"

RUN = {"batch": "sequences in the batch", "seq": "positions of each sequence"}
"""What is varied beside the fields of a spec, and what it means."""

Values = str | Iterable[int]


class Axis(NamedTuple):
    """What is varied: a name as it was typed, the fields that it means (none of the run), its sizes in order."""

    name: str
    places: tuple[Where, ...]
    ranges: tuple[range, ...]

    @property
    def where(self) -> Where | None:
        """The field that it means, the first of several that are one."""
        return self.places[0] if self.places else None

    def __len__(self) -> int:
        return sum(len(part) for part in self.ranges)

    def sizes(self) -> Iterator[int]:
        """Every size."""
        return chain.from_iterable(self.ranges)


def split_pairs(texts: Sequence[str]) -> dict[str, str]:
    """The parts of each `FIELD=VALUES`."""
    pairs: dict[str, str] = {}
    for text in texts:
        name, equals, values = (piece.strip() for piece in text.partition("="))
        if not (name and equals and values):
            raise Invalid(Problem(FLAG, f"{cut(repr(text), LONGEST_VALUE)} is not field=values"))
        if name in pairs:
            raise Invalid(Problem(FLAG, "is varied twice", name))
        pairs[name] = values
    return pairs


def read_axes(found: Found, vary: Mapping[str, Values]) -> tuple[Axis, ...]:
    """The axes of a grid of at most MOST_SHAPES, each value checked as a question's is.

    Raises Invalid for a field that is not there, is no size, or is set already.
    """
    if not isinstance(vary, Mapping):
        raise Invalid(Problem(FLAG, "must map fields to sizes", value=shown(vary)))
    if not vary:
        raise Invalid(Problem(FLAG, "is empty"))
    names = fields(found.read)
    axes: list[Axis] = []
    for name, values in vary.items():
        if not isinstance(name, str):
            raise Invalid(Problem(FLAG, "must map fields to sizes", value=shown(name)))
        if not _are_many(values):
            raise Invalid(Problem(FLAG, "must be sizes", name, value=shown(values)))
        meant = [] if name in RUN else places(name, names, FLAG, found.read.data, lambda: [*RUN, *size_names(found)])
        where = meant[0] if meant else None
        if where is not None:
            if where in found.answers:
                raise Invalid(Problem(FLAG, "is already set by the question", dotted(where)))
            if where in [place for axis in axes for place in axis.places]:
                raise Invalid(Problem(FLAG, "is varied twice", dotted(where)))
            if not is_size(value_at(found.model, where)):
                fix = f"only sizes can be varied; set it in the question: SPEC@{name}=..."
                raise Invalid(Problem(FLAG, "is not a size", dotted(where), suggestion=fix))
        axes.append(Axis(name, tuple(meant), tuple(islice(_ranges(found, name, where, values), MOST_SHAPES + 1))))
        if not axes[-1].ranges:
            raise Invalid(Problem(FLAG, "has no values", name))
        groups = len(found.model.layers)
        if (shapes := count_shapes(axes)) * groups > MOST_SHAPES:
            of = f" of {grouped(groups)} groups of layers" if groups > 1 else ""
            message = f"makes more than {grouped(MOST_SHAPES // groups)} shapes{of}"
            raise Invalid(Problem(FLAG, message, value=grouped(shapes)))
    return tuple(axes)


def count_shapes(axes: Sequence[Axis]) -> int:
    """The shapes of a grid, before any is left out."""
    shapes = 1
    for axis in axes:
        shapes *= len(axis)
    return shapes


def is_size(value: Any) -> bool:
    """Whether a field's value is a number of something: no word, no boolean, no fraction."""
    return type(value) is int


def value_at(model: Model, where: Where) -> Size:
    """The value of a field, whichever part of the model holds it."""
    part: Any = model
    for step in where:
        part = getattr(part, str(step)) if isinstance(part, BaseModel) else part[step]
    return part


def _are_many(values: object) -> bool:
    """Whether there are sizes in it: a text, a list, a range, an array; no number, no bytes and no mapping."""
    return isinstance(values, Iterable) and not isinstance(values, bytes | Mapping) and getattr(values, "ndim", 1) > 0


def size_names(found: Found) -> list[str]:
    """Every name that means a field which is a size, `n_layers` with them."""
    names = fields(found.read)
    sizes = [name for name, places in names.items() if any(is_size(value_at(found.model, where)) for where in places)]
    return [*sizes, "n_layers"]


def limits(field: FieldInfo) -> tuple[int, int]:
    """The least and the largest value that a size may have by itself."""
    low = next((m.ge for m in field.metadata if hasattr(m, "ge")), 1)
    high = next((m.le for m in field.metadata if hasattr(m, "le")), LARGEST_SIZE)
    return low, high


def _ranges(found: Found, name: str, where: Where | None, values: Values) -> Iterator[range]:
    """Values as ranges: `12` is one of one, `64..512:64` has both of its ends."""
    lengths = where is None or where[-1] == "context_length"
    bounds = (1, LARGEST_SIZE)
    if where is not None:
        holder = value_at(found.model, where[:-1])
        bounds = limits(type(holder).model_fields[where[-1]])

    def size(value: Any) -> int:
        """A value that the field may have, from text or as it is."""
        if isinstance(value, str):
            text, value = value.strip(), None
            if not text:
                raise Invalid(Problem(FLAG, "has an empty value", name, value=cut(repr(values), LONGEST_VALUE)))
            value = (parse_length(text) if lengths else None) or resolve(text)
        elif hasattr(value, "dtype") and not value.ndim:
            value = value.item()
        if not is_size(value) or not bounds[0] <= value <= bounds[1]:
            raise _refusal(found, name, where, value)
        return int(value)

    parts: Iterable[Any] = values.split(",") if isinstance(values, str) else values
    for part in parts:
        if not isinstance(part, str) or ".." not in part:
            n = size(part)
            yield range(n, n + 1)
            continue
        ends, colon, by = part.partition(":")
        first, last = (size(end) for end in ends.split("..", 1))
        step = size(by) if colon else 1
        if first > last:
            raise Invalid(
                Problem(FLAG, "must be a range from the smaller to the larger value", name, value=shown(part.strip()))
            )
        yield range(first, last + 1, step)


def _refusal(found: Found, name: str, where: Where | None, value: Any) -> Invalid:
    """What a question with this value would be told."""
    if where is None:
        if is_size(value):
            return Invalid(Problem(FLAG, f"must be from 1 to {LARGEST_SIZE:,}", name, value=written(value)))
        return Invalid(Problem(FLAG, "must be an integer; 32k is 32,768", name, value=written(value)))
    try:
        validate(ask(found.read, {**found.answers, where: value}, FLAG)[0], Model)
    except Invalid as error:
        mine = [problem for problem in error.problems if problem.path == dotted(where)]
        return Invalid(*(mine or error.problems))
    return Invalid(Problem(FLAG, "must be a size", dotted(where), value=written(value)))
