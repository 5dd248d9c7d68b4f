"""What a model is made of, does and holds."""

from typing import Annotated, Literal

import typer

from archcalc.blocks.base import LARGEST_SIZE
from archcalc.catalogue import find
from archcalc.commands.base import COUNT, Attention, Batch, Form, Output, Seq, Spec, app, number
from archcalc.errors import Invalid, Problem, shown
from archcalc.output import emit


@app.command(rich_help_panel=COUNT)
def report(spec: Spec, form: Form = None, output: Output = None) -> None:
    """One screen: the shape, where the weights live, the work of training on one context, what is assumed."""
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
    phase: Annotated[Literal["training", "prefill", "decode"], typer.Option(help="what the pass is for")] = "training",
    batch: Batch = "1",
    seq: Seq = None,
    context: Annotated[
        str | None, typer.Option(metavar="T", show_default=False, help="positions that decode reads, its own included")
    ] = None,
    logits: Annotated[
        Literal["all", "last"] | None, typer.Option(show_default=False, help="of which positions; all, in training")
    ] = None,
    causal: Annotated[Literal["full", "half", "exact"], typer.Option(help="which pairs of positions count")] = "full",
    attention: Attention = "math",
    tokens: Annotated[
        str | None, typer.Option(metavar="N", show_default=False, help="to train on (300B = 300,000,000,000)")
    ] = None,
    form: Form = None,
    output: Output = None,
) -> None:
    """What is multiplied: FLOPs by category, forward and backward, and for a training run beside 6 N D."""
    from archcalc.report.work import flops_sheet
    from archcalc.run import Run

    found = find(spec)
    most = found.model.context_length
    if phase == "decode" and seq is not None:
        raise Invalid(Problem("--seq", "decode adds one position to each sequence", suggestion="say --context"))
    if phase != "decode" and context is not None:
        raise Invalid(
            Problem("--context", f"is what decode reads; {phase} reads what it is given", suggestion="say --seq")
        )
    if phase == "training" and logits == "last":
        raise Invalid(Problem("--logits", "training scores the logits of all positions", value=shown(logits)))
    if phase != "training" and tokens is not None:
        raise Invalid(Problem("--tokens", "are trained on", suggestion="say --phase training"))
    read = most if context is None else number("--context", context, most)
    run = Run(
        phase,
        number("--batch", batch, LARGEST_SIZE),
        1 if phase == "decode" else most if seq is None else number("--seq", seq, most),
        read if phase == "decode" else None,
        attention=attention,
        causal=causal,
        logits=logits or "all",
    )
    amount = None if tokens is None else number("--tokens", tokens, 10**18, count=True)
    emit(flops_sheet(found, run, amount), form, output)
