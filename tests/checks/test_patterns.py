"""Patterns of files: what Python's glob finds, in bounded time too where folders link to themselves."""

import glob
import os
import time

import pytest
from command import ask

from archcalc.checks.patterns import matches
from archcalc.errors import Invalid

TREE = (
    "a.yaml",
    "b.json",
    ".hidden.yaml",
    "x/a.yaml",
    "x/y/b.yaml",
    "x/y/z/c.yaml",
    "x/.git/d.yaml",
    ".env/e.yaml",
    "é/[f].yaml",
)
PATTERNS = (
    *("*.yaml", "**/*.yaml", "x/**/*.yaml", "**/y/**/*.yaml", "**/**/*.yaml", "*/*.yaml", "x/*/b.yaml", "?.yaml", "[ab].*"),
    *("**", "x/**", "**/.git/*.yaml", ".*.yaml", "*/.git/*", "x/y/z/c.yaml", "none/*.yaml", "[[]f].yaml", "é/[[]f].yaml"),
    *("./*.yaml", "x/../*.yaml", "x//*.yaml", "**/y", "*", "*/"),
)  # fmt: skip


@pytest.fixture
def tree(tmp_path, monkeypatch):
    for name in TREE:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_pattern_finds_the_files_that_glob_finds(tree, pattern):
    for begin in ("", f"{tree}/"):
        found = [os.path.normpath(path) for path in matches(begin + pattern) if os.path.isfile(path)]
        expected = [one for one in glob.glob(begin + pattern, recursive=True) if os.path.isfile(one)]
        assert sorted(found) == sorted({os.path.normpath(one) for one in expected})  # glob's has some twice


def test_a_folder_that_links_to_itself_is_one_folder(tree):
    """With two such links glob would look at 2^40 folders."""
    for name in ("x/self", "x/again"):
        (tree / name).symlink_to(tree)
    (tree / "x" / "loop.yaml").symlink_to("loop.yaml")
    start = time.process_time()
    found = sorted(matches("**/*.yaml"))
    assert time.process_time() - start < 1
    assert found == ["a.yaml", "x/a.yaml", "x/loop.yaml", "x/y/b.yaml", "x/y/z/c.yaml", "é/[f].yaml"]
    assert sorted(matches("x/*/x/a.yaml")) == ["x/again/x/a.yaml", "x/self/x/a.yaml"]  # of one word, as a shell has it


@pytest.mark.usefixtures("tree")
def test_what_is_looked_at_is_bounded_though_nothing_matches(monkeypatch):
    monkeypatch.setattr("archcalc.checks.patterns.MOST_LOOKED_AT", 5)
    with pytest.raises(
        Invalid, match=r"^\*\*/\*\.nothing: makes archcalc look at more than 5 files; check parts of it$"
    ):
        list(matches("**/*.nothing"))


def test_pipes_in_a_folder_are_passed_over_and_one_that_is_named_is_read_once(tmp_path, monkeypatch):
    monkeypatch.setattr("archcalc.files.reading.PATIENCE", 0.1)
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "zero.yaml").symlink_to("/dev/zero")
    (tmp_path / "loop.yaml").symlink_to("loop.yaml")
    answer = ask("check", str(tmp_path), "-f", "json")
    assert {one["spec"] for one in answer.json["checks"]} == {f"{tmp_path}/loop.yaml"}
    from threading import Thread

    from archcalc import dump, load

    text = dump(load("tiny"))
    writer = Thread(target=lambda: (tmp_path / "pipe.yaml").write_text(text))
    writer.start()
    answer = ask("check", str(tmp_path / "pipe.yaml"))
    writer.join()
    assert answer.code == 0, answer.err


TOML = {
    "a key of 300,000 steps": ("a." * 300_000 + "b = 1", "is nested deeper than 64 levels"),
    "a number of 5,000 digits": ("a = 1" + "0" * 5_000, "is not TOML: Exceeds the limit"),
    "brackets without end": ("a = " + "[" * 100_000, "is not TOML: "),
}


@pytest.mark.parametrize(("line", "said"), TOML.values(), ids=TOML)
def test_a_hostile_pyproject_is_told_soon(tmp_path, monkeypatch, line, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pyproject.toml").write_text(f"[tool.archcalc]\n{line}\n")
    start = time.process_time()
    answer = ask("check", "tiny", "--config", "pyproject.toml")
    assert answer.code == 2
    assert answer.err.startswith(f"pyproject.toml: {said}")
    assert answer.err.count("\n") == 1
    assert ask("check", "tiny") == answer  # what is found says that it is ours
    assert time.process_time() - start < 2


def test_a_baseline_of_a_million_values_is_refused_before_it_takes_memory(tmp_path):
    (tmp_path / "known.json").write_text('{"problems": [' + "[]," * 1_000_000 + "1]}")
    answer = ask("check", "tiny", "--baseline", str(tmp_path / "known.json"))
    assert (answer.code, answer.out) == (2, "")
    assert answer.err == f"{tmp_path}/known.json: has more than 1,000,000 values\n"
