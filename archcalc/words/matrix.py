"""Vectors that lie in one matrix, held or mapped from a file, and the words of its rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from archcalc.errors import Invalid, Problem
from archcalc.words.vectors import Place, Vectors, rows_at_a_time
from archcalc.words.wordlist import WordList

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]


class MatrixVectors(Vectors):
    """A row for each word of a list. Of a word that stands twice the first counts.

    A number that is not finite is told when it is used.
    """

    def __init__(self, name: str, matrix: Array, words: WordList, warnings: tuple[str, ...] = ()) -> None:
        self.name, self.warnings = name, warnings
        self.dimensions = int(matrix.shape[1])
        self._matrix, self._words = matrix, words

    def __len__(self) -> int:
        return len(self._matrix)

    def label(self, row: int) -> str:
        return self._words.word(row)

    def find(self, word: str, where: str, *, exact: bool = False) -> Place:  # noqa: ARG002
        row = self._words.find(word)
        if row is None:
            raise self.unknown(word, where)
        return Place((row,))

    def blocks(self) -> Iterator[Array]:
        step = rows_at_a_time(self.dimensions)
        for start in range(0, len(self), step):
            yield self._read(start, start + step)

    def row(self, row: int) -> Array:
        import numpy as np

        vector: Array = self._read(row, row + 1)[0].astype(np.float64)
        return vector

    def _read(self, start: int, end: int) -> Array:
        import numpy as np

        with np.errstate(over="ignore"):  # what is too large for float32 becomes inf, and is told
            block: Array = self._matrix[start:end].astype(np.float32, copy=False)
        if not np.isfinite(block).all():
            row = f"row {start + int(np.isfinite(block).all(axis=1).argmin()):,}"
            raise Invalid(Problem(self.name, f"{row} has a number that is not finite in float32"))
        return block
