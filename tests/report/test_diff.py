"""Fields that differ between specs, and what that does."""

import json

import pytest
from command import ask
from hypothesis import given

import archcalc
from archcalc import strategies
from archcalc.counts.quantities import one_pass
from archcalc.report.diff import difference_sheet
from archcalc.spec.catalogue import Found
from archcalc.spec.source import Document


def rows(*specs):
    told = ask("diff", *specs, "--format", "json")
    assert told.code == 0
    return {row["name"]: row for row in told.json["rows"]}


def test_gpt2_and_gpt2_medium():
    found = rows("gpt2", "gpt2-medium")
    assert found["parameters.stored"] == {
        "name": "parameters.stored",
        "unit": "parameters",
        "values": {"gpt2": 124_439_808, "gpt2-medium": 354_823_168},  # transformers, GPT2LMHeadModel
        "differences": [354_823_168 - 124_439_808],
    }
    assert found["flops.forward"]["values"]["gpt2"] == 291_648_307_200
    text = ask("diff", "gpt2", "gpt2-medium").out
    assert text.startswith("gpt2 -> gpt2-medium: parameters +185.14%; FLOPs per token +183.54%\n")
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert "layers.0.repeat 12 24" in lines
    assert "parameters.stored 124,439,808 354,823,168 +230,383,360 +185.14%" in lines


def test_a_spec_with_itself_has_no_difference():
    text = ask("diff", "gpt2", "gpt2").out
    assert text.startswith("gpt2 -> gpt2: no difference in shape\n")
    assert "Fields that differ" not in text
    assert "%" not in text
    assert all(not any(row["differences"]) for row in ask("diff", "gpt2", "gpt2", "-f", "json").json["rows"])


def test_fewer_key_value_heads_save_keys_values_and_cache():
    found = rows("gpt3-xl", "gpt3-xl@n_kv_heads=4")
    keys = 24 * 2048 * 16 * 128  # layers x d_model x heads x features
    assert found["tally.categories.key.parameters"]["differences"] == [keys // 4 - keys]
    assert found["parameters.stored"]["differences"] == [2 * (keys // 4 - keys) - 24 * 2 * 12 * 128]  # and biases
    assert found["cache.per_token"]["values"]["gpt3-xl@n_kv_heads=4"] == 24 * 2 * 4 * 128 * 2
    text = ask("diff", "gpt3-xl", "gpt3-xl@n_kv_heads=4").out
    assert "  query" not in text  # what is alike is left out
    assert "layers.0.attention.n_kv_heads 16 -> 4" in text


def test_more_than_two_are_held_against_the_first():
    done = ask("diff", "gpt2", "gpt2-medium", "gpt2-large", "--format", "csv")
    head, *rows = done.out.splitlines()
    assert head == "name,unit,gpt2,1: gpt2-medium,2: gpt2-large"
    assert "parameters.stored,parameters,124439808,354823168,774030080" in rows


def test_markdown_is_tables_for_a_review():
    text = ask("diff", "gpt2", "gpt2@n_layers=6", "--format", "markdown").out
    assert text.startswith(
        "## gpt2 -> gpt2@n_layers=6: parameters -34.17%; FLOPs per token -36.45%\n\n### Fields that differ\n\n| field "
    )


def test_groups_of_layers_that_one_side_lacks_are_told(tmp_path):
    model = archcalc.load("tiny")
    both = model.model_copy(update={"layers": (*model.layers, *model.layers)})
    path = tmp_path / "both.yaml"
    path.write_text(archcalc.dump(both))
    lines = [" ".join(line.split()) for line in ask("diff", "tiny", str(path)).out.splitlines()]
    assert "layers.1.repeat - 5" in lines


@given(first=strategies.models(), second=strategies.models())
def test_differences_are_what_lies_between_the_values(first, second):
    found = [Found(model, Document(model.name), Document(model.name), {}) for model in (first, second)]
    sheet = difference_sheet(found, [one_pass(model, 1, 1) for model in (first, second)])
    for row, flat in zip(sheet.payload["rows"], sheet.records, strict=True):
        before, after = [value for key, value in flat.items() if key not in ("name", "unit")]
        assert row["differences"] == [after - before]
    assert json.dumps(sheet.payload)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["gpt2"], "archcalc diff: needs two or more specs; got 'gpt2'"),
        (["gpt2", "gpt9"], "gpt9: is not in the catalogue; nearest: "),
        (["gpt2", "tiny", "--seq", "65"], "--seq: must be from 1 to 64; got 65"),
        (
            ["gpt2", "tiny", "--precision", "int4"],
            "--precision: for training must be one of mixed-16, mixed-18, mixed-20, fp8-13, amp, fsdp-bf16, bf16, fp32",
        ),
        ([], "archcalc diff: missing argument"),
    ],
)
def test_what_cannot_be_compared_is_one_line(arguments, line):
    done = ask("diff", *arguments)
    assert done.code == 2
    assert done.err.startswith(line)
    assert done.err.count("\n") == 1
