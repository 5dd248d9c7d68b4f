"""The command check."""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, cast

import typer

from archcalc.commands.base import TRUST, app, number
from archcalc.commands.completing import spec_words
from archcalc.errors import ArchcalcError, Invalid, Problem, shown
from archcalc.report.outcomes import FORMATS, CheckFormat, Destination, destinations, show
from archcalc.report.output import emit, refuse_output, tell, write
from archcalc.report.progress import counted
from archcalc.spec.catalogue import find, names
from archcalc.units import grouped, several

if TYPE_CHECKING:
    from archcalc.checks.collecting import Target
    from archcalc.checks.outcome import Outcome
    from archcalc.checks.project import Project
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
    and types, a tied head, padded rows. No number of the weights is read.

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

    rules = _rules("--select", select), _rules("--ignore", ignore)
    run = _Run(paths or [], lambda: find_project(config).with_rules(*rules), baseline, workers)
    run.skip_unknown = skip_unknown
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


class _Run:
    """One check: what is looked at, for what, and how."""

    skip_unknown = False

    def __init__(self, paths: Sequence[str], load: "Callable[[], Project]", baseline: str | None, jobs: int) -> None:
        self.paths, self.load, self.project = paths, load, load()
        self.baseline = baseline or self.project.baseline
        self.jobs = jobs or os.cpu_count() or 1

    @property
    def specs(self) -> list[str]:
        """What the configuration has checked."""
        return [self.project.path(one) for one in self.project.configuration.specs]

    @property
    def is_whole(self) -> bool:
        """Whether all specs of the project are looked at."""
        touched = self.skip_unknown and any(self.project.reads(path) for path in self.paths)
        return not self.paths or (touched and bool(self.specs))

    def targets(self) -> "list[Target]":
        """What is looked at. Raises Missing and Invalid as `collect` does."""
        from archcalc.checks.collecting import collect

        asked = [*self.paths, *(self.specs if self.is_whole else [])] or names()
        return collect(asked, self.project.configuration.exclude, skip_unknown=self.skip_unknown)

    def refuse_input(self, file: str | None) -> None:
        """Raise Invalid for a file to write that is one of those to read."""
        if file is None or not os.path.isfile(file):
            return
        read = [self.project.document.file, *(target.path for target in self.targets())]
        if any(os.path.isfile(path) and os.path.samefile(path, file) for path in read):
            raise Invalid(Problem("--output", "is a file that is checked", value=shown(file)))

    def outcomes(self, *, fix: bool = False) -> "list[Outcome]":
        """What was found, in the order of the targets, with a bar on a terminal while it takes long."""
        from archcalc.checks.running import check_all, ours

        _ = self.project.aim  # what is wrong with it is wrong with no spec
        targets = self.targets()
        found = list(counted(check_all(targets, self.project, self.jobs), len(targets), "checking"))
        if fix and (done := self._mended(found)):
            again = [target for target in targets if target.path in done]
            anew = {outcome.file: outcome for outcome in check_all(again, self.project)}
            found = [anew.get(outcome.file, outcome) for outcome in found]
        if (others := len(found) - len(ours(found))) and not self.skip_unknown:
            tell(f"{several(others, 'file')} skipped: not archcalc's")
        return [*ours(found), *(self._of_the_configuration(found) if self.is_whole else [])]

    def _mended(self, found: "Sequence[Outcome]") -> dict[str, int]:
        from archcalc.checks.mending import mend

        done, wrong = mend(found)
        for problem in wrong:
            tell(str(problem))
        for file, count in done.items():
            tell(f"{file}: {grouped(count)} fix{'es' * (count != 1)} applied")
        return done

    def _of_the_configuration(self, found: "Sequence[Outcome]") -> "list[Outcome]":
        """The budgets that are for no spec."""
        from archcalc.checks.budgets import unused_budgets
        from archcalc.checks.outcome import Outcome

        file = self.project.document.file
        problems = tuple(unused_budgets(self.project, found))
        return [Outcome(file, "configuration", file, problems)] if problems else []

    def write_baseline(self, outcomes: "Sequence[Outcome]") -> None:
        """Make every problem known that can be; where some files were looked at, what is known of others stays."""
        from archcalc.checks.baseline import baseline_text, read_baseline

        file = self.baseline or ""
        before = read_baseline(file) if os.path.exists(file) else None
        if self.is_whole:
            before = None
        text, count = baseline_text(outcomes, self.project.folder, before)
        write(text, file)
        tell(f"{several(count, 'problem')} known from now on")

    def without_known(self, outcomes: "list[Outcome]") -> "list[Outcome]":
        """The outcomes, what the baseline knows excused."""
        from archcalc.checks.baseline import read_baseline

        if self.baseline is None:
            return outcomes
        found, gone = read_baseline(self.baseline).without(outcomes, self.project.folder)
        if gone:
            words = "occurs; --write-baseline removes it" if gone == 1 else "occur; --write-baseline removes them"
            tell(f"{self.baseline}: {several(gone, 'known problem')} no longer {words}")
        return found

    def watch(self, where: Sequence[Destination]) -> None:
        """Check again what is saved; ends with Ctrl-C."""
        from archcalc.checks.running import check_all, ours
        from archcalc.checks.watching import saved

        beside = [path for path in (self.project.document.file, self.baseline) if path is not None]
        changes = saved(self._targets_if_any, beside)
        show(self.without_known(self.outcomes()), where)
        tell("watching; Ctrl-C ends it")
        for targets in changes:
            try:
                self.project = self.load()
                show(self.without_known(ours(check_all(targets, self.project, self.jobs))), where)
            except ArchcalcError as error:  # of the configuration or the baseline, which may be half written
                tell(str(error))

    def _targets_if_any(self) -> "list[Target]":
        try:
            return self.targets()
        except ArchcalcError:
            return []


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
    if form in FORMATS:
        raise Invalid(Problem("--format", "of a comparison with weights is table, markdown, json or csv", value=form))
    if len(outputs) > 1:
        raise Invalid(Problem("--output", "of a comparison with weights is one file", value=f"{len(outputs)}"))
    verdict = held_against(find(specs[0]), weights)
    emit(verdict_sheet([verdict], "stored"), cast("Format | None", form), outputs[0] if outputs else None)
    if not verdict.passed:
        raise typer.Exit(1)
