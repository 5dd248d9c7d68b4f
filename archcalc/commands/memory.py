"""The command memory."""

from typing import TYPE_CHECKING, Annotated

import typer

from archcalc.arguments import LARGEST_SIZE
from archcalc.commands.base import COUNT, AnyBatch, Attention, Form, Output, Seq, Spec, app, number
from archcalc.commands.completing import device_words
from archcalc.commands.flags import (
    Accumulate,
    ActivationOf,
    Again,
    CacheOf,
    Dropout,
    For,
    OptimizerOf,
    PrecisionOf,
    keeping,
    memory_run,
)
from archcalc.commands.planning import Planned, takes_plan
from archcalc.counts.memory import memory as count_memory
from archcalc.errors import Invalid, Problem, shown
from archcalc.hardware.devices import find_device
from archcalc.hardware.fitting import RESERVE, Fit, fit, missing
from archcalc.report.memory import memory_sheet
from archcalc.report.output import emit, tell
from archcalc.spec.catalogue import find

if TYPE_CHECKING:
    from archcalc.hardware.planning import PlanFit

MOST_GPUS = 100_000
"""Devices of a search for plans."""


@app.command(rich_help_panel=COUNT)
@takes_plan
def memory(
    spec: Spec,
    purpose: For = "training",
    batch: AnyBatch = None,
    seq: Seq = None,
    precision: PrecisionOf = None,
    optimizer: OptimizerOf = None,
    recompute: Again = None,
    accumulate: Accumulate = False,
    attention: Attention = "flash",
    activation_kernel: ActivationOf = "fused",
    dropout: Dropout = False,
    kv_precision: CacheOf = None,
    device: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            autocompletion=device_words,
            show_default=False,
            help="device to fit it on (see `archcalc list devices`)",
        ),
    ] = None,
    reserve: Annotated[
        str | None,
        typer.Option(metavar="%", show_default=False, help=f"share of device memory set aside; default: {RESERVE}%"),
    ] = None,
    gpus: Annotated[
        str | None,
        typer.Option(metavar="N", show_default=False, help="without a plan: list plans of N devices that fit"),
    ] = None,
    must_fit: Annotated[
        bool, typer.Option("--must-fit", help="end with exit code 1 if it does not fit the device")
    ] = False,
    form: Form = None,
    output: Output = None,
    plan: Planned | None = None,
) -> None:
    """Count peak memory; say whether it fits, or how many devices.

    With a plan the fullest rank is counted, and --batch is that of a step over all ranks.

    Example: archcalc memory gpt3-175b --for inference --device h100-sxm
    """
    kept = keeping(
        purpose,
        precision,
        optimizer,
        recompute,
        kv_precision,
        accumulate=accumulate,
        dropout=dropout,
        plan=plan and plan.plan,
    )
    for flag, given in (("--must-fit", must_fit), ("--reserve", reserve is not None)):
        if given and device is None:
            raise Invalid(Problem(flag, "needs a --device"))
    aside = RESERVE if reserve is None else _percent("--reserve", reserve)
    chosen = None if device is None else find_device(device)
    found = find(spec)
    each = "1" if plan or batch is None else batch
    run = memory_run(found.model, purpose, each, seq, attention, activation_kernel, dropout=dropout)
    if gpus is not None:
        ranks = number("--gpus", gpus, LARGEST_SIZE if plan else MOST_GPUS)
        if plan is None:
            from archcalc.report.planfit import plans_sheet
            from archcalc.shapes.fitting import plans_that_fit

            if purpose != "training":
                raise Invalid(Problem("--gpus", "searches plans of training alone", suggestion="give a plan, or --tp"))
            if chosen is None:
                raise Invalid(Problem("--gpus", "needs a --device, or a plan"))
            if batch is not None:
                raise Invalid(Problem("--batch", "does not apply to a search, whose steps have 8 sequences a device"))
            if recompute not in (None, "none"):
                raise Invalid(Problem("--recompute", "does not apply to a search, which tries all", value=recompute))
            search = plans_that_fit(found.model, run, kept, chosen, ranks, aside)
            emit(plans_sheet(found, run, kept, search), form, output)
            if must_fit and not search.found:
                tell(f"{found.name}: no plan of {ranks:,} {chosen.name} that was tried fits")
                raise typer.Exit(1)
            return
        if plan.plan.world != ranks:
            what = f"must be the ranks of the plan ({plan.plan.world:,})"
            raise Invalid(Problem("--gpus", what, value=f"{ranks:,}"))
    if plan is not None:
        from archcalc.counts.rankwise import ranks as count_ranks
        from archcalc.hardware.planning import fit_plan
        from archcalc.report.ranks import ranks_sheet

        counted = count_ranks(found.model, plan.of(run, batch), run, kept, plan.where)
        on_device = None if chosen is None else fit_plan(found.model, counted, chosen, aside)
        emit(ranks_sheet(found, counted, on_device), form, output)
        _must_fit(found.name, on_device, must=must_fit)
        return
    used = count_memory(found.model, run, kept)
    held = None if chosen is None else fit(found.model, run, kept, used, chosen, aside)
    emit(memory_sheet(found, run, kept, used, held), form, output)
    _must_fit(found.name, held, must=must_fit)


def _must_fit(name: str, held: "Fit | PlanFit | None", *, must: bool) -> None:
    """End with exit code 1 where it must fit and does not."""
    if must and held is not None and not held.fits:
        tell(f"{name}: {missing(held.device, -held.left)}")
        raise typer.Exit(1)


def _percent(flag: str, text: str) -> int:
    """A whole number of percent, less than all: 5 or 5%."""
    digits = text.strip().removesuffix("%").rstrip()
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 2):
        raise Invalid(Problem(flag, "must be a whole percentage from 0 to 99", value=shown(text)))
    return int(digits)
