"""What a shell completes: by typer's protocol for each shell, and in a real bash."""

import os
import pty
import select
import shutil
import subprocess
import sys
import time

import pytest
from command import ask, loaded

import archcalc
from archcalc.counts.quantities import QUANTITIES
from archcalc.hardware.devices import device_names
from archcalc.spec.completing import going_on

BREAKS = "@=:"


def broken(word):
    """A word as bash breaks it: at runs of some characters, which are words too."""
    pieces = [""]
    for sign in word:
        if pieces[-1] and (pieces[-1][-1] in BREAKS) != (sign in BREAKS):
            pieces.append("")
        pieces[-1] += sign
    return pieces


@pytest.fixture
def bash(monkeypatch):
    """What bash is answered, with COMP_WORDS as it breaks them."""

    def complete(*words):
        pieces = [piece for word in words for piece in broken(word)]
        monkeypatch.setenv("_ARCHCALC_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", "\n".join(["archcalc", *pieces]))
        monkeypatch.setenv("COMP_CWORD", str(len(pieces)))
        code, out, err = ask()
        assert (code, err) == (0, ""), err
        return out.split()

    return complete


@pytest.fixture
def typed(monkeypatch):
    """What zsh or fish is answered, which tell the whole line."""

    def complete(shell, line, action="get-args"):
        monkeypatch.setenv("_ARCHCALC_COMPLETE", f"complete_{shell}")
        monkeypatch.setenv("_TYPER_COMPLETE_ARGS", line)
        monkeypatch.setenv("_TYPER_COMPLETE_FISH_ACTION", action)
        return ask()

    return complete


def test_bash_gets_what_stands_behind_the_last_sign_that_it_breaks_words_at(bash):
    assert bash("params", "gpt2@n_he") == ["@n_heads=", "@n_heads=12"]
    assert bash("params", "gpt2@n_l") == ["@n_layers=", "@n_layers=12"]
    assert {"@n_layers=", "@d_model=", "@window="} <= set(bash("params", "gpt2@"))
    assert bash("params", "gpt2@n_heads=4,n_kv") == ["4,n_kv_heads=", "4,n_kv_heads=12"]
    assert bash("params", "gpt2@tied=") == ["true", "false"]
    assert bash("params", "gpt2@n_heads=4,tied=f") == ["false"]
    assert bash("diff", "gpt2@n_layers=4", "gpt2-x") == ["gpt2-xl"]
    assert bash("params", "hf:openai/gpt") == []


def test_fields_go_on_as_a_question_takes_them():
    assert going_on("gpt2@activation=g") == [f"gpt2@activation={word}" for word in ("gelu_tanh", "gelu", "gelu_quick")]
    assert going_on("gpt2@parallel=") == ["gpt2@parallel=shared", "gpt2@parallel=own", "gpt2@parallel=null"]
    assert going_on("gemma3-1b@window=") == ["gemma3-1b@window=512", "gemma3-1b@window=null"]
    assert going_on("llama3-8b@rotary") == ["llama3-8b@rotary=", "llama3-8b@rotary=null"]
    assert going_on("gpt2@layers.0.attention.n_k") == [
        "gpt2@layers.0.attention.n_kv_heads=",
        "gpt2@layers.0.attention.n_kv_heads=12",
    ]
    assert going_on("gpt2@n_heads=4,n_h") == []  # asked already
    assert going_on("gpt2@post_norm") == []  # a question cannot give a block
    assert going_on("gpt2@nothing=") == []


@pytest.mark.parametrize("name", ["gpt2", pytest.param("deepseek-v2", marks=pytest.mark.prove)])
def test_every_word_that_a_field_may_be_is_one_that_its_reader_takes(name):
    """Some contradict another field of the spec; none is of a wrong field or kind."""
    offered = [word for one in going_on(f"{name}@") for word in going_on(one)]
    assert len(offered) > 30
    for word in offered:
        try:
            archcalc.load(word)
        except archcalc.Invalid as error:
            for wrong in ("unknown", "is the name of", "must be true", "takes a block", "must be an", "must be a n"):
                assert wrong not in str(error), word


