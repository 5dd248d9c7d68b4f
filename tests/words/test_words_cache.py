"""What embed keeps of slow files: answers are those without it, and none is given of a file that is another by now."""

import errno
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
from command import ask, spawn
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from space import WORDS, write

from archcalc.files import keeping
from archcalc.words import cache, sources

ASKED = ("king - man + woman", "--rank", "cat", "-f", "json")
SKEWED = WORDS.replace("queen 1 2 0", "queen 0 1 9")  # as many bytes
posix = pytest.mark.skipif(os.name != "posix", reason="owners and modes of POSIX")


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """A cache of its own, for files of any size; `reads` counts the files of text that were read."""
    monkeypatch.delenv(keeping.OFF)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(cache, "SMALLEST_KEPT", 0)
    reads, read = [], sources.read_words
    monkeypatch.setattr(sources, "read_words", lambda path: reads.append(path) or read(path))
    return SimpleNamespace(folder=tmp_path / "cache" / "archcalc", reads=reads)


def settle(monkeypatch):
    """As if two seconds had gone by."""
    monkeypatch.setattr(cache, "_SETTLED", -(10**9) * 10)


def answer(path):
    done = ask("embed", path, *ASKED)
    assert done.code == 0, done.err
    return done.json


def fresh(path):
    done = ask("embed", path, *ASKED, "--no-cache")
    assert (done.code, done.err) == (0, "")
    return done.json


def test_the_second_question_reads_nothing_again(tmp_path, kept):
    path = write(tmp_path)
    first = ask("embed", path, *ASKED)
    assert first.err.endswith(f" of {path} for the next question (--no-cache: keep nothing)\n")
    second = ask("embed", path, *ASKED)
    assert (second.out, second.err) == (first.out, "")
    assert len(kept.reads) == 1
    assert fresh(path) == first.json
    assert len(kept.reads) == 2


@pytest.mark.usefixtures("kept")
@pytest.mark.parametrize("settled", [False, True])
def test_a_change_is_seen_though_size_and_time_are_the_same(tmp_path, monkeypatch, settled):
    if settled:
        settle(monkeypatch)
    path = write(tmp_path)
    before, times = answer(path), os.stat(path)
    if settled:
        time.sleep(0.02)  # more than a tick of the clock of a file system
    with open(path, "r+") as file:
        file.write(SKEWED)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert (os.stat(path).st_size, os.stat(path).st_mtime_ns) == (times.st_size, times.st_mtime_ns)
    assert answer(path) == fresh(path) != before


@pytest.mark.usefixtures("kept")
def test_a_file_that_took_its_place_is_seen(tmp_path, monkeypatch):
    settle(monkeypatch)
    path = write(tmp_path)
    before, times = answer(path), os.stat(path)
    other = tmp_path / "other"
    other.write_text(SKEWED)
    os.utime(other, ns=(times.st_atime_ns, times.st_mtime_ns))
    os.replace(other, path)
    assert answer(path) == fresh(path) != before


@pytest.mark.usefixtures("kept")
def test_a_stamp_that_is_the_same_is_not_read_again(tmp_path, monkeypatch):
    settle(monkeypatch)
    path = write(tmp_path)
    answer(path)
    monkeypatch.setattr(cache, "_digest", lambda _: pytest.fail("was read"))
    answer(path)
    monkeypatch.setattr(cache, "_CHANGES", False)  # a system that has no time of a change
    with pytest.raises(pytest.fail.Exception):
        answer(path)


@pytest.mark.usefixtures("kept")
def test_a_change_within_one_tick_of_the_clock_is_seen(tmp_path, monkeypatch):
    stamps = iter([([1], False)] * 99)  # the same whatever is written, and young
    monkeypatch.setattr(cache, "_stamp", lambda _: next(stamps))
    path = write(tmp_path)
    before = answer(path)
    write(tmp_path, SKEWED)
    assert answer(path) == fresh(path) != before


def test_a_copy_and_another_time_are_the_same_content(tmp_path, kept):
    path = write(tmp_path)
    answer(path)
    os.utime(path, (1, 1))
    answer(path)
    os.rename(path, tmp_path / "moved")
    answer(str(tmp_path / "moved"))
    assert len(kept.reads) == 1
    assert len(list(kept.folder.glob("*.words"))) == 1


words = st.text("ab\u00e9\N{GRINNING FACE}%", min_size=1, max_size=3)
tables = st.dictionaries(words, st.tuples(*[st.integers(-9, 9)] * 2), min_size=1, max_size=8)


@pytest.mark.usefixtures("kept")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tables, tables)
def test_answers_are_those_without_a_cache_whatever_stands_there_next(tmp_path, first, second):
    for table in (first, second, first):
        path = write(tmp_path, "".join(f"{word} {x} {y}\n" for word, (x, y) in table.items()))
        for word in [*first, "none"]:
            asked = ("embed", path, f'"{word}"', "-f", "json")
            for _ in range(2):
                with_it, without = ask(*asked), ask(*asked, "--no-cache")
                assert (with_it.code, with_it.out) == (without.code, without.out)
                if without.code:
                    assert with_it.err == without.err


