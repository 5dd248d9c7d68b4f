"""docs/ci.md works word for word: its files are written and its commands run in an empty repository."""

import json
import shutil
import subprocess

import pytest
import yaml
from elsewhere import ROOT
from walking import PAGE, files, prepared, walk

TEXT = PAGE.read_text()
FILES = files(TEXT)


def test_every_command_prints_what_the_page_shows(tmp_path):
    steps = [step for _, its in walk(prepared(tmp_path), TEXT) for step in its]
    assert len(steps) > 15
    for step in steps:
        assert step.printed == step.shown, step.command
        assert step.code == 0 or step.shown, step.command


@pytest.fixture
def written(tmp_path):
    """A repository with all files of the page, committed."""
    elsewhere = prepared(tmp_path)
    for name, text in FILES.items():
        elsewhere.write(name, text)
    assert elsewhere.commit().code == 0
    return elsewhere


def test_the_question_takes_ten_lines_at_most_and_one_command(written):
    assert len(FILES["archcalc.yaml"].splitlines()) <= 10
    answer = written.run("archcalc check")
    assert answer.code == 0
    room = answer.out.rpartition("fits a100-40gb ")[2].split(" left")[0].strip()
    fits = "archcalc memory specs/model.yaml --recompute full --device a100-40gb --must-fit"
    assert f"`{fits}`" in " ".join(TEXT.split())
    assert f"a100-40gb: fits, {room} left" in written.run(fits).out


def valid(program_schema, file):
    """Whether a file is valid by the schema that the program has, where it is installed."""
    if program := shutil.which("check-jsonschema"):
        done = subprocess.run(
            [program, "--builtin-schema", program_schema, file], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout


def test_the_recipe_of_pre_commit_names_our_hook(written):
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    (repo,) = yaml.safe_load((written.path / ".pre-commit-config.yaml").read_text())["repos"]
    assert [one["id"] for one in repo["hooks"]] == [hook["id"]]


def test_the_recipe_of_github_gives_inputs_that_there_are_and_comments(written):
    file = written.path / ".github" / "workflows" / "specs.yaml"
    valid("vendor.github-workflows", file)
    steps = yaml.safe_load(file.read_text())["jobs"]["check"]["steps"]
    (ours,) = [step for step in steps if step.get("uses", "").startswith("ORG/archcalc@")]
    assert set(ours["with"]) <= set(yaml.safe_load((ROOT / "action.yml").read_text())["inputs"])
    written.program("gh", 'printf "%s " "$@"')
    branch, comment = (step["run"] for step in steps if "run" in step)
    assert "${{" not in branch + comment
    written.run(
        "git update-ref refs/remotes/origin/main main && git checkout -q --detach && git commit -q --allow-empty -m x"
    )
    assert written.run(branch).code == 0
    done = written.run(comment, NUMBER="7")
    assert (done.code, done.out) == (0, ""), "nothing changed"
    spec = written.path / "specs" / "model.yaml"
    spec.write_text(spec.read_text().replace("repeat: 30", "repeat: 31"))
    done = written.run(comment, NUMBER="7")
    assert (done.code, done.out) == (0, "pr comment 7 --body-file comment.md --edit-last --create-if-none ")
    assert (
        (written.path / "comment.md")
        .read_text()
        .startswith("## main:specs/model.yaml -> specs/model.yaml: parameters +")
    )


def test_the_recipe_of_gitlab_makes_the_reports_that_it_names(written):
    file = written.path / ".gitlab-ci.yml"
    valid("vendor.gitlab-ci", file)
    job = yaml.safe_load(file.read_text())["specs"]
    for line in job["script"]:
        assert written.run(line).code == 0, line
    reports = job["artifacts"]["reports"]
    assert (written.path / reports["junit"]).read_text().startswith("<?xml")
    assert isinstance(json.loads((written.path / reports["codequality"]).read_text()), list)
