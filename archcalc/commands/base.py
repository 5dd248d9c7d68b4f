"""What the commands share: the app, the arguments that several of them take, and how a number and a text are read."""

from typing import Annotated, Literal

import typer

from archcalc.commands.completing import spec_words
from archcalc.commands.panels import PANELS, Commands
from archcalc.errors import LONGEST_VALUE, Invalid, Problem, cut, shown
from archcalc.packages import needed
from archcalc.spec.source import STDIN, standard_input

app = typer.Typer(
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    cls=Commands,
)

COUNT, CHOOSE, TRUST, RUN, FILES = PANELS


Spec = Annotated[
    str,
    typer.Argument(
        metavar="SPEC",
        autocompletion=spec_words,
        show_default=False,
        help="catalogue name, YAML file, Hugging Face config.json, GGUF file, hf:ORG/NAME, folder, REV:PATH (git), or "
        "- (stdin); SPEC@FIELD=VALUE changes a field",
    ),
]
Specs = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="SPEC",
        autocompletion=spec_words,
        show_default=False,
        help="catalogue names, YAML files, Hugging Face config.json, model folders, REV:PATH (git), or - (stdin); "
        "default: the whole catalogue",
    ),
]
Batch = Annotated[str, typer.Option(metavar="B", help="number of sequences")]
AnyBatch = Annotated[
    str | None,
    typer.Option("--batch", metavar="B", show_default=False, help="number of sequences; default: 1, or as planned"),
]
Seq = Annotated[
    str | None,
    typer.Option(metavar="S", show_default=False, help="positions per sequence; default: the context"),
]
Attention = Annotated[
    Literal["math", "flash"],
    typer.Option(metavar="KERNEL", help="attention kernel: math or flash"),
]
AnyAttention = Annotated[
    Literal["math", "flash"] | None,
    typer.Option(
        "--attention",
        metavar="KERNEL",
        show_default=False,
        help="attention kernel: math or flash; default: math for FLOPs, flash for memory",
    ),
]
Weights = Annotated[
    str | None,
    typer.Option(
        "--weights",
        metavar="PATH",
        show_default=False,
        help="folder of weights, from Hugging Face or written by train, or a GGUF file; default: SPEC, if that is one",
    ),
]
TokenizerOf = Annotated[
    str | None,
    typer.Option(
        "--tokenizer",
        metavar="PATH",
        show_default=False,
        help="folder, file or bytes; default: as weights",
    ),
]
Form = Annotated[
    Literal["table", "markdown", "json", "csv"] | None,
    typer.Option(
        "--format", "-f", metavar="FORMAT", show_default=False, help="output format: table, markdown, json or csv"
    ),
]
Output = Annotated[
    str | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        show_default=False,
        help="file to write; its suffix sets the format",
    ),
]


remarks: list[str] = []
"""Lines for standard error once a command has answered; an error stays one line."""


def number(flag: str, text: str, most: int, *, count: bool = False, least: int = 1) -> int:
    """A flag's number, from `least` to `most`: a length (32k is 32,768) or a count (300B is 3e11).

    What a suffix made of a length is said on standard error: people mean 50,000 or 51,200 by 50k.
    """
    from archcalc.spec.scalars import resolve
    from archcalc.units import parse_count, parse_length

    stripped = text.strip()
    suffixed = parse_count(stripped) if count else parse_length(stripped)
    number = resolve(stripped) if suffixed is None else suffixed
    if not isinstance(number, int) or isinstance(number, bool):
        example = "300B is 300,000,000,000" if count else "32k is 32,768"
        raise Invalid(Problem(flag, f"must be an integer; {example}", value=shown(text)))
    binary = suffixed is not None and not count and stripped[-1] in "kKmM"
    decimal = parse_count(stripped) if binary else None
    scale = "1,024" if stripped[-1:] in "kK" else "1,048,576"
    if not least <= number <= most:
        full = f"{stripped[-1]} is {scale} here; {decimal:,} in full fits" if decimal and decimal <= most else None
        value = cut(f"{number:,}", LONGEST_VALUE)
        raise Invalid(Problem(flag, f"must be from {least} to {most:,}", value=value, suggestion=full))
    if decimal is not None:
        remarks.append(
            f"{flag}: {stripped} is {number:,}, since {stripped[-1]} is {scale} here; write {decimal:,} in full"
        )
    return number


LONGEST_TEXT = 2**20
"""Bytes of a text that is asked about; each may be a row."""


def read_text(where: str, text: str) -> str:
    """A text as it was typed, or all of standard input for `-`; Invalid for one that is too long or has no UTF-8."""
    data = standard_input(LONGEST_TEXT) if text == "-" else text.encode(errors="surrogateescape")
    where = STDIN if text == "-" else where
    if len(data) > LONGEST_TEXT:
        raise Invalid(Problem(where, f"is longer than {LONGEST_TEXT:,} bytes"))
    return decoded(where, data)


def typed(text: str) -> str:
    """An argument as it was typed, in UTF-8, where the locale's encoding made something else of it."""
    return text.encode(errors="surrogateescape").decode(errors="surrogateescape")


def decoded(where: str, data: bytes, first: int = 1) -> str:
    """A text from its UTF-8; Invalid, placed, where it is not that. `first` is the number of its first line."""
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = first + data.count(b"\n", 0, error.start)
        column = error.start - data.rfind(b"\n", 0, error.start)
        value = shown(data[error.start : error.start + 1])
        raise Invalid(Problem(where, "is not UTF-8", "", line, column, value=value)) from None


def needs_to_run(command: str) -> None:
    """Raise Missing, with how to install it, where a package that the reference model needs is not installed."""
    for package in ("safetensors", "torch"):
        needed(package, command)
