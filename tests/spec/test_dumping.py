"""A model as YAML is written as the catalogue is, and is the same model to every reader of YAML."""

from pathlib import Path

import pytest
import yaml
from command import ask
from hypothesis import given

import archcalc
from archcalc import strategies
from archcalc.spec.catalogue import names, specs_folder
from archcalc.spec.dumping import WIDEST, dump, plain
from archcalc.spec.model import Model
from archcalc.spec.source import parse
from archcalc.spec.validation import validate

GEMMA = """\
schema: 0
name: small
source: "nothing"
vocab_size: 100
context_length: 64
d_model: 8
embedding: {positions: none, scale: sqrt_d_model}
layers:
  - repeat: 3
    pattern: [local, global]
    kinds:
      local:
        norm: {kind: rmsnorm, unit_offset: true, epsilon: 1.0e-6}
        attention:
          kind: multi_head
          n_heads: 4
          n_kv_heads: 2
          d_head: 4
          bias: {query: true, key: true, value: true, output: false}
          rotary: {d_rotary: 4, theta: 10000}
          window: 16
          softcap: 50
        mlp: {kind: gated, d_ff: 16, activation: gelu_tanh, bias: false}
      global:
        branches:
          - name: attention
            norm: {kind: rmsnorm, epsilon: 1.0e-6}
            mixer: {kind: multi_head, n_heads: 2, n_kv_heads: 2, d_head: 4, bias: false, scale: 0.0625}
            scale: 0.22
final_norm: null
unembedding: {tied: true, bias: false, softcap: 30}
published:
  - {text: "1B", parameters: 1000000000, status: nominal, source: "its name"}
assumptions:
  - "one more"
  - "two: \\"quoted\\", and a line\\n"
"""


def test_blocks_stand_on_one_line_where_they_fit():
    model = validate(parse(GEMMA.encode(), "f"), Model)
    assert dump(model) == GEMMA.replace('source: "nothing"', "source: nothing")


@pytest.mark.parametrize("name", names())
def test_the_catalogue_is_written_as_a_dump_is(name):
    """But for comments; and the first specs, which were written before, leave out what is so where nothing is said."""
    model = archcalc.load(name)
    text = dump(model)
    assert archcalc.Model.model_validate(parse(text.encode(), "f").data) == model
    for line in text.splitlines():
        assert len(line) <= WIDEST or line.count('"') == 2, line
    lines = (Path(specs_folder()) / "models" / f"{name}.yaml").read_text().splitlines()
    if not name.startswith(("gpt2", "gpt3", "tiny")):
        assert [line for line in lines if not line.lstrip().startswith("#")] == text.splitlines()


def test_long_lists_are_wrapped_and_long_texts_are_not():
    data = plain(archcalc.load("tiny"))
    layer = {name: value for name, value in data["layers"][0].items() if name != "repeat"}
    kinds = {"first_kind": layer, "second_kind": {**layer, "norm": None}}
    pattern = ["first_kind", "second_kind", "second_kind"] * 8
    data |= {"layers": [{"repeat": 24, "pattern": pattern, "kinds": kinds}], "source": "x y " * 99}
    lines = dump(Model.model_validate(data)).splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("    pattern: [first_kind, "))
    assert lines[at + 1].startswith("      ")
    assert "".join(lines[at : at + 4]).count("_kind") == 24
    assert [line for line in lines if len(line) > WIDEST] == [f'source: "{"x y " * 99}"']


@given(strategies.models())
def test_readers_of_yaml_1_1_read_the_same(model):
    """Numbers have a point and a sign where they need one; words that would be booleans have quotes."""
    text = dump(model)
    assert yaml.safe_load(text) == parse(text.encode(), "f").data


@pytest.mark.parametrize(
    "word", ["yes", "No", "on", "y", "null", "True", "1e9", "0x1f", "-", "a b", "#", "a: b", "12", "~"]
)
def test_words_that_mean_something_else_have_quotes(word):
    text = dump(archcalc.load("tiny").model_copy(update={"source": word}))
    assert f'source: "{word}"\n' in text
    assert yaml.safe_load(text)["source"] == parse(text.encode(), "f").data["source"] == word


def test_a_model_of_arrays_is_refused():
    np = pytest.importorskip("numpy")
    model = archcalc.load("tiny")
    with pytest.raises(archcalc.Invalid, match="dump: must have single values, no arrays; got array"):
        dump(model.model_copy(update={"vocab_size": np.array([1, 2])}))


def test_a_dump_is_read_by_the_commands(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text(dump(archcalc.load("gpt3-13b")))
    assert (
        ask("params", str(path), "-f", "json").json["parameters"]
        == ask("params", "gpt3-13b", "-f", "json").json["parameters"]
    )
