"""The command schema."""

from importlib import import_module
from typing import Annotated

import typer

from archcalc.commands.base import FILES, app
from archcalc.commands.completing import beginning
from archcalc.errors import Invalid, Problem, did_you_mean, shown
from archcalc.report.output import write

KINDS = {
    "model": "archcalc.spec.model:Model",
    "plan": "archcalc.plan.description:Plan",
    "device": "archcalc.hardware.devices:Device",
    "budgets": "archcalc.checks.configuration:Configuration",
}
"""Each kind of YAML file that archcalc reads, with the class that reads it."""
DRAFTS = {"2020-12": "2020-12", "07": "07", "7": "07"}
"""The drafts of JSON Schema as people write them."""


def described(kind: str, draft: str = "2020-12") -> str:
    """The JSON Schema of a kind of file, as it stands in specs/schema. Raises Invalid for an unknown kind or draft."""
    from archcalc.spec.schema import schema_text

    module, _, name = _one_of("--of", kind, KINDS).partition(":")
    known = _one_of("--draft", draft, DRAFTS)
    return schema_text(getattr(import_module(module), name), "07" if known == "07" else "2020-12")


def _one_of(flag: str, word: str, table: dict[str, str]) -> str:
    if word not in table:
        fix = did_you_mean(word, [*table]) or f"one of {', '.join(table)}"
        raise Invalid(Problem(flag, "has an unknown value", value=shown(word), suggestion=fix))
    return table[word]


@app.command(rich_help_panel=FILES)
def schema(
    of: Annotated[
        str,
        typer.Option(
            "--of",
            metavar="KIND",
            autocompletion=beginning(KINDS),
            help=f"kind of file described: {', '.join([*KINDS][:-1])} or {[*KINDS][-1]}",
        ),
    ] = "model",
    draft: Annotated[
        str,
        typer.Option(
            metavar="DRAFT",
            autocompletion=beginning(("2020-12", "07")),
            help="draft of JSON Schema: 2020-12, or 07 with what editors show beside",
        ),
    ] = "2020-12",
    output: Annotated[
        str | None, typer.Option("--output", "-o", metavar="FILE", show_default=False, help="file to write")
    ] = None,
) -> None:
    """Print the JSON Schema of specs, for editors and validators.

    Example: archcalc schema --of plan --draft 07
    """
    write(described(of, draft), output)
