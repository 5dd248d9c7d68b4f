"""What was found in a file is found again without reading it, and never of another content."""

import os
import time

from archcalc.files.remembered import Remembered

LONG_AGO = time.time_ns() - 60 * 10**9


def write(path, text, when=LONG_AGO):
    path.write_text(text)
    os.utime(path, ns=(when, when))


def asked(remembered, path):
    """What is found in a file, and whether it was read for that."""
    reads = []

    def find():
        reads.append(path)
        return path.read_text()

    return remembered.of(str(path), os.stat(path), find), bool(reads)


def test_a_file_is_read_once_and_anew_when_it_changed(tmp_path):
    path, remembered = tmp_path / "x", Remembered(2)
    write(path, "one")
    assert [asked(remembered, path), asked(remembered, path)] == [("one", True), ("one", False)]
    write(path, "four")  # of another size
    assert asked(remembered, path) == ("four", True)
    write(path, "five", LONG_AGO + 1)  # of another time
    assert asked(remembered, path) == ("five", True)
    write(tmp_path / "y", "nine", LONG_AGO + 1)
    os.replace(tmp_path / "y", path)  # another file in its place
    assert asked(remembered, path) == ("nine", True)


def test_a_file_just_written_is_read_anew(tmp_path):
    """Within a tick of the clock two contents of one size cannot be told apart."""
    path, remembered, now = tmp_path / "x", Remembered(2), time.time_ns()
    for text in ("one", "two"):
        write(path, text, now)
        assert asked(remembered, path) == (text, True)


def test_the_last_few_are_kept_and_what_fails_is_not(tmp_path):
    remembered = Remembered(2)
    paths = [tmp_path / name for name in "abc"]
    for path in paths:
        write(path, path.name)
        assert asked(remembered, path) == (path.name, True)
    assert [asked(remembered, path)[1] for path in (paths[2], paths[1], paths[0])] == [False, False, True]
    (tmp_path / "d").write_bytes(b"\xff")
    os.utime(tmp_path / "d", ns=(LONG_AGO, LONG_AGO))
    for _ in range(2):
        try:
            asked(remembered, tmp_path / "d")
        except UnicodeDecodeError:
            write(tmp_path / "d", "fine")
    assert asked(remembered, tmp_path / "d") == ("fine", False)
