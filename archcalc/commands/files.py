"""The catalogue and the schemas."""

from typing import Annotated, Literal

import typer

from archcalc.catalogue import find, names
from archcalc.commands.base import FILES, Form, Output, app
from archcalc.output import emit, write


@app.command(name="list", rich_help_panel=FILES)
def list_(form: Form = None, output: Output = None) -> None:
    """The specs of the catalogue."""
    from archcalc.report.listing import listing_sheet

    emit(listing_sheet([find(name).model for name in names()]), form, output)


@app.command(rich_help_panel=FILES)
def schema(
    of: Annotated[Literal["model", "device"], typer.Option("--of", help="what the YAML describes")] = "model",
    output: Output = None,
) -> None:
    """The JSON Schema of a spec, for editors and validators."""
    from archcalc.schema import schema_text

    write(schema_text(of), output)
