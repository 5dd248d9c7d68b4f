"""The command sweep."""

from typing import Annotated

import typer

from archcalc.blocks.base import LARGEST_SIZE
from archcalc.commands.base import CHOOSE, AnyAttention, AnyBatch, Form, Output, Seq, Spec, app, number
from archcalc.commands.completing import beginning, column_words, field_words
from archcalc.commands.flags import Again, CacheOf, For, OptimizerOf, PrecisionOf, keeping
from archcalc.commands.planning import VARIED, Planned, is_flag, is_varied, takes_plan, varied
from archcalc.errors import Invalid, Problem
from archcalc.report.output import emit, is_read_here, tell
from archcalc.tape.precision import Keeping


def _varied_words(incomplete: str) -> list[str]:
    """Fields of the spec, of the run and of a plan with `=`; behind that the words of a field that has words."""
    name, equals, values = incomplete.partition("=")
    if equals:
        before, comma, begun = values.rpartition(",")
        words = [word for word in VARIED.get(name, ()) if word.startswith(begun) and word not in before.split(",")]
        return [f"{name}={before}{comma}{word}" for word in words]
    found = [*field_words(name), *beginning(("batch", "seq", *VARIED))(name)]
    only = [f"{found[0]}={word}" for word in VARIED.get(found[0], ()) or ("1", "2")] if len(found) == 1 else []
    return [f"{word}=" for word in found] + only


@app.command(rich_help_panel=CHOOSE)
@takes_plan
def sweep(
    spec: Spec,
    vary: Annotated[
        list[str],
        typer.Option(
            metavar="FIELD=SIZES",
            autocompletion=_varied_words,
            help="field of the spec, batch or seq, and its values: n_layers=12,24 or d_model=64..512:64 (step 64); or "
            "field of a plan, such as tp=1,2,4,8; may repeat",
        ),
    ],
    columns: Annotated[
        str | None,
        typer.Option(
            metavar="A,B",
            autocompletion=column_words,
            show_default=False,
            help="quantities or fields to show (see `archcalc list quantities`)",
        ),
    ] = None,
    batch: AnyBatch = None,
    seq: Seq = None,
    attention: AnyAttention = None,
    purpose: For = "training",
    precision: PrecisionOf = None,
    optimizer: OptimizerOf = None,
    recompute: Again = None,
    kv_precision: CacheOf = None,
    form: Form = None,
    output: Output = None,
    plan: Planned | None = None,
) -> None:
    """Evaluate a grid of shapes, or of plans: one row each.

    Fields that depend on a varied one, such as d_head, are adjusted. Fields of a plan are varied apart from others.

    Example: archcalc sweep gpt2 --vary n_layers=12,24 --vary d_model=768,960
    """
    from archcalc.report.grid import grid_sheet, left_out, reasons
    from archcalc.shapes.axes import split_pairs
    from archcalc.shapes.grid import sweep as evaluate

    pairs = split_pairs(vary)
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
    if plan is not None or any(is_varied(name) or is_flag(name) for name in pairs):
        if purpose != "training":
            raise Invalid(Problem("--for", "must be training for a grid of plans", value=purpose))
        if batch is not None:
            raise Invalid(Problem("--batch", "does not apply to a grid of plans", suggestion="vary micro_batch"))
        _of_plans(spec, pairs, columns, seq, attention, kept, plan, form, output)
        return
    grid = evaluate(
        spec,
        pairs,
        columns=None if columns is None else [name.strip() for name in columns.split(",")],
        batch=1 if batch is None else number("--batch", batch, LARGEST_SIZE),
        seq=None if seq is None else number("--seq", seq, LARGEST_SIZE),
        attention=attention,
        purpose=purpose,
        keeping=kept,
    )
    if not len(grid):
        raise Invalid(Problem("--vary", f"leaves no shape: {reasons(grid)}"))
    if (gone := "".join(left_out(grid))) and not is_read_here(form, output):
        tell(f"left out: {gone}")
    emit(grid_sheet(grid), form, output)


def _of_plans(
    spec: str,
    pairs: dict[str, str],
    columns: str | None,
    seq: str | None,
    attention: AnyAttention,
    kept: Keeping,
    plan: Planned | None,
    form: Form,
    output: Output,
) -> None:
    """A grid of plans of one model."""
    from archcalc.plan.description import Plan
    from archcalc.plan.frameworks import precision_follows_zero
    from archcalc.report.plangrid import left_out, plan_grid_sheet
    from archcalc.shapes.plans import sweep_plans
    from archcalc.spec.catalogue import find
    from archcalc.tape.run import Run

    if strange := next((name for name in pairs if not is_varied(name)), None):
        fix = "a grid is of one model's plans, or of shapes; SPEC@FIELD=VALUE changes the model"
        what = "is a field of a plan that cannot be varied" if is_flag(strange) else "is not a field of a plan"
        raise Invalid(
            Problem("--vary", what, strange, suggestion=f"one of {', '.join(VARIED)}" if is_flag(strange) else fix)
        )
    found = find(spec)
    most = found.model.context_length
    run = Run(sequence=most if seq is None else number("--seq", seq, most), attention=attention)
    names = {} if columns is None else {"columns": [name.strip() for name in columns.split(",")]}
    base = Plan() if plan is None else plan.plan
    if "zero" in pairs and base.precision is None and precision_follows_zero(base.framework):
        what = f"decides the precision that {base.framework} runs in"
        raise Invalid(Problem("--vary", what, "zero", suggestion="give --precision"))
    vary = {name: varied(name, text) for name, text in pairs.items()}
    grid = sweep_plans(found.model, vary, base, run, kept, **names)
    if not len(grid):
        raise Invalid(Problem("--vary", f"leaves no plan: {'; '.join(left_out(grid)[1:])}"))
    if (gone := "; ".join(left_out(grid))) and not is_read_here(form, output):
        tell(f"left out: {gone}")
    emit(plan_grid_sheet(found, grid), form, output)
