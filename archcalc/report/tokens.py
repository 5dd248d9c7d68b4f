"""A text cut into tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

from archcalc.errors import printable
from archcalc.report.cells import width
from archcalc.report.sheet import Column, Fields, Rows, Sheet, Table, figures
from archcalc.spec.model import SCHEMA
from archcalc.units import several

MOST_ROWS = 10_000
"""Tokens that a table shows: a million would take a minute to align. CSV and JSON have all."""


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


def begins_said(tokens: Sequence[Token]) -> str:
    """That a text begins with tokens which are not in it, in words."""
    return f"begins with {', '.join(token.literal for token in tokens)}, which the tokenizer adds"


def begins_fields(tokens: Sequence[Token]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The row of a sheet that says so, where there are any."""
    if tokens:
        yield "Begins", (begins_said(tokens).removeprefix("begins "),)


class Cut(NamedTuple):
    """A text as one tokenizer cuts it.

    Attributes:
        tokens: one after the other.
        name: of the tokenizer: its file, or `bytes`.
        vocab_size: tokens of its vocabulary.
        differs: how the text of the tokens differs from the one that was cut.
    """

    tokens: list[Token]
    name: str
    vocab_size: int
    differs: str | None = None


def tokens_sheet(cut: Cut, *, listed: bool = False) -> Sheet:
    """The text with its cuts in line; where it is `listed`, a row for each token."""
    heads = ("position", "id", "bytes", "text")

    def rows(*, literally: bool = False) -> Iterator[tuple[int | str, ...]]:
        for position, token in enumerate(cut.tokens):
            yield position, token.id, token.bytes.hex(), token.literal if literally else token.text or ""

    tokens = cut.tokens
    left = len(tokens) - MOST_ROWS
    more = (("Left out", (f"{several(left, 'more token')}; --format csv has all of them",)),) if left > 0 else ()
    length = sum(len(token.bytes) for token in tokens)
    by = "one token per byte" if cut.name == "bytes" else cut.name
    whole = Table((*figures(*heads[:2]), *map(Column, heads[2:])), tuple(islice(rows(literally=True), MOST_ROWS)))
    table = whole if listed else _in_line(tokens)
    marks = () if listed else _marks([table])
    apart = (("Differs", (cut.differs,)),) if cut.differs else ()
    last = ("Tokenizer", (f"{by}; vocabulary of {several(cut.vocab_size, 'token')}",))
    return Sheet(
        title=f"{several(len(tokens), 'token')} of {several(length, 'byte')}" if tokens or cut.differs else _EMPTY,
        blocks=(*([table] if tokens else []), Fields((*more, *marks, *apart, last))),
        payload={
            "schema": SCHEMA,
            "tokens": [_json(position, token) for position, token in enumerate(tokens)],
            "tokenizer": {"name": cut.name, "vocab_size": cut.vocab_size, "differs": cut.differs},
        },
        records=Rows(heads, rows),
    )


def compared_sheet(cuts: list[Cut], length: int) -> Sheet:
    """Several tokenizers on one text of `length` bytes: how many tokens each makes of it, and where it cuts."""
    heads = ("tokenizer", "vocab_size", "tokens", "bytes_per_token")

    def rows() -> Iterator[tuple[int | float | str, ...]]:
        for cut in cuts:
            yield cut.name, cut.vocab_size, len(cut.tokens), length / len(cut.tokens) if cut.tokens else ""

    table = Table(
        figures("tokenizer", "tokens", "bytes per token", "vocabulary"),
        tuple((n, len(cut.tokens), _each(cut, length), cut.vocab_size) for n, cut in enumerate(cuts, start=1)),
    )
    texts = [_in_line(cut.tokens, f"Cuts of tokenizer {n}") for n, cut in enumerate(cuts, start=1) if cut.tokens]
    apart = [(f"Differs, {n}", (cut.differs,)) for n, cut in enumerate(cuts, start=1) if cut.differs]
    apart += [(f"Tokenizer {n}", (cut.name,)) for n, cut in enumerate(cuts, start=1)]
    marks = _marks(texts)
    if any(len(cut.tokens) > MOST_ROWS for cut in cuts):
        apart.append(("Left out", (f"what comes after {MOST_ROWS:,} tokens",)))
    return Sheet(
        title=f"A text of {several(length, 'byte')} by {several(len(cuts), 'tokenizer')}",
        blocks=(table, *texts, Fields((*marks, *apart))),
        payload={
            "schema": SCHEMA,
            "bytes": length,
            "tokenizers": [
                {
                    "name": cut.name,
                    "vocab_size": cut.vocab_size,
                    "differs": cut.differs,
                    "bytes_per_token": length / len(cut.tokens) if cut.tokens else None,
                    "tokens": [_json(position, token) for position, token in enumerate(cut.tokens)],
                }
                for cut in cuts
            ],
        },
        records=Rows(heads, rows),
    )


def _each(cut: Cut, length: int) -> str:
    return f"{length / len(cut.tokens):.2f}" if cut.tokens else "-"


_LINE = 66  # places of a line of text, beside the position of its first token
_SHARED, _BAR = "\N{SUPERSCRIPT LEFT PARENTHESIS}", "\\|"
_SAID = {
    _SHARED: f"x{_SHARED}\N{SUPERSCRIPT THREE}\N{SUPERSCRIPT RIGHT PARENTHESIS} is a character cut into 3 tokens",
    _BAR: f"{_BAR} is a bar of the text, not a cut",
}
"""What stands in a text with its cuts and is not of the text, and what it means."""
_SMALL = str.maketrans("0123456789()", "⁰¹²³⁴⁵⁶⁷⁸⁹⁽⁾")


def _marks(texts: Sequence[Table]) -> list[tuple[str, tuple[str, ...]]]:
    """What the marks mean that stand in texts with their cuts."""
    line = "".join(str(row[1]) for text in texts for row in text.rows)
    said = tuple(words for mark, words in _SAID.items() if mark in line)
    return [("Marks", said)] if said else []


def _in_line(tokens: list[Token], title: str = "") -> Table:
    """The text with a bar at every cut, in lines that end where the text's do or where they are full."""
    rows: list[tuple[int, str]] = []
    line, first, held = "", 0, 0
    for piece, count in _whole(tokens[:MOST_ROWS]):
        if line and (line.endswith("\\n") or width(line) + width(piece) >= _LINE):
            rows.append((first, f"{line}|"))
            line, first = "", held
        line += f"|{piece}"
        held += count
    if line:
        rows.append((first, f"{line}|"))
    return Table((Column("from", right=True), Column("text")), tuple(rows), title=title)


def _whole(tokens: list[Token]) -> Iterator[tuple[str, int]]:
    """What can be read: a token's text, or a character of several tokens with their number; and how many those are.

    Bytes that never become characters are shown as bytes.
    """
    at = 0
    while at < len(tokens):
        count, text = 1, tokens[at].text
        data = tokens[at].bytes
        while text is None and at + count < len(tokens) and count < _MOST_SHARED:
            data += tokens[at + count].bytes
            count += 1
            text = Token(0, data).text
        if text is None:
            count, text = 1, tokens[at].literal
        yield printable(text).replace("|", _BAR) + (f"({count})".translate(_SMALL) if count > 1 else ""), count
        at += count


_MOST_SHARED = 4
"""Tokens that share characters: one of UTF-8 has four bytes."""


def _json(position: int, token: Token) -> dict[str, Any]:
    return {"position": position, "id": token.id, "bytes": token.bytes.hex(), "text": token.text}
