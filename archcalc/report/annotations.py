"""Outcomes as workflow commands of GitHub Actions, which become annotations of the lines of a pull request.

A command is a line `::error file=F,line=L,col=C,title=T::MESSAGE` on standard output. The runner undoes the escapes
%25, %0D and %0A, and in properties %3A and %2C too. It reads a relative path from the root of the repository.
"""

from __future__ import annotations

from collections.abc import Sequence

from archcalc.checks.outcome import Outcome
from archcalc.errors import printable
from archcalc.report.places import Place, places
from archcalc.report.tally import totals
from archcalc.spec.source import is_stdin
from archcalc.units import grouped

MOST_ANNOTATIONS = 1_000
_SHOWN = 10  # errors, and as many warnings, that GitHub shows of a step; the others stand in its log


def workflow_commands(outcomes: Sequence[Outcome]) -> str:
    """A command for each problem, errors first, and a notice of how many there are; excused ones are left out.

    Nothing is written where there is no problem.
    """
    found = places(outcomes)
    lines = [_command(place) for place in found[:MOST_ANNOTATIONS]]
    if found:
        errors = sum(place.problem.level == "error" for place in found)
        words = totals(outcomes)
        if len(found) > MOST_ANNOTATIONS:
            words += f"; the first {grouped(MOST_ANNOTATIONS)} are listed"
        if max(errors, len(found) - errors) > _SHOWN:
            words += f"; GitHub annotates {_SHOWN} errors and {_SHOWN} warnings of a step"
        lines.append(f"::notice title=archcalc check::{_data(words)}")
    return "".join(f"{line}\n" for line in lines)


def _command(place: Place) -> str:
    file = None if is_stdin(place.path) else place.path
    properties = {"file": file, "line": place.line, "col": place.column, "title": place.named}
    written = ",".join(f"{name}={_property(str(value))}" for name, value in properties.items() if value is not None)
    return f"::{place.problem.level} {written}::{_data(place.said)}"


def _data(text: str) -> str:
    """A message on one line: the ends of lines, %0D and %0A otherwise, are escaped with all that is not printable."""
    return printable(text).replace("%", "%25")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
