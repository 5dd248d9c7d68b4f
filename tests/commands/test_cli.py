"""The command line as a person or a pipe meets it."""

import csv
import io
import json
import os
import subprocess
import sys

import pytest
from command import ask, spawn

import archcalc

COMMANDS = ["report", "params", "trace", "check", "verify", "list", "schema"]


def test_help_names_every_command_and_its_panel():
    out = ask("--help").out
    assert all(f" {command} " in out for command in COMMANDS)
    assert all(f"\n{panel}:\n" in out for panel in ("Count", "Choose", "Trust", "Run", "Files"))
    assert ask().out == out


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command):
    short, long = ask(command, "-h"), ask(command, "--help")
    assert short == long
    assert short.code == 0
    assert "Usage: archcalc " + command in short.out


def test_version():
    assert ask("--version").out == f"archcalc {archcalc.__version__}\n"


@pytest.mark.parametrize("command", ["report", "params", "trace"])
def test_formats_tell_the_same_figures(command):
    table, markdown = ask(command, "gpt3-175b"), ask(command, "gpt3-175b", "-f", "markdown")
    assert all("175,181,291,520" in answer.out for answer in (table, markdown))
    assert markdown.out.startswith("## gpt3-175b: ")
    assert "| " in markdown.out
    rows = list(csv.DictReader(io.StringIO(ask(command, "gpt3-175b", "-f", "csv").out)))
    assert rows[-1]["running_total"] == "175181291520"
    payload = ask(command, "gpt3-175b", "-f", "json").json
    assert (payload["schema"], payload["spec"], payload["parameters"]["tally"]) == (0, "gpt3-175b", 175_181_291_520)
    assert payload["matrices"]["tally"] == 27_938


@pytest.mark.parametrize(
    "command", ["report", "check", "params", "flops", "memory", "trace", "explain gpt3-6.7b flops.forward"]
)
def test_gpt3_says_that_attention_is_counted_dense(command):
    """Once, where a model is looked at as a whole; JSON says so everywhere."""
    command, *arguments = f"{command} gpt3-6.7b".split()[: 3 if command.startswith("explain") else 2]
    out = " ".join(ask(command, *arguments).out.split())
    dense = "attention is counted dense in every layer; the paper alternates dense and locally banded sparse layers"
    assert (dense in out) == (command in ("report", "check"))
    assert any("dense" in line for line in ask(command, *arguments, "-f", "json").json["assumptions"])


@pytest.mark.parametrize(
    ("name", "printed", "used"), [("gpt3-xl", "n_heads 24", "16"), ("gpt3-13b", "d_model 5140", "5120")]
)
def test_misprints_are_warnings(name, printed, used):
    (warning,) = ask("params", name, "-f", "json").json["warnings"]
    assert warning.startswith(f"Table 2.1 prints {printed}; {used} is used: ")
    assert f"Table 2.1 prints {printed}" in ask("report", name).out
    assert ask("params", "gpt3-175b", "-f", "json").json["warnings"] == []


def test_the_json_of_params_is_the_contract():
    payload = ask("params", "gpt3-175b", "-f", "json").json
    modules = {"mtp", "mtp_active"}  # null, since it has none
    assert set(payload["parameters"]) - modules == {"stored", "active", "active_inner", "non_embedding", "tally"}
    assert set(payload["tally"]["categories"][0]) >= {"category", "rows", "columns", "matrices", "parameters"}
    assert {"conventions", "warnings"} <= set(payload)

    def numbers(value):
        if isinstance(value, dict):
            return [n for inner in value.values() for n in numbers(inner)]
        if isinstance(value, list):
            return [n for inner in value for n in numbers(inner)]
        return [value] if isinstance(value, (int, float)) else []

    assert all(isinstance(n, int) for n in numbers(payload))


def test_list_shows_the_catalogue_family_by_family():
    answer = ask("list", "-f", "json").json
    listed = [row["name"] for row in answer["specs"]]
    assert sorted(listed) == list(archcalc.spec.catalogue.names())
    begin = listed.index("gpt1")
    assert listed[begin : begin + 13] == [
        "gpt1",
        *("gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl"),
        *("gpt3-small", "gpt3-medium", "gpt3-large", "gpt3-xl", "gpt3-2.7b", "gpt3-6.7b", "gpt3-13b", "gpt3-175b"),
    ]
    assert "174,604,259,328" in ask("list").out


