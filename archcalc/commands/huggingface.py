"""The commands import and export: between a config.json of Hugging Face and a spec."""

import os
from typing import Annotated, Literal

import typer

from archcalc.commands.base import FILES, Spec, app
from archcalc.commands.completing import file_words
from archcalc.errors import Invalid, Problem
from archcalc.report.output import write

To = Annotated[
    str | None,
    typer.Option("--output", "-o", metavar="FILE", show_default=False, help="file to write; default: print"),
]


@app.command(name="import", rich_help_panel=FILES)
def import_(
    config: Annotated[
        str,
        typer.Argument(
            metavar="CONFIG",
            autocompletion=file_words,
            show_default=False,
            help="config.json of a Hugging Face model, a folder with one, or - for standard input",
        ),
    ],
    part: Annotated[
        Literal["text"] | None,
        typer.Option(metavar="PART", show_default=False, help="part that is read alone, of a model of images: text"),
    ] = None,
    output: To = None,
) -> None:
    """Turn a Hugging Face config.json into a spec.

    Comments in it say which keys each field came from, and which were not used. Every other command takes the
    config.json itself, too.

    Example: archcalc import Llama-3.1-8B/config.json -o llama.yaml
    """
    from archcalc.spec.catalogue import find
    from archcalc.spec.configs import import_text, text_alone
    from archcalc.spec.dumping import dump
    from archcalc.spec.model import Model
    from archcalc.spec.validation import validate

    _refuse_suffix(output, "a spec", "YAML", ".yaml")
    if part == "text":
        document = text_alone(config)
        write(import_text(document, dump(validate(document, Model))), output)
        return
    found = find(config)
    if not found.document.origins:
        raise Invalid(Problem(config, "is a spec already, not a config.json"))
    write(import_text(found.document, dump(found.model)), output)


@app.command(name="export", rich_help_panel=FILES)
def export(spec: Spec, output: To = None) -> None:
    """Write a spec as a config.json that transformers loads.

    The model class is the first in transformers that has this architecture.

    Example: archcalc export gpt3-xl -o config.json
    """
    from archcalc.escaping import json_text
    from archcalc.huggingface.exporting import export_config
    from archcalc.spec.catalogue import find
    from archcalc.spec.dumping import plain

    _refuse_suffix(output, "a config.json", "JSON", ".json")
    write(json_text(export_config(plain(find(spec).model)), indent=2) + "\n", output)


_FORMS = {".json", ".yaml", ".csv", ".md", ".txt"}


def _refuse_suffix(output: str | None, what: str, form: str, suffix: str) -> None:
    """Refuse a file whose suffix means another format than the one that is written."""
    given = os.path.splitext(output or "")[1].lower().replace(".yml", ".yaml")
    if given in _FORMS - {suffix}:
        raise Invalid(
            Problem("--output", f"{what} is written as {form}", value=output, suggestion=f"give a {suffix} file")
        )
