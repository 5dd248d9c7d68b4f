"""Outcomes as Markdown for the summary of a CI job, or a comment on a pull request.

Whatever comes from a file is text: no markup, link, formula or mention begins in it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from archcalc.checks.outcome import Excused, Outcome
from archcalc.errors import LONGEST_LINE, LONGEST_PLACE, LONGEST_VALUE, cut
from archcalc.report.budgets import amount, held_against, limit, margin
from archcalc.report.places import Place, places
from archcalc.report.tally import headline
from archcalc.units import several

LARGEST_SUMMARY = 2**20
"""Bytes of a step's summary that GitHub takes; it refuses a longer one whole."""

_SPARE = 2_000  # bytes for heads, the ends of tables, and how many rows are left out

# Entities, since a backslash before a `|` is read in two ways. Mentions of people and issues are looked for in what
# comes of entities, so that an empty character parts the sign from the name.
_MARKUP = {ord(sign): f"&#{ord(sign)};" for sign in "&<>|`\\*[]~$"} | {ord(sign): f"{sign}&#8203;" for sign in "@#"}
_EMPHASIS = re.compile(r"(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")
_ADDRESS = re.compile(r"(?<=:)(?=//)|(?<=\bwww)(?=\.)", re.IGNORECASE)


def summary(outcomes: Sequence[Outcome]) -> str:
    """A headline, a table of problems, a table of budgets, and what is excused, folded.

    Rows that exceed the size that GitHub takes are left out and counted, those at the end first.
    """
    out = _Page(LARGEST_SUMMARY - _SPARE)
    out.add(f"### {text(headline(outcomes), LONGEST_LINE)}\n")
    found = places(outcomes, excused=True)
    problems = [place for place in found if place.excused is None]
    out.table(("where", "rule", "what", "fix"), map(_problem, problems), len(problems), "problem")
    budgets = list(_budgets(outcomes))
    out.table(("spec", "budget", "bound", "counted", ""), budgets, len(budgets), "budget")
    excused = [place for place in found if place.excused is not None]
    if excused:
        out.add(f"\n<details>\n<summary>{several(len(excused), 'problem')} excused</summary>\n")
        out.table(("where", "rule", "what", "why"), map(_excused, excused), len(excused), "problem")
        out.add("\n</details>\n")
    return "".join(out.pieces)


class _Page:
    """Markdown that is written until it is full."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.pieces: list[str] = []

    def add(self, piece: str) -> None:
        self.room -= len(piece.encode())
        self.pieces.append(piece)

    def table(self, heads: tuple[str, ...], rows: Iterable[tuple[str, ...]], count: int, noun: str) -> None:
        """As many rows as there is room for, and how many are left out."""
        if not count:
            return
        self.add(f"\n| {' | '.join(heads)} |\n{'| --- ' * len(heads)}|\n")
        for shown, row in enumerate(rows):
            line = f"| {' | '.join(row)} |\n"
            if len(line.encode()) > self.room:
                self.add(f"\n{several(count - shown, noun)} more {'are' if count - shown > 1 else 'is'} left out.\n")
                return
            self.add(line)


def text(words: str, longest: int) -> str:
    """A text of a file as a cell of a table, cut, in which nothing means anything to Markdown."""
    plain = cut(words, longest).translate(_MARKUP)
    return _ADDRESS.sub("&#8203;", _EMPHASIS.sub("&#95;", plain))


def _problem(place: Place) -> tuple[str, ...]:
    problem = place.problem
    said = f"{place.subject}{problem.message}"
    if problem.value is not None:
        said += f"; got {cut(problem.value, 2 * LONGEST_VALUE)}"
    level = "" if problem.level == "error" else " (warning)"
    return (
        _where(place),
        text(place.named, LONGEST_PLACE) + level,
        text(said, LONGEST_LINE),
        text(place.fix, LONGEST_LINE),
    )


def _excused(place: Place) -> tuple[str, ...]:
    why = f"{place.excused.why} ({place.excused.where})" if place.excused else ""
    return (*_problem(place)[:3], text(why, LONGEST_LINE))


def _where(place: Place) -> str:
    mark = "" if place.line is None else f":{place.line}:{place.column}"
    return text(place.path, LONGEST_LINE) + mark


def _budgets(outcomes: Sequence[Outcome]) -> Iterator[tuple[str, ...]]:
    """Those that are exceeded come first."""
    every = [(outcome, *held) for outcome in outcomes for held in held_against(outcome)]
    for outcome, bound, found in sorted(every, key=lambda one: one[1].left >= 0):
        told = margin(bound) if bound.left >= 0 else f"**{margin(bound)}**"
        yield (
            text(outcome.spec or outcome.file, LONGEST_PLACE),
            text(bound.label, LONGEST_PLACE),
            text(limit(bound), LONGEST_PLACE),
            amount(bound.figure, bound.unit),
            told + ", excused" * isinstance(found, Excused),
        )
