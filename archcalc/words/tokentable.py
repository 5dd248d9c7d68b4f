"""A model's own vectors: its token embedding, mapped from the file of weights, and the tokens that name its rows."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from archcalc.errors import Invalid, Problem, cut, shown
from archcalc.packages import needed
from archcalc.words.vectors import Place, Vectors, rows_at_a_time

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]


class TokenVectors(Vectors):
    """The embedding table of the model in a folder, or of the newest that a training run keeps there."""

    def __init__(self, folder: str) -> None:
        from archcalc.spec.checkpoints import weights_in
        from archcalc_reference.text.tokenizer import read_tokenizer, refuse_bytes

        chosen = weights_in(folder)
        self.name = folder if chosen is None else str(chosen.path)
        header, self._table, self._as_floats = _open_table(self.name)
        self._file, self._tensor = header.file, header.name
        shape: list[int] = self._table.get_shape()
        self._count, self.dimensions = shape
        self._tokens = read_tokenizer(self.name)
        refuse_bytes(self._tokens, self.name, "its table", self._count)

    def __len__(self) -> int:
        return self._count

    def label(self, row: int) -> str:
        """The text of a row's token; incomplete characters are escaped."""
        from archcalc_reference.text.tokenizer import NO_TOKEN

        spelled = self._tokens.token_bytes(row)
        if spelled is NO_TOKEN:  # tables are padded; by identity, since GPT-2 has a token of the same bytes
            return f"row {row:,}"
        return spelled.decode(errors="backslashreplace")

    def find(self, word: str, where: str) -> Place:
        """A word is one token: as it stands, else after a space, as words are within a text."""
        if any("\ud800" <= c <= "\udfff" for c in word):  # how Python keeps an argument's bytes that are no text
            raise Invalid(Problem(where, "is not UTF-8", value=shown(word)))
        alone, change = self._tokens.cut(word)
        if change is not None and change.loses and alone:
            raise Invalid(Problem(where, f"is changed by {self._tokens.name}: {change.what}", value=shown(word)))
        found = [alone]
        with suppress(Invalid):  # a vocabulary may have no space
            found.append(self._tokens.encode(f" {word}"))
        rows = list(dict.fromkeys(ids[0] for ids in found if len(ids) == 1))
        if not rows:
            raise self._several(word, alone, where)
        row, *others = rows
        if row >= len(self):
            raise Invalid(Problem(where, f"{shown(word)} is token {row:,}; the table has {len(self):,} rows"))
        also = [f"{shown(self.label(other))} is one too" for other in others]
        return Place(row, "; ".join([f"{word} is token {row:,}, {shown(self.label(row))}", *also]))

    def _several(self, word: str, ids: list[int], where: str) -> Invalid:
        pieces = " + ".join(shown(self.label(i)) for i in ids)
        what = f"is several tokens, {cut(pieces, 120)}" if pieces else "is not a token"
        return Invalid(Problem(where, what, value=shown(word), suggestion="only a word of one token has a vector"))

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
            block = self._as_floats(self._table[start:end])
        if not (good := np.isfinite(block).all(axis=1)).all():
            row = f"row {start + int(good.argmin()):,}"
            raise Invalid(Problem(self._file, f"{row} has a number that is not finite in float32", self._tensor))
        return block


def _open_table(folder: str) -> tuple[Any, Any, Callable[[Any], Array]]:
    """The table's header, a view that reads only the rows that are asked for, and what makes float32 of them."""
    import numpy as np

    from archcalc_reference.files import CONFIG
    from archcalc_reference.weights.configuration import is_tied, read_config
    from archcalc_reference.weights.headers import TYPES, open_tensors, read_headers
    from archcalc_reference.weights.layouts import of_the_text_model, whose

    headers = read_headers(folder)
    names, config = [header.name for header in headers], read_config(folder)
    family = whose(names, config, os.path.join(folder, CONFIG))
    if family is None:
        fix = "its tensors are named as in no known family of models"
        raise Invalid(Problem(folder, "has no token embedding", suggestion=fix))
    kept = of_the_text_model(names, config, family)
    stored = {family.full(header.name): header for header in headers if header.name in kept}
    # A tied table may be stored as the head alone.
    table = stored.get(family.table)
    if table is None and is_tied(folder, family):
        table = stored.get(family.head)
    if table is None:
        raise Invalid(Problem(folder, "has no token embedding", suggestion=f"expected {family.table}"))
    if len(table.shape) != 2 or not all(table.shape) or table.type not in TYPES:
        value = f"{table.type} of {list(table.shape)}"
        raise Invalid(Problem(table.file, "must be a table of floats", table.name, value=value))
    if table.type == "BF16":  # numpy has none
        needed("torch", "weights")
        return table, open_tensors(table.file, "pt").get_slice(table.stored), lambda rows: rows.float().numpy()
    return table, open_tensors(table.file, "numpy").get_slice(table.stored), lambda rows: rows.astype(np.float32)
