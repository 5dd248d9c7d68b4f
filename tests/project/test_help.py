"""The help of every command fits a screen, says everything whole, and its examples run; shells complete it."""

import re
import shlex

import pytest
from command import ask
from typer.main import get_command

from archcalc import cli
from archcalc.tape.precision import FORMATS

cli._load([])
COMMANDS = get_command(cli.app).commands
LINES, COLUMNS = 42, 80
PLAN = 12  # lines more, where the flags of plans are told for all commands


@pytest.fixture(scope="module")
def helps():
    """What each command's help says on a screen of 80 columns; that of archcalc itself is under ''."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", f"{COLUMNS}")
        said = {name: ask(name, "--help") for name in COMMANDS} | {"": ask("--help")}
    assert all((answer.code, answer.err) == (0, "") for answer in said.values())
    return {name: answer.out for name, answer in said.items()}


@pytest.mark.parametrize("name", ["", *COMMANDS])
def test_it_fits_a_screen(helps, name):
    lines = helps[name].splitlines()
    assert len(lines) <= LINES + PLAN * (name == "plan")
    assert max(map(len, lines)) <= COLUMNS


@pytest.mark.parametrize("name", ["", *COMMANDS])
def test_no_line_of_it_is_cut(helps, name):
    usage, *lines = helps[name].splitlines()
    assert usage.startswith("Usage: archcalc")
    assert not [line for line in lines if line.endswith("...")]


def test_the_overview_says_the_first_line_of_every_command_whole(helps):
    for name, command in COMMANDS.items():
        first = command.help.partition("\n")[0]
        assert len(first) <= 62, name
        assert first.endswith("."), name
        assert re.search(rf"^  {name} +{re.escape(first)}$", helps[""], re.MULTILINE), name
    panels = re.findall(r"^(\w+):$", helps[""], re.MULTILINE)
    assert panels == ["Options", "Count", "Choose", "Trust", "Run", "Files"]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_and_argument_has_a_help_of_its_own(name):
    for parameter in COMMANDS[name].params:
        assert parameter.help, parameter.name
        if parameter.name == "help":
            continue
        words = parameter.help.split()
        assert len(words) >= 2, parameter.name  # a phrase
        assert words[0] not in ("or", "of", "to", "at", "in", "for", "as"), parameter.name  # with a subject
        assert "if none" not in parameter.help
        assert not parameter.help.endswith("."), parameter.name


@pytest.fixture(scope="module")
def formats():
    return ask("list", "formats").out


@pytest.mark.parametrize("name", COMMANDS)
def test_every_choice_can_be_read_in_the_help(helps, formats, name):
    said = " ".join(helps[name].split()).replace("- ", "-")
    for parameter in (one for one in COMMANDS[name].params if not one.hidden):
        for choice in parameter.type_descriptor.choices or ():
            if choice in FORMATS:
                assert re.search(rf"^{choice} ", formats, re.MULTILINE), choice
                continue
            assert re.search(rf"\b{re.escape(choice)}\b", said), (parameter.name, choice)


def _examples():
    for name, command in COMMANDS.items():
        for line in re.findall(r"Example: archcalc (.*)", command.help):
            yield pytest.param(name, line, id=name)


# Stand for what a reader has.
FILES = {"own.yaml", "glove.txt", "DIR", "run", "book.txt", "Llama-3.1-8B/config.json"}


@pytest.mark.parametrize(("name", "line"), list(_examples()))
def test_every_example_is_one_line_that_is_obeyed(helps, name, line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # some write files
    assert f"Example: archcalc {line}" in helps[name]  # not wrapped, so that it can be copied
    words = shlex.split(line)
    assert words[0] == name
    if not FILES.intersection(words):
        assert COMMANDS[name].make_context(name, words[1:])
        if name != "verify":
            assert ask(*words).code == 0
    else:
        assert COMMANDS[name].make_context(name, words[1:])


def _complete(monkeypatch, *words):
    monkeypatch.setenv("COMP_WORDS", shlex.join(["archcalc", *words]))
    monkeypatch.setenv("COMP_CWORD", f"{len(words)}")
    monkeypatch.setenv("_ARCHCALC_COMPLETE", "complete_bash")
    answer = ask()
    assert (answer.code, answer.err) == (0, "")
    return answer.out.split()


def test_a_shell_completes_commands_specs_flags_and_choices(monkeypatch):
    assert _complete(monkeypatch, "re") == ["report"]
    assert _complete(monkeypatch, "report", "gpt2-") == ["gpt2-large", "gpt2-medium", "gpt2-xl"]
    assert _complete(monkeypatch, "flops", "gpt2", "--pha") == ["--phase"]
    assert _complete(monkeypatch, "flops", "gpt2", "--phase", "de") == ["decode"]


def test_a_shell_completes_the_paths_of_specs_and_configs(monkeypatch, tmp_path):
    (tmp_path / "llama").mkdir()
    for name in ("llama/config.json", "llama/model.safetensors", "llama/.hidden.json", "mine.yaml", "mine.txt"):
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    assert _complete(monkeypatch, "report", "./") == ["./llama/", "./mine.yaml"]
    assert _complete(monkeypatch, "report", "llama/") == ["llama/config.json"]
    assert _complete(monkeypatch, "report", "mine") == ["mine.yaml"]
    assert _complete(monkeypatch, "import", "lla") == ["llama/", "llama/config.json"]
    assert _complete(monkeypatch, "report", "nowhere/") == []


@pytest.mark.parametrize("value", ["", "1", "complete_bash", "complete_tcsh", "run_zsh"])
def test_a_variable_of_that_name_alone_changes_no_answer(monkeypatch, value):
    """A shell also says what is to be completed."""
    expected = ask("--version")
    monkeypatch.setenv("_ARCHCALC_COMPLETE", value)
    assert ask("--version") == expected


def test_the_script_for_a_shell_asks_for_what_is_answered(monkeypatch):
    monkeypatch.setattr("typer.completion._get_shell_name", lambda: "bash")
    script = ask("--show-completion")
    assert (script.code, script.err) == (0, "")
    assert "_ARCHCALC_COMPLETE=complete_bash" in script.out
    monkeypatch.setattr("typer.completion._get_shell_name", lambda: None)
    assert ask("--show-completion").code == 3