@pytest.mark.parametrize("suffix", ["txt", "md", "json", "csv"])
def test_a_file_s_suffix_is_its_format(suffix, tmp_path):
    path = tmp_path / f"out.{suffix}"
    answer = ask("params", "gpt2", "-o", str(path))
    form = {"txt": "table", "md": "markdown"}.get(suffix, suffix)
    assert (answer.code, answer.out, answer.err) == (0, "", f"wrote {path}\n")
    assert path.read_text() == ask("params", "gpt2", "-f", form).out
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_a_format_asked_for_beats_the_suffix(tmp_path):
    path = tmp_path / "out.txt"
    assert ask("params", "gpt2", "-o", str(path), "-f", "json").code == 0
    assert json.loads(path.read_text())["spec"] == "gpt2"


def test_what_cannot_be_written_leaves_what_was_there(tmp_path):
    path = tmp_path / "out.json"
    path.write_text("before")
    assert ask("params", "gpt4", "-o", str(path)).code == 2
    assert path.read_text() == "before"
    gone = ask("params", "gpt2", "-o", str(tmp_path / "no" / "out.json"))
    assert (gone.code, gone.err) == (
        3,
        f"{tmp_path}/no/out.json: cannot be written: its parent directory does not exist\n",
    )
    folder = tmp_path / "folder.json"
    folder.mkdir()
    assert ask("params", "gpt2", "-o", str(folder)).err == f"{folder}: cannot be written: Is a directory\n"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["folder.json", "out.json"]


def test_a_failing_disk_leaves_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "out.json"
    path.write_text("before")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    answer = ask("params", "gpt2", "-o", str(path))
    assert (answer.code, answer.err) == (2, f"{path}: cannot be written: No space left on device\n")
    assert path.read_text() == "before"
    assert [p.name for p in tmp_path.iterdir()] == ["out.json"]


def test_a_link_is_followed_a_mode_kept_and_a_pipe_left_a_pipe(tmp_path):
    target, link, fifo = tmp_path / "target.json", tmp_path / "link.json", tmp_path / "fifo"
    target.write_text("before")
    target.chmod(0o600)
    link.symlink_to(target)
    assert ask("params", "gpt2", "-o", str(link)).code == 0
    assert link.is_symlink()
    assert json.loads(target.read_text())["spec"] == "gpt2"
    assert target.stat().st_mode & 0o777 == 0o600
    os.mkfifo(fifo)
    reader = subprocess.Popen(["cat", str(fifo)], stdout=subprocess.PIPE, text=True)
    assert ask("params", "gpt2", "-f", "csv", "-o", str(fifo)).code == 0
    assert reader.communicate(timeout=30)[0].startswith("category,rows")
    assert fifo.is_fifo()
    assert ask("params", "gpt2", "-f", "csv", "-o", "/dev/null").code == 0
    assert not os.path.isfile("/dev/null")


def test_a_dash_is_standard_output_and_nothing_is_no_file():
    assert ask("params", "gpt2", "-o", "-").out == ask("params", "gpt2").out
    empty = ask("params", "gpt2", "-o", "", "-f", "json")
    assert (empty.code, empty.err) == (2, "--output: is empty; got ''\n")


def shell(line):
    """A line of bash in which `archcalc` is ours."""
    ours = f"archcalc() {{ {sys.executable} -c 'from archcalc.cli import main; main()' \"$@\"; }}; {line}"
    return subprocess.run(["bash", "-c", ours], capture_output=True, text=True, check=False)


def test_standard_output_that_cannot_be_written_is_one_line():
    full = shell("archcalc params gpt2 > /dev/full")
    assert (full.returncode, full.stderr) == (2, "standard output: cannot be written: No space left on device\n")
    closed = shell("archcalc params gpt2 >&-")
    assert (closed.returncode, closed.stderr) == (2, "standard output: is closed\n")
    assert shell("archcalc --help > /dev/full").stderr == full.stderr


