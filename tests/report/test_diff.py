"""Fields that differ between specs, and what that does."""

import json
import shutil
import subprocess

import pytest
from command import ask
from goodspec import GOOD
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


def table(text, heading):
    """The rows of a table of Markdown below a heading, by their first cell."""
    lines = text.partition(f"### {heading}")[2].partition("\n\n")[2].partition("\n\n")[0].splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {first: rest for first, *rest in cells[2:]}


def test_markdown_is_a_short_comment_for_a_review():
    """What changed and the main counts are seen at once; the rest is folded."""
    text = ask("diff", "gpt2", "gpt2@n_layers=13", "--format", "markdown").out
    seen, folded = text.partition("<details>")[::2]
    assert len(seen.splitlines()) < 25
    assert table(seen, "Fields that differ") == {"layers.0.repeat": ["12", "13"]}
    main = table(seen, "Quantities")
    layer = 12 * 768**2 + 13 * 768  # 4 + 8 matrices of d_model^2; 4 + 4 + 1 biases and 4 vectors of norms
    assert main["parameters.stored"][2:] == [f"+{layer:,}", f"{layer / 124_439_808:+.2%}"]
    assert main["cache.per_token"][:3] == ["36.00 KiB", "39.00 KiB", "+3.000 KiB"]  # 2 x 768 x 2 bytes a layer
    assert set(main) == {"parameters.stored", "flops.per_token", "cache.per_token", "memory.total"}
    assert folded.startswith("<summary>All quantities that differ</summary>\n\n| quantity ")
    assert "| &nbsp;&nbsp;up_projection " in folded
    assert text.count("<details>") == text.count("</details>") == 2
    assert "layers.0.repeat 12 -> 13" in folded


def test_a_comment_on_no_change_folds_nothing():
    text = ask("diff", "gpt2", "gpt2", "-f", "markdown").out
    assert text.startswith("## gpt2 -> gpt2: no difference in shape\n")
    assert "<details>" not in text
    assert table(text, "Quantities")["parameters.stored"] == ["124,439,808", "124,439,808", "=", ""]


def test_a_comment_shows_active_parameters_where_there_are_experts():
    text = ask("diff", "mixtral-8x7b", "mixtral-8x7b@n_experts_per_token=3", "-f", "markdown").out
    main = table(text, "Quantities")
    expert = 32 * 3 * 4096 * 14336
    assert main["parameters.active"][2] == f"+{expert:,}"
    assert main["parameters.stored"][2] == "="


def test_warnings_are_folded_and_told_once_where_all_have_them():
    both = ask("diff", "gpt3-xl", "gpt3-13b", "-f", "markdown").out
    folded = both.partition("<summary>Warnings</summary>")[2]
    assert "**gpt3-xl**" in folded
    assert "**gpt3-13b**" in folded
    same = ask("diff", "gpt3-xl", "gpt3-xl@d_ff=8000", "-f", "markdown").out
    assert same.count("prints n_heads 24") == 1
    assert "**All**" in same
    assert "Warnings" not in ask("diff", "gpt2", "gpt2-xl", "-f", "markdown").out


@pytest.fixture
def revised(tmp_path, monkeypatch):
    """A repository with a spec that was changed after its only commit."""
    if shutil.which("git") is None:
        pytest.skip("needs git")
    monkeypatch.chdir(tmp_path)
    git = ("git", "-c", "user.name=A", "-c", "user.email=a@example.com", "-c", "commit.gpgsign=false")
    path = tmp_path / "specs" / "own.yaml"
    path.parent.mkdir()
    path.write_text(GOOD)
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "one"]):
        subprocess.run([*git, *words], check=True)
    path.write_text(GOOD.replace("d_ff: 11", "d_ff: 12"))
    return path


@pytest.mark.usefixtures("revised")
def test_a_spec_with_its_own_revision():
    done = ask("diff", "HEAD:specs/own.yaml", "specs/own.yaml", "-f", "json")
    assert done.json["specs"] == ["HEAD:specs/own.yaml", "specs/own.yaml"]
    values = {row["name"]: row["values"] for row in done.json["rows"]}["parameters.stored"]
    change = 2 * (2 * 8 + 1)  # in two layers a row of two matrices of d_model, and a bias
    assert values["specs/own.yaml"] - values["HEAD:specs/own.yaml"] == change
    text = ask("diff", "HEAD:specs/own.yaml", "specs/own.yaml").out
    assert text.startswith("HEAD:specs/own.yaml -> specs/own.yaml: parameters +")
    head = ask("diff", "HEAD:specs/own.yaml", "./specs/own.yaml", "gpt2", "-f", "csv").out.splitlines()[0]
    assert head == "name,unit,HEAD:specs/own.yaml,1: ./specs/own.yaml,2: gpt2"
    asked = ask("diff", "HEAD:specs/own.yaml", "HEAD:specs/own.yaml@d_ff=12", "-f", "json").json["specs"]
    assert asked == ["good", "good@d_ff=12"]  # their names tell them apart


def test_the_exit_code_says_whether_anything_differs(revised):
    pair = ("HEAD:specs/own.yaml", "specs/own.yaml")
    assert [ask("diff", *pair, "--exit-code").code, ask("diff", *pair).code] == [1, 0]
    assert ask("diff", *pair, "-f", "json").json["differs"] is True
    assert ask("diff", "HEAD:specs/own.yaml", "HEAD:specs/own.yaml@activation=relu", "--exit-code").code == 1
    revised.write_text(GOOD.replace('"this test"', '"another source"') + "# a comment\n")
    same = ask("diff", *pair, "--exit-code", "-f", "json")
    assert (same.code, same.json["differs"]) == (0, False)
    revised.write_text(GOOD.replace("d_ff: 11", "d_ff: eleven"))
    assert ask("diff", *pair, "--exit-code").code == 2
    revised.unlink()
    assert ask("diff", *pair, "--exit-code").code == 3


def test_groups_of_layers_that_one_side_lacks_are_told(tmp_path, monkeypatch):
    model = archcalc.load("tiny")
    both = model.model_copy(update={"layers": (*model.layers, *model.layers)})
    (tmp_path / "both.yaml").write_text(archcalc.dump(both))
    monkeypatch.chdir(tmp_path)
    lines = [" ".join(line.split()) for line in ask("diff", "tiny", "both.yaml").out.splitlines()]
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
