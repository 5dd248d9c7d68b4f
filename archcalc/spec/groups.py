"""Groups of layers that repeat: of one kind, or of several in an order that repeats too.

    - {repeat: 32, norm: ..., attention: ..., mlp: ...}

Kinds of layers that alternate are named, and a pattern says their order:

    - {repeat: 26, pattern: [local, global], kinds: {local: {norm: ..., ...}, global: {...}}}
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any, ClassVar, NamedTuple, Self

from pydantic import BaseModel, Field, model_validator
from pydantic_core import PydanticCustomError

from archcalc.blocks.base import Strict
from archcalc.blocks.choices import OneOf
from archcalc.spec.branch import Name
from archcalc.spec.layers import BranchLayer, Layer, TwoBranchLayer
from archcalc.tape.passes import Where

MOST_REPEATS = 10_000
MOST_KINDS = 64


class Kind(NamedTuple):
    """A kind of layer in a group: at which places of each period, and where the spec describes it."""

    layer: Layer
    offsets: tuple[int, ...]
    place: Where


class Repeated(Strict):
    """Layers that follow each other."""

    repeat: Annotated[int, Field(ge=1, le=MOST_REPEATS)] = Field(description="how many layers follow each other")


class TwoBranchGroup(TwoBranchLayer, Repeated):
    """Layers that are alike, one after the other."""

    period: ClassVar[int] = 1

    def kinds_in(self) -> tuple[Kind, ...]:
        """The kinds of its layers: one."""
        return (Kind(self, (0,), ()),)


class BranchGroup(BranchLayer, Repeated):
    """Layers that are alike, one after the other."""

    period: ClassVar[int] = 1

    def kinds_in(self) -> tuple[Kind, ...]:
        """The kinds of its layers: one."""
        return (Kind(self, (0,), ()),)


class AlternatingGroup(Repeated):
    """Layers of several kinds, in an order that repeats; `repeat` is the number of all of them together."""

    pattern: Annotated[tuple[Name, ...], Field(min_length=1, max_length=MOST_REPEATS, strict=False)] = Field(
        description="the kinds in order, from the first layer on, and again from the start where it ends",
        examples=[["local", "local", "local", "global"]],
    )
    kinds: Annotated[dict[Name, AnyLayer], Field(min_length=1, max_length=MOST_KINDS)] = Field(
        description="the layers by the names that the pattern has"
    )

    @property
    def period(self) -> int:
        """Layers until the pattern starts again."""
        return len(self.pattern)

    def kinds_in(self) -> tuple[Kind, ...]:
        """The kinds of its layers, in the order in which the pattern first has them."""
        return self._kinds_in

    @cached_property
    def _kinds_in(self) -> tuple[Kind, ...]:
        offsets: dict[str, list[int]] = {}
        for offset, name in enumerate(self.pattern):
            offsets.setdefault(name, []).append(offset)
        return tuple(Kind(self.kinds[name], tuple(at), ("kinds", name)) for name, at in offsets.items())

    @model_validator(mode="after")
    def _pattern_and_kinds_agree(self) -> Self:
        for name in self.pattern:
            if name not in self.kinds:
                what = "has {name} in its pattern, which is not among its kinds: {kinds}"
                raise PydanticCustomError("one_of", what, {"name": name, "kinds": ", ".join(self.kinds)})
        if idle := [name for name in self.kinds if name not in self.pattern]:
            raise PydanticCustomError("one_of", "has a kind that its pattern does not: {name}", {"name": idle[0]})
        return self


_FORMS = (("branches",), ("attention", "mlp"), ("pattern", "kinds"))
"""The fields that only one form has."""


def _form(value: Any) -> str:
    """Which of the forms a layer or a group is written in. Raises an error that pydantic tells where it has two."""
    if isinstance(value, Mapping):
        several = [next(field for field in form if field in value) for form in _FORMS if not {*form}.isdisjoint(value)]
        if len(several) > 1:
            what = "has {fields}; a group or kind of layers has one form"
            raise PydanticCustomError("one_of", what, {"fields": " and ".join(several)})
    there = value if isinstance(value, Mapping) else type(value).model_fields if isinstance(value, BaseModel) else {}
    return next((f"~{form}" for form in ("pattern", "branches") if form in there), "~layer")


AnyLayer = Annotated[TwoBranchLayer | BranchLayer, OneOf(_form, layer=TwoBranchLayer, branches=BranchLayer)]
LayerGroup = Annotated[
    TwoBranchGroup | BranchGroup | AlternatingGroup,
    OneOf(_form, layer=TwoBranchGroup, branches=BranchGroup, pattern=AlternatingGroup),
]
