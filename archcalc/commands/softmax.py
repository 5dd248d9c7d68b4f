"""The command softmax: probabilities from logits."""

import re
from dataclasses import replace
from math import inf
from typing import Annotated

import typer

from archcalc.commands.base import RUN, Form, Output, app
from archcalc.commands.sampling import temperatures
from archcalc.errors import Invalid, Problem, shown
from archcalc.report.output import emit
from archcalc.spec.source import STDIN, is_stdin, standard_input

LARGEST_INPUT = 64 * 2**20  # bytes of standard input: a million numbers, however they are written
_MOST_TEMPERATURES = 5  # columns that a terminal of 80 has room for


@app.command(rich_help_panel=RUN)
def softmax(
    numbers: Annotated[
        list[str],
        typer.Argument(metavar="NUMBER", show_default=False, help="logits, or - for standard input"),
    ],
    temperature: Annotated[
        list[str] | None,
        typer.Option(
            "--temperature",
            metavar="T[,T]",
            show_default=False,
            help="temperatures, one column each: above 1 flattens, below 1 sharpens, 0 takes the largest; default: 1",
        ),
    ] = None,
    from_probabilities: Annotated[
        bool,
        typer.Option("--from-probabilities", help="take the numbers as probabilities p, and normalize p^(1/T)"),
    ] = False,
    form: Form = None,
    output: Output = None,
) -> None:
    """Turn logits into probabilities, at one or more temperatures.

    Each probability is exp(x / T) over the sum of all.

    Example: archcalc softmax 2 1 0.1 --temperature 0.5,1,2
    """
    from archcalc.report.softmax import compared_sheet, softmax_sheet
    from archcalc.words import probability

    heats = temperatures("--temperature", temperature or ["1"], _MOST_TEMPERATURES)
    piped = any(map(is_stdin, numbers))
    if piped and len(numbers) > 1:
        raise Invalid(Problem("archcalc softmax", "reads standard input or its arguments, not both"))
    given = _from_stdin() if piped else [_argument(place, text) for place, text in enumerate(numbers, 1)]
    apply = probability.retemper if from_probabilities else probability.softmax
    if len(given) * len(heats) > probability.MOST_NUMBERS:
        what = f"takes at most {probability.MOST_NUMBERS:,} numbers x temperatures"
        raise Invalid(Problem("archcalc softmax", what, value=f"{len(given):,} x {len(heats):,}"))
    columns = [apply(given, heat) for heat in heats]
    if len(heats) == 1:
        sheet = softmax_sheet(given, columns[0], heats[0], retempered=from_probabilities)
    else:
        sheet = compared_sheet(given, columns, heats, retempered=from_probabilities)
    emit(sheet, form, output)


def _argument(place: int, text: str) -> float:
    return _read_number(text, Problem("archcalc softmax", "must be a number", f"NUMBER {place:,}"))


def _read_number(text: str, problem: Problem) -> float:
    """The number in `text`, of any range. Raises Invalid, as `problem` says, where it is not a number."""
    from archcalc.spec.scalars import plain_float

    number = plain_float(text.strip())
    if number is None:
        raise Invalid(replace(problem, value=shown(text.strip())))
    if number in (inf, -inf) and "inf" not in text.lower():  # 1e999 is no infinity
        raise Invalid(replace(problem, message="is too large for a float", value=shown(text.strip())))
    return number


def _from_stdin() -> list[float]:
    """The numbers on standard input, parted by blanks or lines."""
    from archcalc.words.probability import MOST_NUMBERS

    data = standard_input(LARGEST_INPUT)
    if len(data) > LARGEST_INPUT:
        raise Invalid(Problem(STDIN, f"is larger than {LARGEST_INPUT:,} bytes, the most that is read"))
    text = data.decode("utf-8-sig", "backslashreplace")  # bytes that are not UTF-8 are shown in the message
    numbers = []
    for row, line in enumerate(text.splitlines(), 1):
        for word in re.finditer(r"\S+", line):
            place = Problem(STDIN, "must be a number", line=row, column=word.start() + 1)
            numbers.append(_read_number(word[0], place))
            if len(numbers) > MOST_NUMBERS:
                raise Invalid(replace(place, message=f"has more than {MOST_NUMBERS:,} numbers"))
    return numbers
