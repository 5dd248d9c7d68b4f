"""Text as models see it."""

import sys
from typing import Annotated

import typer

from archcalc.commands.base import TOKENS, Form, Output, Weights, app
from archcalc.errors import Invalid, Missing, Problem, shown
from archcalc.output import emit
from archcalc.source import STDIN

LONGEST_TEXT = 2**20
"""Bytes; each may be a row."""


@app.command(rich_help_panel=TOKENS)
def tokens(
    text: Annotated[str, typer.Argument(metavar="TEXT", show_default=False, help="or - for standard input")],
    weights: Weights = None,
    form: Form = None,
    output: Output = None,
) -> None:
    """A text cut into tokens, by the tokenizer beside a model's weights; into its bytes without."""
    from archcalc.report.tokens import Token, tokens_sheet
    from archcalc_reference.text import read_tokenizer

    where = STDIN if text == "-" else "TEXT"
    data = _standard_input() if text == "-" else text.encode(errors="surrogateescape")
    if len(data) > LONGEST_TEXT:
        raise Invalid(Problem(where, f"is longer than {LONGEST_TEXT:,} bytes"))
    text = _decoded(where, data)
    tokenizer = read_tokenizer(weights)
    found = [Token(token, tokenizer.token_bytes(token)) for token in tokenizer.encode(text)]
    emit(tokens_sheet(found, tokenizer.name, tokenizer.vocab_size), form, output)


def _standard_input() -> bytes:
    """All of it, or one byte more than is read."""
    if sys.stdin is None:
        raise Missing(Problem(STDIN, "is closed"))
    try:
        return sys.stdin.buffer.read(LONGEST_TEXT + 1)
    except OSError as error:
        raise Invalid(Problem(STDIN, f"cannot be read: {error.strerror}")) from None


def _decoded(where: str, data: bytes) -> str:
    """A text from its UTF-8; Invalid, placed, where it is not that."""
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = error.start - data.rfind(b"\n", 0, error.start)
        value = shown(data[error.start : error.start + 1])
        raise Invalid(Problem(where, "is not UTF-8", "", line, column, value=value)) from None
