"""The words of a table by their rows: one text of bytes in which a word is found without a dictionary.

`blob` has a line end before, between and after the words, and `starts` where each begins, with one more for the end.
Both may be mapped from a file, so that nothing is built for a question about three words.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]


class WordList(NamedTuple):
    """Words in the order of their rows. `base` is where the blob begins in what it is mapped from."""

    blob: bytes | mmap.mmap
    starts: Array
    base: int = 0

    @property
    def size(self) -> int:
        """How many words there are."""
        return len(self.starts) - 1

    def word(self, row: int) -> str:
        """The word of a row."""
        begin, end = self.base + int(self.starts[row]), self.base + int(self.starts[row + 1]) - 1
        return self.blob[begin:end].decode()

    def find(self, word: str) -> int | None:
        """The first row of a word, if it has one."""
        try:
            spelled = word.encode()
        except UnicodeEncodeError:  # how Python keeps an argument's bytes that are no text
            return None
        at, end = self.base, self.base + int(self.starts[-1])
        while (at := self.blob.find(b"\n" + spelled + b"\n", at, end)) >= 0:
            begin = at + 1 - self.base
            row = int(self.starts.searchsorted(begin))
            # A word with a line end in it looks like two.
            if row < self.size and self.starts[row] == begin and self.starts[row + 1] == begin + len(spelled) + 1:
                return row
            at += 1
        return None


def word_list(words: Iterable[str]) -> WordList:
    """Words as a list that is searched. Raises UnicodeEncodeError for one that has no UTF-8."""
    import numpy as np

    spelled = [word.encode() for word in words]
    lengths = np.fromiter(map(len, spelled), np.uint64, len(spelled))
    starts = np.ones(len(spelled) + 1, np.uint64)
    starts[1:] += np.cumsum(lengths + np.uint64(1))
    return WordList(b"\n" + b"\n".join([*spelled, b""]), starts)


def lines_list(data: bytes) -> WordList:
    """The same of a text of one word a line, in UTF-8 and with an end of line after the last."""
    import numpy as np

    ends = np.flatnonzero(np.frombuffer(data, np.uint8) == ord("\n")).astype(np.uint64)
    return WordList(b"\n" + data, np.concatenate([np.ones(1, np.uint64), ends + np.uint64(2)]))
