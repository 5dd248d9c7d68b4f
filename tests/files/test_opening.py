"""Files are opened without waiting for what may never come, and read up to a size."""

import io
import os
import socket
import sys
import threading

import pytest

from archcalc.errors import Invalid, Missing
from archcalc.files import reading
from archcalc.files.reading import TooSlow, open_bytes, read_bytes, read_stdin
from archcalc.files.regular import folders_above, names_in, open_file, unreadable
from archcalc.spec.source import read_file


@pytest.fixture
def pipe(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "PATIENCE", 0.1)
    monkeypatch.setattr(reading, "LONGEST_WAIT", 0.3)
    os.mkfifo(tmp_path / "pipe")
    return str(tmp_path / "pipe")


def refused(read, kind, *arguments):
    with pytest.raises(kind) as error:
        read(*arguments)
    return str(error.value)


def test_a_file_is_read_up_to_one_byte_more_than_is_taken(tmp_path):
    (tmp_path / "x").write_bytes(b"12345")
    path = str(tmp_path / "x")
    assert [read_bytes(path, most) for most in (3, 4, 5, 9)] == [b"1234", b"12345", b"12345", b"12345"]
    assert read_file(path, 5) == b"12345"
    assert refused(read_file, Invalid, path, 4) == f"{path}: is larger than 4 bytes, the most that is read"
    with open_bytes(path) as file:
        assert os.get_blocking(file.fileno())


def test_what_is_no_file_is_refused_as_the_system_says(tmp_path):
    with pytest.raises(FileNotFoundError):
        open_bytes(str(tmp_path / "none"))
    with pytest.raises(IsADirectoryError) as error:
        open_bytes(str(tmp_path))
    assert error.value.filename == str(tmp_path)
    before = len(os.listdir("/proc/self/fd")) if os.path.exists("/proc/self/fd") else None
    for _ in range(5):
        with pytest.raises(IsADirectoryError):
            open_bytes(str(tmp_path))
    assert before is None or len(os.listdir("/proc/self/fd")) == before, "what was opened is closed"


def test_a_pipe_is_read_to_its_end_and_no_further_than_is_taken(pipe, monkeypatch):
    monkeypatch.setattr(reading, "PATIENCE", 5)
    monkeypatch.setattr(reading, "LONGEST_WAIT", 5)
    for most, found in ((100_000, 100_000), (70_000, 70_001), (3, 4)):

        def write():
            with open(pipe, "wb") as file:
                try:
                    file.write(b"x" * 100_000)
                except BrokenPipeError:
                    file.raw.close()

        writer = threading.Thread(target=write)
        writer.start()
        assert read_bytes(pipe, most) == b"x" * found
        writer.join()


def test_a_pipe_that_nobody_writes_to_is_not_waited_for(pipe):
    assert refused(read_bytes, TooSlow, pipe, 5).endswith("is a pipe that was not written to for 0.1 seconds")
    said = f"{pipe}: is a pipe that was not written to for 0.1 seconds; save its output to a file first"
    assert refused(read_file, Invalid, pipe) == said


def test_a_pipe_that_does_not_end_is_not_waited_for(pipe):
    end = os.open(pipe, os.O_RDWR)
    os.write(end, b"some")
    try:
        assert refused(read_bytes, TooSlow, pipe, 5).endswith("did not end within 0.3 seconds")
    finally:
        os.close(end)


def test_standard_input_is_read_as_a_file_a_pipe_or_what_stands_for_one(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"12345")))
    assert read_stdin(3) == b"1234"
    (tmp_path / "x").write_bytes(b"12345")
    with open(tmp_path / "x") as file:
        monkeypatch.setattr(sys, "stdin", file)
        assert read_file("-", 5) == b"12345"
        assert not file.closed
    start, end = os.pipe()
    os.write(end, b"12345")
    monkeypatch.setattr(reading, "LONGEST_WAIT", 0.1)
    with os.fdopen(start) as file:
        monkeypatch.setattr(sys, "stdin", file)
        said = "<stdin>: did not end within 0.1 seconds; save its output to a file first"
        assert refused(read_file, Invalid, "-") == said
        os.write(end, b"67")
        os.close(end)
        assert read_stdin(9) == b"67"


def test_weights_are_regular_files_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x").write_bytes(b"12")
    with open_file("x") as file:
        assert file.read() == b"12"
    os.mkfifo("pipe")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket")
        fix = "not a file; save its content to a file first"
        assert refused(open_file, Invalid, "socket") == f"socket: is a socket, {fix}"
        assert refused(open_file, Invalid, "pipe") == f"pipe: is a pipe, {fix}"
        assert refused(open_file, Invalid, os.devnull) == f"{os.devnull}: is a device, {fix}"
    assert refused(open_file, Missing, "none") == "none: no such file"
    assert refused(open_file, Invalid, ".") == ".: is a directory"
    assert refused(open_file, Invalid, "a\0b") == "a\\x00b: cannot be read: embedded null byte"
    assert refused(open_file, Invalid, "x/y") == "x/y: cannot be read: Not a directory"
    assert str(unreadable("x", OSError(5, "Input/output error"))) == "x: cannot be read: Input/output error"
    assert str(unreadable("x", IsADirectoryError())) == "x: is a directory"


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="open files are asked of Linux")
def test_what_is_refused_is_closed(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    before = len(os.listdir("/proc/self/fd"))
    for path in (tmp_path, tmp_path / "pipe"):
        for _ in range(5):
            refused(open_file, Invalid, str(path))
    assert len(os.listdir("/proc/self/fd")) == before


def test_the_names_in_a_folder_are_in_order(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("b", "a", ".c"):
        (tmp_path / name).write_text("")
    assert names_in(str(tmp_path)) == [".c", "a", "b"]
    assert refused(names_in, Invalid, "a") == "a: is not a directory; give the directory that it is in"
    assert refused(names_in, Missing, "none") == "none: no such directory"
    assert refused(names_in, Missing, "") == "--weights: no such directory"


def test_folders_above_are_paths_from_here_up_to_the_root(tmp_path, monkeypatch):
    (tmp_path / "a" / "b").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "a" / "b")
    above = list(folders_above())
    assert above[:3] == ["", "..", os.path.join("..", "..")]
    assert [os.path.realpath(folder or ".") for folder in above[:3]] == [
        os.path.realpath(tmp_path / "a" / "b"), os.path.realpath(tmp_path / "a"), os.path.realpath(tmp_path),
    ]  # fmt: skip
    assert os.path.realpath(above[-1]) == os.sep
    assert len(above) == len({os.path.realpath(folder or ".") for folder in above})
