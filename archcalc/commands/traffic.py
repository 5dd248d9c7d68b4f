"""The command traffic."""

from typing import Annotated

import typer

from archcalc.arguments import LARGEST_SIZE
from archcalc.commands.base import COUNT, AnyBatch, Form, Output, Seq, Spec, app, number
from archcalc.commands.flags import Again, Phases, PrecisionOf, keeping, work_run
from archcalc.commands.planning import Planned, needed, takes_plan
from archcalc.errors import Invalid, Problem
from archcalc.report.output import emit
from archcalc.spec.catalogue import find


@app.command(rich_help_panel=COUNT)
@takes_plan
def traffic(
    spec: Spec,
    phase: Phases = "training",
    batch: AnyBatch = None,
    seq: Seq = None,
    precision: PrecisionOf = None,
    recompute: Again = None,
    gpus_per_node: Annotated[
        str | None, typer.Option(metavar="N", show_default=False, help="GPUs that share a node; default: 8")
    ] = None,
    form: Form = None,
    output: Output = None,
    plan: Planned | None = None,
) -> None:
    """Count what ranks of a plan send each other.

    Every collective of a step, by the axis of the plan and the operation, for the rank that sends the most; JSON and
    CSV have each tensor, and each stage. A plan is named by --plan or made of flags such as --tp 8 --dp 16.

    Example: archcalc traffic gpt3-175b --tp 8 --pp 8 --dp 8 --zero 1
    """
    from archcalc.counts.collectives import traffic as count_traffic
    from archcalc.plan.placing import GPUS_PER_NODE
    from archcalc.report.traffic import traffic_sheet

    plan = needed("traffic", plan)
    if phase == "decode" and seq is not None:
        raise Invalid(Problem("--seq", "does not apply to decode, which adds one position to each sequence"))
    kept = keeping(
        "training" if phase == "training" else "inference",
        precision,
        None,
        recompute,
        None,
        accumulate=False,
        dropout=False,
        plan=plan.plan,
    )
    each = GPUS_PER_NODE if gpus_per_node is None else number("--gpus-per-node", gpus_per_node, LARGEST_SIZE)
    found = find(spec)
    run, _ = work_run(
        found.model, phase, "1", seq, None, "last" if phase == "prefill" else None, "full", "flash", None
    )
    counted = count_traffic(found.model, plan.of(run, batch), run, kept, each, plan.where)
    emit(traffic_sheet(found, counted), form, output)
