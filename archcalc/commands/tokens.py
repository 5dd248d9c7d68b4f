"""The command tokens: a text cut by a tokenizer, or by several of them side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from archcalc.commands.base import RUN, Form, Output, app, read_text
from archcalc.commands.weights import tokenizer_in, weights_of
from archcalc.errors import Invalid, Problem, printable
from archcalc.report.output import emit, tell

if TYPE_CHECKING:
    from archcalc_reference.text.tokenizer import Tokenizer

MOST_COMPARED = 10


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
            help="folder of weights with a tokenizer, or a GGUF file; default: bytes",
        ),
    ] = None,
    tokenizer: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATH",
            show_default=False,
            help="folder or file of a tokenizer, GGUF file, or bytes; two or more are compared on the text",
        ),
    ] = None,
    ids: Annotated[bool, typer.Option("--ids", help="list each token with its id and its bytes")] = False,
    form: Form = None,
    output: Output = None,
) -> None:
    """Split a text into tokens, with one tokenizer or several.

    Example: archcalc tokens "Hello, world" --tokenizer DIR --tokenizer bytes
    """
    from archcalc.report.tokens import Cut, Token, compared_sheet, tokens_sheet
    from archcalc_reference.text.around import spelled
    from archcalc_reference.text.tokenizer import named_tokenizer

    text = read_text("TEXT", text)
    places = [*([] if weights is None else [weights_of(weights)]), *map(tokenizer_in, tokenizer or [])] or ["bytes"]
    if len(places) > MOST_COMPARED:
        raise Invalid(Problem("--tokenizer", f"can be given at most {MOST_COMPARED} times", value=f"{len(places)}"))
    if ids and len(places) > 1:
        raise Invalid(Problem("--ids", "lists the tokens of one tokenizer", value=f"{len(places)} tokenizers"))
    found = []
    for place in places:
        cuts: Tokenizer = named_tokenizer(place)
        numbers, change = cuts.cut(text)
        adds = spelled(cuts.around, cuts.text_of)
        for line in (*cuts.told, *([f"adds {adds}, not shown here"] if adds else [])):
            tell(printable(f"{cuts.name}: {line}"))
        pieces = [Token(number, cuts.token_bytes(number)) for number in numbers]
        found.append(Cut(pieces, cuts.name, cuts.vocab_size, None if change is None else change.what))
    length = len(text.encode())
    sheet = tokens_sheet(found[0], listed=ids) if len(found) == 1 else compared_sheet(found, length)
    emit(sheet, form, output)
