"""Every way out of every command: what standard output and standard error may be, and how that ends."""

import io
import json
import subprocess
import sys

import pytest

from archcalc.report.live import Console
from archcalc.report.output import one_way_out

COMMANDS = [
    ["--version"], ["--help"], [], ["list", "devices"], ["schema"], ["schema", "--of", "device"],
    ["report", "tiny"], ["params", "tiny", "--by", "tensor", "-f", "json"], ["flops", "tiny", "-f", "markdown"],
    ["memory", "tiny"], ["traffic", "tiny", "--tp", "2"], ["plan", "--tp", "2"], ["explain", "tiny"], ["explain", "tiny", "parameters.stored", "-f", "latex"],
    ["diff", "tiny", "tiny@n_layers=2"], ["sweep", "tiny", "--vary", "batch=1..2000", "-f", "csv"], ["check", "tiny"],
    ["trace", "tiny"], ["softmax", "1", "2"],
    *([command, "--help"] for command in (
        "report", "params", "flops", "memory", "explain", "diff", "sweep", "check", "verify", "trace", "generate",
        "predict", "chat", "train", "softmax", "embed", "tokens", "list", "schema", "import", "export",
    )),
]  # fmt: skip
"""What needs no weights, and the help of every command; of one spec, since all of them take seconds and go out alike."""

# In one process: Python's start takes longer than a command. `sys.stdout` is made anew as Python makes it.
CHILD = """
import contextlib, io, json, os, sys
from archcalc.cli import _main

saved, told = os.dup(1), []
def stdout(encoding, errors="strict"):
    return open(1, "w", encoding=encoding, errors=errors, closefd=False)

for command in json.loads(sys.argv[1]):
    row = {}
    for way in ("ascii", "gone") if command[1:] == ["--help"] else ("utf-8", "ascii", "latin-1", "closed", "full", "gone"):
        err = io.StringIO()
        where = os.open(os.devnull, os.O_WRONLY)
        if way == "full":
            where = os.open("/dev/full", os.O_WRONLY)
        if way == "gone":
            read, where = os.pipe()
            os.close(read)
        os.dup2(where, 1)
        sys.stdout = None if way == "closed" else stdout(way if way in ("ascii", "latin-1") else "utf-8")
        with contextlib.redirect_stderr(err):
            code = _main(command)
        if sys.stdout is not None:
            sys.stdout.close()  # what Python does when it leaves
        row[way] = [code, err.getvalue()]
    told.append(row)
os.dup2(saved, 1)
sys.stdout = stdout("utf-8")
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def ways():
    done = subprocess.run(
        [sys.executable, "-c", CHILD, json.dumps(COMMANDS)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return json.loads(done.stdout)


EXPECTED = {
    "utf-8": [0, ""],
    "ascii": [0, ""],
    "latin-1": [0, ""],
    "gone": [0, ""],
    "closed": [2, "standard output: is closed\n"],
    "full": [2, "standard output: cannot be written: No space left on device\n"],
}


@pytest.mark.parametrize("at", range(len(COMMANDS)), ids=[" ".join(command) or "nothing" for command in COMMANDS])
def test_every_command_ends_as_it_should_whatever_standard_output_is(ways, at):
    assert ways[at] == {way: EXPECTED[way] for way in ways[at]}


def test_every_command_is_tried():
    from archcalc.cli import _HOMES

    known = {command for commands in _HOMES.values() for command in commands}
    assert known <= {command[0] for command in COMMANDS if command}


def test_a_reader_that_leaves_early_in_a_shell():
    """Real processes and pipes; the schema and the tensors are longer than a pipe's buffer or come in several writes."""
    ours = f"{sys.executable} -c 'from archcalc.cli import main; main()'"
    lines = "; ".join(
        f"{ours} {command} | head -c1 >/dev/null; echo ${{PIPESTATUS[0]}}"
        for command in ("--help", "sweep tiny --vary batch=1..20000 -f json")
    )
    lines += f"; {ours} params gpt4 <&- >&- 2>&-; echo $?; {ours} params tiny 2>&- | tail -1 >/dev/null; echo $?"
    done = subprocess.run(["bash", "-c", lines], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("0\n0\n2\n0\n", "")


def test_a_file_is_not_opened_where_standard_error_was(tmp_path):
    """What a library prints into standard error would otherwise go into the file that took its place."""
    path = tmp_path / "out.csv"
    code = f"""
import os, sys
os.close(2); os.close(1)
sys.stdout = sys.stderr = None
from archcalc import cli
from archcalc.files import writing
real = writing.os.replace
def replace(*paths):
    os.write(2, b"warning of a library")
    real(*paths)
writing.os.replace = replace
sys.argv = ["archcalc", "list", "-f", "csv", "-o", {str(path)!r}]
cli.main()
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert "warning" not in path.read_text()


class Session:
    """A model that draws the bytes of its texts one after the other, as the live view and the stream ask it."""

    ends = ()

    def token(self, number):
        class Token:
            bytes = bytes([number])

        return Token


class Step:
    def __init__(self, byte):
        self.tokens_N = [byte]


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_a_text_streams_into_any_encoding(encoding, monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(raw, encoding=encoding))
    with one_way_out():
        console = Console(Session(), "é模", 1, None, None, "")
        for byte in "█ü\x1b[31m".encode():
            console.take(Step(byte))
        console.close()
    text = raw.getvalue().decode(encoding)
    known = {"ascii": r"\xe9\u6a21#\xfc", "latin-1": r"é\u6a21#ü", "utf-8": "é模█ü"}[encoding]
    assert text == known + "\x1b[31m\n"  # a pipe gets the text as it was drawn


def test_a_terminal_gets_no_escape_that_a_model_drew(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr("sys.stdout", terminal)
    with one_way_out():
        console = Console(Session(), "\x9b2J", 1, None, None, "t\x1b")
        for byte in "\x1b]0;x\x07\u202e\x85\r\n".encode():
            console.take(Step(byte))
        console.close()
    assert all(c.isprintable() or c == "\n" for c in terminal.getvalue())


@pytest.mark.parametrize(
    "error",
    [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory"), OSError(12, "Cannot allocate memory")],
)
def test_memory_that_runs_out_is_no_bug_of_ours(monkeypatch, error):
    from command import ask

    def raised(_):
        raise error

    monkeypatch.setattr("archcalc.commands.headers.find", raised)
    fix = "ask about a smaller shape, or use a machine with more memory"
    assert ask("params", "gpt2") == (3, "", f"archcalc: is out of memory; {fix}\n")


def test_what_is_nested_too_deeply_is_told(monkeypatch):
    from command import ask

    def raised(_):
        raise RecursionError

    monkeypatch.setattr("archcalc.commands.headers.find", raised)
    assert ask("params", "gpt2") == (2, "", "archcalc: the input is nested too deeply\n")
