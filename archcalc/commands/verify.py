"""The command verify."""

import gc
import sys
from typing import Annotated

import typer

from archcalc.commands.base import TRUST, Form, Output, Specs, app
from archcalc.commands.planning import Planned, takes_plan
from archcalc.errors import Invalid, Problem
from archcalc.report.output import emit, tell
from archcalc.spec.catalogue import find, names


@app.command(rich_help_panel=TRUST)
@takes_plan
def verify(
    specs: Specs = None,
    tensors: Annotated[
        bool, typer.Option("--tensors", help="compare tensor names and shapes only, which is faster")
    ] = False,
    form: Form = None,
    output: Output = None,
    plan: Planned | None = None,
) -> None:
    """Build the model in PyTorch and compare it with the counts.

    Exit code 1 if tensors, FLOPs, bytes or logits differ.

    With a plan a small model of the same architecture takes steps in real processes, and what each rank holds is
    compared instead.

    Example: archcalc verify gpt2
    """
    from archcalc.report.verdict import verdict_sheet

    if plan is not None:
        if tensors:
            raise Invalid(Problem("--tensors", "cannot be combined with a plan, whose ranks take steps"))
        _verify_plan(specs or [], plan, form, output)
        return
    from archcalc.proof.witness import prove

    every = [find(spec) for spec in specs or names()]  # an invalid spec is refused before any is verified
    verdicts = []
    for found in every:
        if len(every) > 1 and sys.stderr is not None and sys.stderr.isatty():
            tell(f"verifying {found.name}")
        verdicts.append(prove(found.model, passes=not tensors)._replace(spec=found.name))
        if not tensors:
            gc.collect()  # the command line puts the collector off, and a model that was run is full of cycles
    emit(verdict_sheet(verdicts, "measured"), form, output)
    if not all(verdict.passed for verdict in verdicts):
        raise typer.Exit(1)


def _verify_plan(specs: list[str], plan: Planned, form: Form, output: Output) -> None:
    """Hold the counts of a plan's ranks against processes that run it. Exit code 1 if something differs."""
    from archcalc.plan.rules import refuse
    from archcalc.proof.ranks import prove_plan
    from archcalc.report.verdict import verdict_sheet
    from archcalc.tape.run import Run

    if len(specs) != 1:
        raise Invalid(Problem("archcalc verify", "needs one SPEC that the plan divides", value=f"{len(specs)}"))
    found = find(specs[0])
    refuse(plan.plan, found.model, Run(batch=plan.plan.micro_batch, sequence=found.model.context_length), plan.where)
    verdict = prove_plan(found.model, plan.plan)._replace(spec=found.name)
    emit(verdict_sheet([verdict], "measured"), form, output)
    if not verdict.passed:
        raise typer.Exit(1)
