"""A model's own vectors: its token embedding, mapped from the file of weights, and the tokens that name its rows."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from archcalc.errors import Invalid, Problem, cut, shown
from archcalc.files.regular import open_file
from archcalc.spec.catalogue import gguf_in
from archcalc.spec.configs import GGUF
from archcalc.words.vectors import Place, Vectors, rows_at_a_time, unparted

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]
    Rows = Callable[[int, int], Array]


class TokenVectors(Vectors):
    """The embedding table of the model in a folder or a file, or of the newest that a training run keeps there.

    With `average` a word of several tokens has the mean of their vectors, else it has none.
    """

    def __init__(self, source: str, *, average: bool = False) -> None:
        from archcalc.spec.checkpoints import weights_in
        from archcalc_reference.text.tokenizer import read_tokenizer, refuse_bytes

        chosen = None if os.path.isfile(source) else weights_in(source)
        self.name = source if chosen is None else str(chosen.path)
        gguf = self.name if self.name.endswith(GGUF) else gguf_in(self.name)
        beside = gguf or (os.path.dirname(self.name) if os.path.isfile(self.name) else self.name)
        header, self._rows = gguf_rows(gguf) if gguf else _open_table(self.name, beside)
        self._file, self._tensor = header.file, header.name
        self._count: int = header.shape[0]
        self.dimensions = header.shape[1]
        self._average = average
        self._tokens = read_tokenizer(beside)
        refuse_bytes(self._tokens, beside, "its table", self._count)

    def __len__(self) -> int:
        return self._count

    def label(self, row: int) -> str:
        """The text of a row's token; incomplete characters are escaped."""
        from archcalc_reference.text.tokenizer import NO_TOKEN

        spelled = self._tokens.token_bytes(row)
        if spelled is NO_TOKEN:  # tables are padded; by identity, since GPT-2 has a token of the same bytes
            return f"row {row:,}"
        return spelled.decode(errors="backslashreplace")

    def find(self, word: str, where: str, *, exact: bool = False) -> Place:
        """A word is one token: after a blank, as words are within a text, else as it stands.

        Without the blank a byte-level token is the beginning of texts and the end of other words too. In quotes,
        `exact`, a word is taken as it stands first.
        """
        if any("\ud800" <= c <= "\udfff" for c in word):  # how Python keeps an argument's bytes that are no text
            raise Invalid(Problem(where, "is not UTF-8", value=shown(word)))
        alone, change = self._tokens.cut(word)
        if change is not None and change.loses and alone:
            raise Invalid(Problem(where, f"is changed by {self._tokens.name}: {change.what}", value=shown(word)))
        found = [alone]
        with suppress(Invalid):  # a vocabulary may have no space
            found.append(self._tokens.encode(f" {word}"))
        if not exact:
            found.reverse()
        rows = list(dict.fromkeys(ids[0] for ids in found if len(ids) == 1))
        # A blank that is a token of its own, as it is among bytes, is no part of a word.
        cut_up = alone if found[0][1:] == alone else found[0]
        pieces = [row] if (row := next(iter(rows), None)) is not None else cut_up
        if (most := max(pieces, default=0)) >= len(self):
            raise Invalid(Problem(where, f"{shown(word)} is token {most:,}; the table has {len(self):,} rows"))
        if row is None:
            return self._several(word, pieces, where)
        other = f", preferred to {shown(self.label(rows[1]))}" if len(rows) > 1 else ""
        return Place((row,), f"{word} is token {row:,}, {shown(self.label(row))}{other}")

    def _several(self, word: str, ids: list[int], where: str) -> Place:
        pieces = cut(" + ".join(shown(self.label(i)) for i in ids), 120)
        apart = unparted(word)
        if pieces and self._average and not apart:
            return Place(tuple(ids), f"{word} is the mean of {len(ids):,} tokens, {pieces}")
        what = f"is several tokens, {pieces}" if pieces else "is not a token"
        fix = "only a word of one token has a vector; --average takes the mean" if pieces else ""
        raise Invalid(Problem(where, what, value=shown(word), suggestion=apart or fix or None))

    def blocks(self) -> Iterator[Array]:
        step = rows_at_a_time(self.dimensions)
        for start in range(0, len(self), step):
            yield self._read(start, min(start + step, len(self)))

    def row(self, row: int) -> Array:
        import numpy as np

        vector: Array = self._read(row, row + 1)[0].astype(np.float64)
        return vector

    def _read(self, start: int, end: int) -> Array:
        import numpy as np

        with np.errstate(over="ignore"):  # what is too large for float32 becomes inf, and is told
            block = self._rows(start, end)
        if not (good := np.isfinite(block).all(axis=1)).all():
            row = f"row {start + int(good.argmin()):,}"
            raise Invalid(Problem(self._file, f"{row} has a number that is not finite in float32", self._tensor))
        return block


def gguf_rows(path: str) -> tuple[Any, Rows]:
    """The header of a GGUF file's table of tokens, and what dequantizes rows of it."""
    from archcalc.huggingface.stored import read_stored
    from archcalc_reference.weights.ggufs import NAMES, open_gguf

    name = f"{NAMES.table}"
    header = next((one.header for one in read_stored(path, lambda _: False).weights if one.header.name == name), None)
    if header is None:
        raise Invalid(Problem(path, "has no token embedding", suggestion=f"expected {name}"))
    if len(header.shape) != 2 or not all(header.shape):
        raise Invalid(Problem(header.file, "must be a table", name, value=f"{list(header.shape)}"))
    with open_gguf(header.file, {}) as tensors:
        return header, lambda start, end: tensors.rows(name, start, end)


def _open_table(source: str, folder: str) -> tuple[Any, Rows]:
    """The table's header, and what reads rows of it, only those that are asked for, as float32."""
    import numpy as np

    from archcalc.huggingface.headers import read_header
    from archcalc.huggingface.shards import read_files
    from archcalc_reference.files import CONFIG
    from archcalc_reference.weights.configuration import is_tied, read_config
    from archcalc_reference.weights.headers import TYPES, open_tensors, read_headers
    from archcalc_reference.weights.layouts import of_the_text_model, whose

    headers = read_headers(source) if source == folder else read_files([source]).headers
    names, config = [header.name for header in headers], read_config(folder)
    family = whose(names, config, os.path.join(folder, CONFIG))
    if family is None:
        fix = "its tensors are named as in no known family of models"
        raise Invalid(Problem(source, "has no token embedding", suggestion=fix))
    kept = of_the_text_model(names, config, family)
    stored = {family.full(header.name): header for header in headers if header.name in kept}
    # A tied table may be stored as the head alone.
    table = stored.get(family.table)
    if table is None and is_tied(folder, family):
        table = stored.get(family.head)
    if table is None:
        raise Invalid(Problem(source, "has no token embedding", suggestion=f"expected {family.table}"))
    if len(table.shape) != 2 or not all(table.shape) or table.type not in TYPES:
        value = f"{table.type} of {list(table.shape)}"
        raise Invalid(Problem(table.file, "must be a table of floats", table.name, value=value))
    if table.type == "BF16":  # numpy has none: it is the upper half of a float32
        begin = read_header(table.file).places[table.stored]
        with open_file(table.file) as file:
            halves = np.memmap(file, "<u2", "r", begin, tuple(table.shape)).view(np.ndarray)
        return table, lambda start, end: (halves[start:end].astype("<u4") << 16).view("<f4")
    view = open_tensors(table.file, "numpy").get_slice(table.stored)
    return table, lambda start, end: view[start:end].astype(np.float32)
