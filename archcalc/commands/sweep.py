"""The command sweep."""

from typing import Annotated

import typer

from archcalc.blocks.base import LARGEST_SIZE
from archcalc.commands.base import CHOOSE, AnyAttention, Batch, Form, Output, Seq, Spec, app, number
from archcalc.commands.flags import Again, CacheOf, For, OptimizerOf, PrecisionOf, keeping
from archcalc.errors import Invalid, Problem
from archcalc.report.output import emit, is_read_here, tell


@app.command(rich_help_panel=CHOOSE)
def sweep(
    spec: Spec,
    vary: Annotated[
        list[str],
        typer.Option(
            metavar="FIELD=SIZES",
            help="field of the spec, batch or seq, and its values: n_layers=12,24 or d_model=64..512:64 (step 64); "
            "may repeat",
        ),
    ],
    columns: Annotated[
        str | None,
        typer.Option(
            metavar="A,B", show_default=False, help="quantities or fields to show (see `archcalc list quantities`)"
        ),
    ] = None,
    batch: Batch = "1",
    seq: Seq = None,
    attention: AnyAttention = None,
    purpose: For = "training",
    precision: PrecisionOf = None,
    optimizer: OptimizerOf = "adamw-fused",
    recompute: Again = "none",
    kv_precision: CacheOf = None,
    form: Form = None,
    output: Output = None,
) -> None:
    """Evaluate a grid of shapes: one row each, also as CSV.

    Fields that depend on a varied one, such as d_head, are adjusted.

    Example: archcalc sweep gpt2 --vary n_layers=12,24 --vary d_model=768,960
    """
    from archcalc.report.grid import grid_sheet, left_out, reasons
    from archcalc.shapes.axes import split_pairs
    from archcalc.shapes.grid import sweep as evaluate

    grid = evaluate(
        spec,
        split_pairs(vary),
        columns=None if columns is None else [name.strip() for name in columns.split(",")],
        batch=number("--batch", batch, LARGEST_SIZE),
        seq=None if seq is None else number("--seq", seq, LARGEST_SIZE),
        attention=attention,
        purpose=purpose,
        keeping=keeping(purpose, precision, optimizer, recompute, kv_precision, accumulate=False, dropout=False),
    )
    if not len(grid):
        raise Invalid(Problem("--vary", f"leaves no shape: {reasons(grid)}"))
    if (gone := "".join(left_out(grid))) and not is_read_here(form, output):
        tell(f"left out: {gone}")
    emit(grid_sheet(grid), form, output)
