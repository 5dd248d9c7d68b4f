"""The JSON Schemas of what is read as YAML, made from the same classes that read it."""

from __future__ import annotations

import sys
from contextlib import nullcontext

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema

from archcalc.blocks.base import Strict
from archcalc.blocks.choices import all_choices
from archcalc.docstrings import restore
from archcalc.escaping import json_text
from archcalc.spec.model import Model


def _described(of: type[BaseModel]) -> list[str]:
    """The modules whose classes describe what is read."""
    kinds = ("archcalc.blocks.", "archcalc.spec.", of.__module__)
    return [name for name in sys.modules if name.startswith(kinds)]


def schema_text(of: type[BaseModel] = Model) -> str:
    """The schema of what a class reads, as it stands in specs/schema."""
    restore(*_described(of))
    with all_choices(of, Strict) if of is Model else nullcontext():
        described = of.model_json_schema(by_alias=True)
    schema = {"$schema": GenerateJsonSchema.schema_dialect, **described}
    return json_text(schema, indent=2) + "\n"
