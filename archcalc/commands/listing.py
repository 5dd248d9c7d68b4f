"""The commands list and schema."""

from typing import Annotated, Literal

import typer

from archcalc.commands.base import FILES, Form, Output, app
from archcalc.errors import Invalid, Problem, shown
from archcalc.report.output import emit, write
from archcalc.spec.catalogue import find, names


@app.command(name="list", rich_help_panel=FILES)
def list_(
    what: Annotated[
        str,
        typer.Argument(
            metavar="WHAT",
            show_default=False,
            help="models, devices or quantities, or a part of models' names; default: models",
        ),
    ] = "models",
    form: Form = None,
    output: Output = None,
) -> None:
    """List the models, the devices or the quantities.

    Example: archcalc list llama
    """
    found = [name for name in names() if what == "models" or what.lower() in name]
    if found and what:
        from archcalc.report.listing import models_sheet

        emit(models_sheet([find(name).model for name in found]), form, output)
    elif what == "devices":
        from archcalc.hardware.devices import device_names, find_device
        from archcalc.report.listing import devices_sheet

        emit(devices_sheet([find_device(name) for name in device_names()]), form, output)
    elif what == "quantities":
        from archcalc.report.quantities import quantities_sheet

        emit(quantities_sheet(), form, output)
    else:
        raise Invalid(Problem("archcalc list", f"{shown(what)} is not one of 'models', 'devices', 'quantities'"))


@app.command(rich_help_panel=FILES)
def schema(
    of: Annotated[
        Literal["model", "device"],
        typer.Option("--of", metavar="KIND", help="kind of file described: model or device"),
    ] = "model",
    output: Annotated[
        str | None, typer.Option("--output", "-o", metavar="FILE", show_default=False, help="file to write")
    ] = None,
) -> None:
    """Print the JSON Schema of specs, for editors and validators."""
    from archcalc.hardware.devices import Device
    from archcalc.spec.model import Model
    from archcalc.spec.schema import schema_text

    write(schema_text(Device if of == "device" else Model), output)
