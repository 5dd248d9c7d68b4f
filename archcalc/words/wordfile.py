"""A bounded reader of vectors in text: a word and its numbers on each line, as word2vec and GloVe write them.

The file is read once, line by line, into float32; nothing else of it is kept but its words.
"""

from __future__ import annotations

import errno
import io
import os
import re
import select
import stat
import sys
from codecs import BOM_UTF8
from collections.abc import Iterator
from contextlib import contextmanager
from math import isfinite
from typing import IO, TYPE_CHECKING, Any

from archcalc.errors import Invalid, Missing, Problem, shown
from archcalc.files.reading import TooSlow, open_bytes
from archcalc.spec.scalars import plain_float
from archcalc.spec.source import STDIN, display_name, is_stdin
from archcalc.units import binary, grouped, several
from archcalc.words.vectors import Place, Vectors, rows_at_a_time
from archcalc.words.wordlist import WordList, word_list

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

LARGEST_MATRIX = 4 * 2**30
MOST_WORDS = 10_000_000
MOST_LINES = 2 * MOST_WORDS  # empty ones and words that stand again too
LONGEST_LINE = 2**20
MOST_SILENCE = 60
"""Seconds between the bytes of a pipe of vectors, which as a whole may take longer."""

_HEADER = re.compile(rb"\s*([0-9]{1,18})\s+([0-9]{1,18})\s*")
_HEXADECIMAL = re.compile(rb"[+-]?0[xX][0-9a-fA-F.]+(?:[pP][+-]?[0-9]+)?")


class WordVectors(Vectors):
    """The vectors of a file. Of a word that stands twice the first counts."""

    def __init__(self, name: str, dimensions: int) -> None:
        self.name = name
        self.dimensions = dimensions
        self._rows: dict[str, int] = {}
        self._words: list[str] = []
        self._blocks: list[Array] = []
        self._block_rows = rows_at_a_time(dimensions)

    def __len__(self) -> int:
        return len(self._words)

    def __contains__(self, word: str) -> bool:
        return word in self._rows

    def append(self, word: str, numbers: list[float]) -> bool:
        """Add a row; False where a number is not finite in float32, and then nothing is added."""
        import numpy as np

        row = len(self) % self._block_rows
        if row == 0 and len(self) == len(self._blocks) * self._block_rows:
            self._blocks.append(np.empty((self._block_rows, self.dimensions), np.float32))
        with np.errstate(over="ignore"):
            self._blocks[-1][row] = numbers
        if not np.isfinite(self._blocks[-1][row]).all():
            return False
        self._rows[word] = len(self)
        self._words.append(word)
        return True

    def label(self, row: int) -> str:
        return self._words[row]

    def find(self, word: str, where: str, *, exact: bool = False) -> Place:  # noqa: ARG002
        if word not in self._rows:
            raise self.unknown(word, where)
        return Place((self._rows[word],))

    def words(self) -> WordList:
        """The words of the rows."""
        return word_list(self._words)

    def blocks(self) -> Iterator[Array]:
        for n, block in enumerate(self._blocks):
            yield block[: len(self) - n * self._block_rows]

    def row(self, row: int) -> Array:
        import numpy as np

        vector: Array = self._blocks[row // self._block_rows][row % self._block_rows].astype(np.float64)
        return vector


def read_words(path: str) -> WordVectors:
    """The vectors of a text file, or of standard input for `-`; a first line of two integers is a header.

    Raises Missing where there is no file, Invalid for a line that is no word with as many numbers as the others, for
    a number that is not finite, and for more than LARGEST_MATRIX bytes of them.
    """
    with _opened(path) as file:
        return _Reader(display_name(path)).read(file)


@contextmanager
def _opened(path: str) -> Iterator[IO[bytes]]:
    if is_stdin(path):
        if sys.stdin is None:
            raise Missing(Problem(STDIN, "is closed"))
        try:
            yield _bounded(sys.stdin.buffer)
        except TooSlow as error:
            raise Invalid(Problem(STDIN, str(error.strerror))) from None
        return
    try:
        with open_bytes(path) as file:
            yield _bounded(file)
    except FileNotFoundError:
        what = "a file of vectors, or a directory of weights"
        raise Missing(Problem(path or "SOURCE", "no such file", suggestion=f"give {what}")) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise Invalid(Problem(path, f"cannot be read: {reason}")) from None


class _Pipe(io.RawIOBase):
    """A pipe of vectors, which may be long but not silent: no more than MOST_SILENCE seconds between its bytes."""

    def __init__(self, handle: int) -> None:
        self._handle = handle
        self._ready = select.poll()
        self._ready.register(handle, select.POLLIN)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._ready.poll(MOST_SILENCE * 1000):
            raise TooSlow(errno.ETIMEDOUT, f"was silent for {MOST_SILENCE} seconds before its end")
        data = os.read(self._handle, len(buffer))
        buffer[: len(data)] = data
        return len(data)


def _bounded(file: IO[bytes]) -> IO[bytes]:
    """The same file, where it is a pipe or a socket with a bound on its silence."""
    try:
        handle = file.fileno()
        mode = os.fstat(handle).st_mode
    except (OSError, ValueError):  # what stands for standard input in a test
        return file
    if not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)) or not hasattr(select, "poll"):
        return file
    return io.BufferedReader(_Pipe(handle), 2**16)


