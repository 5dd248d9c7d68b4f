"""What one device holds, and whether it fits."""

from typing import Annotated, Literal

import typer

from archcalc.blocks.base import LARGEST_SIZE
from archcalc.catalogue import find
from archcalc.commands.base import COUNT, Batch, Form, Output, Seq, Spec, app, number
from archcalc.errors import Invalid, Problem, shown
from archcalc.fitting import RESERVE, Fit, fit
from archcalc.footprint import Keeping
from archcalc.footprint import memory as count_memory
from archcalc.hardware import find_device
from archcalc.output import emit, tell
from archcalc.precision import BITS, RECIPES, CachePrecision, Optimizer, Precision
from archcalc.report.memory import memory_sheet
from archcalc.run import Run

Purpose = Literal["training", "inference"]


@app.command(rich_help_panel=COUNT)
def memory(
    spec: Spec,
    purpose: Annotated[Purpose, typer.Option("--for", help="what is held")] = "training",
    batch: Batch = "1",
    seq: Seq = None,
    precision: Annotated[
        Precision | None, typer.Option(show_default=False, help="mixed-16 if none, for inference bf16")
    ] = None,
    optimizer: Annotated[Optimizer, typer.Option(help="of training; sgd has a momentum")] = "adamw",
    recompute: Annotated[
        Literal["none", "selective", "full"],
        typer.Option(help="backward: nothing, the core of attention, whole layers"),
    ] = "none",
    accumulate: Annotated[bool, typer.Option("--accumulate", help="gradients stay, for micro-batches")] = False,
    attention: Annotated[Literal["math", "flash"], typer.Option(help="math stores the scores")] = "flash",
    dropout: Annotated[bool, typer.Option("--dropout", help="train with it: its masks are kept")] = False,
    kv_precision: Annotated[
        CachePrecision | None, typer.Option(show_default=False, help="of the cache; as activations if none")
    ] = None,
    device: Annotated[
        str | None, typer.Option(metavar="NAME", show_default=False, help="does it fit? h100-sxm, rtx-4090, ...")
    ] = None,
    reserve: Annotated[
        str | None,
        typer.Option(metavar="%", show_default=False, help=f"of the device, for all else; {RESERVE}% if none"),
    ] = None,
    must_fit: Annotated[bool, typer.Option("--must-fit", help="exit code 1 where it does not")] = False,
    form: Form = None,
    output: Output = None,
) -> None:
    """What one device holds: every term of the peak, in training or inference, and whether it fits."""
    trains = purpose == "training"
    asked = {
        "--optimizer": optimizer != "adamw",
        "--recompute": recompute != "none",
        "--accumulate": accumulate,
        "--dropout": dropout,
    }
    for flag in [flag for flag, given in asked.items() if given and not trains]:
        raise Invalid(Problem(flag, "is of training", suggestion="say --for training"))
    if trains and kv_precision is not None:
        raise Invalid(Problem("--kv-precision", "is of inference", suggestion="say --for inference"))
    for flag, given in (("--must-fit", must_fit), ("--reserve", reserve is not None)):
        if given and device is None:
            raise Invalid(Problem(flag, "needs a --device"))
    keeping = Keeping(
        _precision(purpose, precision),
        optimizer,
        recompute,
        accumulate=accumulate,
        kv_precision=kv_precision,
    )
    aside = RESERVE if reserve is None else _percent("--reserve", reserve)
    chosen = None if device is None else find_device(device)
    found = find(spec)
    most = found.model.context_length
    run = Run(
        "training" if trains else "prefill",
        number("--batch", batch, LARGEST_SIZE),
        most if seq is None else number("--seq", seq, most),
        attention=attention,
        dropout=dropout,
        logits="all" if trains else "last",
    )
    used = count_memory(found.model, run, keeping)
    held = None if chosen is None else fit(found.model, run, keeping, used, chosen, aside)
    emit(memory_sheet(found, run, keeping, used, held), form, output)
    if must_fit and held is not None:
        _refuse(found.name, held)


def _refuse(name: str, held: Fit) -> None:
    if not held.fits:
        tell(f"{name}: does not fit {held.device}; {-held.left:,} bytes are missing")
        raise typer.Exit(1)


def _precision(purpose: Purpose, asked: str | None) -> str:
    """A recipe of training, or a precision of weights; each has its own names."""
    known = list(RECIPES if purpose == "training" else BITS)
    if asked is None:
        return "mixed-16" if purpose == "training" else "bf16"
    if asked not in known:
        message = f"of {purpose} is one of {', '.join(known)}"
        raise Invalid(Problem("--precision", message, value=shown(asked)))
    return asked


def _percent(flag: str, text: str) -> int:
    """A whole number of percent, less than all: 5 or 5%."""
    digits = text.strip().removesuffix("%").rstrip()
    if not (digits.isascii() and digits.isdigit() and int(digits[:3]) < 100 and len(digits) <= 2):
        raise Invalid(Problem(flag, "must be a whole percentage from 0 to 99", value=shown(text)))
    return int(digits)
