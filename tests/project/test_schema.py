"""The JSON Schema is what the reader reads."""

import json
from pathlib import Path

import pytest
from command import ask

import archcalc
from archcalc.spec.catalogue import names, specs_folder
from archcalc.spec.schema import schema_text


def test_the_schema_in_the_repository_is_fresh():
    path = Path(specs_folder()) / "schema" / "model.json"
    assert path.read_text() == schema_text() == ask("schema").out, "run: archcalc schema -o specs/schema/model.json"


def test_the_schema_tells_fields_kinds_and_bounds():
    schema = json.loads(schema_text())
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["additionalProperties"] is False
    assert {"schema", "name", "vocab_size", "layers", "unembedding"} <= set(schema["required"])
    assert schema["properties"]["vocab_size"] == {
        **schema["properties"]["vocab_size"],
        "type": "integer",
        "minimum": 1,
        "maximum": 2**32,
    }
    attention = schema["$defs"]["TwoBranchGroup"]["properties"]["attention"]
    assert attention["discriminator"]["mapping"] == {
        "multi_head": "#/$defs/MultiHead",
        "latent": "#/$defs/LatentAttention",
        "gated_delta": "#/$defs/GatedDelta",
        "mamba": "#/$defs/Mamba",
        "lightning": "#/$defs/Lightning",
        "mamba2": "#/$defs/Mamba2",
        "short_conv": "#/$defs/ShortConvolution",
    }


@pytest.mark.parametrize("name", names())
def test_specs_point_to_the_schema_and_are_named_as_their_file(name):
    path = Path(specs_folder()) / "models" / f"{name}.yaml"
    assert path.read_text().startswith("# yaml-language-server: $schema=../schema/model.json\n")
    assert archcalc.load(name).name == name
