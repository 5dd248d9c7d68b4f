"""The catalogue and the schemas."""

from typing import Annotated, Literal

import typer

from archcalc.catalogue import find, names
from archcalc.commands.base import FILES, Form, Output, app
from archcalc.output import emit, write


@app.command(name="list", rich_help_panel=FILES)
def list_(
    what: Annotated[
        Literal["models", "devices", "quantities"],
        typer.Argument(metavar="[models|devices|quantities]", show_default=False, help="models if not given"),
    ] = "models",
    form: Form = None,
    output: Output = None,
) -> None:
    """The models of the catalogue, the devices, or the names of the quantities that are counted."""
    if what == "models":
        from archcalc.report.listing import models_sheet

        emit(models_sheet([find(name).model for name in names()]), form, output)
    elif what == "devices":
        from archcalc.hardware import device_names, find_device
        from archcalc.report.listing import devices_sheet

        emit(devices_sheet([find_device(name) for name in device_names()]), form, output)
    else:
        from archcalc.report.quantities import quantities_sheet

        emit(quantities_sheet(), form, output)


@app.command(rich_help_panel=FILES)
def schema(
    of: Annotated[Literal["model", "device"], typer.Option("--of", help="what the YAML describes")] = "model",
    output: Output = None,
) -> None:
    """The JSON Schema of a spec, for editors and validators."""
    from archcalc.schema import schema_text

    write(schema_text(of), output)
