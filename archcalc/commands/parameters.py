"""The commands report and params."""

from typing import Annotated, Literal

import typer

from archcalc.commands.base import COUNT, Form, Output, Spec, app
from archcalc.commands.headers import either
from archcalc.commands.planning import Planned, takes_plan
from archcalc.errors import Invalid, Problem, shown
from archcalc.report.output import emit
from archcalc.spec.catalogue import Found, find


@app.command(rich_help_panel=COUNT)
@takes_plan
def report(spec: Spec, form: Form = None, output: Output = None, plan: Planned | None = None) -> None:
    """One-screen summary: parameters, FLOPs, memory and KV cache.

    All figures are for one sequence of the model's context length. With a plan, by name or by flags such as --tp 8
    --pp 8, they are those of a step and of the rank that has the most of each, with what it sends.

    Example: archcalc report gpt3-175b@n_kv_heads=8
    """
    found = find(spec)
    if plan is not None:
        from archcalc.report.ranksoverview import ranks_report_sheet

        emit(ranks_report_sheet(found, plan.plan, plan.where), form, output)
        return
    from archcalc.report.overview import report_sheet

    emit(report_sheet(found), form, output)


@app.command(rich_help_panel=COUNT)
@takes_plan
def params(
    spec: Spec,
    by: Annotated[
        Literal["category", "layer", "tensor"],
        typer.Option(
            metavar="ROWS",
            show_default=False,
            help="rows: category (default; of a file of weights its formats), layer or tensor",
        ),
    ] = "category",
    form: Form = None,
    output: Output = None,
    plan: Planned | None = None,
) -> None:
    """Count parameters: where they live, by category or layer.

    Weight matrices in eight categories, and the difference to what a checkpoint stores.

    SPEC may also be weights without a spec: a .safetensors or .gguf file, an index of shards, a folder of these, or
    hf:ORG/NAME/FILE. Their headers alone are read, and tell the parameters and bytes of each number format. With a
    plan the rows are its stages, and the parameters those of a rank.

    Example: archcalc params gpt3-175b --by layer
    """
    from archcalc.report.parameters import params_sheet

    if plan is not None:
        if by != "category":
            raise Invalid(Problem("--by", "does not apply to a plan, whose rows are stages", value=shown(by)))
        _of_ranks(spec, plan, form, output)
        return
    counted = either(spec)
    if isinstance(counted, Found):
        emit(params_sheet(counted, by), form, output)
        return
    from archcalc.report.stored import stored_sheet

    emit(stored_sheet(counted, by), form, output)


def _of_ranks(spec: str, plan: Planned, form: Form, output: Output) -> None:
    from archcalc.counts.rankwise import ranked
    from archcalc.report.plans import stages_sheet

    found = find(spec)
    emit(stages_sheet(found, plan.plan, ranked(found.model, plan.plan, plan.where)), form, output)
