"""Fields that a spec leaves out, with the values that they then have: a question may set them as it sets the others.

    llama3-8b@window=4096       a field of the attention, null where the spec says nothing
    llama3-8b@rotary=null       a block that may be absent

A question gives words and numbers. What takes a block (a norm, rotary positions, a scaling) is written in a file.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from types import NoneType
from typing import Annotated, Any, NamedTuple, get_args, get_origin

from pydantic import BaseModel

from archcalc.blocks.base import models_in, parts, registered
from archcalc.spec.source import Where, dotted

DESCRIPTION = ("schema", "name", "source", "published", "misprints", "assumptions", "allow")
"""The fields of a spec that describe it; the rest is its shape."""


class Unstated(NamedTuple):
    """A field: where it stands or would stand, its value, and the absent block that it is in; () where that is there.

    `value` is None in an absent block.
    """

    where: Where
    value: Any
    absent: Where = ()


def unstated(model: BaseModel, stated: set[Where]) -> Iterator[Unstated]:
    """The fields of a model that a question could set, beside those `stated` as words or numbers."""
    for where, part in parts(model):
        if where[:1] and where[0] in DESCRIPTION:
            continue
        for name, field in type(part).model_fields.items():
            place, value = (*where, field.alias or name), getattr(part, name)
            if place in stated or (not where and place[0] in DESCRIPTION):
                continue
            if not _is_many(field.annotation):
                yield Unstated(place, value)
            if value is None:
                yield from (Unstated(inner, None, place) for inner in _possible(field.annotation, place))


def meant(name: str, fields: Iterable[Unstated]) -> list[Unstated]:
    """The fields that a path or an end of it means; those of absent blocks only where it means no others."""
    steps = name.split(".")
    found = [field for field in fields if [str(step) for step in field.where[-len(steps) :]] == steps]
    found = [field for field in found if dotted(field.where) == name] or found
    near = sorted(found, key=lambda field: len(field.where) - len(field.absent))  # to the block that is absent
    return [field for field in found if not field.absent] or near


def _possible(annotation: Any, where: Where) -> Iterator[Where]:
    """The fields that the blocks have which a field can take."""
    for block in models_in(annotation):
        for kind in (*registered(block).values(),) or (block,):
            for name, field in kind.model_fields.items():
                yield (*where, name)
                if not _is_many(field.annotation):
                    yield from _possible(field.annotation, (*where, name))


def _is_many(annotation: Any) -> bool:
    """Whether a field takes a list or a mapping of names: no single value."""
    if get_origin(annotation) is Annotated:
        return _is_many(get_args(annotation)[0])
    inner = [one for one in get_args(annotation) if one is not NoneType]
    return get_origin(annotation) in (tuple, dict) or (bool(inner) and all(map(_is_many, inner)))
