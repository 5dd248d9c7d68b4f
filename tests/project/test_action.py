"""Our action for GitHub: its scripts, run in another repository with the variables that a runner gives."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from elsewhere import DEEPER, ROOT, SPEC, Elsewhere

FILE = ROOT / "action.yml"
ACTION = yaml.safe_load(FILE.read_text())
STEPS = ACTION["runs"]["steps"]
BUDGETS = "specs: [specs/*.yaml]\nbudgets:\n  - {that: parameters.stored, most: 1.6B}\n"

# Stands in for the Python that makes the environment: there pip installs nothing, and archcalc is this checkout's.
MAKES = """
[ "$1 $2 $3" = "-I -m venv" ] || exec {python} "$@"
mkdir -p "$4/bin"
cp {bin}/archcalc "$4/bin/archcalc"
cp {bin}/made "$4/bin/python"
"""
MADE = """
if [ "$1 $2 $3" = "-I -m pip" ]; then shift 3; printf '%s\\n' "$@" > "$RUNNER_TEMP/installed"; exit; fi
exec {python} "$@"
"""


@pytest.fixture
def elsewhere(tmp_path):
    made = Elsewhere(tmp_path)
    made.program("makes", MAKES.format(bin=shlex.quote(str(made.bin)), python=shlex.quote(sys.executable)))
    made.program("made", MADE.format(python=shlex.quote(sys.executable)))
    made.write("specs/good.yaml", SPEC)
    made.write("archcalc.yaml", BUDGETS)
    return made


def act(elsewhere, **inputs):
    """The steps one after the other, until one fails; what the last one printed, and its exit code."""
    temp = elsewhere.path.parent / "temp"
    temp.mkdir(exist_ok=True)
    github = {
        "GITHUB_ACTION_PATH": str(ROOT),
        "GITHUB_WORKSPACE": str(elsewhere.path),
        "GITHUB_STEP_SUMMARY": str(temp / "step_summary"),
        "GITHUB_PATH": str(temp / "path"),
        "RUNNER_TEMP": str(temp),
    }
    assert set(inputs) <= set(ACTION["inputs"])
    given = {name: str(one["default"]) for name, one in ACTION["inputs"].items()} | {"python": "makes"} | inputs
    for step in STEPS:
        env = {
            name: re.fullmatch(r"\$\{\{ inputs\.(\w+) \}\}", value)[1] for name, value in step.get("env", {}).items()
        }
        done = elsewhere.run(step["run"], **github, **{name: given[of] for name, of in env.items()})
        assert done.code or done.err == ""
        if done.code:
            break
    return done


def summary(elsewhere):
    return (elsewhere.path.parent / "temp" / "step_summary").read_text()


def test_what_is_good_passes_and_says_so_in_the_summary(elsewhere):
    done = act(elsewhere)
    assert done.code == 0
    assert summary(elsewhere).startswith("### ours: 1 budget held\n")
    assert not re.search("^::(error|warning)", done.out, re.MULTILINE)
    installed = (elsewhere.path.parent / "temp" / "installed").read_text().split("\n")
    assert installed == ["install", "--quiet", "--disable-pip-version-check", str(ROOT), ""]
    (added,) = (elsewhere.path.parent / "temp" / "path").read_text().splitlines()
    assert [file.name for file in Path(added).iterdir()] == ["archcalc"], "and no Python"


def test_what_is_broken_is_annotated_at_its_line(elsewhere):
    elsewhere.write("specs/broken.yaml", SPEC.replace("d_model: 2048", "d_model: 2O48"))
    elsewhere.write("specs/good.yaml", SPEC.replace("repeat: 30", "repeat: 34"))
    done = act(elsewhere, sarif="found.sarif", extra="gguf,hub")
    assert done.code == 1
    assert (
        "\n::error file=specs/broken.yaml,line=6,col=10,title=AC001 invalid-file::d_model: must be an integer"
        in done.out
    )
    over = (
        f"::parameters.stored is {DEEPER:,} parameters; at most 1,600,000,000 allowed (1.6B parameters), exceeded by "
    )
    assert f"\n::error file=specs/good.yaml,line=1,col=1,title=AC002 over-budget{over}" in done.out
    assert summary(elsewhere).startswith("### 2 specs: 1 not valid; 1 of 1 budget EXCEEDED\n")
    (run,) = json.loads((elsewhere.path / "found.sarif").read_text())["runs"]
    lines = [one["locations"][0]["physicalLocation"]["region"]["startLine"] for one in run["results"]]
    assert lines == [6, 1]
    assert (elsewhere.path.parent / "temp" / "installed").read_text().endswith(f"{ROOT}[gguf,hub]\n")


def test_paths_and_arguments_are_those_of_the_command(elsewhere):
    elsewhere.write("odd one.yaml", SPEC.replace("vocab_size: 32768", "vocab_size: 32767"))
    elsewhere.write("-x.yaml", SPEC)
    done = act(
        elsewhere,
        paths="odd one.yaml\n-x.yaml\n",
        args="--select AC110,AC101\n--output junit:a.xml",
        format="table",
        summary="false",
    )
    assert done.code == 0
    assert "\n2 specs: 1 warning; 2 budgets held\n" in done.out
    assert (elsewhere.path / "a.xml").read_text().startswith("<?xml")
    assert not (elsewhere.path.parent / "temp" / "step_summary").exists()
    assert act(elsewhere, paths="odd one.yaml", args="--select AC110 --strict").code == 1
    assert act(elsewhere, paths="none.yaml").code == 3
    assert act(elsewhere, args="--select XX").code == 2


@pytest.mark.parametrize("name", ["paths", "args", "format", "summary", "sarif", "extra", "python"])
def test_no_input_is_run(elsewhere, name):
    act(elsewhere, **{name: """$(touch pwned) `touch pwned` "; touch pwned; " '; touch pwned; ' & touch pwned"""})
    assert not list(elsewhere.path.parent.rglob("pwned"))
    assert all("${{" not in step["run"] for step in STEPS)


def test_what_a_file_says_is_no_command_to_the_runner(elsewhere):
    elsewhere.write("::warning::x.yaml", SPEC.replace("d_model: 2048", 'd_model: "##[error]x"'))
    for form in ("github", "table"):
        done = act(elsewhere, paths="::warning::x.yaml", format=form)
        assert done.code == 1
        token = re.match(r"::stop-commands::([0-9a-f]{64})\n", done.out)[1]
        heard = done.out[done.out.index(f"::{token}::\n") :].splitlines()[1:]
        assert all(
            line.startswith(("::error file=%3A%3Awarning%3A%3Ax.yaml,line=6", "::notice title=")) for line in heard
        )
        assert len(heard) == (2 if form == "github" else 0)


def test_it_is_what_github_reads():
    assert ACTION["runs"]["using"] == "composite"
    assert all(step["shell"] == "bash" and step["name"] for step in STEPS)
    assert all(
        {"description", "default"} == set(one) and isinstance(one["default"], str) for one in ACTION["inputs"].values()
    )
    used = {value for step in STEPS for value in step["env"].values()}
    assert used == {f"${{{{ inputs.{name} }}}}" for name in ACTION["inputs"]}
    program = shutil.which("check-jsonschema")
    if program is None:
        pytest.skip("check-jsonschema, which has the schema of actions, is not installed")
    subprocess.run([program, "--builtin-schema", "vendor.github-actions", str(FILE)], check=True, capture_output=True)