@pytest.mark.prove
def test_no_help_that_cannot_be_written_is_taken_for_written():
    for arguments in ("--version", "--help", "", "flops -h"):
        unwritten = shell(f"archcalc {arguments} > /dev/full")
        said = "standard output: cannot be written: No space left on device\n"
        assert (unwritten.returncode, unwritten.stderr) == (2, said), arguments


def test_an_output_of_few_characters_does_not_get_in_the_way_of_an_empty_input():
    narrow = shell("PYTHONIOENCODING=ascii archcalc params -")
    assert narrow.returncode == 2  # an empty standard input, told as such
    assert narrow.stderr.startswith("<stdin>: is empty")


def test_a_terminal_of_few_characters_gets_the_figures(tmp_path):
    path = tmp_path / "s.yaml"
    path.write_text(
        archcalc.dump(archcalc.load("tiny").model_copy(update={"source": "Été \x1b[31m 变形"})), encoding="utf-8"
    )
    answer = spawn("report", str(path), env={"PYTHONIOENCODING": "ascii"})
    assert answer.code == 0
    assert "1,032,576" in answer.out
    assert "\x1b" not in answer.out


def test_words_never_go_among_the_data_and_a_closed_standard_input_is_told():
    deaf = shell("archcalc params gpt4 2>&-")
    assert (deaf.returncode, deaf.stdout) == (2, "")
    assert shell("archcalc params gpt4 2>/dev/full").returncode == 2
    blind = shell("archcalc params - <&-")
    assert (blind.returncode, blind.stderr) == (3, "<stdin>: is closed\n")


def test_verify_reads_every_spec_before_it_proves_one():
    answer = ask("verify", "gpt2", "gpt4")
    assert (answer.code, answer.out) == (2, "")


def test_standard_input_can_be_asked_about():
    spec = archcalc.dump(archcalc.load("tiny")).encode()
    assert ask("params", "-@n_layers=2", stdin=spec).out.startswith("tiny@n_layers=2: ")


