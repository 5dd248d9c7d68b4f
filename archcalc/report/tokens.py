"""A text cut into tokens."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any, NamedTuple

from archcalc.report.sheet import Column, Fields, Rows, Sheet, Table, figures
from archcalc.spec.model import SCHEMA
from archcalc.units import several

MOST_ROWS = 10_000
"""That a table shows: a million would take a minute to align. CSV and JSON have all."""


_EMPTY = "0 tokens: the text is empty"


class Token(NamedTuple):
    """One token of a text: which of the vocabulary, and the bytes that it stands for."""

    id: int
    bytes: bytes

    @property
    def text(self) -> str | None:
        """The characters, where the bytes are whole ones: a character of several bytes may be cut into tokens."""
        try:
            return self.bytes.decode()
        except UnicodeDecodeError:
            return None

    @property
    def literal(self) -> str:
        """The text or the bytes as Python writes them: on one line, every space and control character to be seen."""
        return repr(self.bytes if self.text is None else self.text)


def tokens_sheet(tokens: list[Token], name: str, vocab_size: int, differs: str | None = None) -> Sheet:
    """A row for each token; `name` and `vocab_size` are of the tokenizer.

    `differs` says how the text of the tokens differs from the one that was cut.
    """
    heads = ("position", "id", "bytes", "text")

    def rows() -> Iterator[tuple[int | str, ...]]:
        for position, token in enumerate(tokens):
            yield position, token.id, token.bytes.hex(), token.literal

    left = len(tokens) - MOST_ROWS
    cut = (("Left out", (f"{several(left, 'more token')}; --format csv has all of them",)),) if left > 0 else ()
    length = sum(len(token.bytes) for token in tokens)
    by = "one token per byte" if name == "bytes" else name
    apart = (("Differs", (differs,)),) if differs else ()
    return Sheet(
        title=f"{several(len(tokens), 'token')} of {several(length, 'byte')}" if tokens or differs else _EMPTY,
        blocks=(
            *(
                [Table((*figures(*heads[:2]), *map(Column, heads[2:])), tuple(islice(rows(), MOST_ROWS)))]
                if tokens
                else []
            ),
            Fields((*cut, *apart, ("Tokenizer", (f"{by}; vocabulary of {several(vocab_size, 'token')}",)))),
        ),
        payload={
            "schema": SCHEMA,
            "tokens": [_json(position, token) for position, token in enumerate(tokens)],
            "tokenizer": {"name": name, "vocab_size": vocab_size, "differs": differs},
        },
        records=Rows(heads, rows),
    )


def _json(position: int, token: Token) -> dict[str, Any]:
    return {"position": position, "id": token.id, "bytes": token.bytes.hex(), "text": token.text}
