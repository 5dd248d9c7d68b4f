"""Outcomes of `check` in every format: a table of those that are no sheet."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Literal, cast

from archcalc.checks.outcome import Outcome
from archcalc.errors import Invalid
from archcalc.report.annotations import workflow_commands
from archcalc.report.checked import checked_sheet
from archcalc.report.codequality import code_quality
from archcalc.report.junit import junit
from archcalc.report.output import emit, tell, write
from archcalc.report.render import render
from archcalc.report.sarif import code_scanning, sarif
from archcalc.report.sheet import Format
from archcalc.report.summary import summary

ReportFormat = Literal["sarif", "code-scanning", "junit", "github", "gitlab", "summary"]

CheckFormat = Literal[
    "table",
    "markdown",
    "json",
    "csv",
    "sarif",
    "code-scanning",
    "junit",
    "github",
    "gitlab",
    "summary",
]

FORMATS: dict[ReportFormat, Callable[[Sequence[Outcome]], str]] = {
    "sarif": sarif,
    "code-scanning": code_scanning,
    "junit": junit,
    "github": workflow_commands,
    "gitlab": code_quality,
    "summary": summary,
}
"""What other tools read. SARIF has what is excused, `code-scanning` is the same without; `github` are annotations."""


def rendered_outcomes(outcomes: Sequence[Outcome], form: ReportFormat | Format) -> str:
    """What was found, in a format of another tool or one of those that every command has."""
    write = FORMATS.get(cast("ReportFormat", form))
    return write(outcomes) if write else render(checked_sheet(outcomes), cast("Format", form))


_SUFFIXES: dict[str, ReportFormat] = {".sarif": "sarif", ".xml": "junit"}


def show(outcomes: Sequence[Outcome], form: ReportFormat | Format | None, output: str | None) -> None:
    """Tell the problems on standard error, and write the outcomes in the format asked for, or the file's suffix's."""
    problems = [problem for outcome in outcomes for problem in outcome.problems]
    if problems:
        tell(str(Invalid(*problems)))
    if form is None and output is not None:
        form = _SUFFIXES.get(os.path.splitext(output)[1])
    if form in FORMATS:
        write(FORMATS[form](outcomes), output)
    else:
        emit(checked_sheet(outcomes, told=True), cast("Format | None", form), output)
