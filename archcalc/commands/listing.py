"""The command list."""

from typing import Annotated

import typer

from archcalc.commands.base import FILES, Form, Output, app, number
from archcalc.commands.completing import beginning
from archcalc.errors import Invalid, Problem, nearest, shown
from archcalc.report.output import emit
from archcalc.spec.model import Model

WHAT = ("models", "devices", "plans", "quantities", "formats", "rules")


def _words() -> list[str]:
    """What can be listed, and families and names of models, for the shell's completion."""
    from archcalc.spec.catalogue import names

    return [*dict.fromkeys((*WHAT, *_families(), *names()))]


def _families() -> list[str]:
    from archcalc.spec.searching import families

    return families()


@app.command(name="list", rich_help_panel=FILES)
def list_(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="WHAT|WORD",
            autocompletion=beginning(_words),
            show_default=False,
            help="models, devices, plans, quantities, formats or rules; other words list the models whose name, "
            "family or source has all of them; default: models",
        ),
    ] = None,
    family: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            autocompletion=beginning(_families),
            show_default=False,
            help="models of one family, such as qwen",
        ),
    ] = None,
    least: Annotated[
        str | None, typer.Option(metavar="N", show_default=False, help="models of at least N parameters, such as 1B")
    ] = None,
    most: Annotated[
        str | None, typer.Option(metavar="N", show_default=False, help="models of at most N parameters, such as 10B")
    ] = None,
    feature: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", show_default=False, help="models with a feature, such as window or experts"),
    ] = None,
    form: Form = None,
    output: Output = None,
) -> None:
    """List models, devices, plans, quantities, formats or rules.

    Example: archcalc list llama 8b
    """
    what, *rest = words if words and words[0] in WHAT else ("models", *(words or ()))
    if what == "models":
        from archcalc.report.listing import models_sheet
        from archcalc.spec.searching import search

        found = search(_asked(rest))
        if not found:
            raise Invalid(_none(rest))
        found, filters = _filtered(found, family, least, most, feature or [])
        if not found:
            raise Invalid(Problem(" ".join([*rest, *filters]), "matches no model"))
        emit(models_sheet(found, [*rest, *filters]), form, output)
        return
    for flag, given in (("--family", family), ("--least", least), ("--most", most), ("--feature", feature)):
        if given:
            raise Invalid(Problem(flag, f"applies only to models, not to {what}"))
    if rest:
        raise Invalid(Problem("archcalc list", f"takes no words after {what}", value=shown(rest[0])))
    if what == "devices":
        from archcalc.hardware.devices import device_names, find_device
        from archcalc.report.listing import devices_sheet

        emit(devices_sheet([find_device(name) for name in device_names()]), form, output)
    elif what == "plans":
        from archcalc.plan.reading import find_plan, plan_names
        from archcalc.report.plans import plans_sheet

        emit(plans_sheet([find_plan(name, {}) for name in plan_names()]), form, output)
    elif what == "formats":
        from archcalc.report.listing import formats_sheet

        emit(formats_sheet(), form, output)
    elif what == "rules":
        from archcalc.report.rules import rules_sheet

        emit(rules_sheet(), form, output)
    else:
        from archcalc.report.quantities import quantities_sheet

        emit(quantities_sheet(), form, output)


def _filtered(
    models: list[Model], family: str | None, least: str | None, most: str | None, wanted: list[str]
) -> tuple[list[Model], list[str]]:
    """The models that pass, and what was asked. Raises Invalid for a family or a feature that no model has."""
    from archcalc.report.listing import in_range
    from archcalc.spec.searching import families, features, search
    from archcalc.spec.searching import family as family_of

    asked: list[str] = []
    if family is not None:
        if family not in families():
            raise Invalid(
                Problem("--family", "matches no family", value=shown(family), suggestion=_near(family, families()))
            )
        models = [one for one in models if family_of(one.name) == family]
        asked += ["--family", family]
    if wanted:
        known = sorted({feature for model in search([]) for feature in features(model)})
        for one in wanted:
            if one not in known:
                fix = f"known: {', '.join(known)}"
                raise Invalid(Problem("--feature", "matches no feature", value=shown(one), suggestion=fix))
            asked += ["--feature", one]
        models = [model for model in models if {*wanted} <= {*features(model)}]
    bounds = [
        None if text is None else number(flag, text, 10**18, count=True)
        for flag, text in (("--least", least), ("--most", most))
    ]
    asked += [
        word
        for flag, text in (("--least", least), ("--most", most))
        if text is not None
        for word in (flag, text.strip())
    ]
    return in_range(models, *bounds) if any(bounds) else models, asked


def _near(word: str, known: list[str]) -> str:
    near = nearest(word, known, 3)
    return f"nearest: {', '.join(near)}" if near else f"known: {', '.join(known)}"


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
