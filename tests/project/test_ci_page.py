"""docs/ci.md works word for word: its files are written and its commands run in an empty repository."""

import json
import shutil
import subprocess

import pytest
import yaml
from elsewhere import ROOT, Elsewhere
from walking import PAGE, prepared, walk

CONFIGURATION = "archcalc.yaml"


@pytest.fixture(scope="module")
def walked(tmp_path_factory):
    """The repository at the page's end, the steps, and what was the first file of each name."""
    elsewhere = prepared(tmp_path_factory.mktemp("walk"))
    steps, first = [], {}
    for _, its in walk(elsewhere, PAGE.read_text()):
        steps += its
        for file in elsewhere.path.rglob("*.yaml"):
            first.setdefault(file.name, file.read_text())
    return elsewhere, steps, first


def test_every_command_prints_what_the_page_shows(walked):
    _, steps, _ = walked
    assert len(steps) > 15
    for step in steps:
        assert step.printed == step.shown, step.command
        assert step.code == 0 or step.shown, step.command


def test_the_question_takes_ten_lines_at_most_and_one_command(walked):
    elsewhere, steps, first = walked
    assert len(first[CONFIGURATION].splitlines()) <= 10
    elsewhere.write("first.yaml", first["model.yaml"])
    answer = next(step for step in steps if step.command == "archcalc check")
    room = answer.shown.rpartition("fits a100-40gb ")[2].split(" left")[0].strip()
    fits = "archcalc memory specs/model.yaml --recompute full --device a100-40gb --must-fit"
    assert f"`{fits}`" in " ".join(PAGE.read_text().split())
    assert f"a100-40gb: fits, {room} left" in elsewhere.run(fits.replace("specs/model", "first")).out


def valid(program_schema, file):
    """Whether a file is valid by the schema that the program has, where it is installed."""
    if program := shutil.which("check-jsonschema"):
        done = subprocess.run(
            [program, "--builtin-schema", program_schema, file], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout


def test_the_recipe_of_pre_commit_names_our_hook(walked):
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    (repo,) = yaml.safe_load((walked[0].path / ".pre-commit-config.yaml").read_text())["repos"]
    assert [one["id"] for one in repo["hooks"]] == [hook["id"]]


def test_the_recipe_of_github_gives_inputs_that_there_are_and_comments(walked):
    elsewhere = walked[0]
    file = elsewhere.path / ".github" / "workflows" / "specs.yaml"
    valid("vendor.github-workflows", file)
    steps = yaml.safe_load(file.read_text())["jobs"]["check"]["steps"]
    (ours,) = [step for step in steps if step.get("uses", "").startswith("ORG/archcalc@")]
    assert set(ours["with"]) <= set(yaml.safe_load((ROOT / "action.yml").read_text())["inputs"])
    elsewhere.program("gh", 'printf "%s " "$@"')
    branch, comment = (step["run"] for step in steps if "run" in step)
    assert "${{" not in branch + comment
    elsewhere.run(
        "git update-ref refs/remotes/origin/main main && git checkout -q --detach && git commit -q --allow-empty -m x"
    )
    assert elsewhere.run(branch).code == 0
    done = elsewhere.run(comment, NUMBER="7")
    assert (done.code, done.out) == (0, ""), "nothing changed"
    spec = elsewhere.path / "specs" / "model.yaml"
    text = spec.read_text()
    spec.write_text(text.replace("repeat: 30", "repeat: 31"))
    done = elsewhere.run(comment, NUMBER="7")
    assert (done.code, done.out) == (0, "pr comment 7 --body-file comment.md --edit-last --create-if-none ")
    assert (
        (elsewhere.path / "comment.md")
        .read_text()
        .startswith("## main:specs/model.yaml -> specs/model.yaml: parameters +")
    )
    spec.write_text(text)


def test_the_recipe_of_gitlab_makes_the_reports_that_it_names(walked):
    elsewhere: Elsewhere = walked[0]
    file = elsewhere.path / ".gitlab-ci.yml"
    valid("vendor.gitlab-ci", file)
    job = yaml.safe_load(file.read_text())["specs"]
    for line in job["script"]:
        assert elsewhere.run(line).code == 0, line
    reports = job["artifacts"]["reports"]
    assert (elsewhere.path / reports["junit"]).read_text().startswith("<?xml")
    assert isinstance(json.loads((elsewhere.path / reports["codequality"]).read_text()), list)
