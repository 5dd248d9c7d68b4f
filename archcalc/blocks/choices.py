"""Choices between classes, validated by the chosen one alone.

pydantic makes a validator of every class that a union has, which takes a start of the program longer than its
counting; here a class makes its own when a spec has it. For a JSON Schema all are wanted: see `all_choices`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from pydantic import BaseModel, GetCoreSchemaHandler
from pydantic_core import CoreSchema, PydanticKnownError, core_schema

TAG = "~"
"""What the names of choices begin with where no field of the YAML says which is meant."""

_WITH_CHOICES = ("archcalc.blocks.", "archcalc.spec.")
"""The packages whose classes have choices in them."""

_whole = False


@contextmanager
def all_choices(model: type[BaseModel], base: type[BaseModel]) -> Iterator[None]:
    """A model whose schema has every choice written out, as a description of it needs it.

    `base` is what all classes of its parts derive from: the schemas that they have made by now are forgotten.
    """
    global _whole  # noqa: PLW0603  (pydantic asks for a schema without an argument of ours)
    for whole in (True, False):
        _whole = whole
        for part in _descendants(base):
            if part.__module__.startswith(_WITH_CHOICES) and "__pydantic_core_schema__" in part.__dict__:
                del part.__pydantic_core_schema__
        model.model_rebuild(force=True)
        if whole:
            try:
                yield
            except BaseException:
                _whole = False
                raise


def _descendants(base: type[BaseModel]) -> Iterator[type[BaseModel]]:
    for one in base.__subclasses__():
        yield one
        yield from _descendants(one)


def chosen(
    choices: Mapping[str, type[BaseModel]], choose: Callable[[Any], Any] | str, handler: GetCoreSchemaHandler
) -> CoreSchema:
    """The schema of one of several classes; `choose` says which by its name, or is the field that does."""
    if _whole:
        schemas = {name: handler.generate_schema(kind) for name, kind in choices.items()}
        return core_schema.tagged_union_schema(schemas, discriminator=choose)

    def validate(value: Any) -> Any:
        if isinstance(value, BaseModel):
            if isinstance(value, tuple(choices.values())):
                return value
            raise PydanticKnownError("model_attributes_type")
        if not isinstance(value, Mapping):
            raise PydanticKnownError("model_attributes_type")
        if isinstance(choose, str):
            if choose not in value:
                raise PydanticKnownError("union_tag_not_found", {"discriminator": f"'{choose}'"})
            name = value[choose]
        else:
            name = choose(value)
            name = name if name in choices else next(iter(choices))  # which says what is missing, and what is unknown
        kind = choices.get(name) if isinstance(name, str) else None
        if kind is None:
            expected = ", ".join(repr(one) for one in choices)
            context = {"discriminator": "'kind'", "tag": str(name), "expected_tags": expected}
            raise PydanticKnownError("union_tag_invalid", context)
        return kind.model_validate(value)

    return core_schema.no_info_plain_validator_function(validate)


class OneOf:
    """In the metadata of a union: which of its classes is meant, by what a value has."""

    def __init__(self, choose: Callable[[Any], str], **choices: type[BaseModel]) -> None:
        self.choose, self.choices = choose, {TAG + name: kind for name, kind in choices.items()}

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return chosen(self.choices, self.choose, handler)
