"""The JSON Schemas say what the readers read, in both drafts, as far as JSON Schema can say it."""

import json
from copy import deepcopy
from functools import cache

import pytest
import yaml
from command import ask
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft7Validator, Draft202012Validator
from pydantic import ValidationError
from schemas import FOLDER, written

import archcalc
from archcalc import strategies
from archcalc.checks.configuration import Configuration
from archcalc.commands.schema import KINDS, described
from archcalc.hardware.devices import Device
from archcalc.plan.description import Plan
from archcalc.spec.catalogue import names
from archcalc.spec.dumping import dump
from archcalc.spec.model import Model
from archcalc.spec.schema import schema_text
from archcalc.spec.source import parse
from archcalc.strategies import models

FILES = {
    "model": [f"models/{name}.yaml" for name in names()],
    "plan": sorted(f"plans/{one.name}" for one in (FOLDER.parent / "plans").glob("*.yaml")),
    "device": sorted(f"hardware/{one.name}" for one in (FOLDER.parent / "hardware").glob("*.yaml")),
}
CLASSES = {"model": Model, "plan": Plan, "device": Device, "budgets": Configuration}
DRAFTS = {"2020-12": Draft202012Validator, "07": Draft7Validator}


@cache
def validator(kind, draft):
    return DRAFTS[draft](json.loads(described(kind, draft)))


def read(file):
    return parse((FOLDER.parent / file).read_bytes(), file).data


def accepts(kind, data):
    """What the two drafts say, which must be the same."""
    said = {draft: validator(kind, draft).is_valid(data) for draft in DRAFTS}
    assert len(set(said.values())) == 1, said
    return said["07"]


def subschemas(schema):
    yield schema
    for word, value in schema.items():
        if word in ("properties", "patternProperties", "$defs", "definitions"):
            inner = list(value.values())
        elif word in ("default", "examples", "enum", "const", "required", "enumDescriptions"):
            continue
        else:
            inner = value if isinstance(value, list) else [value]
        for one in inner:
            if isinstance(one, dict):
                yield from subschemas(one)


def test_the_schemas_in_the_repository_are_fresh():
    for path, text in written():
        assert path.read_text() == text, "run: python tests/schemas.py"
    assert {str(one.relative_to(FOLDER)) for one in FOLDER.rglob("*.json")} == {
        file for kind in KINDS for file in (f"{kind}.json", f"draft-07/{kind}.json")
    }


def test_the_command_prints_each_kind_in_each_draft():
    assert ask("schema") == (0, described("model"), "") == (0, schema_text(), "")
    for kind in KINDS:
        assert ask("schema", "--of", kind).out == described(kind)
        assert ask("schema", "--of", kind, "--draft", "7").out == ask("schema", "--of", kind, "--draft", "07").out
        assert ask("schema", "--of", kind, "--draft", "07").out == described(kind, "07")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--of", "modle"), "--of: has an unknown value; got 'modle'; did you mean 'model'?\n"),
        (("--of", "weights"), "--of: has an unknown value; got 'weights'; one of model, plan, device, budgets\n"),
        (("--draft", "04"), "--draft: has an unknown value; got '04'; one of 2020-12, 07, 7\n"),
    ],
)
def test_an_unknown_kind_or_draft_is_refused(words, said):
    assert ask("schema", *words) == (2, "", said)


