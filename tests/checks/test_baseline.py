"""A baseline: what is known does not count, what is worse or new does."""

import json

import pytest
from command import ask
from goodspec import GOOD

import archcalc
from archcalc.checks.baseline import baseline_text, read_baseline
from archcalc.checks.collecting import Target
from archcalc.checks.outcome import Excused
from archcalc.checks.project import find_project
from archcalc.checks.running import check_target

FIGURE = 'published: [{text: "1", parameters: 1, status: counted, source: "this test"}]\n'
BUDGETS = "schema: 0\nlint: {select: [AC101]}\nbudgets:\n  - {that: parameters.stored, most: 100}\n  - {that: parameters.stored, least: 1M}\n"


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "archcalc.yaml").write_text(BUDGETS)
    (tmp_path / "x.yaml").write_text(GOOD + FIGURE)
    return tmp_path


def outcomes(*names):
    project = find_project()
    return [check_target(Target(name), project) for name in names]


def rules(found):
    return [problem.rule for outcome in found for problem in outcome.problems]


def known(here, found):
    text, count = baseline_text(found, "")
    (here / "known.json").write_text(text)
    return read_baseline("known.json"), count


def test_what_is_known_does_not_count_wherever_it_moved(here):
    before = outcomes("x.yaml")
    assert sorted(rules(before)) == ["AC002", "AC002", "AC101"]
    baseline, count = known(here, before)
    assert count == 3
    (here / "x.yaml").write_text("# a comment more\n" + GOOD + FIGURE)
    (after,), gone = baseline.without(outcomes("x.yaml"), "")
    assert (after.problems, gone, len(after.excused)) == ((), 0, 3)
    assert {one.where for one in after.excused} == {"in the baseline"}
    assert after.exit_code(strict=True) == 0


def test_files_of_a_baseline_are_named_from_its_own_folder(here, monkeypatch):
    """It is written at the top of a project and obeyed in a folder of it, and the other way round."""
    (here / "sub").mkdir()
    baseline, _ = known(here, outcomes("x.yaml"))
    monkeypatch.chdir(here / "sub")
    (after,), gone = baseline.without(outcomes("../x.yaml"), "..")
    assert (after.problems, gone) == ((), 0)
    assert {one.where for one in after.excused} == {"in the baseline"}
    text, _ = baseline_text(outcomes("../x.yaml"), "..", baseline)
    assert text == (here / "known.json").read_text()


@pytest.mark.usefixtures("here")
def test_a_baseline_is_a_file_that_can_be_reviewed():
    """A line for each part, so that a problem more is some lines more and no other line changes."""
    text, _ = baseline_text(outcomes("x.yaml"), "")
    assert text == json.dumps(json.loads(text), indent=2) + "\n"


def test_what_is_worse_counts_again_on_either_side(here):
    baseline, _ = known(here, outcomes("x.yaml"))
    (here / "x.yaml").write_text(GOOD.replace("repeat: 2", "repeat: 3") + FIGURE)
    found, gone = baseline.without(outcomes("x.yaml"), "")
    assert sorted((one.rule, one.level) for one in found[0].problems) == [("AC002", "error"), ("AC002", "warning")]
    # more parameters are worse for most, and better for least
    assert gone == 0, "it occurs, and is worse"
    (here / "x.yaml").write_text(GOOD.replace("repeat: 2", "repeat: 1") + FIGURE)
    found, _ = baseline.without(outcomes("x.yaml"), "")
    assert sorted((one.rule, one.level) for one in found[0].problems) == [("AC002", "error"), ("AC002", "warning")]


def test_a_second_problem_of_one_kind_is_new(here):
    baseline, _ = known(here, outcomes("x.yaml"))
    more = FIGURE.replace("]", ', {text: "2", parameters: 2, status: counted, source: "this test"}]')
    (here / "x.yaml").write_text(GOOD + more)
    found, _ = baseline.without(outcomes("x.yaml"), "")
    assert [(one.rule, one.path) for one in found[0].problems] == [("AC101", "published.1")]


def test_what_is_mended_is_told(here):
    baseline, _ = known(here, outcomes("x.yaml"))
    (here / "x.yaml").write_text(GOOD)
    _, gone = baseline.without(outcomes("x.yaml"), "")
    assert gone == 1
    _, gone = baseline.without([], "")
    assert gone == 0, "a file that was not looked at may still have it"


def test_what_cannot_be_read_is_never_known(here):
    (here / "bad.yaml").write_text("schema: 0\n")
    text, count = baseline_text(outcomes("bad.yaml"), "")
    assert count == 0
    assert "bad.yaml" not in text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"problems": 1}',
        '{"problems": [{"file": "x"}]}',
        '{"problems": [1]}',
        "ÿ",
        "[" * 100000,
        '{"problems": [{"file": "x", "rule": "AC002", "path": "", "figure": 1e999}]}',
    ],
)
def test_what_is_no_baseline_is_refused(here, text):
    (here / "known.json").write_text(text)
    with pytest.raises(archcalc.Invalid, match="is not a baseline of archcalc check"):
        read_baseline("known.json")


