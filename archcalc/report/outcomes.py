"""Outcomes of `check` in every format: a table of those that are no sheet."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import NamedTuple, cast, get_args

from archcalc.checks.outcome import Outcome
from archcalc.errors import MOST_PROBLEMS_SHOWN, Invalid, Problem, did_you_mean, shown
from archcalc.report.annotations import workflow_commands
from archcalc.report.checked import checked_sheet
from archcalc.report.codequality import code_quality
from archcalc.report.formats import CheckFormat, ReportFormat
from archcalc.report.junit import junit
from archcalc.report.output import emit, format_of, tell, write
from archcalc.report.sarif import code_scanning, sarif
from archcalc.report.sheet import Format
from archcalc.report.summary import summary

FORMATS: dict[ReportFormat, Callable[[Sequence[Outcome]], str]] = {
    "sarif": sarif,
    "code-scanning": code_scanning,
    "junit": junit,
    "github": workflow_commands,
    "gitlab": code_quality,
    "summary": summary,
}
"""What other tools read. SARIF has what is excused, `code-scanning` is the same without; `github` are annotations."""


_SUFFIXES: dict[str, ReportFormat] = {".sarif": "sarif", ".xml": "junit"}


def chosen(form: CheckFormat | None, output: str | None) -> CheckFormat:
    """The format asked for, or the one that the file's suffix means. Raises Invalid where it means none."""
    if form is None and output is not None and (meant := _SUFFIXES.get(os.path.splitext(output)[1])):
        return meant
    return (
        form
        if form in FORMATS
        else format_of(cast("Format | None", form), None if output == "-" else output, _SUFFIXES)
    )


class Destination(NamedTuple):
    """A format, and the file that it is written to; None is standard output."""

    form: CheckFormat
    file: str | None = None


def destinations(form: CheckFormat | None, outputs: Sequence[str]) -> list[Destination]:
    """Where outcomes go: a FORMAT:FILE has its own format, and is written beside what is printed.

    Any other file is written in place of that, in the format asked for or the one that its suffix means. Raises
    Invalid where the suffix means none, and for a format asked for of several files.
    """
    beside: list[Destination] = []
    instead: list[Destination] = []
    for output in outputs:
        own, mark, file = output.partition(":")
        if mark and own in get_args(CheckFormat):
            (instead if file == "-" else beside).append(Destination(cast("CheckFormat", own), file))
        elif mark and own.isalpha() and len(own) > 1:  # one letter is a drive
            fix = did_you_mean(own, list(get_args(CheckFormat))) or f"a file of this name is ./{output}"
            raise Invalid(Problem("--output", "has an unknown format", value=shown(own), suggestion=fix))
        else:
            instead.append(Destination(chosen(form, output), output))
    if form is not None and len(instead) > 1:
        fix = "write -o FORMAT:FILE for each"
        raise Invalid(Problem("--format", "cannot be combined with several files", value=shown(form), suggestion=fix))
    found = [*(instead or [Destination(chosen(form, None))]), *beside]
    files = [one.file if one.file in (None, "-") else os.path.abspath(one.file or "") for one in found]
    if twice := next((one.file for one, file in zip(found, files, strict=True) if files.count(file) > 1), None):
        raise Invalid(Problem("--output", "is written twice", value=shown(twice), suggestion="name another file"))
    return [one._replace(file=None) if one.file == "-" else one for one in found]


def show(outcomes: Sequence[Outcome], where: Sequence[Destination]) -> None:
    """Tell the problems on standard error, errors first, and write the outcomes."""
    problems = [problem for outcome in outcomes for problem in outcome.problems]
    errors = [str(problem) for problem in problems if problem.level == "error"]
    lines = [*errors, *(f"{problem} (warning)" for problem in problems if problem.level == "warning")]
    if (more := len(lines) - MOST_PROBLEMS_SHOWN) > 0:
        lines[MOST_PROBLEMS_SHOWN:] = [f"and {more:,} more"]
    if lines:
        tell("\n".join(lines))
    nothing_read = len(outcomes) == 1 and outcomes[0].code > 1  # a headline would only say so again
    for form, file in where:
        if nothing_read and form == "table" and file is None:
            continue
        if form in FORMATS:
            write(FORMATS[form](outcomes), file)
        else:
            emit(checked_sheet(outcomes, told=True), cast("Format", form), file)
