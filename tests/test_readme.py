"""The README's blocks are real: each command prints what stands below it, each program runs."""

import re
import shlex
from pathlib import Path

import pytest
from command import ask

ROOT = Path(__file__).parent.parent
BLOCKS = [
    (path.name, number, kind, body)
    for path in sorted(ROOT.glob("*.md"))
    for number, (kind, body) in enumerate(
        re.findall(r"^```(\w+)\n(.*?)^```$", path.read_text(), re.MULTILINE | re.DOTALL)
    )
]
CONSOLE = [(f"{name} {number}", body) for name, number, kind, body in BLOCKS if kind == "console"]
PYTHON = [(f"{name} {number}", body) for name, number, kind, body in BLOCKS if kind == "python"]


def test_there_are_blocks_of_both_kinds_and_no_others():
    assert len(CONSOLE) >= 5
    assert len(PYTHON) >= 3
    assert {kind for _, _, kind, _ in BLOCKS} == {"console", "python"}


@pytest.mark.parametrize("body", [body for _, body in CONSOLE], ids=[name for name, _ in CONSOLE])
def test_a_command_prints_what_the_readme_shows(body):
    line, _, shown = body.partition("\n")
    assert line.startswith("$ ")
    if line == "$ make report":
        makefile = (ROOT / "Makefile").read_text()
        command = re.search(r"^report:.*\n\t@\$\(BIN\)/(.*)$", makefile, re.MULTILINE)
        line = f"$ {command[1]}"
    program, *arguments = shlex.split(line.removeprefix("$ "))
    assert program == "archcalc"
    answer = ask(*arguments)
    if shown:
        assert answer.out + answer.err == shown
    else:
        assert answer.code == 0


@pytest.mark.parametrize("body", [body for _, body in PYTHON], ids=[name for name, _ in PYTHON])
def test_a_program_of_the_readme_runs(body):
    if "archcalc_reference" in body:
        pytest.importorskip("torch")
    names = {}
    exec(compile(body, "README.md", "exec"), names)  # noqa: S102  (our own README)
    for name, value in list(names.items()):
        if name.startswith("test_"):
            value()


def test_the_first_screen_says_what_it_is_and_what_it_is_not():
    lines = (ROOT / "README.md").read_text().splitlines()
    first = lines[: lines.index("## Two commands")]
    assert len(first) <= 48
    assert any(line.startswith("$ make report") for line in first)
    assert any(line.startswith("It is not") for line in first)


def test_commands_that_are_named_exist():
    helped = ask("--help").out
    text = "".join(path.read_text() for path in ROOT.glob("*.md"))
    for command in set(re.findall(r"archcalc (\w+)\b(?= |`)", text)) - {"counts", "is"}:
        if re.search(rf"`archcalc {command}", text):
            assert f" {command} " in helped, command
