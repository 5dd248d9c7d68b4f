"""The JSON Schemas of what is read as YAML, made from the same classes that read it."""

from __future__ import annotations

import sys
from typing import Literal

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema

from archcalc.docstrings import restore
from archcalc.escaping import json_text
from archcalc.hardware.devices import Device
from archcalc.spec.model import Model

Kind = Literal["model", "device"]
_KINDS: dict[Kind, type[BaseModel]] = {"model": Model, "device": Device}


def _described() -> list[str]:
    """The modules whose classes describe what is read."""
    kinds = ("archcalc.blocks.", "archcalc.spec.model", "archcalc.hardware.devices")
    return [name for name in sys.modules if name.startswith(kinds)]


def schema_text(of: Kind = "model") -> str:
    """A schema as it stands in specs/schema."""
    restore(*_described())
    schema = {"$schema": GenerateJsonSchema.schema_dialect, **_KINDS[of].model_json_schema(by_alias=True)}
    return json_text(schema, indent=2) + "\n"
