"""Where a project's configuration is found, and what is wrong with one."""

import os

import pytest
from command import ask
from goodspec import GOOD

import archcalc
from archcalc.checks.project import find_project
from archcalc.errors import Invalid, Missing

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
            ":1:17: lint.ignore.0: is not an identifier of a rule, or how one begins; see `archcalc list rules`; got 'AC9'",
        ),
        ("archcalc.yaml", "lint: {select: [\n", "is not YAML"),
        ("archcalc.yaml", "", "is empty"),
        ("archcalc.yaml", "a: &x 1\nb: *x\n", "aliases are not supported"),
        ("pyproject.toml", "[tool]\n", "has no table [tool.archcalc]"),
        ("pyproject.toml", "tool = 1\n", "has no table [tool.archcalc]"),
        ("pyproject.toml", "[tool.archcalc\n", "is not TOML: "),
        ("pyproject.toml", "[tool.archcalc]\nlint = 7\n", ": tool.archcalc.lint: must be a mapping; got 7"),
        ("pyproject.toml", "[tool.archcalc]\nbudgets = 1979-05-27\n", ": tool.archcalc.budgets: must be a list"),
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
@pytest.mark.parametrize(
    ("budget", "words"),
    [
        (
            "fits: a100",
            "2:32: budgets.0.fits: 'a100' matches several devices; choose one of a100-40gb, a100-80gb",
        ),
        ("fits: none.yaml", "2:32: budgets.0.fits: cannot be read: ../../none.yaml: no such file; got 'none.yaml'"),
        ("most: 1, when: {plan: fsdp9}", "2:48: budgets.0.when.plan: unknown plan 'fsdp9'"),
        ("most: 100 apples", "2:32: budgets.0.most: must be an amount such as 300 KiB or 40 GB, or a ratio such as"),
        ("most: 1, when: {phase: decode}", "2:49: budgets.0.when.phase: does not change memory.total; got 'decode'"),
    ],
)
def test_what_a_budget_names_is_read_or_told_with_its_place(here, budget, words):
    """With exit code 2, once, and not at each spec."""
    written(here, f"budgets:\n  - {{that: memory.total, {budget}}}\n")
    answer = ask("check", "gpt2", "llama2-7b")
    assert answer.code == 2
    (line,) = answer.err.splitlines()
    assert line.startswith(f"../../archcalc.yaml:{words}")
    with pytest.raises(archcalc.Invalid, match=r"budgets\.0"):
        archcalc.check("gpt2", budgets=here / "archcalc.yaml")


def test_pyproject_is_told_with_its_table(here):
    written(here, "[tool.archcalc]\nbudgets = [{that = 'memory.total', fits = 'a100'}]\n", "pyproject.toml")
    answer = ask("check", "gpt2")
    assert (answer.code, answer.err.count("\n")) == (2, 1)
    assert answer.err.startswith("../../pyproject.toml: tool.archcalc.budgets.0.fits: 'a100' matches several devices;")
    written(here, "[tool.archcalc]\nbudgets = [{that = 'parameters.stored', most = 1}]\n", "pyproject.toml")
    assert "see tool.archcalc.budgets.0 of ../../pyproject.toml" in ask("check", "gpt2").err


def test_a_pattern_that_matches_nothing_is_told_where_it_stands(here):
    written(here, "schema: 0\nspecs: [specs/none/*.yaml]\n")
    answer = ask("check")
    assert answer.code == 3
    assert answer.err == "../../archcalc.yaml:2:9: specs.0: matches no file; got '../../specs/none/*.yaml'\n"
    assert ask("check", "none/*.yaml").err == "none/*.yaml: matches no file\n"


@pytest.mark.parametrize(
    ("flags", "lint", "words"),
    [
        (
            "--select AC110 --ignore AC110",
            "",
            "--ignore: leaves none of the rules that are selected (AC110); got 'AC110'",
        ),
        ("--select AC11 --ignore AC1", "", "--ignore: leaves none of the rules that are selected (AC11); got 'AC1'"),
        ("--ignore AC110", "select: [AC110]", "--ignore: leaves none of the rules that are selected (AC110)"),
        ("", "select: [AC110], ignore: [AC11]", "../../archcalc.yaml:2:33: lint.ignore: leaves none of the rules"),
        ("--select AC115", "", "--select: has AC115, which looks only where a device and plan that specs are meant"),
        ("--select AC120", "devices: [h100-sxm]", "--select: has AC120, which looks only where a plan that specs are"),
        ("", "select: [AC110, AC120]", "../../archcalc.yaml:2:16: lint.select: has AC120, which looks only where"),
    ],
)
def test_a_choice_of_rules_that_looks_at_nothing_is_refused(here, flags, lint, words):
    written(here, f"schema: 0\nlint: {{{lint}}}\n")
    answer = ask("check", "gpt2", *flags.split())
    assert (answer.code, answer.out) == (2, "")
    (line,) = answer.err.splitlines()
    assert line.startswith(words)


@pytest.mark.parametrize(
    "flags",
    [
        "--ignore AC",
        "--select AC1 --ignore AC110",
        "--select AC001",
        "--select AC12",
        "--select AC115,AC110 --ignore AC115",
    ],
)
def test_a_choice_that_looks_at_less_is_none_of_ours(here, flags):
    written(here, "schema: 0\n")
    assert ask("check", "gpt2", *flags.split()).code == 0


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


@pytest.mark.parametrize(
    "table",
    [
        '[tool."archcalc"]\n',
        '["tool"."archcalc"]\n',
        "[tool]\narchcalc = {budgets = []}\n",
        "tool.archcalc.budgets = []\n",
    ],
)
def test_a_damaged_table_is_ours_however_it_is_written(tmp_path, monkeypatch, table):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pyproject.toml").write_text(f'[project]\nname = "a\n{table}')
    with pytest.raises(Invalid, match="is not TOML"):
        find_project()


def test_a_configuration_that_leads_nowhere_is_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    place = tmp_path / "archcalc.yaml"
    place.symlink_to("nowhere")
    with pytest.raises(Missing, match="no such file"):
        find_project()
