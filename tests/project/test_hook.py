"""Our hook in another repository: a broken spec is not committed, nor one that exceeds a budget."""

import json
import shlex
import shutil

import pytest
import yaml
from elsewhere import DEEPER, PARAMETERS, ROOT, SPEC, Elsewhere

BUDGETS = """\
specs: [specs/*.yaml]
budgets:
  - {that: parameters.stored, most: 1.6B}
"""


@pytest.fixture(scope="module")
def hook():
    (one,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    return one


def by_git(elsewhere, hook):
    """A hook of git that does as pre-commit does: the files of the commit that fit are given to the entry."""
    staged = "git diff --cached --name-only --diff-filter=ACMR -z"
    lines = f"#!/bin/sh\n{staged} | grep -zE {shlex.quote(hook['files'])} | xargs -0 -r {hook['entry']}\n"
    file = elsewhere.path / ".git" / "hooks" / "pre-commit"
    file.write_text(lines)
    file.chmod(0o755)


def by_pre_commit(elsewhere, hook):
    """The real one; as `language: python` it would install archcalc from a network."""
    if shutil.which("pre-commit") is None:
        pytest.skip("pre-commit is not installed")
    elsewhere.env["PRE_COMMIT_HOME"] = str(elsewhere.path.parent / "pre-commit")
    local = {"repo": "local", "hooks": [{**hook, "language": "system"}]}
    elsewhere.write(".pre-commit-config.yaml", json.dumps({"repos": [local]}))
    done = elsewhere.run("pre-commit install")
    assert done.code == 0, done


@pytest.fixture(params=[by_git, by_pre_commit], ids=["git", "pre-commit"])
def elsewhere(request, hook, tmp_path):
    made = Elsewhere(tmp_path)
    request.param(made, hook)
    made.write("docker-compose.yaml", "services: {}\n")
    made.write("package/config.json", "{}\n")
    made.write("notes.md", "of nobody's concern\n")
    made.write("pyproject.toml", "[project]\nname = 'other'\n")
    made.write("archcalc.yaml", BUDGETS)
    made.write("specs/model.yaml", SPEC)
    done = made.commit()
    assert done.code == 0, done
    return made


def told(done):
    return done.out + done.err


def test_a_broken_spec_is_not_committed_and_a_good_one_is(elsewhere):
    elsewhere.write("specs/model.yaml", SPEC.replace("d_model: 2048", "d_model: 2O48"))
    done = elsewhere.commit()
    assert done.code == 1
    assert "specs/model.yaml:6:10: d_model: must be an integer" in told(done)
    elsewhere.write("specs/model.yaml", SPEC.replace("repeat: 30", "repeat: 29"))
    assert elsewhere.commit().code == 0
    assert elsewhere.run("git status --porcelain").out == ""


def test_a_change_of_one_line_that_breaks_a_budget_is_told_with_figure_bound_and_by_how_much(elsewhere):
    elsewhere.write("specs/model.yaml", SPEC.replace("repeat: 30", "repeat: 34"))
    done = elsewhere.commit()
    over = DEEPER - 1_600_000_000
    figures = f"is {DEEPER:,} parameters; at most 1,600,000,000 allowed (1.6B parameters), exceeded by {over:,}"
    assert done.code == 1
    assert f"specs/model.yaml:1:1: parameters.stored {figures} ({over / 16_000_000:.2f}%)" in told(done)


def test_a_budget_that_is_changed_is_held_against_specs_that_are_not(elsewhere):
    elsewhere.write("archcalc.yaml", BUDGETS.replace("1.6B", "1.4B"))
    done = elsewhere.commit()
    assert done.code == 1
    assert f"parameters.stored is {PARAMETERS:,} parameters; at most 1,400,000,000 allowed" in told(done)
    elsewhere.write("archcalc.yaml", BUDGETS.replace("budgets", "budget"))
    done = elsewhere.commit()
    assert done.code != 0
    assert "archcalc.yaml:2:1: budget: unknown field; did you mean 'budgets'?" in told(done)


def test_files_of_others_pass(elsewhere):
    elsewhere.write("docker-compose.yaml", "services: {x: [}\n")
    elsewhere.write("package/config.json", '{"a": 1}\n')
    elsewhere.write("pyproject.toml", "[tool.other]\n")
    assert elsewhere.commit().code == 0


def test_the_hook_says_what_pre_commit_reads(hook):
    assert {"id", "name", "description", "entry", "language", "files", "types", "require_serial"} == set(hook)
    assert (hook["id"], hook["language"]) == ("archcalc-check", "python")
