"""The command check: what it looks at, what its flags do, and its exit codes."""

import json
import os
import subprocess
import sys
import time

import pytest
from command import ask
from goodspec import GOOD

from archcalc.checks.running import FEW

WARNED = GOOD.replace("vocab_size: 10", "vocab_size: 10007")
BROKEN = GOOD.replace("d_model: 8", "d_model: eight")
FIGURE = 'published: [{text: "1", parameters: 1, status: counted, source: "this test"}]\n'
UNUSED = 'allow:\n  - {rule: AC151, why: "it has no experts"}  # kept\n'


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".git").mkdir()
    (tmp_path / "specs").mkdir()
    (tmp_path / "specs" / "good.yaml").write_text(GOOD)
    return tmp_path


def put(folder, name, text):
    (folder / name).write_text(text)


def rules(answer):
    return [(one["file"], one["rule"]) for one in answer.json["problems"]]


def test_a_folder_has_files_of_every_kind(here):
    put(here, "specs/broken.yaml", BROKEN)
    put(here, "specs/plan.yaml", "schema: 0\nname: two\nsource: this test\ntp: 2\nzero: 9\n")
    put(here, "specs/compose.yaml", "services: {}\n")
    put(here, "specs/device.yaml", "schema: 0\nname: x\ncapacity: {label: 80}\n")
    put(here, "specs/model.safetensors", "no header")
    put(here, "archcalc.yaml", "schema: 0\nbudgets: [{that: parameters.stored, most: 1}]\n")
    answer = ask("check", "specs", "archcalc.yaml", "-f", "json")
    assert answer.code == 1
    kinds = {one["file"]: (one["kind"], one["passed"]) for one in answer.json["files"]}
    assert kinds == {
        "specs/broken.yaml": ("model", False),
        "specs/device.yaml": ("device", False),
        "specs/good.yaml": ("model", False),
        "specs/model.safetensors": ("weights", False),
        "specs/plan.yaml": ("plan", False),
        "archcalc.yaml": ("configuration", True),
    }
    assert ("specs/good.yaml", "AC002") in rules(answer)
    assert "specs/plan.yaml:5:7: zero: must be 0 or 1 or 2 or 3; got 9 [AC001]\n" in answer.err


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("specs/good.yaml",), 0),
        (("specs/*.yaml",), 0),
        (("none.yaml",), 3),
        (("none/*.yaml",), 3),
        (("gpt9",), 2),
        (("gpt2", "none.yaml"), 3),
        (("specs/good.yaml", "--config", "none.yaml"), 3),
        (("specs/good.yaml", "--select", "XX"), 2),
        (("specs/good.yaml", "--jobs", "-1"), 2),
        (("specs/good.yaml", "--jobs", "many"), 2),
        (("specs/good.yaml", "--write-baseline"), 2),
        (("specs/good.yaml", "--watch", "--fix"), 2),
        (("specs/good.yaml", "--baseline", "none.json"), 3),
        (("specs/good.yaml", "-f", "xml"), 2),
        (("specs/good.yaml", "-o", "x.docx"), 2),
        (("specs/good.yaml", "-o", "no/x.sarif"), 3),
    ],
)
@pytest.mark.usefixtures("here")
def test_exit_codes(arguments, code):
    answer = ask("check", *arguments)
    assert answer.code == code, answer.err
    assert code != 2 or answer.err.count("\n") == 1


def test_warnings_fail_only_where_that_is_asked(here):
    put(here, "w.yaml", WARNED)
    answer = ask("check", "w.yaml", "-f", "json")
    assert (answer.code, ("w.yaml", "AC110") in rules(answer)) == (0, True)
    assert "w.yaml:4:13: vocab_size: " in answer.err
    assert ask("check", "w.yaml", "--strict").code == 1
    assert ask("check", "w.yaml", "--strict", "--ignore", "AC11").code == 0
    assert ask("check", "w.yaml", "--strict", "--select", "AC101").code == 0
    put(here, "archcalc.yaml", "schema: 0\nlint: {fail_on: warning, ignore: [AC111, AC112, AC113, AC114]}\n")
    assert ask("check", "w.yaml").code == 1
    put(here, "w.yaml", f'{WARNED}allow: [{{rule: AC110, why: "a test"}}]\n')
    answer = ask("check", "w.yaml", "-f", "json")
    assert answer.code == 0
    assert answer.json["files"][0]["excused"][0]["why"] == "a test"


