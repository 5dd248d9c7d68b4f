"""Shapes beside each other: what to build, and what a change does."""

from typing import Annotated

import typer

from archcalc.blocks.base import LARGEST_SIZE
from archcalc.catalogue import find
from archcalc.commands.asking import Again, OptimizerOf, PrecisionOf, keeping
from archcalc.commands.base import CHOOSE, Attention, Batch, Form, Output, Seq, Spec, app, number
from archcalc.errors import Invalid, Problem, shown
from archcalc.output import emit


@app.command(rich_help_panel=CHOOSE)
def sweep(
    spec: Spec,
    vary: Annotated[list[str], typer.Option(metavar="FIELD=SIZES", help="12,24 or 64..512 or 64..512:64 (a step)")],
    columns: Annotated[str | None, typer.Option(metavar="A,B", show_default=False, help="to show, fields too")] = None,
    batch: Batch = "1",
    seq: Seq = None,
    attention: Attention = "math",
    precision: PrecisionOf = None,
    optimizer: OptimizerOf = "adamw-fused",
    recompute: Again = "none",
    form: Form = None,
    output: Output = None,
) -> None:
    """Every shape of a grid over fields of the spec, batch or seq: parameters, FLOPs, bytes, and what followed."""
    from archcalc.axes import split_pairs
    from archcalc.grid import sweep as evaluate
    from archcalc.report.grid import grid_sheet

    grid = evaluate(
        spec,
        split_pairs(vary),
        columns=None if columns is None else [name.strip() for name in columns.split(",")],
        batch=number("--batch", batch, LARGEST_SIZE),
        seq=None if seq is None else number("--seq", seq, LARGEST_SIZE),
        attention=attention,
        keeping=keeping("training", precision, optimizer, recompute, None, accumulate=False, dropout=False),
    )
    emit(grid_sheet(grid), form, output)


@app.command(rich_help_panel=CHOOSE)
def diff(
    specs: Annotated[
        list[str], typer.Argument(metavar="SPEC SPEC...", show_default=False, help="the first, and others")
    ],
    batch: Batch = "1",
    seq: Seq = None,
    precision: PrecisionOf = None,
    optimizer: OptimizerOf = "adamw-fused",
    recompute: Again = "none",
    form: Form = None,
    output: Output = None,
) -> None:
    """What differs between specs, and what that does to parameters, FLOPs, cache and memory."""
    from archcalc.report.difference import Asked, difference_sheet

    if len(specs) < 2:
        raise Invalid(Problem("archcalc diff", "compares two specs or more", value=shown(specs[0])))
    found = [find(spec) for spec in specs]
    most = min(one.model.context_length for one in found)
    asked = Asked(
        number("--batch", batch, LARGEST_SIZE),
        None if seq is None else number("--seq", seq, most),
        keeping("training", precision, optimizer, recompute, None, accumulate=False, dropout=False),
    )
    emit(difference_sheet(found, asked), form, output)
