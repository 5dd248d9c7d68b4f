"""The command memory."""

from typing import Annotated

import typer

from archcalc.commands.base import COUNT, Attention, Batch, Form, Output, Seq, Spec, app
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
from archcalc.counts.memory import memory as count_memory
from archcalc.errors import Invalid, Problem, shown
from archcalc.hardware.devices import find_device
from archcalc.hardware.fitting import RESERVE, fit
from archcalc.report.memory import memory_sheet
from archcalc.report.output import emit, tell
from archcalc.spec.catalogue import find


@app.command(rich_help_panel=COUNT)
def memory(
    spec: Spec,
    purpose: For = "training",
    batch: Batch = "1",
    seq: Seq = None,
    precision: PrecisionOf = None,
    optimizer: OptimizerOf = "adamw-fused",
    recompute: Again = "none",
    accumulate: Accumulate = False,
    attention: Attention = "flash",
    activation_kernel: ActivationOf = "fused",
    dropout: Dropout = False,
    kv_precision: CacheOf = None,
    device: Annotated[
        str | None,
        typer.Option(metavar="NAME", show_default=False, help="device to fit it on (see `archcalc list devices`)"),
    ] = None,
    reserve: Annotated[
        str | None,
        typer.Option(metavar="%", show_default=False, help=f"share of device memory set aside; default: {RESERVE}%"),
    ] = None,
    must_fit: Annotated[
        bool, typer.Option("--must-fit", help="end with exit code 1 if it does not fit the device")
    ] = False,
    form: Form = None,
    output: Output = None,
) -> None:
    """Count peak memory; say whether it fits, or how many devices.

    `archcalc list devices` shows the memory of every device; --device asks about one.

    Example: archcalc memory gpt3-175b --for inference --device h100-sxm
    """
    kept = keeping(purpose, precision, optimizer, recompute, kv_precision, accumulate=accumulate, dropout=dropout)
    for flag, given in (("--must-fit", must_fit), ("--reserve", reserve is not None)):
        if given and device is None:
            raise Invalid(Problem(flag, "needs a --device"))
    aside = RESERVE if reserve is None else _percent("--reserve", reserve)
    chosen = None if device is None else find_device(device)
    found = find(spec)
    run = memory_run(found.model, purpose, batch, seq, attention, activation_kernel, dropout=dropout)
    used = count_memory(found.model, run, kept)
    held = None if chosen is None else fit(found.model, run, kept, used, chosen, aside)
    emit(memory_sheet(found, run, kept, used, held), form, output)
    if must_fit and held is not None and not held.fits:
        tell(f"{found.name}: does not fit on {held.device}; {-held.left:,} bytes are missing")
        raise typer.Exit(1)


def _percent(flag: str, text: str) -> int:
    """A whole number of percent, less than all: 5 or 5%."""
    digits = text.strip().removesuffix("%").rstrip()
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 2):
        raise Invalid(Problem(flag, "must be a whole percentage from 0 to 99", value=shown(text)))
    return int(digits)
