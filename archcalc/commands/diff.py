"""The command diff."""

from typing import Annotated

import typer

from archcalc.blocks.base import LARGEST_SIZE
from archcalc.commands.base import CHOOSE, AnyAttention, Batch, Form, Output, app, number
from archcalc.commands.flags import Again, CacheOf, For, OptimizerOf, PrecisionOf, keeping
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
def diff(
    specs: Annotated[
        list[str],
        typer.Argument(
            metavar="SPEC", show_default=False, help="two or more catalogue names or paths; the first is the baseline"
        ),
    ],
    batch: Batch = "1",
    seq: Shortest = None,
    attention: AnyAttention = None,
    purpose: For = "training",
    precision: PrecisionOf = None,
    optimizer: OptimizerOf = "adamw-fused",
    recompute: Again = "none",
    kv_precision: CacheOf = None,
    form: Form = None,
    output: Output = None,
) -> None:
    """Compare specs: fields, parameters, FLOPs, cache and memory.

    All are counted at one length, the shortest context unless --seq says another.

    Example: archcalc diff gpt2-xl own.yaml
    """
    from archcalc.counts.quantities import one_pass
    from archcalc.report.diff import difference_sheet

    if len(specs) < 2:
        raise Invalid(Problem("archcalc diff", "needs two or more specs", value=shown(specs[0])))
    found = [find(spec) for spec in specs]
    most = min(one.model.context_length for one in found)
    sequences = number("--batch", batch, LARGEST_SIZE)
    length = most if seq is None else number("--seq", seq, most)
    kept = keeping(purpose, precision, optimizer, recompute, kv_precision, accumulate=False, dropout=False)
    asked = [one_pass(one.model, sequences, length, attention, purpose, kept) for one in found]
    emit(difference_sheet(found, asked), form, output)
