"""The command diff."""

from typing import Annotated

import typer

from archcalc.blocks.base import LARGEST_SIZE
from archcalc.commands.base import CHOOSE, AnyAttention, AnyBatch, Form, Output, app, number
from archcalc.commands.completing import spec_words
from archcalc.commands.flags import Again, CacheOf, For, OptimizerOf, PrecisionOf, keeping
from archcalc.commands.planning import Planned, takes_plan
from archcalc.errors import Invalid, Problem, shown
from archcalc.report.output import emit
from archcalc.spec.catalogue import find

Shortest = Annotated[
    str | None,
    typer.Option(
        "--seq",
        metavar="S",
        show_default=False,
        help="positions per sequence; default: the shortest context",
    ),
]


@app.command(rich_help_panel=CHOOSE)
@takes_plan
def diff(
    specs: Annotated[
        list[str],
        typer.Argument(
            metavar="SPEC",
            autocompletion=spec_words,
            show_default=False,
            help="two or more catalogue names, paths or REV:PATH (git); the first is the baseline",
        ),
    ],
    batch: AnyBatch = None,
    seq: Shortest = None,
    attention: AnyAttention = None,
    purpose: For = "training",
    precision: PrecisionOf = None,
    optimizer: OptimizerOf = None,
    recompute: Again = None,
    kv_precision: CacheOf = None,
    exit_code: Annotated[
        bool, typer.Option("--exit-code", help="exit with 1 if a field of the shape or a count differs")
    ] = False,
    form: Form = None,
    output: Output = None,
    plan: Planned | None = None,
) -> None:
    """Compare specs: fields, parameters, FLOPs, cache and memory.

    All are counted at one length, the shortest context unless --seq says another. With a plan the counts are those of
    one micro-batch on the fullest rank of each. Budgets of archcalc.yaml that a
    spec exceeds are shown.

    Example: archcalc diff gpt2-xl own.yaml
    """
    from archcalc.checks.budgets import hold_budgets
    from archcalc.checks.project import find_project
    from archcalc.counts.quantities import one_pass
    from archcalc.report.diff import difference_sheet

    if len(specs) < 2:
        raise Invalid(Problem("archcalc diff", "needs two or more specs", value=shown(specs[0])))
    found = [find(spec) for spec in specs]
    most = min(one.model.context_length for one in found)
    sequences = 1 if plan or batch is None else number("--batch", batch, LARGEST_SIZE)
    length = most if seq is None else number("--seq", seq, most)
    kept = keeping(
        purpose,
        precision,
        optimizer,
        recompute,
        kv_precision,
        accumulate=False,
        dropout=False,
        plan=plan and plan.plan,
    )
    models = [one.model for one in found]
    chosen = None
    if plan is not None:
        from archcalc.counts.rankwise import fullest

        run = one_pass(models[0], 1, length, attention, purpose, kept).held
        chosen = plan.of(run, batch)
        kept = kept._replace(accumulate=purpose == "training" and chosen.accumulation > 1)
        models = [fullest(one.model, chosen, run, kept, f"{one.name}: {plan.where}") for one in found]
        sequences = chosen.micro_batch
    asked = [one_pass(model, sequences, length, attention, purpose, kept) for model in models]
    project = find_project()
    budgets = [hold_budgets(project, one) for one in found] if project.configuration.budgets else []
    sheet = difference_sheet(found, asked, chosen, budgets)
    emit(sheet, form, output)
    if exit_code and sheet.payload["differs"]:
        raise typer.Exit(1)
