"""What a model is made of, does and holds."""

from typing import Annotated, Literal

import typer

from archcalc.catalogue import find
from archcalc.commands.asking import Context, LogitsOf, Pairs, Phases, Tokens, work_run
from archcalc.commands.base import COUNT, Attention, Batch, Form, Output, Seq, Spec, app
from archcalc.output import emit


@app.command(rich_help_panel=COUNT)
def report(spec: Spec, form: Form = None, output: Output = None) -> None:
    """One screen: the shape, where the weights live, the work and memory of one context, what is assumed."""
    from archcalc.report.overview import report_sheet

    emit(report_sheet(find(spec)), form, output)


@app.command(rich_help_panel=COUNT)
def params(
    spec: Spec,
    by: Annotated[Literal["category", "layer", "tensor"], typer.Option(help="what a row stands for")] = "category",
    form: Form = None,
    output: Output = None,
) -> None:
    """Every weight, in eight categories of matrices, and the bridge to what a checkpoint stores."""
    from archcalc.report.params import params_sheet

    emit(params_sheet(find(spec), by), form, output)


@app.command(rich_help_panel=COUNT)
def flops(
    spec: Spec,
    phase: Phases = "training",
    batch: Batch = "1",
    seq: Seq = None,
    context: Context = None,
    logits: LogitsOf = None,
    causal: Pairs = "full",
    attention: Attention = "math",
    tokens: Tokens = None,
    form: Form = None,
    output: Output = None,
) -> None:
    """What is multiplied: FLOPs by category, forward and backward, and for a training run beside 6 N D."""
    from archcalc.report.work import flops_sheet

    found = find(spec)
    run, amount = work_run(found.model, phase, batch, seq, context, logits, causal, attention, tokens)
    emit(flops_sheet(found, run, amount), form, output)