def test_a_closed_pipe_is_no_error():
    command = f"{sys.executable} -c 'from archcalc.cli import main; main()' params gpt3-175b --by tensor"
    done = subprocess.run(
        ["bash", "-c", f"{command} -f json | head -1; echo ${{PIPESTATUS[0]}}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert (done.stdout, done.stderr) == ("{\n0\n", "")


def test_an_interrupt_is_130(monkeypatch):
    def interrupted(_):
        raise KeyboardInterrupt

    monkeypatch.setattr("archcalc.commands.headers.find", interrupted)
    assert ask("params", "gpt2").code == 130


def test_output_that_is_piped_has_no_escapes():
    assert "\x1b" not in spawn("report", "gpt2", env={"TERM": "xterm-256color"}).out


def test_a_terminal_gets_bold_titles_unless_asked_not_to():
    from archcalc.report.overview import report_sheet
    from archcalc.report.render import render
    from archcalc.spec.catalogue import find

    sheet = report_sheet(find("gpt2"))
    styled = render(sheet, "table", style=True)
    assert styled.startswith("\x1b[1mgpt2: ")
    assert styled.replace("\x1b[1m", "").replace("\x1b[0m", "") == render(sheet, "table")


def test_check_passes_for_the_catalogue():
    answer = ask("check")
    assert answer.code == 0
    assert answer.out.startswith(f"{len(archcalc.spec.catalogue.names())} specs: ")
    payload = ask("check", "-f", "json").json
    assert payload["passed"] is True
    assert {check["spec"] for check in payload["checks"]} == set(archcalc.spec.catalogue.names()) - {"tiny"}


def test_the_json_of_check_is_the_contract():
    payload = ask("check", "gpt3-175b", "-f", "json").json
    assert (payload["schema"], payload["spec"], payload["passed"]) == (0, "gpt3-175b", True)
    table = next(c for c in payload["checks"] if "Table D.1" in c["source"])
    assert table == {
        "what": "parameters 174,600M",
        "counted": 174_604_259_328,
        "measured": 174_600_000_000,
        "equal": True,
        "reason": "holds to 4 digits",
        "source": "Brown et al. 2020, Table D.1",
        "required": True,
        "spec": "gpt3-175b",
    }
    nominal = next(c for c in payload["checks"] if "Table 2.1" in c["source"])
    assert (nominal["equal"], nominal["required"]) == (False, False)
    assert nominal["reason"] == "nominal, counted -0.23% (-395,740,672)"


@pytest.mark.parametrize("name", ["gpt2", "gpt2-xl", "gpt3-xl", "gpt3-175b"])
def test_check_finds_a_d_ff_that_is_off_by_one(name, tmp_path):
    model = archcalc.load(name)
    text = archcalc.dump(model)
    d_ff = model.layers[0].mlp.d_ff
    path = tmp_path / "off.yaml"
    path.write_text(text.replace(f"d_ff: {d_ff}", f"d_ff: {d_ff + 1}"))
    answer = ask("check", str(path), "-f", "json")
    assert answer.code == 1
    assert answer.json["passed"] is False
    assert "does not hold" in answer.err
    failed = [check for check in answer.json["checks"] if check["required"] and not check["equal"]]
    off = model.n_layers * (2 * model.d_model + 1)  # a column up, a row down and a bias in each layer
    assert all(f"(+{off:,})" in check["reason"] for check in failed if check["what"].startswith("parameters"))
    assert "DO NOT HOLD" in ask("check", str(path)).out


def test_a_spec_without_printed_figures_is_a_spec():
    assert ask("check", "tiny").out == "tiny: valid, with no published figures to compare with\n"


@pytest.mark.parametrize("content", ["schema: 0\n", "", "- a\n", "a: [\n"], ids=["fields", "empty", "list", "no YAML"])
def test_what_is_wrong_with_a_spec_is_told_once_and_is_no_comparison(content, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.yaml").write_text(content)
    alone, beside = ask("check", "bad.yaml"), ask("check", "bad.yaml", "gpt2", "tiny")
    assert (alone.code, alone.out) == (1, "bad.yaml: not a valid spec\n")
    assert alone.err == beside.err
    assert len(set(alone.err.splitlines())) == len(alone.err.splitlines())
    assert beside.out.splitlines()[0] == "3 specs: 1 not valid; 2 comparisons held; 1 nominal figure shown; 1 excused"
    assert "bad.yaml" not in beside.out


def test_check_tells_misprints():
    """Brown et al. 2020, Table 2.1: GPT-3 XL has 24 heads of 128, which is not its width."""
    line = "Table 2.1 prints n_heads 24; 16 is used"
    assert line in ask("check", "gpt3-xl").out
    assert ask("check", "gpt3-xl", "-f", "json").json["warnings"][0].startswith(line)
    assert f"gpt3-xl: {line}" in " ".join(ask("check", "gpt3-xl", "gpt3-13b").out.split())
    assert line not in ask("check", "gpt3-xl@n_heads=8").out, "there it is no matter"
    assert "Warning" not in ask("check", "gpt3-175b").out


def test_check_tells_all_it_finds_in_several_files(tmp_path):
    (tmp_path / "bad.yaml").write_text("schema: 0\n")
    (tmp_path / "empty.yaml").write_text("")
    paths = [str(tmp_path / "bad.yaml"), str(tmp_path / "empty.yaml"), "gpt2", "gpt2@n_heads=0"]
    answer = ask("check", *paths, "-f", "json")
    assert (answer.code, answer.json["passed"], answer.json["spec"]) == (1, False, None)
    assert ask("check", *paths, "gpt4").code == 2
    assert ask("check", *paths, "gpt4", "nope.yaml").code == 3
    (tmp_path / "nothing").mkdir()
    assert ask("check", str(tmp_path / "nothing")).code == 3
    assert {check["spec"] for check in answer.json["checks"]} == set(paths)
    assert f"{tmp_path}/empty.yaml: is empty" in answer.err
    assert f"{tmp_path}/bad.yaml:1:1: name: is missing" in answer.err


def test_an_installation_without_its_catalogue_is_told(monkeypatch, tmp_path):
    monkeypatch.setattr("archcalc.spec.catalogue.specs_folder", lambda: str(tmp_path))
    archcalc.spec.catalogue.names.cache_clear()
    answer = ask("list")
    monkeypatch.undo()
    archcalc.spec.catalogue.names.cache_clear()
    assert (answer.code, answer.err) == (3, f"{tmp_path}/models: cannot be read: No such file or directory\n")
