"""What is held against what was printed, and against PyTorch."""

import sys
from typing import Annotated

import typer

from archcalc.catalogue import broken_promises, find, is_readable, names
from archcalc.commands.base import TRUST, Form, Output, Specs, app
from archcalc.errors import MOST_PROBLEMS_SHOWN, ArchcalcError, Invalid, Problem
from archcalc.output import emit, tell


@app.command(rich_help_panel=TRUST)
def check(specs: Specs = None, form: Form = None, output: Output = None) -> None:
    """Are these good specs, and do their counts hold to the figures that were printed? Exit code 1 if not."""
    from archcalc.audit import audit, unreadable
    from archcalc.report.sheet import warnings
    from archcalc.report.verdict import verdict_sheet

    verdicts, worst = [], 0
    told: list[Problem] = []
    for spec in specs or names():
        try:
            found = find(spec)
        except ArchcalcError as error:
            problems, code = error.problems, 1 if is_readable(spec) else error.exit_code
            verdicts.append(unreadable(spec, problems, max(MOST_PROBLEMS_SHOWN - len(told), 0)))
        else:
            verdict = audit(found.model)
            problems, code = tuple(broken_promises(found)), 0 if verdict.passed else 1
            verdicts.append(verdict._replace(spec=found.name, warnings=warnings(found)))
        worst = max(worst, code)
        told += problems
    if told:
        tell(str(Invalid(*told)))
    emit(verdict_sheet(verdicts, "printed"), form, output)
    if worst:
        raise typer.Exit(worst)


@app.command(rich_help_panel=TRUST)
def verify(
    specs: Specs = None,
    tensors: Annotated[bool, typer.Option("--tensors", help="names and shapes alone, no pass: faster")] = False,
    form: Form = None,
    output: Output = None,
) -> None:
    """Build the model in PyTorch: does it have the tensors, FLOPs, bytes counted? Exit code 1 if not."""
    from archcalc.report.verdict import verdict_sheet
    from archcalc.witness import prove

    every = [find(spec) for spec in specs or names()]  # what is no spec is told before any is proven
    verdicts = []
    for found in every:
        if len(every) > 1 and sys.stderr is not None and sys.stderr.isatty():
            tell(f"proving {found.name}")
        verdicts.append(prove(found.model, passes=not tensors)._replace(spec=found.name))
    emit(verdict_sheet(verdicts, "measured"), form, output)
    if not all(verdict.passed for verdict in verdicts):
        raise typer.Exit(1)
