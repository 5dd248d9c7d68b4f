"""What comes before the first layer and after the last: vectors of words, and probabilities of tokens."""

import re
import sys
from dataclasses import replace
from math import inf
from typing import Annotated

import typer

from archcalc.commands.base import TOKENS, Form, Output, app
from archcalc.errors import Invalid, Missing, Problem, shown
from archcalc.output import emit
from archcalc.source import STDIN, is_stdin

LARGEST_INPUT = 64 * 2**20  # bytes of standard input: a million numbers, however they are written


@app.command(rich_help_panel=TOKENS)
def softmax(
    numbers: Annotated[
        list[str],
        typer.Argument(metavar="NUMBER...", show_default=False, help="logits; - reads them from standard input"),
    ],
    temperature: Annotated[
        str,
        typer.Option("--temperature", metavar="T", help="above 1 evens out, below 1 sharpens, 0 takes the largest"),
    ] = "1",
    from_probabilities: Annotated[
        bool,
        typer.Option("--from-probabilities", help="the numbers are probabilities p: p^(1/T), made to add up to 1"),
    ] = False,
    form: Form = None,
    output: Output = None,
) -> None:
    """Numbers as a probability distribution: exp(x / T) over the sum of all of them."""
    from archcalc import probability
    from archcalc.report.softmax import softmax_sheet

    hot = _read_number(temperature, Problem("--temperature", "must be a number from 0 up"))
    piped = any(map(is_stdin, numbers))
    if piped and len(numbers) > 1:
        raise Invalid(Problem("archcalc softmax", "reads standard input or its arguments, not both"))
    given = _from_stdin() if piped else [_argument(place, text) for place, text in enumerate(numbers, 1)]
    apply = probability.retemper if from_probabilities else probability.softmax
    emit(softmax_sheet(given, apply(given, hot), hot, retempered=from_probabilities), form, output)


def _argument(place: int, text: str) -> float:
    return _read_number(text, Problem("archcalc softmax", "must be a number", f"NUMBER {place:,}"))


def _read_number(text: str, problem: Problem) -> float:
    """The number that `text` writes; what it may be is for others to say."""
    try:
        number = float(text)
    except ValueError:
        raise Invalid(replace(problem, value=shown(text.strip()))) from None
    if number in (inf, -inf) and "inf" not in text.lower():  # 1e999 is no infinity
        raise Invalid(replace(problem, message="is too large for a float", value=shown(text.strip())))
    return number


def _from_stdin() -> list[float]:
    """The numbers on standard input, parted by blanks or lines."""
    from archcalc.probability import MOST_NUMBERS

    if sys.stdin is None:
        raise Missing(Problem(STDIN, "is closed"))
    data = sys.stdin.buffer.read(LARGEST_INPUT + 1)
    if len(data) > LARGEST_INPUT:
        raise Invalid(Problem(STDIN, f"is larger than {LARGEST_INPUT:,} bytes, the most that numbers may be"))
    text = data.decode("utf-8-sig", "backslashreplace")  # what is no text is no number, and the message shows it
    numbers = []
    for row, line in enumerate(text.splitlines(), 1):
        for word in re.finditer(r"\S+", line):
            place = Problem(STDIN, "must be a number", line=row, column=word.start() + 1)
            numbers.append(_read_number(word[0], place))
            if len(numbers) > MOST_NUMBERS:
                raise Invalid(replace(place, message=f"more than {MOST_NUMBERS:,} numbers"))
    return numbers
