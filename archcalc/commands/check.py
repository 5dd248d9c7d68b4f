"""The command check."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, cast, get_args

import typer

from archcalc.commands.base import TRUST, app, number
from archcalc.commands.completing import spec_words
from archcalc.errors import Invalid, Problem, shown
from archcalc.report.formats import CheckFormat, ReportFormat
from archcalc.report.output import emit, refuse_output
from archcalc.spec.catalogue import find

if TYPE_CHECKING:
    from archcalc.report.sheet import Format

MOST_JOBS = 1_024


@app.command(rich_help_panel=TRUST)
def check(
    paths: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="PATH",
            autocompletion=spec_words,
            show_default=False,
            help="specs as other commands take them, plans, devices, headers of weights, folders, patterns; default: "
            "`specs` of archcalc.yaml, or the whole catalogue",
        ),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            show_default=False,
            help="weights to compare a SPEC with by their headers: a .safetensors or .gguf file, an index of shards, "
            "a folder, hf:ORG/NAME or hf:ORG/NAME/FILE",
        ),
    ] = None,
    config: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            show_default=False,
            help="budgets and rules; default: archcalc.yaml, or pyproject.toml, here or above",
        ),
    ] = None,
    select: Annotated[
        str | None, typer.Option(metavar="RULES", show_default=False, help="rules that are on, such as AC1,AC110")
    ] = None,
    ignore: Annotated[str | None, typer.Option(metavar="RULES", show_default=False, help="rules that are off")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="end with exit code 1 on warnings too")] = False,
    fix: Annotated[bool, typer.Option("--fix", help="apply the safe fixes to the files")] = False,
    baseline: Annotated[
        str | None,
        typer.Option(metavar="FILE", show_default=False, help="problems that are known and do not count"),
    ] = None,
    write_baseline: Annotated[
        bool, typer.Option("--write-baseline", help="make all problems of this run known")
    ] = False,
    skip_unknown: Annotated[
        bool,
        typer.Option(
            "--skip-unknown",
            help="skip files that are not archcalc's; check all specs if a PATH is the "
            "configuration, or a file that it names",
        ),
    ] = False,
    jobs: Annotated[str, typer.Option("--jobs", "-j", metavar="N", help="processes; 0: one for each core")] = "1",
    watch: Annotated[bool, typer.Option("--watch", help="check again what is saved, until Ctrl-C")] = False,
    form: Annotated[
        CheckFormat | None,
        typer.Option(
            "--format",
            "-f",
            metavar="FORMAT",
            show_default=False,
            help="table, markdown, json, csv, sarif, code-scanning, junit, github, gitlab, summary",
        ),
    ] = None,
    output: Annotated[
        list[str] | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            show_default=False,
            help="file to write; its suffix sets the format; FORMAT:FILE, any number of them, beside what is printed",
        ),
    ] = None,
) -> None:
    """Validate files; hold counts against figures and budgets.

    Exit code 1 if a file is invalid, a figure differs or a budget is exceeded. `archcalc list rules` has what else is
    looked at, docs/ci.md how to run it on every change.

    With --weights every tensor of one SPEC is compared with a checkpoint: missing or unexpected ones, other shapes
    and types, a tied head, padded rows. No number of the weights is read. A folder is compared with its own.

    Example: archcalc check own.yaml --strict
    """
    workers = number("--jobs", jobs, MOST_JOBS, least=0)
    writes = {"--fix": fix, "--write-baseline": write_baseline}
    if weights is not None:
        of_rules = {"--config": config, "--select": select, "--ignore": ignore, "--baseline": baseline}
        others = {"--strict": strict, "--skip-unknown": skip_unknown, "--watch": watch, "--jobs": workers != 1}
        _refuse("--weights", {**of_rules, **writes, **others})
        _check_weights(paths or [], weights, form, output or [])
        return
    if watch:
        _refuse("--watch", {**writes, "--output": output})
    from archcalc.checks.project import find_project
    from archcalc.commands.checking import Checking
    from archcalc.report.outcomes import destinations, show

    rules = _rules("--select", select), _rules("--ignore", ignore)
    run = Checking(paths or [], lambda: find_project(config).with_rules(*rules), baseline, workers)
    run.skip_unknown = skip_unknown
    run.flags = [name for name, given in zip(("select", "ignore"), rules, strict=True) if given is not None]
    if write_baseline and run.baseline is None:
        how = "name it by --baseline FILE, or as baseline: in archcalc.yaml"
        raise Invalid(Problem("--write-baseline", "needs a file to write", suggestion=how))
    where = destinations(form, output or [])
    for one in where:
        refuse_output(one.file)
        run.refuse_input(one.file)
    if watch:
        run.watch(where)
        return
    outcomes = run.outcomes(fix=fix)
    if write_baseline:
        run.write_baseline(outcomes)
    outcomes = run.without_known(outcomes)
    show(outcomes, where)
    strict = strict or run.project.configuration.lint.fail_on == "warning"
    if code := max((outcome.exit_code(strict=strict) for outcome in outcomes), default=0):
        raise typer.Exit(code)


def _refuse(flag: str, others: Mapping[str, object]) -> None:
    """Raise Invalid for the first flag that is given and cannot be combined with another."""
    for other, given in others.items():
        if given:
            raise Invalid(Problem(other, f"cannot be combined with {flag}"))


def _rules(flag: str, text: str | None) -> tuple[str, ...] | None:
    """Identifiers of rules, or how they begin. Raises Invalid for what is none."""
    if text is None:
        return None
    from archcalc.checks.lint.every import RULES
    from archcalc.errors import nearest

    each = tuple(part.strip().upper() for part in text.split(","))
    for one in each:
        if not one or not any(rule.startswith(one) for rule in RULES):
            near = nearest(one, list(RULES), 3)
            listed = f"nearest: {', '.join(near)}" if near else "`archcalc list rules` shows all"
            raise Invalid(
                Problem(flag, "is not an identifier of a rule, or how one begins", value=shown(one), suggestion=listed)
            )
    return each


def _check_weights(specs: list[str], weights: str, form: CheckFormat | None, outputs: list[str]) -> None:
    """Hold a checkpoint's headers against a spec. Exit code 1 if a tensor differs."""
    from archcalc.commands.held import held_against
    from archcalc.report.verdict import verdict_sheet

    if len(specs) != 1:
        raise Invalid(Problem("--weights", "needs one SPEC to compare with", value=f"{len(specs)}"))
    if form in get_args(ReportFormat):
        raise Invalid(Problem("--format", "of a comparison with weights is table, markdown, json or csv", value=form))
    if len(outputs) > 1:
        raise Invalid(Problem("--output", "of a comparison with weights is one file", value=f"{len(outputs)}"))
    verdict = held_against(find(specs[0]), weights)
    emit(verdict_sheet([verdict], "stored"), cast("Format | None", form), outputs[0] if outputs else None)
    if not verdict.passed:
        raise typer.Exit(1)