def test_flags_complete_their_words(bash):
    assert bash("memory", "gpt2", "--device", "h100") == [one for one in device_names() if one.startswith("h100")]
    assert bash("flops", "gpt2", "--device", "mi3") == [one for one in device_names() if one.startswith("mi3")]
    assert bash("memory", "gpt2", "--plan", "tp") == ["tp8"]
    assert bash("memory", "gpt2", "--format", "") == ["table", "markdown", "json", "csv"]
    assert bash("memory", "gpt2", "--format=j") == ["json"]
    assert bash("memory", "gpt2", "--precision", "fp3") == ["fp32"]
    assert bash("schema", "--of", "") == ["model", "plan", "device", "budgets"]
    assert bash("schema", "--draft", "") == ["2020-12", "07"]
    assert "gemma" in bash("list", "--family", "")
    assert set(bash("list", "de")) >= {"devices", "deepseek"}


def test_quantities_columns_and_what_is_varied_complete(bash):
    assert bash("explain", "gpt2", "cache.") == [one for one in QUANTITIES if one.startswith("cache.")]
    assert bash("sweep", "gpt2", "--columns", "parameters.total,cache.per") == ["parameters.total,cache.per_token"]
    assert "n_heads" in bash("sweep", "gpt2", "--columns", "n_h")
    assert bash("sweep", "gpt2", "--vary", "n_la") == ["n_layers=", "n_layers=1", "n_layers=2"]
    assert bash("sweep", "gpt2", "--vary=n_la") == ["n_layers=", "n_layers=1", "n_layers=2"]
    assert bash("sweep", "gpt2", "--vary", "schedule=1f1b,g") == ["1f1b,gpipe"]


def test_paths_complete(bash, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "plans").mkdir()
    (tmp_path / "plans" / "mine.yaml").write_text("")
    (tmp_path / "own.yaml").write_text("")
    (tmp_path / "notes.txt").write_text("")
    assert bash("check", "ow") == ["own.yaml"]
    assert bash("check", "pla") == ["plans/", "plans/mine.yaml"]
    assert bash("memory", "gpt2", "--plan", "plans/") == ["plans/mine.yaml"]
    assert bash("memory", "gpt2", "--output", "no") == []  # which leaves it to bash: any file


