"""Which reader a source of vectors has: by its folder, its name's ending, its first bytes."""

from __future__ import annotations

import os
import stat

from archcalc.errors import Invalid, Problem
from archcalc.files.regular import open_file
from archcalc.spec.source import is_stdin
from archcalc.words.cache import Cache
from archcalc.words.matrix import MatrixVectors
from archcalc.words.vectors import Vectors
from archcalc.words.word2vec import is_binary, read_binary
from archcalc.words.wordfile import read_words

_LOOKED_AT = 2**16  # bytes
_NOT_READ = {
    b"PAR1": ("is a parquet file, of which words alone are read", "give an .npy of vectors, and it with --words"),
    b"PK\x03\x04": ("is an archive (zip), as .npz is", "save one array in it as .npy"),
    b"\x1f\x8b": ("is compressed (gzip)", "unpack it first"),
    b"\xba\x16\x4f\x2f": ("is a model of fastText, which is not read", "give its .vec file"),
    b"\x80": ("is a pickle, which is not read", "save its vectors in word2vec's format, or as .npy"),
}
"""What files begin with that hold vectors in a way that is not read: what is said, and what to do."""


def open_vectors(source: str, words: str | None, cache: Cache, *, average: bool = False) -> Vectors:
    """The vectors of a source: a folder or file of weights, an .npy, a file of word2vec or GloVe, `-` for a pipe.

    `words` is the file of an .npy file's words, None for the one beside it. With `average` a word that a model cuts
    into several tokens has the mean of their vectors. What was read slowly is kept in `cache`.

    Raises Missing for what is not there, Invalid for what is damaged, too large or of another kind.
    """
    model = os.path.isdir(source) or source.endswith((".gguf", ".safetensors"))
    start = b"" if model or not _is_file(source) else _start(source)
    matrix = start.startswith(b"\x93NUMPY") or (source.endswith(".npy") and not model and bool(start))
    if words is not None and not matrix:
        raise Invalid(Problem("--words", "names the words of an .npy file; SOURCE has its own", value=words))
    if average and not model:
        raise Invalid(Problem("--average", "is for the tokens of a model; SOURCE has words", value=source))
    if model:
        from archcalc.words.tokentable import TokenVectors

        return TokenVectors(source, average=average)
    if matrix:
        from archcalc.words.npyfile import open_npy

        return open_npy(source, words, cache)
    for magic, (what, fix) in _NOT_READ.items():
        if start.startswith(magic):
            raise Invalid(Problem(source, what, suggestion=fix))
    if not start:
        return read_words(source)
    table = cache.get(source)
    if table is None and is_binary(start):
        table = read_binary(source)
        cache.put(source, table.words, [table.matrix], table.warnings)
    if table is not None:
        return MatrixVectors(source, table.matrix, table.words, table.warnings)
    vectors = read_words(source)
    if cache.used:
        cache.put(source, vectors.words(), vectors.blocks(), vectors.warnings)
    return vectors


def _is_file(source: str) -> bool:
    """Whether it is a file with something in it, which can be read twice; what is wrong with it, its reader says."""
    try:
        found = os.stat(source)
    except (OSError, ValueError):
        return False
    return not is_stdin(source) and stat.S_ISREG(found.st_mode) and found.st_size > 0


def _start(source: str) -> bytes:
    with open_file(source) as file:
        return file.read(_LOOKED_AT)
