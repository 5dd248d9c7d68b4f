"""The documents' blocks are real: each command prints what stands below it, each program runs."""

import json
import re

import pytest
from command import ask
from docblocks import FILM, LEARNED, README, ROOT, WALKED, alike, blocks, run, workplace

import archcalc
from archcalc.commands.planning import FLAGS, TAKING
from archcalc.plan.description import Plan
from archcalc.spec.dumping import plain
from archcalc.spec.source import parse
from archcalc.spec.validation import validate

BLOCKS = [
    pytest.param(name, number, block, id=f"{name} {number}")
    for name in README
    for number, block in enumerate(blocks(name))
]


def of_kind(kind):
    return [one for one in BLOCKS if one.values[2].kind == kind]


def test_there_are_blocks_of_all_kinds_and_no_others():
    assert {one.values[2].kind for one in BLOCKS} == {"console", "python", "yaml", "json"}
    assert len(of_kind("console")) >= 5
    assert len(of_kind("python")) >= 3
    assert {block.kind for block in blocks(LEARNED)} == {"console"}


def test_no_document_is_forgotten():
    found = {str(path.relative_to(ROOT)) for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"))}
    assert found == {*README, LEARNED, *FILM, WALKED}


@pytest.mark.parametrize(("name", "number", "block"), of_kind("console"))
def test_a_command_prints_what_the_readme_shows(name, number, block):
    with workplace(blocks(name)[:number]):
        answer = run(block.command)
    if block.shown:
        assert answer.out + answer.err == block.shown
    else:
        assert answer.code == 0


def test_the_commands_of_a_page_run_on_a_model_that_has_learned_little():
    """One after the other: the first block makes the weights of the others."""
    pytest.importorskip("torch")
    pytest.importorskip("safetensors")
    learning, *others = [block.command for block in blocks(LEARNED)]
    assert "--steps 450 " in learning
    with workplace():
        for command in (learning.replace("450", "10"), *(other.replace("00000450", "00000010") for other in others)):
            answer = run(command)
            assert answer.code == 0, answer.err


@pytest.mark.prove
def test_a_model_that_learns_a_page_does_what_its_page_shows():
    pytest.importorskip("torch")
    pytest.importorskip("safetensors")
    with workplace():
        for block in blocks(LEARNED):
            answer = run(block.command)
            assert answer.code == 0, answer.err
            assert alike(block.shown, answer.out) is None, block.command


def test_what_is_not_alike_is_told():
    shown = "Loss       0.3127 in 12 steps\nRate       9 tokens/s\n>  98.49%  ████▌  'k'\n    0.74%  ▎  'v'\n"
    assert alike(shown, shown) is None
    other = "Loss       0.3129 in 12 steps\nRate       7.5 tokens/s\n>  98.12%  ████  'k'\n    0.70%  ▎  'w'\n"
    assert alike(shown, other) is None
    for old, new in (("12 steps", "13 steps"), ("Loss", "Lost"), ("0.3127", "0.4127"), ("98.49", "88.49")):
        assert alike(shown, shown.replace(old, new)) is not None, new
    assert alike(shown, shown + "more\n") == "4 lines became 5"


def cases(test):
    """The arguments of each case of a test: of one without parameters nothing."""
    marks = getattr(test, "pytestmark", [])
    return [case.values for mark in marks for case in mark.args[1]] or [()]


@pytest.mark.parametrize(("name", "number", "block"), of_kind("python"))
def test_a_program_of_the_readme_runs(name, number, block):
    if "archcalc_reference" in block.body:
        pytest.importorskip("torch")
    names = {}
    with workplace(blocks(name)[:number]):
        exec(compile(block.body, "<document>", "exec"), names)  # noqa: S102  (our own documents)
        for made, value in list(names.items()):
            if made.startswith("test_"):
                for case in cases(value):
                    value(*case)


@pytest.mark.parametrize(("name", "number", "block"), of_kind("yaml"))
def test_an_example_of_a_spec_or_of_a_part_of_one_is_valid(name, number, block, tmp_path):  # noqa: ARG001
    """A part takes the place of what `tiny` has there."""
    if block.is_plan:
        assert validate(parse(block.body.encode(), name), Plan).tp
        return
    whole = {} if block.is_spec else plain(archcalc.load("tiny"))
    (tmp_path / "spec.yaml").write_text(json.dumps(whole | parse(block.body.encode(), name).data))
    assert archcalc.params(archcalc.load(tmp_path / "spec.yaml")).stored


def test_the_first_screen_says_what_it_is_and_what_it_is_not():
    lines = (ROOT / "README.md").read_text().splitlines()
    first = lines[: lines.index("## Install and run")]
    assert len(first) <= 64
    order = ("archcalc counts", "$ make report", "**It counts**", "**It does not count yet**", "It is not")
    places = [next(n for n, line in enumerate(first) if line.startswith(start)) for start in order]
    assert places == sorted(places)


SPANS = [
    (name, span)
    for name in (*README, LEARNED, WALKED)
    for span in re.findall(r"`(archcalc [a-z][^`]*)`", (ROOT / name).read_text())
]
PLACEHOLDER = re.compile(r"\b[A-Z]{3,}\b|\bA B\b|\bfirst\b|\[|\.\.\.")
# Whole commands; `verify` takes long and has tests of its own. CONTRIBUTING and CHANGELOG name parts of commands.
RUN = sorted(
    {
        span
        for name, span in SPANS
        if name.startswith(("README", "docs"))
        and name != WALKED
        and " " in span.removeprefix("archcalc ")
        and "verify" not in span
        and ".gguf" not in span  # such a file is large, and has tests of its own
        if not PLACEHOLDER.search(span)
    }
)


@pytest.mark.parametrize("command", RUN)
def test_a_command_in_the_text_runs(command):
    with workplace():
        assert run(command).code == 0


def test_flags_in_the_text_are_those_of_their_command():
    helped = {}
    for name, span in SPANS:
        _, command, *arguments = span.partition(" | ")[0].split()
        if command not in helped:
            helped[command] = ask(command, "--help").out
        text = helped[command]
        assert text, (name, span)
        for flag in arguments:
            planned = command in TAKING and flag[2:].replace("-", "_") in FLAGS  # only `plan -h` tells them
            if flag.startswith("-") and len(flag) > 1 and not planned:
                assert re.search(rf"(^|[ ,]){flag}\b", text, re.MULTILINE), (name, span, flag)


def test_commands_that_are_named_exist():
    helped = ask("--help").out
    text = "".join((ROOT / path).read_text() for path in (*README, LEARNED))
    for command in set(re.findall(r"archcalc (\w+)\b(?= |`)", text)) - {"counts", "is"}:
        if re.search(rf"`archcalc {command}", text):
            assert f" {command} " in helped, command


def test_every_command_has_its_output_in_a_document():
    """But for the two that print what is no sheet of a model, and a proof, which names the machine's versions."""
    from archcalc.cli import _HOMES

    lines = [block.command.rpartition(" | ")[2] for name in (*README, LEARNED) for block in blocks(name)]
    shown = {line.split()[1] for line in lines if len(line.split()) > 1}  # a block of YAML or JSON is no command
    known = {command for commands in _HOMES.values() for command in commands}
    assert known - shown <= {"list", "schema", "verify"}
