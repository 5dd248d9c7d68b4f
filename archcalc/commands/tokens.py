"""The command tokens."""

from typing import Annotated

import typer

from archcalc.commands.base import RUN, Form, Output, app, read_text
from archcalc.commands.weights import weights_of
from archcalc.errors import printable
from archcalc.report.output import emit, tell


@app.command(rich_help_panel=RUN)
def tokens(
    text: Annotated[
        str, typer.Argument(metavar="TEXT", show_default=False, help="text to split, or - for standard input")
    ],
    weights: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            show_default=False,
            help="folder with a tokenizer, from Hugging Face or written by train, or a GGUF file; default: bytes",
        ),
    ] = None,
    form: Form = None,
    output: Output = None,
) -> None:
    """Split a text into tokens, with a model's tokenizer.

    Example: archcalc tokens "Hello, world" --weights DIR
    """
    from archcalc.report.tokens import Token, tokens_sheet
    from archcalc_reference.text.tokenizer import read_tokenizer

    text = read_text("TEXT", text)
    tokenizer = read_tokenizer(None if weights is None else weights_of(weights))
    ids, change = tokenizer.cut(text)
    for line in tokenizer.told:
        tell(printable(f"{tokenizer.name}: {line}"))
    found = [Token(token, tokenizer.token_bytes(token)) for token in ids]
    differs = None if change is None else change.what
    emit(tokens_sheet(found, tokenizer.name, tokenizer.vocab_size, differs), form, output)
