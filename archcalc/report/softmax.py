"""The sheet of a distribution: each number, its probability, and a bar as long as it is likely."""

from __future__ import annotations

from collections.abc import Sequence
from math import fsum, isfinite
from typing import Any

from archcalc.report.cells import bar
from archcalc.report.sheet import Cell, Fields, Sheet, Table, figures, words
from archcalc.spec import SCHEMA
from archcalc.units import four_digits, grouped, plain, several

MOST_ROWS = 50
LONGEST_BAR = 40


def softmax_sheet(
    given: Sequence[float], probabilities: Sequence[float], temperature: float, *, retempered: bool
) -> Sheet:
    """A row for each number in the order given; of many, a table has the most probable alone."""
    head = "given" if retempered else "logit"
    # JSON knows no infinity: a logit of -inf is null.
    rows = tuple(
        {head: x if isfinite(x) else None, "probability": p} for x, p in zip(given, probabilities, strict=True)
    )
    about: dict[str, Any] = {"temperature": temperature, "from": "probabilities" if retempered else "logits"}
    return Sheet(
        title=f"softmax of {several(len(given), 'number')} at temperature {plain(temperature)}",
        blocks=(_table(head, given, probabilities), Fields(_lines(given, temperature, retempered=retempered))),
        payload={"schema": SCHEMA, **about, "rows": list(rows)},
        records=rows,
    )


def _table(head: str, given: Sequence[float], probabilities: Sequence[float]) -> Table:
    largest = max(probabilities)
    if len(given) <= MOST_ROWS:
        rows: list[tuple[Cell, ...]] = [
            (plain(x), four_digits(p), bar(p / largest, LONGEST_BAR))
            for x, p in zip(given, probabilities, strict=True)
        ]
        return Table((*figures(head, "probability"), *words("")), tuple(rows))
    order = sorted(range(len(given)), key=lambda place: -probabilities[place])[:MOST_ROWS]
    rows = [
        (n + 1, plain(given[n]), four_digits(probabilities[n]), bar(probabilities[n] / largest, LONGEST_BAR))
        for n in order
    ]
    return Table((*figures("place", head, "probability"), *words("")), tuple(rows))


def _lines(given: Sequence[float], temperature: float, *, retempered: bool) -> tuple[tuple[str, tuple[str, ...]], ...]:
    if temperature == 0:
        rule = "at temperature 0 the largest has all the weight, of equals the first"
    elif retempered:
        rule = f"p^(1/{plain(temperature)}), divided by the sum of all of them"
    else:
        rule = f"exp(logit / {plain(temperature)}), divided by the sum of all of them"
    lines = [("Counted", (rule,))]
    if retempered:
        lines.append(("Given", (f"probabilities that add up to {plain(fsum(given))}",)))
    if (more := len(given) - MOST_ROWS) > 0:
        told = f"the {MOST_ROWS} most probable; {grouped(more)} more, which --format csv has in the order given"
        lines.append(("Rows", (told,)))
    return tuple(lines)
