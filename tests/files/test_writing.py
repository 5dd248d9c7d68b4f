"""A file is written whole or not at all, and a pipe to whoever reads it."""

import os
import tempfile
import threading
import time

import pytest

from archcalc.errors import Invalid, Missing
from archcalc.files import writing
from archcalc.files.writing import refuse, umask, write_file


def refused(write, kind, *arguments):
    with pytest.raises(kind) as error:
        write(*arguments)
    return str(error.value)


@pytest.mark.parametrize("late", [0, 0.1])
def test_a_pipe_is_written_to_once_somebody_reads(tmp_path, late):
    path = str(tmp_path / "pipe")
    os.mkfifo(path)
    found = []

    def read():
        time.sleep(late)
        with open(path, encoding="utf-8") as file:
            found.append(file.read())

    reader = threading.Thread(target=read)
    reader.start()
    write_file(path, ["é" * 50_000, "b\n"])  # more than a pipe holds at once
    reader.join()
    assert found == ["é" * 50_000 + "b\n"]


def test_a_pipe_without_a_reader_is_not_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(writing, "PATIENCE", 0.1)
    path = str(tmp_path / "pipe")
    os.mkfifo(path)
    assert refused(write_file, Invalid, path, ["x"]) == f"{path}: is a pipe without a reader for 0.1 seconds"


def test_what_may_not_be_written_is_refused_before_the_work(tmp_path, monkeypatch):
    new, old = str(tmp_path / "new"), str(tmp_path / "old")
    write_file(old, ["text"])
    refuse(new)
    refuse(old)
    assert refused(refuse, Invalid, "") == "--output: is empty; got ''"
    assert refused(refuse, Invalid, str(tmp_path)) == f"{tmp_path}: cannot be written: Is a directory"
    assert refused(refuse, Invalid, f"{new}/") == f"{new}/: cannot be written: Is a directory"
    parent = "cannot be written: its parent directory does not exist"
    assert refused(refuse, Missing, f"{new}/x") == f"{new}/x: {parent}"
    monkeypatch.setattr(writing.os, "access", lambda *_: False)
    assert refused(refuse, Invalid, new) == f"{new}: cannot be written: Permission denied"
    assert refused(refuse, Invalid, old) == f"{old}: cannot be written: it is read-only"


def test_a_file_system_without_attributes_has_files_that_are_replaced(tmp_path, monkeypatch):
    path = tmp_path / "x"
    path.write_text("before")
    path.chmod(0o640)
    number = path.stat().st_ino

    def none(_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(writing.os, "listxattr", none, raising=False)
    write_file(str(path), ["after"])
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("after", 0o640)
    assert path.stat().st_ino != number
    assert os.listdir(tmp_path) == ["x"]


def test_a_link_stays_one_and_what_it_leads_to_is_written(tmp_path):
    (tmp_path / "file").write_text("before")
    (tmp_path / "link").symlink_to("file")
    write_file(str(tmp_path / "link"), ["after"])
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_text() == "after"


def test_a_text_that_fails_half_way_leaves_what_was_there(tmp_path):
    path = tmp_path / "x"
    path.write_text("before")

    def pieces():
        yield "half"
        raise OSError(28, "No space left on device")

    said = f"{path}: cannot be written: No space left on device"
    assert refused(write_file, Invalid, str(path), pieces()) == said
    assert path.read_text() == "before"
    assert os.listdir(tmp_path) == ["x"]
    assert refused(write_file, Invalid, str(tmp_path / "new"), pieces()).endswith("No space left on device")
    assert os.listdir(tmp_path) == ["x"]


def test_what_is_not_finished_stands_beside_what_it_becomes(tmp_path, monkeypatch):
    """From another folder it might be of another file system, and would not take a file's place at once."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    write_file(str(tmp_path / "x"), ["text"])
    assert (tmp_path / "x").read_text() == "text"


def test_a_folder_that_went_meanwhile_is_missing(tmp_path, monkeypatch):
    monkeypatch.setattr(writing, "refuse", lambda _: None)
    path = str(tmp_path / "none" / "x")
    assert refused(write_file, Missing, path, ["text"]) == (
        f"{path}: cannot be written: its parent directory does not exist"
    )


def test_asking_for_the_umask_leaves_it():
    before = os.umask(0o027)
    try:
        assert (umask(), umask()) == (0o027, 0o027)
    finally:
        os.umask(before)
