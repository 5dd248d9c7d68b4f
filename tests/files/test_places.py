"""Encodings and places: what a file may be called, where it may lie, and what it is after it was written."""

import os
import stat
import subprocess
import sys

import pytest
from command import ask
from hypothesis import given
from hypothesis import strategies as st

import archcalc
from archcalc.spec.source import parse
from archcalc.spec.validation import validate

CSV = ask("list", "devices", "-f", "csv").out


def test_a_read_only_file_is_refused_for_root_too(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("before")
    path.chmod(0o444)
    assert ask("list", "devices", "-o", str(path)) == (2, "", f"{path}: cannot be written: it is read-only\n")
    assert path.read_text() == "before"


def test_a_file_with_two_names_keeps_both(tmp_path):
    first, second = tmp_path / "a.csv", tmp_path / "b.csv"
    first.write_text("before, and longer than what is written" * 1_000)
    second.hardlink_to(first)
    assert ask("list", "devices", "-o", str(first)).code == 0
    assert first.read_text() == second.read_text() == CSV
    assert first.stat().st_ino == second.stat().st_ino
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.csv", "b.csv"]


def test_a_disk_that_fills_leaves_a_file_with_two_names_as_it_was(tmp_path, monkeypatch):
    first = tmp_path / "a.csv"
    first.write_text("before")
    (tmp_path / "b.csv").hardlink_to(first)

    def full(source, target):
        target.write(source.read(3))
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("archcalc.files.writing.shutil.copyfileobj", full)
    assert ask("list", "devices", "-o", str(first)).err == f"{first}: cannot be written: No space left on device\n"
    assert first.read_text() == "before"


def test_a_file_with_attributes_or_of_another_owner_stays_that_file(tmp_path, monkeypatch):
    path = tmp_path / "a.csv"
    path.write_text("before")
    number = path.stat().st_ino
    monkeypatch.setattr("archcalc.files.writing._attributes", lambda _: ["security.selinux"])
    assert ask("list", "devices", "-o", str(path)).code == 0
    assert path.stat().st_ino != number  # replaced in one step: the system gives a new file that attribute itself
    number = path.stat().st_ino
    monkeypatch.setattr("archcalc.files.writing._attributes", lambda _: ["system.posix_acl_access"])
    path.write_text("before")
    assert ask("list", "devices", "-o", str(path)).code == 0
    assert (path.stat().st_ino, path.read_text()) == (number, CSV)
    if os.geteuid() == 0:
        monkeypatch.undo()
        os.chown(path, 12345, 12345)
        assert ask("list", "devices", "-o", str(path)).code == 0
        assert (path.stat().st_uid, path.stat().st_gid, path.stat().st_ino) == (12345, 12345, number)


def test_a_new_file_has_the_mode_that_the_umask_leaves(tmp_path):
    before = os.umask(0o027)
    try:
        ask("list", "devices", "-o", str(tmp_path / "a.csv"))
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.csv").stat().st_mode) == 0o640


def test_places_that_are_none(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for name, why in (
        ("x" * 300 + ".csv", "File name too long"),
        ("loop", "Too many levels of symbolic links"),
        ("file/a.csv", "Not a directory"),
        ("a\0.csv", "not a valid file name"),
        ("./", "Is a directory"),
    ):
        answer = ask("list", "devices", "-f", "csv", "-o", f"{tmp_path}/{name}")
        assert answer.code == 2
        assert answer.err.endswith(f": cannot be written: {why}\n")
    for name in ("x" * 300 + ".yaml", "loop", "file/a.yaml", "a\0.yaml"):
        assert ask("params", f"{tmp_path}/{name}").code in (2, 3)
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert ask("list", "devices", "-o", "a.csv") == (
        3,
        "",
        "a.csv: cannot be written: its parent directory does not exist\n",
    )
    assert ask("params", "a.yaml") == (3, "", "a.yaml: no such file\n")
    assert ask("params", "gpt2").code == 0


@pytest.mark.parametrize("name", ["a\nb", "é模", "\udcff\udc80", " ", "-", "x" * 240, "@", "a@b=1"])
def test_a_file_may_be_called_what_the_system_allows(tmp_path, name):
    spec, written = f"{tmp_path}/{name}.yaml", f"{tmp_path}/{name}.json"
    with open(spec, "w", encoding="utf-8") as file:
        file.write(archcalc.dump(archcalc.load("tiny")))
    for command in (["report", spec], ["explain", spec, "parameters.stored"], ["check", spec, "-f", "json"]):
        assert ask(*command).code == 0
    assert ask("params", spec, "-o", written).code == 0
    assert os.path.exists(written)


# One process each: what an interpreter is told at its start.
ENVIRONMENTS = {
    "an ASCII locale": {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"},
    "no environment": {"HOME": None, "PATH": None, "TMPDIR": "/nowhere", "LANG": None},
}


@pytest.mark.parametrize("environment", ENVIRONMENTS.values(), ids=ENVIRONMENTS)
def test_files_are_utf_8_in_every_locale(tmp_path, environment):
    words = tmp_path / "é模.txt"
    words.write_bytes(b"\xef\xbb\xbf" + "é 1 0\n模 1 1\n".encode())
    spec = tmp_path / "é模.yaml"
    spec.write_text(archcalc.dump(archcalc.load("tiny").model_copy(update={"source": "é模"})), encoding="utf-8")
    code = """
import sys
from archcalc.cli import _main
words, spec, word, out = sys.argv[1:]
for arguments in (
    ["embed", words, word, "-o", out + ".words.json"], ["report", spec, "-o", out + ".txt"],
    ["report", spec], ["report", spec + "@n_layers=2"], ["tokens", word],
):
    assert _main(arguments) == 0, arguments
"""
    variables = {key: value for key, value in {**os.environ, **environment}.items() if value is not None}
    done = subprocess.run(
        [sys.executable, "-c", code, str(words), str(spec), "é", str(tmp_path / "ö")],
        env=variables,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    assert "é模" in (tmp_path / "ö.txt").read_text(encoding="utf-8")


def test_help_and_schema_survive_without_docstrings():
    code = """
import contextlib, io, json
from archcalc.cli import _main
found = []
for arguments in (["--help"], ["report", "--help"], ["sweep", "--help"], ["schema"], ["schema", "--of", "device"]):
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        _main(arguments)
    found.append(out.getvalue())
print(json.dumps(found))
"""
    outs = [
        subprocess.run([sys.executable, *flags, "-c", code], capture_output=True, text=True, check=True).stdout
        for flags in ([], ["-OO"])
    ]
    assert outs[0] == outs[1]
    assert "parameters, FLOPs and memory" in outs[0]


ENDS_OF_LINES = "\x85\u2028\u2029\ufeff\r\n\t\x00\x1b\x7f\x9f"
NEARLY_YAML = "-+.0123456789_eExo #:{}[]'\"\\&*!|>%@`~?,=<nultrfase"


@given(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
    | st.text(ENDS_OF_LINES + NEARLY_YAML, min_size=1, max_size=90)
)
def test_every_text_survives_a_dump(text):
    model = archcalc.load("tiny").model_copy(update={"source": text, "assumptions": (text, "x")})
    assert validate(parse(archcalc.dump(model).encode(), "f"), archcalc.Model) == model
