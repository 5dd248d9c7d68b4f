"""The JSON Schemas of what is read as YAML, made from the same classes that read it, in two drafts.

The newer draft is for validators. The older is for editors: it is the one that the YAML extension of VS Code and
those of other editors know in whole, and it has what only they read (`enumDescriptions`, `patternErrorMessage`).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any, Literal, get_args

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from archcalc.blocks.base import TAG, Slot, Strict, first_paragraph
from archcalc.blocks.choices import all_choices
from archcalc.docstrings import restore
from archcalc.escaping import json_text
from archcalc.spec.model import Model
from archcalc.spec.namerules import IN_WORDS
from archcalc.units import Unit, quantity_pattern, quantity_words

Draft = Literal["2020-12", "07"]
DRAFT_07 = "http://json-schema.org/draft-07/schema#"

_EDITORS = "enumDescriptions"
"""The word of editors that is made with the schema, and left out of the newer draft."""
_WORDS = {**IN_WORDS, **{quantity_pattern(unit): quantity_words(unit) for unit in get_args(Unit)}}
_REFUSED = {pattern: f"{words[0].upper()}{words[1:]}." for pattern, words in _WORDS.items()}
"""What an editor says of a text that does not match a pattern."""


class _Generator(GenerateJsonSchema):
    """A choice of kinds is told by `kind` first, so that an editor names all of them, and then knows the fields.

    Pydantic's `oneOf` leaves it to the editor to guess which kind was meant.
    """

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002  (of any field)
        """No field has a title: pydantic's would be its name again."""
        return False

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        """Nor has a class whose title would be its name in Python."""
        made = super().model_schema(schema)
        return made if made.get("title") != schema["cls"].__name__ else {k: v for k, v in made.items() if k != "title"}

    def dict_schema(self, schema: core_schema.DictSchema) -> JsonSchemaValue:
        """Keys are checked, not only the values of keys that pass."""
        made = super().dict_schema(schema)
        return {**made, "additionalProperties": False} if "patternProperties" in made else made

    def tagged_union_schema(self, schema: core_schema.TaggedUnionSchema) -> JsonSchemaValue:
        """The kinds of a slot by their `kind`; other choices, by the fields that are there, as pydantic has them."""
        choose = schema["discriminator"]
        slot = getattr(choose, "__self__", None)
        if choose != "kind" and not (isinstance(slot, type) and issubclass(slot, Slot)):
            return super().tagged_union_schema(schema)
        default = getattr(slot, "default_kind", None)
        choices = {str(kind).removeprefix(TAG): self.generate_inner(one) for kind, one in schema["choices"].items()}
        says = {kind: self.get_schema_from_definitions(one["$ref"]) or {} for kind, one in choices.items()}
        kind = {
            "enum": [*choices],
            _EDITORS: [first_paragraph(said.get("description", "")) for said in says.values()],
            "description": "kind of block; its other fields depend on it",
        }
        return {
            "type": "object",
            "properties": {"kind": {**kind, "default": default} if default else kind},
            **({} if default else {"required": ["kind"]}),
            "allOf": [{"if": _is_kind(kind, optional=kind == default), "then": one} for kind, one in choices.items()],
        }


def _is_kind(kind: str, *, optional: bool) -> dict[str, Any]:
    """What holds of a mapping of this kind; without `required` it holds of one that names none too."""
    named = {"properties": {"kind": {"const": kind}}}
    return named if optional else {**named, "required": ["kind"]}


def _described(of: type[BaseModel]) -> list[str]:
    """The modules whose classes describe what is read."""
    kinds = ("archcalc.blocks.", "archcalc.spec.", of.__module__)
    return [name for name in sys.modules if name.startswith(kinds)]


def schema_text(of: type[BaseModel] = Model, draft: Draft = "2020-12") -> str:
    """The schema of what a class reads, as it stands in specs/schema, of draft 07 in a folder of its own there."""
    restore(*_described(of))
    with all_choices(of, Strict) if of is Model else nullcontext():
        described = of.model_json_schema(by_alias=True, schema_generator=_Generator)
    dialect = GenerateJsonSchema.schema_dialect if draft == "2020-12" else DRAFT_07
    made = _newer(described) if draft == "2020-12" else _older(described)
    return json_text({"$schema": dialect, **made}, indent=2) + "\n"


_BY_NAME = ("properties", "patternProperties", "$defs")
"""Words whose values are schemas by names that a file gives."""
_VALUES = ("const", "default", "enum", "examples", "required")
"""Words whose values are no schemas."""


def _inside(schema: dict[str, Any], change: Any) -> Iterator[tuple[str, Any]]:
    """The words of a schema, with those inside it changed."""
    for word, value in schema.items():
        if word in _VALUES:
            yield word, value
        elif word in _BY_NAME:
            yield word, {name: change(one) for name, one in value.items()}
        elif isinstance(value, list):
            yield word, [change(one) if isinstance(one, dict) else one for one in value]
        else:
            yield word, change(value) if isinstance(value, dict) else value


def _newer(schema: dict[str, Any]) -> dict[str, Any]:
    """Without what only editors read, which strict validators refuse."""
    return {word: value for word, value in _inside(schema, _newer) if word != _EDITORS}


def _older(schema: dict[str, Any]) -> dict[str, Any]:
    """In the words of draft 07, which has `definitions`, and sees nothing that stands beside a `$ref`."""
    changed = {"definitions" if word == "$defs" else word: value for word, value in _inside(schema, _older)}
    if "$ref" in changed:
        reference = {"$ref": changed.pop("$ref").replace("#/$defs/", "#/definitions/")}
        changed = {**changed, "allOf": [reference]} if changed else reference
    if changed.get("pattern") in _REFUSED:
        changed["patternErrorMessage"] = _REFUSED[changed["pattern"]]
    for part in changed.get("definitions", {}).values():
        part.pop("description", None)  # else an editor shows it of a field, in place of the field's own
    return changed
