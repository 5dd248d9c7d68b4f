"""A matrix of vectors in an .npy file, mapped into memory, and the file beside it that has its words.

Format (numpy.org/doc/stable/reference/generated/numpy.lib.format.html): a magic, a version, a header of a few keys,
the numbers. Nothing is unpickled.
"""

from __future__ import annotations

import os
import warnings
from tokenize import TokenError
from typing import TYPE_CHECKING, Any, BinaryIO

from archcalc.errors import Invalid, Missing, Problem, cut, shown
from archcalc.files.regular import names_in, open_file
from archcalc.units import grouped, several
from archcalc.words.cache import Cache
from archcalc.words.listfile import NAMES, open_words
from archcalc.words.matrix import MatrixVectors
from archcalc.words.wordfile import LARGEST_MATRIX, MOST_WORDS
from archcalc.words.wordlist import WordList

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

MAGIC = b"\x93NUMPY"
MOST_BESIDE = 64
"""Files beside a matrix that may be its words."""
_LONGEST_HEADER = 10_000
_VERSIONS = ((1, 0), (2, 0), (3, 0))
_UNPARSED = (ValueError, SyntaxError, TokenError, TypeError, KeyError, RecursionError, OverflowError, UserWarning)
"""What a header raises that is no description of an array."""


def open_npy(path: str, words: str | None, cache: Cache) -> MatrixVectors:
    """The vectors of an .npy file; `words` is the file of their words, None for the one beside it.

    Raises Missing where no words are found, Invalid for a file that is cut, pickled or no table of floats, and for
    words that are not as many as its rows.
    """
    with open_file(path) as file:
        matrix = _mapped(path, file)
    return MatrixVectors(path, matrix, _words(path, words, len(matrix), cache))


def _mapped(path: str, file: BinaryIO) -> Array:
    import numpy as np
    from numpy.lib import format as layout

    try:
        version = layout.read_magic(file)
        if version not in _VERSIONS:
            value = ".".join(map(str, version))
            raise Invalid(Problem(path, "has a version of .npy that is not supported", value=value))
        read = layout.read_array_header_1_0 if version == (1, 0) else layout.read_array_header_2_0
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # a header as Python 2 wrote it
            shape, columns_first, kind = read(file, max_header_size=_LONGEST_HEADER)
    except (*_UNPARSED, OSError, MemoryError) as error:
        reason = cut(str(error).split("\n")[0], 120)
        raise Invalid(Problem(path, f"is not a complete .npy file: {reason}")) from None
    if kind.hasobject:
        fix = "save the vectors alone, as an array of floats"
        raise Invalid(Problem(path, "holds pickled objects, which are not read", suggestion=fix))
    if kind.kind != "f" or kind.itemsize not in (2, 4, 8) or not _is_table(shape):
        value = f"{kind} of {list(shape)}"
        raise Invalid(Problem(path, "must be a table of float16, float32 or float64, words x numbers", value=value))
    if shape[0] > MOST_WORDS or shape[0] * shape[1] * 4 > LARGEST_MATRIX:
        what = f"has more than {MOST_WORDS:,} rows or {LARGEST_MATRIX:,} bytes of vectors in float32"
        raise Invalid(Problem(path, what, value=f"{list(shape)}"))
    begin, size = file.tell(), os.fstat(file.fileno()).st_size
    if size != (needed := begin + shape[0] * shape[1] * kind.itemsize):
        what = f"is {'cut' if size < needed else 'longer than its header says'}: {grouped(needed)} bytes are announced"
        raise Invalid(Problem(path, what, value=f"{grouped(size)}"))
    mapped = np.memmap(file, kind, "r", begin, shape, "F" if columns_first else "C")
    return mapped.view(np.ndarray)


def _is_table(shape: tuple[object, ...]) -> bool:
    """Whether there are rows and columns; a header may have any whole number, and true for 1."""
    return len(shape) == 2 and all(type(size) is int and size > 0 for size in shape)


def _words(path: str, named: str | None, rows: int, cache: Cache) -> WordList:
    """The words of the rows, from the file that is named or the only one beside it with as many."""
    if named is not None:
        words = open_words(named, cache, rows)
        if words is None or words.size != rows:
            got = None if words is None else grouped(words.size)
            what = f"must have {several(rows, 'word')} and nothing else, one for each row of {path}"
            raise Invalid(Problem(named, what, value=got))
        return words
    fix = "name the file of words with --words: one word a line, or a parquet file"
    folder = os.path.dirname(path)
    there = [name for name in names_in(folder or ".") if name.lower().endswith(NAMES)]
    if len(there) > MOST_BESIDE:
        raise Invalid(Problem(path, f"more than {MOST_BESIDE} files beside it may have its words", suggestion=fix))
    found: dict[str, WordList] = {}
    unread: list[Invalid | Missing] = []
    for name in there:
        beside = os.path.join(folder, name)
        try:
            words = open_words(beside, cache, rows)
        except (Invalid, Missing) as error:  # what is beside it may be anything
            unread.append(error)
            continue
        if words is not None and words.size == rows:
            found[beside] = words
    if len(found) > 1:
        what = f"{len(found)} files beside it have {several(rows, 'word')}"
        both = ", ".join(shown(os.path.basename(one)) for one in found)
        raise Invalid(Problem(path, what, value=both, suggestion=fix))
    if not found and len(unread) == 1:
        raise unread[0]
    if not found:
        what = f"has no words: no file beside it has {grouped(rows)} ({', '.join(NAMES)})"
        raise Missing(Problem(path, what, suggestion=fix))
    return next(iter(found.values()))