class _Reader:
    """Takes lines one after the other."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.line = 0
        self.vectors: WordVectors | None = None
        self.dimensions: int | None = None
        self.promised: int | None = None
        self.doubles = 0
        self.longer: list[tuple[int, str]] = []

    def read(self, file: IO[bytes]) -> WordVectors:
        while line := file.readline(LONGEST_LINE + 1):
            self.line += 1
            if self.line > MOST_LINES:
                raise self._wrong(f"more than {MOST_LINES:,} lines")
            if b"\0" in line:
                fix = "vectors must be in a format of word2vec or GloVe, or .npy; for a model, give its folder"
                raise Invalid(Problem(self.name, "is a binary file", suggestion=fix))
            if len(line) > LONGEST_LINE:
                raise self._wrong(f"a line longer than {LONGEST_LINE:,} bytes")
            if self.line == 1:
                line = line.removeprefix(BOM_UTF8)
                if header := _HEADER.fullmatch(line):
                    self._header(int(header[1]), int(header[2]))
                    continue
            if not line.isspace():
                self._take(line)
        if self.vectors is None:
            raise Invalid(Problem(self.name, "has no vectors" if self.line else "is empty"))
        if len(self.longer) == len(self.vectors) + self.doubles:  # then the header is wrong, not every word odd
            at, word = self.longer[0]
            message = (
                f"more than {several(self.vectors.dimensions, 'number')}, which the header promises, on every line"
            )
            raise Invalid(Problem(self.name, message, line=at, column=1, value=shown(word)))
        self.vectors.warnings = tuple(self._warnings(self.vectors))
        return self.vectors

    def _header(self, words: int, dimensions: int) -> None:
        if not words or not dimensions:
            raise self._wrong("a header of no words or no dimensions")
        self.promised, self.dimensions = words, dimensions

    def _take(self, line: bytes) -> None:
        if self.dimensions is None:
            self.dimensions = _count_numbers(line)
        dimensions = self.dimensions
        written, *texts = line.rsplit(None, dimensions)
        if not dimensions or len(texts) < dimensions:
            raise self._wrong(
                f"must be a word and {several(dimensions, 'number')}" if dimensions else "must be a word and numbers",
                value=shown(_text(line.strip())),
            )
        pieces = written.split()
        if len(pieces) > 1 and _like_number(pieces[-1]):
            if self.promised is None:  # else the word would take it in, and nobody know
                raise self._wrong(f"more than {several(dimensions, 'number')}", value=shown(_text(line.strip())))
            self.longer.append((self.line, _text(written.strip())))
        try:
            numbers = list(map(float, texts))
        except ValueError:
            raise self._wrong_number(line, dimensions) from None
        if b"_" in line and any(b"_" in text for text in texts):  # which Python reads as a number, 1_0 as 10
            raise self._wrong_number(line, dimensions)
        if self.vectors is None:
            self.vectors = WordVectors(self.name, dimensions)
        word = _text(written.strip())
        self._refuse_more(self.vectors)
        if word in self.vectors:
            self.doubles += 1
            if not all(map(isfinite, numbers)):
                raise self._wrong_number(line, dimensions)
        elif not self.vectors.append(word, numbers):
            raise self._wrong_number(line, dimensions)

    def _refuse_more(self, vectors: WordVectors) -> None:
        if (len(vectors) + 1) * vectors.dimensions * 4 > LARGEST_MATRIX:
            message = f"more than {binary(LARGEST_MATRIX)} of vectors in float32"
        elif len(vectors) == MOST_WORDS:
            message = f"more than {MOST_WORDS:,} words"
        else:
            return
        raise self._wrong(message, suggestion=f"the lines before it can be read: `head -n {self.line - 1}`")

    def _wrong(self, message: str, *, value: str | None = None, suggestion: str | None = None) -> Invalid:
        return Invalid(Problem(self.name, message, line=self.line, column=1, value=value, suggestion=suggestion))

    def _wrong_number(self, line: bytes, dimensions: int) -> Invalid:
        """The first that is none, with its column."""
        import numpy as np

        spans = list(re.finditer(rb"\S+", line))[-dimensions:]
        with np.errstate(over="ignore"):
            wrong = next(s for s in spans if (x := plain_float(s[0])) is None or not np.isfinite(np.float32(x)))
        column = len(_text(line[: wrong.start()])) + 1
        value = shown(_text(wrong[0]))
        message = f"must be a finite number of float32, as {several(dimensions, 'number')} after each word are"
        return Invalid(Problem(self.name, message, line=self.line, column=column, value=value))

    def _warnings(self, vectors: WordVectors) -> Iterator[str]:
        if self.promised is not None and self.promised != len(vectors) + self.doubles:
            there = grouped(len(vectors) + self.doubles)
            yield f"the header promises {several(self.promised, 'word')}; {there} are there"
        if self.longer:
            count = len(self.longer)
            ends = "1 word ends" if count == 1 else f"{count:,} words end"
            vector = f"the last {several(vectors.dimensions, 'number')}"
            yield f"{ends} in a number, as {shown(self.longer[0][1])} does: its vector is {vector}"
        if self.doubles:
            yield f"{several(self.doubles, 'line')} repeat an earlier word: the first vector of each is used"


def _count_numbers(line: bytes) -> int:
    """How many numbers end the first line; its first field is the word, whatever it is."""
    count = 0
    for field in reversed(line.split()[1:]):
        if not _like_number(field):
            break
        count += 1
    return count


def _like_number(field: bytes) -> bool:
    """Whether something stands where a number may stand: one that is read, or one written as elsewhere, 1_0 or 0x1."""
    try:
        float(_text(field))
    except ValueError:
        return _HEXADECIMAL.fullmatch(field) is not None
    return True


def _text(data: bytes) -> str:
    """Words that are not UTF-8 are there too, with escapes for what is not."""
    return data.decode("utf-8", "backslashreplace")