def test_a_spec_cannot_excuse_a_budget(here):
    put(here, "archcalc.yaml", "schema: 0\nbudgets: [{that: parameters.stored, most: 1}]\n")
    put(here, "x.yaml", GOOD + 'allow: [{rule: AC002, why: "please"}]\n')
    assert ("x.yaml", "AC002") in rules(ask("check", "x.yaml", "-f", "json"))


def test_paths_come_from_the_configuration_and_every_budget_must_be_for_something(here):
    budget = "{that: parameters.stored, most: 1B, specs: [%s]}"
    put(here, "archcalc.yaml", f"schema: 0\nspecs: [specs]\nbudgets: [{budget % 'specs/g*.yaml'}]\n")
    answer = ask("check", "-f", "json")
    assert (answer.code, [one["file"] for one in answer.json["files"]]) == (0, ["specs/good.yaml"])
    put(here, "archcalc.yaml", f"schema: 0\nspecs: [specs]\nbudgets: [{budget % 'spec/good.yaml'}]\n")
    answer = ask("check")
    assert answer.code == 1
    assert "archcalc.yaml:3:11: budgets.0: is for no spec that was checked; got 'spec/good.yaml' [AC003]" in answer.err
    assert ask("check", "specs/good.yaml").code == 0, "of some files alone it need not be"


def test_a_baseline_is_written_and_then_obeyed(here):
    put(here, "x.yaml", GOOD + FIGURE)
    put(here, "archcalc.yaml", "schema: 0\nspecs: [x.yaml]\nbaseline: known.json\nlint: {select: [AC101]}\n")
    assert ask("check").code == 3, "a baseline that is named must be there"
    answer = ask("check", "--write-baseline")
    assert (answer.code, answer.err.splitlines()) == (0, ["wrote known.json", "1 problem known from now on"])
    assert ask("check").code == 0
    assert ask("check", "-f", "json").json["files"][0]["excused"][0]["where"] == "in the baseline"
    put(here, "x.yaml", GOOD)
    assert "known.json: 1 known problem no longer occurs; --write-baseline removes it\n" in ask("check").err


def test_a_baseline_of_some_files_keeps_what_is_known_of_others(here):
    for name in ("x.yaml", "y.yaml"):
        put(here, name, GOOD + FIGURE)
    flags = ("--baseline", "known.json", "--write-baseline", "--select", "AC101")
    assert "2 problems known" in ask("check", "x.yaml", "y.yaml", *flags).err
    put(here, "x.yaml", GOOD)
    assert "1 problem known" in ask("check", "x.yaml", *flags).err
    known = json.loads((here / "known.json").read_text())["problems"]
    assert [one["file"] for one in known] == ["y.yaml"]


@pytest.mark.parametrize("flag", ["--fix", "--strict", "--watch", "--config x", "--select AC1", "--jobs 2"])
@pytest.mark.usefixtures("here")
def test_flags_that_weights_have_no_use_for_are_refused(flag):
    answer = ask("check", "gpt2", "--weights", "none.safetensors", *flag.split())
    assert answer == (2, "", f"{flag.split()[0]}: cannot be combined with --weights\n")


def test_fix_changes_what_is_safe_and_nothing_else(here):
    put(here, "x.yaml", f"# first\r\n{GOOD}{UNUSED}".replace("\n", "\r\n").replace("\r\r", "\r"))
    before = (here / "x.yaml").read_bytes()
    assert ("x.yaml", "AC102") in rules(ask("check", "x.yaml", "-f", "json"))
    assert (here / "x.yaml").read_bytes() == before
    answer = ask("check", "x.yaml", "--fix", "-f", "json")
    assert ("x.yaml", "AC102") not in rules(answer)
    assert "x.yaml: 1 fix applied\n" in answer.err
    after = (here / "x.yaml").read_bytes()
    assert b"allow" not in after
    assert after == before[: before.index(b"allow")]
    assert "applied" not in ask("check", "x.yaml", "--fix").err


def test_fix_leaves_the_catalogue_and_what_shares_its_names(here):
    put(here, "gpt2", GOOD + UNUSED)
    assert ask("check", "gpt2", "--fix").code == 0
    assert (here / "gpt2").read_text() == GOOD + UNUSED


def test_several_processes_find_the_same_in_the_same_order(here):
    texts = [GOOD, BROKEN, WARNED, GOOD + FIGURE]
    for i in range(FEW + 20):
        put(here, f"specs/{i:03}.yaml", texts[i % 4])
    one, two = (ask("check", "specs", "-f", "json", "--jobs", jobs) for jobs in ("1", "2"))
    assert one == two
    assert one.code == 1
    assert [file["file"] for file in one.json["files"]] == sorted(file["file"] for file in one.json["files"])