@pytest.mark.usefixtures("kept")
def test_warnings_are_kept_too(tmp_path):
    path = write(tmp_path, "9 2\nking 1 2\nking 3 4\nman 1 1\nwoman 2 1\ncat 1 0\n")
    assert answer(path)["warnings"] == answer(path)["warnings"]
    assert len(answer(path)["warnings"]) == 2


@pytest.mark.parametrize("glob", ["*.words", "*.note"])
@pytest.mark.parametrize("change", [b"", b"x", "cut", "flip"], ids=["empty", "other", "cut", "flip"])
def test_what_is_damaged_is_made_again(tmp_path, kept, glob, change):
    path = write(tmp_path)
    before = answer(path)
    (file,) = kept.folder.glob(glob)
    data = file.read_bytes()
    at = len(data) // 2
    changed = {"cut": data[:-1], "flip": data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]}.get(change, change)
    file.write_bytes(changed)
    assert answer(path) == before
    assert answer(path) == before
    (file,) = kept.folder.glob("*.words")
    if glob == "*.words":
        assert file.read_bytes() == data
        assert len(kept.reads) == 2


def test_every_flipped_byte_of_a_table_is_noticed(tmp_path, kept):
    path = write(tmp_path, "a 1 2\nb 3 4\n")
    ask("embed", path, "a")
    (file,) = kept.folder.glob("*.words")
    data = file.read_bytes()
    for at in range(len(data)):
        file.write_bytes(data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :])
        assert cache._read_table(file.stem) is None
    file.write_bytes(data)
    assert cache._read_table(file.stem) is not None


@pytest.mark.parametrize("note", ["[]", "null", '["x", [], true]', '["../../etc/passwd", [], true]', "[" * 4000])
def test_a_note_of_another_kind_is_no_note(tmp_path, kept, note):
    path = write(tmp_path)
    before = answer(path)
    (file,) = kept.folder.glob("*.note")
    file.write_text(note)
    assert answer(path) == before


# Where it is, and whether


def test_it_can_be_switched_off(tmp_path, kept, monkeypatch):
    path = write(tmp_path)
    assert ask("embed", path, *ASKED, "--no-cache").err == ""
    monkeypatch.setenv(keeping.OFF, "1")
    assert ask("embed", path, *ASKED).err == ""
    assert not kept.folder.exists()
    monkeypatch.setenv(keeping.OFF, "0")
    answer(path)
    assert kept.folder.exists()
    monkeypatch.setenv(keeping.OFF, "1")
    answer(path)
    assert len(kept.reads) == 4


def test_small_files_are_not_kept(tmp_path, kept, monkeypatch):
    monkeypatch.setattr(cache, "SMALLEST_KEPT", 2**16)
    assert ask("embed", write(tmp_path), *ASKED).err == ""
    assert not kept.folder.exists()


