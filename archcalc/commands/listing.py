"""The commands list and schema."""

from typing import Annotated, Literal

import typer

from archcalc.commands.base import FILES, Form, Output, app
from archcalc.errors import Invalid, Problem, nearest, shown
from archcalc.report.output import emit, write

WHAT = ("models", "devices", "quantities")


def _words(incomplete: str) -> list[str]:
    """What can be listed, and the families and names that begin so, for the shell's completion."""
    from archcalc.spec.catalogue import names
    from archcalc.spec.searching import families

    return [word for word in dict.fromkeys((*WHAT, *families(), *names())) if word.startswith(incomplete)]


@app.command(name="list", rich_help_panel=FILES)
def list_(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="WHAT|WORD",
            autocompletion=_words,
            show_default=False,
            help="models, devices or quantities; other words list the models whose name, family or source has all of "
            "them; default: models",
        ),
    ] = None,
    form: Form = None,
    output: Output = None,
) -> None:
    """List the models, the devices or the quantities.

    Example: archcalc list llama 8b
    """
    what, *rest = words if words and words[0] in WHAT else ("models", *(words or ()))
    if what == "models":
        from archcalc.report.listing import models_sheet
        from archcalc.spec.searching import search

        found = search(_asked(rest))
        if not found:
            raise Invalid(_none(rest))
        emit(models_sheet(found, rest), form, output)
        return
    if rest:
        raise Invalid(Problem("archcalc list", f"takes no words after {what}", value=shown(rest[0])))
    if what == "devices":
        from archcalc.hardware.devices import device_names, find_device
        from archcalc.report.listing import devices_sheet

        emit(devices_sheet([find_device(name) for name in device_names()]), form, output)
    else:
        from archcalc.report.quantities import quantities_sheet

        emit(quantities_sheet(), form, output)


def _asked(words: list[str]) -> list[str]:
    """The words of a search. Raises Invalid where one is empty."""
    if not all(words):
        raise Invalid(Problem("archcalc list", "a word is empty"))
    return words


def _none(words: list[str]) -> Problem:
    """The problem of a search that found nothing, with what is near."""
    from archcalc.spec.catalogue import names
    from archcalc.spec.searching import families

    near = nearest("-".join(words), [*families(), *WHAT, *names()], 3)
    fix = f"nearest: {', '.join(near)}" if near else "`archcalc list` shows all"
    return Problem(" ".join(words), "matches no model", suggestion=fix)


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