@pytest.mark.parametrize(
    ("file", "begins"),
    [("x.sarif", '{"$schema"'), ("x.xml", "<?xml"), ("x.json", '{"schema"'), ("x.csv", "spec,"), ("x.md", "good")],
)
def test_a_suffix_means_a_format(here, file, begins):
    assert ask("check", "specs", "-o", file).code == 0
    assert (here / file).read_text().replace("\n", "").replace(" ", "").replace("#", "").startswith(begins)


def document(stream):
    """The next JSON of a stream, which ends with a brace at the margin."""
    return json.loads("".join([*iter(stream.readline, "}\n"), "}"]))


def test_watch_checks_what_is_saved(here):
    watching = subprocess.Popen(
        [
            sys.executable,
            "-c",
            # What runs the tests in the background may have Ctrl-C ignored.
            "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
            "from archcalc.cli import main; main()",
            "check",
            "specs",
            "--watch",
            "-f",
            "json",
            "--select",
            "AC101",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=here,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    try:
        assert document(watching.stdout)["passed"] is True
        assert watching.stderr.readline() == "watching; Ctrl-C ends it\n"
        time.sleep(0.1)
        put(here, "specs/good.yaml", BROKEN)
        assert "d_model: must be an integer" in watching.stderr.readline()
        assert document(watching.stdout)["passed"] is False
    finally:
        watching.send_signal(2)
        watching.communicate(timeout=10)
    assert watching.returncode == 130


def test_what_is_named_may_be_somebody_else_s_where_that_is_asked(here):
    put(here, "compose.yaml", "services: {}\n")
    put(here, "notes.md", "no spec\n")
    put(here, "pyproject.toml", "[project]\nname = 'x'\n")
    put(here, "old.yaml", BROKEN)
    put(here, "archcalc.yaml", "exclude: [old.yaml]\n")
    names = ("compose.yaml", "notes.md", "pyproject.toml", "old.yaml", "specs/good.yaml")
    assert [one["file"] for one in ask("check", *names, "-f", "json").json["files"] if not one["passed"]] == [
        *("compose.yaml", "notes.md", "pyproject.toml", "old.yaml")
    ]
    answer = ask("check", "--skip-unknown", *names, "-f", "json")
    assert (answer.code, [one["file"] for one in answer.json["files"]]) == (0, ["specs/good.yaml"])
    assert ask("check", "--skip-unknown", "compose.yaml").out == "0 files: nothing to check\n"
    put(here, "specs/good.yaml", BROKEN)
    assert ask("check", "--skip-unknown", *names).code == 1
    assert ask("check", "--skip-unknown", "none.yaml").code == 3


READ = """\
specs: [specs]
lint: {select: [AC101], plans: [plans/two.yaml]}
budgets:
  - {that: parameters.stored, most: 2x old.yaml}
  - {that: memory.total, fits: card.yaml, when: {for: inference}}
"""
CARD = """\
schema: 0
name: card
title: "a card of this test"
capacity: {label: "80 GB"}
dense_peak: {bf16: "100 TFLOP/s"}
bandwidth: "1 TB/s"
power: "300 W"
sources: {capacity: this test, dense_peak: this test, bandwidth: this test, power: this test}
"""


@pytest.mark.parametrize("changed", ["archcalc.yaml", "./archcalc.yaml", "old.yaml", "plans/two.yaml", "card.yaml"])
def test_all_specs_are_checked_where_what_they_are_held_against_has_changed(here, changed):
    (here / "plans").mkdir()
    put(here, "plans/two.yaml", "schema: 0\nname: two\nsource: this test\ntp: 2\n")
    put(here, "card.yaml", CARD)
    put(here, "old.yaml", GOOD)
    put(here, "archcalc.yaml", READ)
    put(here, "specs/other.yaml", GOOD)
    answer = ask("check", "--skip-unknown", changed, "-f", "json")
    files = [one["file"] for one in answer.json["files"]]
    assert (answer.code, files) == (0, [changed, "specs/good.yaml", "specs/other.yaml"]), answer.err
    put(here, "archcalc.yaml", READ.replace("2x", "0.5x"))
    assert ask("check", "--skip-unknown", changed).code == 1
    assert ask("check", "--skip-unknown", "plans/none.yaml").code == 3
    assert ask("check", "--skip-unknown", "specs/other.yaml", "-f", "json").json["files"][1:] == []


def test_one_run_writes_several_formats(here):
    put(here, "specs/broken.yaml", BROKEN)
    answer = ask("check", "specs", "-f", "github", "-o", "code-scanning:a b.sarif", "-o", "summary:s.txt")
    assert answer.code == 1
    assert answer.out.startswith("::error file=specs/broken.yaml,line=6,")
    assert json.loads((here / "a b.sarif").read_text())["version"] == "2.1.0"
    assert (here / "s.txt").read_text().startswith("### 2 specs: 1 not valid")
    answer = ask("check", "specs", "-o", "a.xml", "-o", "a.json", "-o", "gitlab:q.json")
    assert (answer.code, answer.out) == (1, "")
    assert (here / "a.xml").read_text().startswith("<?xml")
    assert json.loads((here / "a.json").read_text())["passed"] is False
    assert json.loads((here / "q.json").read_text())[0]["location"]["path"] == "specs/broken.yaml"
    assert ask("check", "specs", "-o", "json:-", "-o", "junit:b.xml").json["passed"] is False
    (here / "json:x.csv").touch()
    ask("check", "specs", "-o", "./json:x.csv")
    assert (here / "json:x.csv").read_text().startswith("spec,")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("-f", "json", "-o", "a", "-o", "b"), "--format: cannot be combined with several files; got 'json'; "),
        (("-o", "junit:"), "--output: is empty; got ''"),
        (("-o", "a.doc"), "--output: has no suffix of .txt, .md, .json, .csv, .sarif, .xml; got "),
        (("-o", "xml:a.json"), "--output: has an unknown format; got 'xml'; a file of this name is ./xml:a.json"),
        (("-o", "sarif:a.x", "-o", "junit:./a.x"), "--output: is written twice; got 'a.x'; name another file"),
        (("--weights", "x.gguf", "-o", "a.md", "-o", "b.md"), "--output: of a comparison with weights is one file"),
    ],
)
@pytest.mark.usefixtures("here")
def test_files_that_cannot_be_written_together_are_refused(arguments, line):
    answer = ask("check", "specs/good.yaml", *arguments)
    assert (answer.code, answer.err.count("\n")) == (2, 1)
    assert answer.err.startswith(line)