def test_what_is_written_is_by_file_rule_and_path_with_the_figures_of_budgets(here):
    (here / "sub").mkdir()
    (here / "sub" / "a.yaml").write_text(GOOD + FIGURE)
    text, count = baseline_text(outcomes("x.yaml", "sub/a.yaml"), "sub")
    assert text.endswith("}\n")
    data = json.loads(text)
    assert (data["schema"], count, len(data["problems"])) == (0, 6, 6)
    stored = archcalc.params(archcalc.load("x.yaml")).stored
    assert data["problems"][3:] == [
        {"file": "a.yaml", "rule": rule, "path": path, **more}
        for rule, path, more in (
            ("AC002", "", {"budget": "parameters.stored least 1M parameters", "figure": stored}),
            ("AC002", "", {"budget": "parameters.stored most 100 parameters", "figure": stored}),
            ("AC101", "published.0", {}),
        )
    ]
    assert [one["file"] for one in data["problems"]] == ["../x.yaml"] * 3 + ["a.yaml"] * 3


def test_budgets_of_one_quantity_are_in_the_order_of_their_words(here):
    bounds = "".join(f"  - {{that: parameters.stored, most: {most}}}\n" for most in ("1k", "100", "900"))
    (here / "archcalc.yaml").write_text(f"schema: 0\nlint: {{select: [AC101]}}\nbudgets:\n{bounds}")
    (here / "x.yaml").write_text(GOOD)
    data = json.loads(baseline_text(outcomes("x.yaml"), "")[0])
    assert [one["budget"] for one in data["problems"]] == [
        f"parameters.stored most {most} parameters" for most in ("100", "1k", "900")
    ]


def test_the_reason_names_the_file_and_what_the_spec_excuses_stays_excused(here):
    baseline, _ = known(here, outcomes("x.yaml"))
    (found,) = outcomes("x.yaml")
    before = Excused(found.problems[0], "as published", "in the spec")
    (after,), _ = baseline.without([found._replace(excused=(before,))], "")
    assert after.excused[0] == before
    assert [one.why for one in after.excused[1:]] == ["known.json"] * 3


def test_a_figure_that_is_better_or_the_same_is_known_and_without_a_figure_a_budget_is_not(here):
    text, _ = baseline_text(outcomes("x.yaml"), "")
    data = json.loads(text)
    for entry in data["problems"]:
        if entry.get("budget", "").startswith("parameters.stored most"):
            now = entry["figure"]
            entry["figure"] += 1  # it was worse, or somebody wrote so
    (here / "known.json").write_text(json.dumps(data))
    (after,), _ = read_baseline("known.json").without(outcomes("x.yaml"), "")
    (told,) = after.problems
    assert (told.file, told.rule, told.level) == ("known.json", "AC002", "warning")
    assert told.message == (
        f"knows parameters.stored most 100 parameters of x.yaml as {now + 1:,}, and it is {now:,}: it may grow unseen"
    )
    assert (after.exit_code(), after.exit_code(strict=True)) == (0, 1)
    for entry in data["problems"]:
        entry.pop("figure", None)
    (here / "known.json").write_text(json.dumps(data))
    assert rules(read_baseline("known.json").without(outcomes("x.yaml"), "")[0]) == ["AC002", "AC002"]


@pytest.mark.parametrize(("bound", "by", "way"), [("most: 1", 10**9, "grow"), ("least: 1T", -1, "shrink")])
def test_a_figure_that_was_raised_by_hand_is_told_until_it_is_written_again(here, bound, by, way):
    (here / "x.yaml").write_text(GOOD)
    (here / "archcalc.yaml").write_text(f"budgets: [{{that: parameters.stored, {bound}}}]\nbaseline: known.json\n")
    assert ask("check", "x.yaml", "--write-baseline").code == 0
    data = json.loads((here / "known.json").read_text())
    data["problems"][0]["figure"] += by
    (here / "known.json").write_text(json.dumps(data))
    assert f"it may {way} unseen" in ask("check", "x.yaml").err
    assert ask("check", "x.yaml", "--strict").code == 1
    assert "unseen" not in ask("check", "x.yaml", "--write-baseline").err
    assert ask("check", "x.yaml", "--strict") == ask("check", "x.yaml")


def test_a_baseline_that_is_not_there_is_missing(here):
    with pytest.raises(
        archcalc.Missing, match=r"none.json: no such file; `archcalc check --write-baseline` writes one"
    ):
        read_baseline(str(here / "none.json"))
