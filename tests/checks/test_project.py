"""Where a project's configuration is found, and what is wrong with one."""

import os

import pytest
from goodspec import GOOD

import archcalc
from archcalc.checks.project import find_project

BUDGET = "{that: parameters.stored, most: 1.6B}"


@pytest.fixture
def here(tmp_path, monkeypatch):
    (tmp_path / ".git").mkdir()
    (tmp_path / "deep" / "er").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "deep" / "er")
    return tmp_path


def written(folder, text, name="archcalc.yaml"):
    (folder / name).write_text(text)


def budgets(project):
    return [budget.most for budget in project.configuration.budgets]


def test_the_nearest_folder_above_has_the_configuration(here):
    written(here, f"schema: 0\nbudgets: [{BUDGET}]\n")
    assert budgets(find_project()) == ["1.6B"]
    written(here / "deep", f"schema: 0\nbudgets: [{BUDGET.replace('1.6', '2')}]\n")
    project = find_project()
    assert budgets(project) == ["2B"]
    assert project.path("specs/x.yaml") == "../specs/x.yaml"
    assert project.path("gpt2") == "gpt2"


def test_a_repository_ends_the_search(here):
    written(here.parent, f"schema: 0\nbudgets: [{BUDGET}]\n")
    try:
        assert budgets(find_project()) == []
    finally:
        (here.parent / "archcalc.yaml").unlink()


def test_pyproject_has_a_table(here):
    written(
        here,
        '[tool.archcalc]\nspecs = ["a.yaml"]\n[[tool.archcalc.budgets]]\nthat = "parameters.stored"\nmost = "1B"\n',
        "pyproject.toml",
    )
    project = find_project()
    assert budgets(project) == ["1B"]
    written(here / "deep", "[tool.other]\n", "pyproject.toml")
    assert budgets(find_project()) == ["1B"], "one without the table is passed over"
    written(here / "deep", "no toml [", "pyproject.toml")
    assert budgets(find_project()) == ["1B"], "one that is no TOML is somebody else's trouble"
    written(here, f"schema: 0\nbudgets: [{BUDGET}]\n")
    assert budgets(find_project()) == ["1.6B"], "archcalc.yaml comes first"


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("archcalc.yaml", "schema: 0\nbudget: []\n", ":2:1: budget: unknown field; did you mean 'budgets'?"),
        ("archcalc.yaml", "schema: 1\n", ":1:9: schema: must be 0; got 1"),
        ("archcalc.yaml", "schema: false\n", ":1:9: schema: must be 0; got 'false'"),
        (
            "archcalc.yaml",
            "budgets:\n  - {that: cache.per_tokn, most: 1}\n",
            ":2:12: budgets.0.that: is not a quantity",
        ),
        ("archcalc.yaml", "lint: {select: [AX1]}\n", ":1:17: lint.select.0: must be an identifier such as AC101"),
        (
            "archcalc.yaml",
            "lint: {ignore: [AC9]}\n",
            ":1:16: lint.ignore: has AC9, which is not an identifier of a rule",
        ),
        ("archcalc.yaml", "lint: {select: [\n", "is not YAML"),
        ("archcalc.yaml", "", "is empty"),
        ("archcalc.yaml", "a: &x 1\nb: *x\n", "aliases are not supported"),
        ("pyproject.toml", "[tool]\n", "has no table [tool.archcalc]"),
        ("pyproject.toml", "tool = 1\n", "has no table [tool.archcalc]"),
        ("pyproject.toml", "[tool.archcalc\n", "is not TOML: "),
        ("pyproject.toml", "[tool.archcalc]\nlint = 7\n", "lint: must be a mapping; got 7"),
        ("pyproject.toml", "[tool.archcalc]\nbudgets = 1979-05-27\n", "budgets: must be a list"),
    ],
)
def test_a_wrong_configuration_is_told_with_its_place(here, name, text, words):
    written(here, text, name)
    with pytest.raises(archcalc.Invalid) as error:
        find_project(str(here / name))
    assert words in str(error.value)
    assert str(error.value).startswith(str(here / name))


def test_what_lint_names_is_read_or_told_with_its_place(here):
    written(here, "schema: 0\nlint: {devices: [a100-40gb], plans: [fsdp8]}\n")
    aim = find_project().aim
    assert [device.name for device in aim.devices] == ["a100-40gb"]
    assert [name for name, _ in aim.plans] == ["fsdp8"]
    written(here, "schema: 0\nlint: {plans: [plans/none.yaml]}\n")
    with pytest.raises(
        archcalc.Invalid,
        match=r"archcalc.yaml:2:16: lint.plans.0: cannot be read: ../../plans/none.yaml: no such file",
    ):
        _ = find_project().aim


@pytest.mark.usefixtures("here")
def test_no_configuration_is_none():
    with pytest.raises(archcalc.Missing):
        find_project("archcalc.yaml")
    assert budgets(find_project()) == []


def test_paths_count_from_the_folder_of_the_configuration(here, monkeypatch):
    written(here, "schema: 0\nbaseline: known.json\n")
    (here / "plans").mkdir()
    (here / "plans" / "two.yaml").write_text("schema: 0\nname: two\nsource: s\ntp: 2\n")
    (here / "own.yaml").write_text(GOOD)
    project = find_project()
    up = os.path.join("..", "..")
    assert project.folder == up
    assert project.baseline == os.path.join(up, "known.json")
    assert project.plan("plans/two.yaml").tp == 2
    assert project.plan("plans/two.yaml") is project.plan("plans/two.yaml")
    assert project.spec("own.yaml").typed == os.path.join(up, "own.yaml")
    assert project.spec("own.yaml") is project.spec("own.yaml")
    assert project.spec("gpt2").model.name == "gpt2"
    assert project.device("h100-sxm") is project.device("h100-sxm")
    monkeypatch.chdir(here)
    assert (find_project().baseline, find_project().path("own.yaml")) == ("known.json", "own.yaml")
    written(here, "schema: 0\n")
    assert find_project().baseline is None


def test_rules_that_are_given_replace_those_of_the_configuration(here):
    written(here, "schema: 0\nlint: {select: [AC11], ignore: [AC112]}\n")
    project = find_project()

    def on(select, ignore):
        lint = project.with_rules(select, ignore).configuration.lint
        return lint.select, lint.ignore

    assert on(None, None) == (("AC11",), ("AC112",))
    assert on(("AC1",), None) == (("AC1",), ()), "what is selected is not ignored"
    assert on(("AC1",), ("AC113",)) == (("AC1",), ("AC113",))
    assert on(None, ()) == (("AC11",), ())


def test_a_file_is_not_a_folder_and_a_folder_is_no_configuration(here):
    (here / "archcalc.yaml").mkdir()
    (here / "pyproject.toml").mkdir()
    assert budgets(find_project()) == []
