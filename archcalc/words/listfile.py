"""A file of words alone: one a line, or a column of a parquet file, which the package pyarrow reads."""

from __future__ import annotations

import os
import re
from codecs import BOM_UTF8
from typing import Any

from archcalc.errors import Invalid, Problem, cut, shown
from archcalc.files.regular import open_file, read_regular
from archcalc.packages import needed
from archcalc.words.cache import Cache
from archcalc.words.wordfile import MOST_WORDS
from archcalc.words.wordlist import WordList, lines_list, word_list

PARQUET = ".parquet"
NAMES = (".txt", ".words", ".vocab", PARQUET)
"""How the names of files end that may have the words of a matrix beside them."""
LARGEST_WORDS = 512 * 2**20
_COLUMNS = ("word", "words", "token", "tokens", "index", "text", "term", "__index_level_0__")
_VECTOR = re.compile(rb"[^\s]+(?: [-+0-9.eE]+){2,} ?\r?\n|[0-9]+ [0-9]+\r?\n")
"""The first line of a file of vectors in text."""
_BATCH = 4096  # rows that are decoded at a time


def open_words(path: str, cache: Cache, rows: int) -> WordList | None:
    """The words of a file; None where it is seen at once that there are not `rows` of them, or vectors with them.

    Raises Missing without the file or the package pyarrow, Invalid for what is damaged, too large or not UTF-8.
    """
    with open_file(path) as file:
        start, size = file.read(4), os.fstat(file.fileno()).st_size
    if start == b"PAR1":
        kept = cache.get(path)
        if kept is not None:
            return kept.words
        words = _parquet(path, rows)
        if words is not None:
            cache.put(path, words)
        return words
    if size > LARGEST_WORDS:
        raise Invalid(Problem(path, f"has more than {LARGEST_WORDS:,} bytes of words"))
    return None if size < 2 * rows - 1 else _lines(path, size)


def _lines(path: str, size: int) -> WordList | None:
    data = read_regular(path, size).removeprefix(BOM_UTF8)
    if _VECTOR.match(data):
        return None
    try:
        data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise Invalid(Problem(path, "is not UTF-8", line=line, column=1, value=f"{data[error.start]:#04x}")) from None
    if b"\0" in data:
        raise Invalid(Problem(path, "is a binary file", suggestion="words stand one a line, or in a parquet file"))
    data = data.replace(b"\r\n", b"\n")
    if data and not data.endswith(b"\n"):
        data += b"\n"
    if data.count(b"\n") > MOST_WORDS:
        raise Invalid(Problem(path, f"has more than {MOST_WORDS:,} words"))
    return lines_list(data)


def _parquet(path: str, rows: int) -> WordList | None:
    package = needed("pyarrow", path, "parquet")
    needed("pyarrow.compute", path, "parquet")
    parquet = needed("pyarrow.parquet", path, "parquet")
    try:
        with open_file(path) as handle, parquet.ParquetFile(handle) as file:
            if file.metadata.num_rows != rows:
                return None
            column = _column(path, package, file.schema_arrow)
        words: list[str] = []
        total = 0
        with open_file(path) as handle, parquet.ParquetFile(handle, read_dictionary=[column]) as file:
            for batch in file.iter_batches(_BATCH, columns=[column], use_threads=False):
                found = batch.column(0)
                if found.null_count:
                    row = len(words) + found.is_null().to_pylist().index(True)
                    raise Invalid(Problem(path, f"row {row:,} has no word", column))
                # A word that stands in many rows is stored once: their size is known before they are written out.
                total += len(found) + package.compute.sum(_lengths(package, found)).as_py()
                if total > LARGEST_WORDS:
                    raise Invalid(Problem(path, f"has more than {LARGEST_WORDS:,} bytes of words"))
                words += found.dictionary_decode().to_pylist()
    except UnicodeDecodeError:
        raise Invalid(Problem(path, "has words that are not UTF-8")) from None
    except (OSError, package.ArrowException) as error:
        reason = cut(str(error).split("\n")[0], 120)
        raise Invalid(Problem(path, f"is not a complete parquet file: {reason}")) from None
    return word_list(words)


def _lengths(package: Any, found: Any) -> Any:
    """The bytes of each word of an array with a dictionary."""
    return package.compute.binary_length(found.dictionary).cast(package.int64()).take(found.indices)


def _column(path: str, package: Any, schema: Any) -> str:
    """The column of words: the only one of texts, or the one that is named so."""
    kinds = package.types
    texts = [
        field.name
        for field in schema
        if kinds.is_string(field.type)
        or kinds.is_large_string(field.type)
        or (kinds.is_dictionary(field.type) and kinds.is_string(field.type.value_type))
    ]
    chosen = texts if len(texts) == 1 else [name for name in texts if name.lower() in _COLUMNS]
    if len(chosen) != 1 or schema.names.count(chosen[0]) != 1:
        value = ", ".join(map(shown, texts[:5])) or "none"
        raise Invalid(Problem(path, f"must have one column of texts, or one named {_COLUMNS[0]}", value=value))
    return str(chosen[0])
