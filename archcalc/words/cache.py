"""What was read of a slow file of words or vectors, kept for the next question.

A table is kept under the SHA-256 of the file that it was read from, and beside it, under the file's path, which
content that path had and its stamp: device, inode, size, and the times when it was modified and changed. The same
stamp, if it was a minute old when the file was read, is the same content, since no program sets the time of a
change; a change through a writable map of the file shows once its page was written out, which takes Linux up to 35
seconds. For another stamp, and on systems that have no such time, the content is read and compared. So a table is used
for the bytes that it was made of and for no others. Its own bytes are held against a checksum: a damaged one is made
again.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import time
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from archcalc.errors import Invalid, Missing
from archcalc.files.keeping import keep, open_kept
from archcalc.files.regular import open_file
from archcalc.units import binary
from archcalc.words.wordlist import WordList

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

_FORMAT = b"archcalc words 1"  # another number where a table would be read otherwise
SMALLEST_KEPT = 2**16
"""Bytes of a file; smaller ones are read in a blink."""
_SETTLED = 60 * 10**9  # nanoseconds: by then the system has written what programs changed through maps of the file
_CHANGES = os.name == "posix"  # elsewhere st_ctime is when a file was made
_LARGEST_HEAD = 2**20
_PIECE = 2**20
_ALIGNED = 64


class Table(NamedTuple):
    """What a file says: words, their vectors (words x numbers, 0 of a file of words alone), and what is told of it."""

    words: WordList
    matrix: Array
    warnings: tuple[str, ...]


class Cache:
    """The tables that are kept; `used` switches it off. `said` has a line for each table that was written."""

    def __init__(self, *, used: bool = True) -> None:
        self.used = used
        self.said: list[str] = []
        self._before: dict[str, tuple[str, list[int], bool]] = {}

    def get(self, path: str) -> Table | None:
        """The table of a file's content as it is now, if it is kept. Raises as `open_file` does."""
        if not self.used:
            return None
        with open_file(path) as file:
            stamp, settled = _stamp(file.fileno())
            if os.fstat(file.fileno()).st_size < SMALLEST_KEPT:
                return None
            known = _read_note(path)
            trusted = known is not None and known[1] == stamp and known[2] and _CHANGES
            if known is not None and trusted:
                content = known[0]
            else:
                content = _digest(file)
                if _stamp(file.fileno())[0] != stamp:
                    return None  # it is being written to
            self._before[path] = content, stamp, settled
        table = _read_table(content)
        if table is not None and not trusted:
            _write_note(path, content, stamp, settled=settled)
        return table

    def put(self, path: str, words: WordList, blocks: Iterable[Array] = (), warnings: Sequence[str] = ()) -> None:
        """Keep what was read of a file, after `get` did not have it and if the file is still what it was then.

        `blocks` are the vectors in float32, some rows at a time; none where there are words alone.
        """
        before = self._before.get(path)
        if before is None:
            return
        content, stamp, settled = before
        try:
            with open_file(path) as file:  # all of it: within one tick of the clock a stamp does not show a change
                if _digest(file) != content or _stamp(file.fileno())[0] != stamp:
                    return
        except (Invalid, Missing):
            return
        parts = _parts(words, list(blocks), warnings)
        size = sum(_aligned(sum(map(len, part))) for part in parts) + 4
        if keep(_table_name(content), _pieces(parts), size):
            _write_note(path, content, stamp, settled=settled)
            self.said.append(f"kept {binary(size)} of {path} for the next question (--no-cache: keep nothing)")


def _stamp(handle: int) -> tuple[list[int], bool]:
    """What changes with a file, and whether a change from now on would show."""
    found = os.fstat(handle)
    stamp = [found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns]
    return stamp, max(found.st_mtime_ns, found.st_ctime_ns) + _SETTLED < time.time_ns()


def _digest(file: Any) -> str:
    whole = hashlib.sha256()
    file.seek(0)
    while piece := file.read(_PIECE):
        whole.update(piece)
    return whole.hexdigest()


# The note beside a path


def _note_name(path: str) -> str:
    return hashlib.sha256(os.fsencode(os.path.realpath(path))).hexdigest() + ".note"


def _read_note(path: str) -> tuple[str, list[int], bool] | None:
    file = open_kept(_note_name(path))
    if file is None:
        return None
    with file:
        try:
            content, stamp, settled = json.loads(file.read(4096))
        except (ValueError, TypeError, OSError, RecursionError):
            return None
    if type(content) is not str or type(settled) is not bool or not content.isalnum() or len(content) != 64:
        return None
    return content, stamp, settled


def _write_note(path: str, content: str, stamp: list[int], *, settled: bool) -> None:
    data = json.dumps([content, stamp, settled]).encode()
    keep(_note_name(path), [data], len(data))


# The table


def _table_name(content: str) -> str:
    return f"{content}.words"


def _parts(words: WordList, blocks: list[Array], warnings: Sequence[str]) -> list[list[memoryview]]:
    """The bytes of a table: a line that says how they are parted, the words, where they begin, the vectors."""
    import numpy as np

    about = {
        "words": words.size,
        "dimensions": int(blocks[0].shape[1]) if blocks else 0,
        "blob": len(words.blob),
        "warnings": list(warnings),
    }
    arrays: list[Array] = [np.frombuffer(memoryview(words.blob), np.uint8), words.starts.astype(np.uint64)]
    vectors = [np.ascontiguousarray(block, np.float32) for block in blocks]
    head = memoryview(_FORMAT + json.dumps(about).encode() + b"\n")
    return [[head], *([array.data.cast("B")] for array in arrays), [array.data.cast("B") for array in vectors]]


def _pieces(parts: list[list[memoryview]]) -> Iterator[bytes | memoryview]:
    """Parts from multiples of 64, and a checksum of them all."""
    checksum = 0
    for part in parts:
        filling = memoryview(b"\0" * (-sum(map(len, part)) % _ALIGNED))
        for piece in (*part, filling):
            checksum = zlib.crc32(piece, checksum)
            yield piece
    yield checksum.to_bytes(4, "little")


def _read_table(content: str) -> Table | None:
    """A table that is kept, mapped into memory; None where there is none, or a damaged one."""
    file = open_kept(_table_name(content))
    if file is None:
        return None
    with file:
        try:
            return _mapped(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        except (ValueError, TypeError, KeyError, AttributeError, OSError, RecursionError, OverflowError):
            return None


def _mapped(data: mmap.mmap) -> Table | None:
    import numpy as np

    with memoryview(data) as view:
        if zlib.crc32(view[:-4]) != int.from_bytes(view[-4:], "little"):
            return None
    end = data.find(b"\n", 0, _LARGEST_HEAD)
    if end < 0 or data[: len(_FORMAT)] != _FORMAT:
        return None
    about = json.loads(data[len(_FORMAT) : end])
    count, dimensions, length = int(about["words"]), int(about["dimensions"]), int(about["blob"])
    begin = _aligned(end + 1)
    at = _aligned(begin + length)
    starts = np.frombuffer(data, np.uint64, count + 1, at)
    at = _aligned(at + starts.nbytes)
    matrix = np.frombuffer(data, np.float32, count * dimensions, at).reshape(count, dimensions)
    at = _aligned(at + matrix.nbytes)
    if at + 4 != len(data) or int(starts[-1]) != length:
        return None
    return Table(WordList(data, starts, begin), matrix, tuple(map(str, about["warnings"])))


def _aligned(offset: int) -> int:
    return offset + -offset % _ALIGNED