@pytest.mark.parametrize("draft", DRAFTS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_schema_is_one_of_its_draft(kind, draft):
    schema = json.loads(described(kind, draft))
    DRAFTS[draft].check_schema(schema)
    assert schema["$schema"] == DRAFTS[draft].META_SCHEMA["$schema"]
    newer = {"$defs", "prefixItems", "unevaluatedProperties", "dependentRequired", "dependentSchemas", "$anchor"}
    editors = {"enumDescriptions", "patternErrorMessage", "definitions"}
    for one in subschemas(schema):
        assert not one.keys() & (newer if draft == "07" else editors)
        assert draft == "2020-12" or "$ref" not in one or len(one) == 1, "draft 07 sees nothing beside a $ref"


@pytest.mark.parametrize("draft", DRAFTS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_field_is_described_and_its_examples_are_valid(kind, draft):
    schema = json.loads(described(kind, draft))
    definitions = {word: schema[word] for word in ("$defs", "definitions") if word in schema}
    found = 0
    for part in subschemas(schema):
        for name, field in part.get("properties", {}).items():
            if field.keys() == {"const"}:  # what tells a kind
                continue
            assert len(field.get("description", "")) > 5, (name, field)
            for example in field.get("examples", ()):
                found += 1
                assert DRAFTS[draft]({**field, **definitions}).is_valid(example), (name, example)
    assert found >= 5


def test_amounts_have_examples_with_their_unit():
    schema = json.loads(described("device"))
    assert schema["$defs"]["Capacity"]["properties"]["label"]["examples"] == ["80 GB", "80 GiB"]
    assert schema["properties"]["bandwidth"]["examples"] == ["3350 GB/s"]
    older = json.loads(described("device", "07"))
    assert older["properties"]["bandwidth"]["patternErrorMessage"] == "Must be an amount such as '3350 GB/s'."


def test_the_schema_tells_fields_kinds_and_bounds():
    schema = json.loads(schema_text())
    assert schema["additionalProperties"] is False
    assert {"schema", "name", "vocab_size", "layers", "unembedding"} <= set(schema["required"])
    assert schema["properties"]["vocab_size"] == {
        **schema["properties"]["vocab_size"],
        "type": "integer",
        "minimum": 1,
        "maximum": 2**32,
    }
    attention = schema["$defs"]["TwoBranchGroup"]["properties"]["attention"]
    kinds = {one["if"]["properties"]["kind"]["const"]: one["then"]["$ref"] for one in attention["allOf"]}
    assert kinds == {
        "multi_head": "#/$defs/MultiHead",
        "latent": "#/$defs/LatentAttention",
        "gated_delta": "#/$defs/GatedDelta",
        "mamba": "#/$defs/Mamba",
        "lightning": "#/$defs/Lightning",
        "mamba2": "#/$defs/Mamba2",
        "short_conv": "#/$defs/ShortConvolution",
    }
    assert attention["properties"]["kind"]["enum"] == list(kinds)
    assert attention["required"] == ["kind"]


@pytest.mark.parametrize(("kind", "file"), [(kind, file) for kind, files in FILES.items() for file in files])
def test_the_first_line_of_a_file_names_the_schema_that_it_is_valid_by(kind, file):
    path = FOLDER.parent / file
    first = path.read_text().partition("\n")[0]
    assert first == f"# yaml-language-server: $schema=../schema/draft-07/{kind}.json"
    assert (path.parent / first.partition("=")[2]).resolve() == (FOLDER / "draft-07" / f"{kind}.json").resolve()
    assert accepts(kind, read(file))
    as_editors_read_it = yaml.safe_load(path.read_text())
    assert accepts(kind, as_editors_read_it)


def test_no_other_file_of_the_specs_is_yaml():
    found = {str(one.relative_to(FOLDER.parent)) for one in FOLDER.parent.rglob("*.y*ml")}
    assert found == {file for files in FILES.values() for file in files}


@pytest.mark.parametrize("name", names())
def test_specs_are_named_as_their_file(name):
    assert archcalc.load(name).name == name


@given(models())
def test_a_valid_model_is_valid_by_the_schema(model):
    assert accepts("model", parse(dump(model).encode(), "drawn").data)


# What pydantic says of a value by itself; what it says of several fields together no schema can.
OF_SHAPE = {
    "missing", "extra_forbidden", "literal_error", "union_tag_invalid", "union_tag_not_found", "model_type", "dict_type",
    "model_attributes_type", "int_type", "float_type", "bool_type", "string_type", "tuple_type", "greater_than",
    "greater_than_equal", "less_than_equal", "too_short", "too_long", "int_parsing_size", "string_too_long", "string_too_short", "string_pattern_mismatch",
}  # fmt: skip
VALUES = st.sampled_from(
    [
        None, True, False, 0, -1, 1, 2, 2**40, 2**90, 0.5, -2.5, 1e12 + 0.5, "", "x", "none", "80 GB", "3 TB/s", [], [1], ["x"],
        {}, {"x": 1}, {"kind": "x"}, {"kind": "multi_head"}, {"kind": "rmsnorm"},
    ]
)  # fmt: skip


def places(data, where=()):
    """The path of every value in a document, and of some that are not there."""
    if where:
        yield where
    for key, inner in data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ():
        yield from places(inner, (*where, key))
    if isinstance(data, dict):
        yield (*where, "unheard_of")
        yield (*where, "No Name")
        yield (*where, "kind")


def spoiled(draw, data):
    """The document with one value changed, or one left out."""
    data = deepcopy(data)
    where = draw(st.sampled_from([*places(data)]))
    holder = data
    for step in where[:-1]:
        holder = holder[step]
    if draw(st.booleans()) and (isinstance(holder, list) or where[-1] in holder):
        del holder[where[-1]]
    else:
        holder[where[-1]] = draw(VALUES)
    return data


def compare(kind, data):
    try:
        CLASSES[kind].model_validate(data)
    except ValidationError as error:
        echo = [one for one in error.errors() if one["type"] == "too_short" and one["input"]]  # all items are wrong
        kinds = {one["type"] for one in error.errors() if one not in echo}
        if kinds & OF_SHAPE:
            assert not accepts(kind, data), kinds
    else:
        assert accepts(kind, data)


@given(st.data())
def test_a_changed_file_is_refused_by_the_schema_where_its_shape_is(data):
    kind = data.draw(st.sampled_from([*FILES]))
    compare(kind, spoiled(data.draw, read(data.draw(st.sampled_from(FILES[kind])))))


@given(st.data())
def test_a_changed_drawn_model_is_refused_by_the_schema_where_its_shape_is(data):
    model = data.draw(strategies.models())
    compare("model", spoiled(data.draw, parse(dump(model).encode(), "drawn").data))


def test_the_comparison_sees_a_schema_that_lets_too_much_pass():
    loose = json.loads(described("plan"))
    del loose["properties"]["tp"]["minimum"]
    assert Draft202012Validator(loose).is_valid({"schema": 0, "tp": 0})
    assert not accepts("plan", {"schema": 0, "tp": 0})
    compare("plan", {"schema": 0, "tp": 0})


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("version", [False, True, 0.5, "0", 1, None])
def test_the_version_of_the_format_is_a_number(kind, version):
    """Python takes false for 0; of the other kinds of files the reader says the same."""
    data = {**(read(FILES[kind][0]) if kind in FILES else {}), "schema": version}
    assert not accepts(kind, data)
    with pytest.raises(ValidationError):
        CLASSES[kind].model_validate(data)


def test_a_name_that_is_none_is_refused():
    data = read("models/gemma3-1b.yaml")
    kinds = data["layers"][0]["kinds"]
    kinds["No Name"] = kinds["local"]
    compare("model", data)
    assert not accepts("model", data)
