"""The JSON Schema of a spec, made from the same classes that read it."""

from __future__ import annotations

import json

from pydantic.json_schema import GenerateJsonSchema

from archcalc.spec import Model


def schema_text() -> str:
    """The schema as it stands in specs/schema/model.json."""
    schema = {"$schema": GenerateJsonSchema.schema_dialect, **Model.model_json_schema(by_alias=True)}
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
