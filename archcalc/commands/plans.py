"""The command plan."""

from functools import partial
from typing import Annotated

import typer

from archcalc.commands.base import COUNT, Form, Output, app
from archcalc.commands.completing import spec_words
from archcalc.commands.planning import Planned, needed, takes_plan
from archcalc.errors import Invalid, Problem
from archcalc.report.output import emit


@app.command(name="plan", rich_help_panel=COUNT)
@partial(takes_plan, told=True)
def plan_(
    spec: Annotated[
        str | None,
        typer.Argument(
            metavar="SPEC", autocompletion=spec_words, show_default=False, help="model that the plan divides"
        ),
    ] = None,
    rules: Annotated[bool, typer.Option("--rules", help="list what makes a plan infeasible")] = False,
    form: Form = None,
    output: Output = None,
    plan: Planned | None = None,
) -> None:
    """Show a parallel plan: ranks, stages, parameters of each.

    With a SPEC the plan is held against it, and what cannot be is refused with the nearest that can.

    Example: archcalc plan gpt3-175b --tp 8 --pp 8 --dp 16 --zero 1
    """
    from archcalc.report.plans import plan_sheet, rules_sheet, stages_sheet

    if rules:
        if spec is not None or plan is not None:
            raise Invalid(Problem("--rules", "stands alone; no SPEC and no plan goes with it"))
        emit(rules_sheet(), form, output)
        return
    plan = needed("plan", plan)
    if spec is None:
        emit(plan_sheet(plan.plan), form, output)
        return
    from archcalc.counts.rankwise import ranked
    from archcalc.spec.catalogue import find

    found = find(spec)
    emit(stages_sheet(found, plan.plan, ranked(found.model, plan.plan, plan.where)), form, output)