def test_no_file_that_is_read_is_written(here):
    before = (here / "specs" / "good.yaml").read_text()
    answer = ask("check", "specs/good.yaml", "-o", "sarif:specs/good.yaml")
    assert (answer.code, answer.err) == (2, "--output: is a file that is checked; got 'specs/good.yaml'\n")
    assert ask("check", "specs/good.yaml", "--baseline", "specs/good.yaml", "--write-baseline").code == 2
    assert (here / "specs" / "good.yaml").read_text() == before
    assert ask("check", "specs/good.yaml", "-o", "sarfi:x").err.endswith("did you mean 'sarif'?\n")


def test_a_damaged_configuration_is_nobody_s_pass(here):
    put(here, "pyproject.toml", "[tool.archcalc]\nbudgets = [{that = 'parameters.stored', most = 1}\n")
    answer = ask("check", "specs/good.yaml")
    assert (answer.code, "pyproject.toml: is not TOML" in answer.err) == (2, True)
    put(here, "pyproject.toml", "")
    put(here, "archcalc.yaml", "lint: {devices: [nope]}\n")
    answer = ask("check", "specs/good.yaml")
    assert (answer.code, answer.out) == (2, "")


def test_a_rule_that_is_selected_is_not_ignored_by_the_configuration(here):
    put(here, "w.yaml", WARNED)
    put(here, "archcalc.yaml", "lint: {ignore: [AC110]}\n")
    assert ask("check", "w.yaml", "--select", "AC110", "--strict").code == 1


def test_a_file_that_cannot_be_mended_keeps_no_other_from_it(here):
    for name in ("a.yaml", "b.yaml"):
        put(here, name, GOOD + UNUSED)
    (here / "a.yaml").chmod(0o444)
    answer = ask("check", "a.yaml", "b.yaml", "./b.yaml", "--fix")
    assert "a.yaml: cannot be written: it is read-only" in answer.err
    assert "b.yaml: 1 fix applied" in answer.err
    assert "AC151" not in (here / "b.yaml").read_text()


def test_a_name_that_a_folder_has_too_is_told_whose_spec_it_is(here):
    (here / "gpt2").mkdir()
    (here / "gpt2" / "spec.yaml").write_text(GOOD)
    assert ask("check", "gpt2").err == "gpt2: is the spec of the catalogue; the folder is ./gpt2\n"
    assert "catalogue" not in ask("check", "./gpt2").err
