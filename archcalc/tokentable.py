"""A model's own vectors: its token embedding, mapped from the file of weights, and the tokens that name its rows."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from archcalc.errors import Invalid, Missing, Problem, cut, shown
from archcalc.vectors import Place, Vectors, rows_at_a_time

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

WEIGHTS, TOKENIZER = "model.safetensors", "tokenizer.json"
TABLES = ("transformer.wte.weight", "wte.weight", "embedding.token.weight")
BYTES = 256


class Tokens(NamedTuple):
    """What a tokenizer tells: the numbers of a text's tokens, how a token reads, and which one stands for none."""

    encode: Callable[[str], list[int]]
    label: Callable[[int], str]
    unknown: str | None = None


class TokenVectors(Vectors):
    """The embedding table of the model in a folder."""

    def __init__(self, folder: str) -> None:
        self.name = folder
        self._table, self._as_floats = _open_table(folder)
        shape: list[int] = self._table.get_shape()
        self._count, self.dimensions = shape
        self._tokens = read_tokens(folder, self._count)

    def __len__(self) -> int:
        return self._count

    def label(self, row: int) -> str:
        return self._tokens.label(row)

    def find(self, word: str, where: str) -> Place:
        """A word is one token: as it stands, else after a space, as words are within a text."""
        whole = [ids[0] for ids in (self._tokens.encode(text) for text in (word, f" {word}")) if len(ids) == 1]
        known = [row for row in whole if self._tokens.unknown is None or self.label(row) != self._tokens.unknown]
        if not known:
            raise self.unknown(word, where) if whole else self._several(word, where)
        row = known[0]
        if row >= len(self):
            raise Invalid(Problem(where, f"{shown(word)} is token {row:,}; the table has {len(self):,} rows"))
        others = [f"{shown(self.label(other))} is one too" for other in known[1:] if other != row]
        return Place(row, "; ".join([f"{word} is token {row:,}, {shown(self.label(row))}", *others]))

    def _several(self, word: str, where: str) -> Invalid:
        pieces = " + ".join(shown(self.label(i)) for i in self._tokens.encode(word))
        what = f"is several tokens, {cut(pieces, 120)}" if pieces else "is no token"
        return Invalid(Problem(where, what, value=shown(word), suggestion="a word of one token has a vector"))

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
            raise Invalid(Problem(self.name, f"row {start + int(good.argmin()):,} has a number that is not finite"))
        return block


def _open_table(folder: str) -> tuple[Any, Callable[[Any], Array]]:
    """A view of the table, of which only the rows that are asked for are read, and what makes float32 of them."""
    import numpy as np

    path = os.path.join(folder, WEIGHTS)
    if not os.path.isfile(path):
        raise Missing(Problem(folder, f"has no {WEIGHTS}", suggestion="name a folder of weights"))
    try:
        from safetensors import SafetensorError, safe_open
    except ModuleNotFoundError as error:
        raise _needs(error) from None
    try:
        held: Any = safe_open(path, framework="numpy")
        name = next((name for name in TABLES if name in held.keys()), None)  # noqa: SIM118  (it is no dict)
        if name is None:
            raise Invalid(Problem(path, f"has no token embedding; it would be {', '.join(TABLES)}"))
        table = held.get_slice(name)
        shape, kind = table.get_shape(), table.get_dtype()
        if len(shape) != 2 or not all(shape) or kind not in ("F64", "F32", "F16", "BF16"):
            value = f"{kind} of {shape}"
            raise Invalid(Problem(path, "must be a table of floats", name, value=value))
        if kind != "BF16":
            return table, lambda rows: rows.astype(np.float32)
        try:
            by_torch: Any = safe_open(path, framework="pt")
            return by_torch.get_slice(name), lambda rows: rows.float().numpy()
        except ModuleNotFoundError as error:  # numpy has no bfloat16
            raise _needs(error) from None
    except (SafetensorError, OSError) as error:
        raise Invalid(Problem(path, f"cannot be read: {error}")) from None


def read_tokens(folder: str, rows: int) -> Tokens:
    """The tokens of a folder's tokenizer.json; without one, bytes, where there is a row for each of them."""
    path = os.path.join(folder, TOKENIZER)
    if not os.path.isfile(path):
        if rows != BYTES:
            raise Missing(Problem(folder, f"has no {TOKENIZER}, and {rows:,} rows are not those of {BYTES} bytes"))
        return Tokens(lambda text: list(text.encode("utf-8", "surrogateescape")), _byte)
    try:
        from tokenizers import Tokenizer
    except ModuleNotFoundError as error:
        raise _needs(error) from None
    try:
        tokenizer = Tokenizer.from_file(path)
    except Exception as error:  # noqa: BLE001  (the package raises nothing narrower)
        raise Invalid(Problem(path, f"is no tokenizer: {error}")) from None
    spelled_in_bytes = type(tokenizer.decoder).__name__ == "ByteLevel"

    def label(row: int) -> str:
        token = tokenizer.id_to_token(row)
        if token is None:
            return f"row {row:,}"  # tables are padded
        text = tokenizer.decode([row], skip_special_tokens=False) if spelled_in_bytes else token
        return str(token) if "\ufffd" in text else str(text)  # a part of a character

    def encode(text: str) -> list[int]:
        clean = text.encode("utf-8", "backslashreplace").decode()  # arguments that are no UTF-8 have surrogates
        try:
            return list(tokenizer.encode(clean, add_special_tokens=False).ids)
        except Exception:  # noqa: BLE001  (words alone are known, this is none, and there is no token for such)
            return []

    return Tokens(encode, label, getattr(tokenizer.model, "unk_token", None))


def _byte(row: int) -> str:
    return chr(row) if row < 128 else f"\\x{row:02x}"


def _needs(error: ModuleNotFoundError) -> Missing:
    return Missing(Problem("embed", f"needs the package {error.name}", suggestion="pip install 'archcalc[run]'"))