@pytest.mark.parametrize("word", ["nosuch@n", "broken.yaml@n", "gpt2@n_heads=x,", "hf:no/such@n", "-@n", "nowhere/"])
def test_what_is_wrong_completes_nothing_and_says_nothing(typed, word, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.yaml").write_text("schema: [\n")
    said = typed("fish", f"archcalc params {word}")
    assert said.err == ""
    assert said.out.split() == [] or word.startswith("gpt2")


def test_a_field_goes_on_whatever_else_is_wrong(bash):
    assert bash("params", "--nosuch", "gpt2@n_h") == ["@n_heads=", "@n_heads=12"]
    assert bash("sweep", "--columns", "n_h") == []  # of no spec
    assert "gpt2-xl" in bash("params", "'gpt2-x")  # a quote is open


def test_zsh_and_fish_get_whole_words(typed):
    assert typed("zsh", "archcalc params gpt2@n_he").out == (
        """_arguments '*: :(("gpt2@n_heads="\n"gpt2@n_heads=12"))'\n"""
    )
    assert typed("zsh", "archcalc params gpt2@nothing").out == "_files\n"
    assert typed("fish", "archcalc params gpt2@n_heads=4,tied=").out == (
        "gpt2@n_heads=4,tied=true\ngpt2@n_heads=4,tied=false\n"
    )
    assert typed("fish", "archcalc memory gpt2 --device h20").out == "h20\nh200\n"
    assert typed("fish", "archcalc sweep gpt2 --columns n_kv").out == "n_kv_heads\n"
    assert typed("fish", "archcalc params gpt2@n_he", "is-args").code == 0
    assert typed("fish", "archcalc params nosuch@n", "is-args").code == 1  # then fish completes files


def test_completion_loads_neither_numpy_nor_torch():
    code = "import os; from archcalc.cli import _main\n"
    for words in (["gpt2", "@", "n_he"], ["gpt"]):
        asked = {
            "_ARCHCALC_COMPLETE": "complete_bash",
            "COMP_WORDS": "\n".join(["archcalc", "params", *words]),
            "COMP_CWORD": str(1 + len(words)),
        }
        code += f"os.environ |= {asked}; assert _main([]) == 0\n"
    assert loaded(code) == []


@pytest.fixture
def terminal(tmp_path):
    """A bash at a terminal, with typer's own script of `--show-completion`, that is typed at."""
    if not (program := shutil.which("bash")):
        pytest.skip("no bash here")
    (tmp_path / "archcalc").write_text(
        f'#!/bin/sh\nexec {sys.executable} -c "from archcalc.cli import main; main()" "$@"\n'
    )
    (tmp_path / "archcalc").chmod(0o755)
    near, far = pty.openpty()
    setting = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "PS1": "$ ", "TERM": "dumb", "INPUTRC": os.devnull}
    process = subprocess.Popen(
        [program, "--norc", "--noprofile", "-i"], stdin=far, stdout=far, stderr=far, env={**os.environ, **setting},
        cwd=tmp_path, start_new_session=True, close_fds=True,
    )  # fmt: skip
    os.close(far)

    def until(mark):
        said, end = "", time.monotonic() + 60
        while mark not in said:
            ready, _, _ = select.select([near], [], [], max(end - time.monotonic(), 0))
            assert ready, f"bash did not come to {mark!r}: {said!r}"
            said += os.read(near, 4096).decode()
        return said

    def run(line, mark="<done>"):
        os.write(near, f"{line}; printf '<%s>\\n' done\n".encode())
        return until(mark)

    def tab(line):
        """What the last word of a line becomes. Control-A and -E go to its ends: a colon makes a command of it that
        does nothing, and `$_` is its last word.
        """
        os.write(near, f"{line}\t\x01: \x05 ; printf '[%s]\\n' \"$_\"; printf '<%s>\\n' done\n".encode())
        said = until("<done>\r\n")
        return said[said.rindex("\n[") + 2 : said.rindex("]\r\n")]

    run("PS1='$ '; bind 'set bell-style none'; bind 'set completion-query-items 0'; stty cols 500")
    run('eval "$(archcalc --show-completion)"; complete -p archcalc')
    try:
        yield tab
    finally:
        process.kill()
        process.wait()
        os.close(near)


def test_a_real_bash_completes_by_typers_script(terminal):
    assert terminal("archcalc params gpt2@n_layers=24,n_kv") == "gpt2@n_layers=24,n_kv_heads="
    assert terminal("archcalc memory gpt2 --format=js") == "--format=json"


@pytest.mark.prove  # each is a process; what is answered is tested above
def test_a_real_bash_completes_every_kind_of_word(terminal):
    assert terminal("archcalc params gpt2@n_he") == "gpt2@n_heads="
    assert terminal("archcalc params gpt2@tied=f") == "gpt2@tied=false"
    assert terminal("archcalc params gpt2-x") == "gpt2-xl"
    assert terminal("archcalc explain gpt2 cache.per") == "cache.per_token"
    assert terminal("archcalc memory gpt2 --device h100-s") == "h100-sxm"
    assert terminal("archcalc sweep gpt2 --vary n_he") == "n_heads="
    assert terminal("archcalc memory gpt2 --output archc") == "archcalc"
    assert terminal("archcalc params nosuch@n") == "nosuch@n"
