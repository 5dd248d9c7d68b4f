"""The sheet of a distribution: each number with its probability and a bar, or with its probabilities at several T."""

from __future__ import annotations

from collections.abc import Sequence
from math import fsum, isfinite
from typing import Any

from archcalc.report.cells import bar
from archcalc.report.sheet import Cell, Fields, Sheet, Table, figures, words
from archcalc.spec.model import SCHEMA
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


def compared_sheet(
    given: Sequence[float], columns: Sequence[Sequence[float]], temperatures: Sequence[float], *, retempered: bool
) -> Sheet:
    """A row for each number, and a column of probabilities for each temperature."""
    head = "given" if retempered else "logit"
    names = [f"T = {plain(heat)}" for heat in temperatures]
    listed = ", ".join(map(plain, temperatures))
    order = list(range(len(given)))
    if len(given) > MOST_ROWS:
        order = sorted(order, key=lambda place: -given[place])[:MOST_ROWS]
    places = ("place",) if len(given) > MOST_ROWS else ()
    rows = tuple(
        (*((n + 1,) if places else ()), plain(given[n]), *(four_digits(column[n]) for column in columns))
        for n in order
    )
    power = "p^(1/T)" if retempered else "exp(logit / T)"
    rule = [f"{power}, divided by the sum of all"]
    if 0 in temperatures:
        rule.append("at temperature 0 the largest takes it all (the first one, if tied)")
    numbers = [x if isfinite(x) else None for x in given]
    return Sheet(
        title=f"softmax of {several(len(given), 'number')} at temperatures {listed}",
        blocks=(
            Table(figures(*places, head, *names), rows, title="Probabilities at each temperature T"),
            Fields((("Counted", tuple(rule)), *_given(given, retempered=retempered), *_more(given, "largest"))),
        ),
        payload={
            "schema": SCHEMA,
            "temperatures": list(temperatures),
            "from": "probabilities" if retempered else "logits",
            "rows": [
                {head: x, "probabilities": list(row)}
                for x, row in zip(numbers, zip(*columns, strict=True), strict=True)
            ],
        },
        records=tuple(
            {head: x, **{f"probability_at_{plain(t)}": p for t, p in zip(temperatures, row, strict=True)}}
            for x, row in zip(numbers, zip(*columns, strict=True), strict=True)
        ),
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
        rule = "at temperature 0 the largest takes it all (the first one, if tied)"
    elif retempered:
        rule = f"p^(1/{plain(temperature)}), divided by the sum of all"
    else:
        rule = f"exp(logit / {plain(temperature)}), divided by the sum of all"
    return (("Counted", (rule,)), *_given(given, retempered=retempered), *_more(given, "most probable"))


def _given(given: Sequence[float], *, retempered: bool) -> tuple[tuple[str, tuple[str, ...]], ...]:
    return (("Given", (f"probabilities that sum to {plain(fsum(given))}",)),) if retempered else ()


def _more(given: Sequence[float], which: str) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """That the table leaves out all but some rows."""
    more = len(given) - MOST_ROWS
    told = f"the {MOST_ROWS} {which}, {grouped(more)} left out; --format csv has all in input order"
    return (("Rows", (told,)),) if more > 0 else ()
