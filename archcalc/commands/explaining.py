"""Where a number comes from."""

from typing import Annotated, Literal

import typer

from archcalc.catalogue import find
from archcalc.commands.asking import (
    Accumulate,
    ActivationOf,
    Again,
    CacheOf,
    Context,
    Dropout,
    For,
    LogitsOf,
    OptimizerOf,
    Pairs,
    Phases,
    PrecisionOf,
    Tokens,
    keeping,
    memory_run,
    work_run,
)
from archcalc.commands.base import COUNT, Batch, Output, Seq, Spec, app
from archcalc.errors import Invalid, Problem
from archcalc.output import emit, write
from archcalc.report.explanation import Asked, explanation_sheet, latex


@app.command(rich_help_panel=COUNT)
def explain(
    spec: Spec,
    path: Annotated[
        str | None,
        typer.Argument(
            metavar="[PATH]", show_default=False, help="in the JSON of a command: flops.forward; all if none"
        ),
    ] = None,
    batch: Batch = "1",
    seq: Seq = None,
    attention: Annotated[
        Literal["math", "flash"] | None,
        typer.Option(show_default=False, help="as asked; else of FLOPs math, of memory flash"),
    ] = None,
    phase: Phases = "training",
    context: Context = None,
    logits: LogitsOf = None,
    causal: Pairs = "full",
    tokens: Tokens = None,
    purpose: For = "training",
    precision: PrecisionOf = None,
    optimizer: OptimizerOf = "adamw-fused",
    recompute: Again = "none",
    accumulate: Accumulate = False,
    activation_kernel: ActivationOf = "fused",
    dropout: Dropout = False,
    kv_precision: CacheOf = None,
    form: Annotated[
        Literal["table", "markdown", "latex", "json", "csv"] | None,
        typer.Option("--format", "-f", show_default=False, help="of the output; a table, or what FILE's suffix says"),
    ] = None,
    output: Output = None,
) -> None:
    """Any number of report, params, flops and memory: its formula, its terms, the lines of the spec behind it."""
    kept = keeping(purpose, precision, optimizer, recompute, kv_precision, accumulate=accumulate, dropout=dropout)
    found = find(spec)
    model = found.model
    run, amount = work_run(model, phase, batch, seq, context, logits, causal, attention or "math", tokens)
    held = memory_run(model, purpose, batch, seq, attention or "flash", activation_kernel, dropout=dropout)
    asked = Asked(run, amount, held, kept)
    if form is None and output is not None and output.endswith(".tex"):
        form = "latex"
    if form != "latex":
        emit(explanation_sheet(found, path, asked), form, output)
    elif path is None:
        raise Invalid(Problem("--format", "latex is of one number", suggestion="name its PATH"))
    else:
        write(latex(found, path, asked), output)