def test_where_the_folder_is(monkeypatch):
    monkeypatch.delenv(keeping.OFF, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/there")
    assert keeping.place() == "/there/archcalc"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # by the XDG specification such a path is ignored
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.setattr(sys, "platform", "linux")
    assert keeping.place() == "/home/somebody/.cache/archcalc"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert keeping.place() == "/home/somebody/Library/Caches/archcalc"


def _somebody_elses(folder):
    try:
        os.chown(folder, 12345, 12345)
    except PermissionError:
        pytest.skip("only root gives files away")


@posix
@pytest.mark.parametrize("what", ["file", "link", "writable", "not ours", "no folder can be made"])
def test_a_folder_that_is_not_to_be_trusted_is_not_used(tmp_path, kept, what):
    path = write(tmp_path)
    kept.folder.parent.mkdir()
    if what == "file":
        kept.folder.write_text("")
    elif what == "link":
        (tmp_path / "elsewhere").mkdir()
        kept.folder.symlink_to(tmp_path / "elsewhere")
    elif what == "no folder can be made":
        kept.folder.parent.rmdir()
        kept.folder.parent.write_text("")
    else:
        kept.folder.mkdir()
        if what == "writable":
            kept.folder.chmod(0o777)
        else:
            _somebody_elses(kept.folder)
    for _ in range(2):
        assert ask("embed", path, *ASKED).err == ""
    assert len(kept.reads) == 2
    assert {file.name for file in tmp_path.iterdir()} - {"elsewhere"} == {"cache", "words.txt"}
    assert not [*tmp_path.glob("elsewhere/*"), *tmp_path.glob("cache/archcalc/*")]


@posix
@pytest.mark.parametrize("what", ["link", "pipe", "not ours"])
def test_a_table_that_somebody_put_there_is_not_used(tmp_path, kept, what):
    path = write(tmp_path)
    before = answer(path)
    (file,) = kept.folder.glob("*.words")
    if what == "link":
        os.rename(file, tmp_path / "elsewhere")
        file.symlink_to(tmp_path / "elsewhere")
    elif what == "pipe":
        file.unlink()
        os.mkfifo(file)
    else:
        _somebody_elses(file)
    assert answer(path) == before
    assert len(kept.reads) == 2


def test_a_full_disk_is_no_error_and_leaves_nothing(tmp_path, kept, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    done = ask("embed", write(tmp_path), *ASKED)
    assert (done.code, done.err) == (0, "")
    assert list(kept.folder.iterdir()) == []


def test_what_was_not_used_for_longest_goes_first(tmp_path, kept, monkeypatch):
    paths = []
    for n in range(3):
        (tmp_path / f"{n}").mkdir()
        paths.append(write(tmp_path / f"{n}", WORDS + f"more {n} 1 1\n"))
        answer(paths[-1])
    size = max(file.stat().st_size for file in kept.folder.glob("*.words"))
    tables = {n: json.loads(cache_note(kept, path))[0] for n, path in enumerate(paths)}
    for age, n in enumerate((2, 0, 1)):  # 1 was used first, and is read again below
        os.utime(kept.folder / f"{tables[n]}.words", (100 - age, 100 - age))
    answer(paths[1])
    monkeypatch.setattr(keeping, "LARGEST_CACHE", 3 * size + 100)
    (tmp_path / "new").mkdir()
    answer(write(tmp_path / "new", WORDS + "most 9 1 1\n"))
    there = {file.stem for file in kept.folder.glob("*.words")}
    assert tables[0] not in there
    assert tables[1] in there
    assert sum(file.stat().st_size for file in kept.folder.iterdir()) <= 3 * size + 100


def cache_note(kept, path):
    return (kept.folder / cache._note_name(path)).read_text()


@pytest.mark.usefixtures("kept")
def test_what_is_larger_than_all_is_not_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(keeping, "LARGEST_CACHE", 100)
    assert ask("embed", write(tmp_path), *ASKED).err == ""


def test_what_a_killed_process_left_is_taken_away(tmp_path, kept):
    kept.folder.mkdir(parents=True, mode=0o700)
    old, new = kept.folder / "1.part", kept.folder / "2.part"
    old.write_text("")
    new.write_text("")
    os.utime(old, (1, 1))
    answer(write(tmp_path))
    assert (old.exists(), new.exists()) == (False, True)


@pytest.mark.skipif(os.name != "posix", reason="a signal that kills")
def test_a_write_that_is_killed_leaves_no_table(tmp_path, kept):
    code = f"""
import os, signal, sys
from archcalc.words import cache
from archcalc.cli import _main
cache.SMALLEST_KEPT = 0
pieces = cache._pieces
def killed(parts):
    yield next(iter(pieces(parts)))
    os.kill(os.getpid(), signal.SIGKILL)
cache._pieces = killed
_main(['embed', {write(tmp_path)!r}, 'king'])
"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == -9
    assert [file.suffix for file in kept.folder.iterdir()] == [".part"]
    assert answer(str(tmp_path / "words.txt")) == fresh(str(tmp_path / "words.txt"))


def test_processes_at_once_agree(tmp_path, kept):
    path = write(tmp_path, "".join(f"w{n} {n} {n * n % 97} 1\n" for n in range(9_000)))
    asked = ("embed", path, "w1 - w2 + w3", "-f", "json")
    with ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(lambda _: spawn(*asked), range(6)))
    assert {done.code for done in answers} == {0}
    assert {done.out for done in answers} == {ask(*asked, "--no-cache").out}
    assert len(list(kept.folder.glob("*.words"))) == 1
    assert not list(kept.folder.glob("*.part"))


def test_a_pipe_is_never_kept(kept):
    assert ask("embed", "-", *ASKED, stdin=WORDS.encode()).err == ""
    assert not kept.folder.exists()


@pytest.mark.usefixtures("kept")
def test_words_in_parquet_are_kept(tmp_path, monkeypatch):
    parquet = pytest.importorskip("pyarrow.parquet", reason="the extra parquet")
    import numpy as np
    import pyarrow

    np.save(tmp_path / "table.npy", np.eye(3, dtype=np.float32))
    parquet.write_table(pyarrow.table({"word": ["a", "b\nc", "d"]}), tmp_path / "w.parquet")
    asked = ("embed", str(tmp_path / "table.npy"), '"b\nc"', "--rank", "d", "-f", "json")
    first = ask(*asked)
    assert "w.parquet for the next question" in first.err
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    second = ask(*asked)
    assert (second.code, second.out, second.err) == (0, first.out, "")
    assert {row["word"] for row in second.json["rows"]} == {"a", "b\nc", "d"}


def test_a_home_without_a_name_keeps_nothing(monkeypatch):
    monkeypatch.delenv("ARCHCALC_NO_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", "")
    assert keeping.place() is None
