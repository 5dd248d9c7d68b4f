"""word2vec's binary format: a line with two counts, then for each word its bytes, a blank and its float32 numbers.

The C program of word2vec (code.google.com/archive/p/word2vec, word2vec.c, TrainModel) writes a line end after each
row, gensim none; both are read.
"""

from __future__ import annotations

import mmap
import re
from typing import TYPE_CHECKING, Any

from archcalc.errors import Invalid, Problem
from archcalc.files.regular import open_file
from archcalc.units import grouped, several
from archcalc.words.cache import Table
from archcalc.words.wordfile import LARGEST_MATRIX, MOST_WORDS
from archcalc.words.wordlist import word_list

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

LONGEST_WORD = 4096
_COUNTS = re.compile(rb"([0-9]{1,18}) ([0-9]{1,18})\s*\n")
_WRITTEN = re.compile(rb"[\s0-9.eE+naifNAIF-]*")
"""Bytes of numbers that are written in digits."""
_CONTROLS = re.compile(rb"[\0-\x08\x0e-\x1f\x7f]")


def is_binary(start: bytes) -> bool:
    """Whether a file that begins so is word2vec's, in the binary format and not in text."""
    counts = _COUNTS.match(start)
    if counts is None:
        return False
    dimensions = int(counts[2])
    _, _, numbers = start[counts.end() :].partition(b" ")
    line = numbers.partition(b"\n")[0]
    if _WRITTEN.fullmatch(line) and len(line.split()) == dimensions:
        return False
    return _CONTROLS.search(numbers[: 4 * dimensions]) is not None or not _is_text(numbers[: 4 * dimensions])


def _is_text(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError as error:
        return error.end == len(data)  # a character that is cut there
    return True


def read_binary(path: str) -> Table:
    """The words and vectors of a file. Raises Invalid, with the row, for one that is cut, or longer than it says."""
    import numpy as np

    with open_file(path) as file:
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    with data:
        counts = _COUNTS.match(data[:64])
        if counts is None:
            raise Invalid(Problem(path, "has no line of two counts"))
        at, count, dimensions = counts.end(), int(counts[1]), int(counts[2])
        if not count or not dimensions or count > MOST_WORDS or count * dimensions * 4 > LARGEST_MATRIX:
            what = f"must have 1 to {MOST_WORDS:,} words and at most {LARGEST_MATRIX:,} bytes of vectors"
            raise Invalid(Problem(path, what, value=f"{count:,} x {dimensions:,}"))
        width = 4 * dimensions
        if len(data) - at < count * (width + 1):
            what = f"is cut: its header says {several(count, 'word')} of {several(dimensions, 'number')}"
            raise Invalid(Problem(path, what, value=f"{grouped(len(data))} bytes"))
        matrix = np.empty((count, dimensions), np.float32)
        words: list[str] = []
        rows: dict[str, int] = {}
        escaped = 0
        for number in range(count):
            begin = at + (data[at : at + 1] == b"\n")
            blank = data.find(b" ", begin, begin + LONGEST_WORD + 1)
            if blank < 0:
                what = f"row {number:,} has no blank after a word of at most {LONGEST_WORD:,} bytes"
                raise Invalid(Problem(path, what))
            at = blank + 1 + width
            if at > len(data):
                raise Invalid(Problem(path, f"is cut in row {number:,} of {count:,}"))
            spelled = data[begin:blank]
            word = spelled.decode(errors="backslashreplace")
            escaped += word.encode() != spelled
            if word in rows:
                continue
            matrix[len(words)] = np.frombuffer(data, "<f4", dimensions, blank + 1)
            if not np.isfinite(matrix[len(words)]).all():
                raise Invalid(Problem(path, f"row {number:,} has a number that is not finite"))
            rows[word] = len(words)
            words.append(word)
        rest = len(data) - at - (data[at : at + 1] == b"\n")
        if rest:
            raise Invalid(Problem(path, f"has {several(rest, 'byte')} more than its header says"))
    told = []
    if escaped:
        told.append(f"{several(escaped, 'word')} not in UTF-8: what is not is escaped")
    if doubles := count - len(words):
        told.append(f"{several(doubles, 'row')} repeat an earlier word: the first vector of each is used")
    return Table(word_list(words), matrix[: len(words)], tuple(told))
