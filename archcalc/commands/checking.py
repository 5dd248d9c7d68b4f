"""One check: what is looked at, for what, and what becomes of what was found."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from archcalc.checks.baseline import baseline_text, read_baseline
from archcalc.checks.budgets import unused_budgets
from archcalc.checks.collecting import Target, collect
from archcalc.checks.linting import idle_choice
from archcalc.checks.mending import mend
from archcalc.checks.outcome import Outcome
from archcalc.checks.project import Project
from archcalc.checks.running import check_all, ours
from archcalc.checks.watching import saved
from archcalc.commands.beside import weights_beside
from archcalc.errors import ArchcalcError, Invalid, Problem, shown
from archcalc.report.outcomes import Destination, show
from archcalc.report.output import tell, write
from archcalc.report.progress import counted
from archcalc.spec.catalogue import has_spec, names
from archcalc.units import grouped, several


class Checking:
    """One check: what is looked at, for what, and how."""

    skip_unknown = False
    flags: Sequence[str] = ()
    """Those of --select and --ignore that are given, by their names."""

    def __init__(self, paths: Sequence[str], load: Callable[[], Project], baseline: str | None, jobs: int) -> None:
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

    def targets(self) -> list[Target]:
        """What is looked at. Raises Missing and Invalid as `collect` does, placed in the configuration if its own."""
        specs = self.specs if self.is_whole else []
        try:
            return collect(
                [*self.paths, *specs] or names(), self.project.configuration.exclude, skip_unknown=self.skip_unknown
            )
        except ArchcalcError as error:
            first = error.problems[0]
            if first.file not in specs or first.file in self.paths:
                raise
            where, written = ("specs", specs.index(first.file)), shown(first.file)
            place = self.project.document.problem(first.message, where, value=written, suggestion=first.suggestion)
            raise type(error)(place) from None

    def refuse_input(self, file: str | None) -> None:
        """Raise Invalid for a file to write that is one of those to read."""
        if file is None or not os.path.isfile(file):
            return
        read = [self.project.document.file, *(target.path for target in self.targets())]
        if any(os.path.isfile(path) and os.path.samefile(path, file) for path in read):
            raise Invalid(Problem("--output", "is a file that is checked", value=shown(file)))

    def outcomes(self, *, fix: bool = False) -> list[Outcome]:
        """What was found, in the order of the targets, with a bar on a terminal while it takes long."""
        lint = self.project.configuration.lint
        if idle := idle_choice(self.project.aim, lint.select, lint.ignore):  # what is wrong with it is so of no spec
            raise Invalid(self._of_a_choice(*idle))
        targets = self.targets()
        self._tell_what_is_meant(targets)
        found = list(counted(check_all(targets, self.project, self.jobs, weights_beside), len(targets), "checking"))
        if fix and (done := self._mended(found)):
            again = [target for target in targets if target.path in done]
            anew = {outcome.file: outcome for outcome in check_all(again, self.project, beside=weights_beside)}
            found = [anew.get(outcome.file, outcome) for outcome in found]
        if (others := len(found) - len(ours(found))) and not self.skip_unknown:
            tell(f"{several(others, 'file')} skipped: not archcalc's")
        return [*ours(found), *(self._of_the_configuration(found) if self.is_whole else [])]

    def _tell_what_is_meant(self, targets: Sequence[Target]) -> None:
        """Say of a name that it is the catalogue's, where a folder has it too, and that nothing of ours is checked."""
        if not self.paths and not self.project.configuration.specs:
            tell("no files are named, here or as specs: in archcalc.yaml; the specs of the catalogue are checked")
            return
        for target in targets:
            if target.path in names() and os.path.isdir(target.path) and has_spec(f"./{target.path}"):
                tell(f"{target.path}: is the spec of the catalogue; the folder is ./{target.path}")

    def _of_a_choice(self, field: str, what: str, fix: str | None) -> Problem:
        """What is wrong with the rules that are on: a problem of the flag that chose them, or of the configuration."""
        lint = self.project.configuration.lint
        if field in self.flags:
            return Problem(f"--{field}", what, value=shown(",".join(getattr(lint, field))), suggestion=fix)
        return self.project.document.problem(what, ("lint", field), suggestion=fix)

    def _mended(self, found: Sequence[Outcome]) -> dict[str, int]:
        done, wrong = mend(found)
        for problem in wrong:
            tell(str(problem))
        for file, count in done.items():
            tell(f"{file}: {grouped(count)} fix{'es' * (count != 1)} applied")
        return done

    def _of_the_configuration(self, found: Sequence[Outcome]) -> list[Outcome]:
        """The budgets that are for no spec."""
        file = self.project.document.file
        problems = tuple(unused_budgets(self.project, found))
        return [Outcome(file, "configuration", file, problems)] if problems else []

    def write_baseline(self, outcomes: Sequence[Outcome]) -> None:
        """Make every problem known that can be; where some files were looked at, what is known of others stays."""
        file = self.baseline or ""
        before = read_baseline(file) if os.path.exists(file) else None
        if self.is_whole:
            before = None
        text, count = baseline_text(outcomes, self.project.folder, before)
        write(text, file)
        tell(f"{several(count, 'problem')} known from now on")

    def without_known(self, outcomes: list[Outcome]) -> list[Outcome]:
        """The outcomes, what the baseline knows excused."""
        if self.baseline is None:
            return outcomes
        found, gone = read_baseline(self.baseline).without(outcomes, self.project.folder)
        if gone:
            words = "occurs; --write-baseline removes it" if gone == 1 else "occur; --write-baseline removes them"
            tell(f"{self.baseline}: {several(gone, 'known problem')} no longer {words}")
        return found

    def watch(self, where: Sequence[Destination]) -> None:
        """Check again what is saved; ends with Ctrl-C."""
        beside = [path for path in (self.project.document.file, self.baseline) if path is not None]
        changes = saved(self._targets_if_any, beside)
        show(self.without_known(self.outcomes()), where)
        tell("watching; Ctrl-C ends it")
        for targets in changes:
            try:
                self.project = self.load()
                _ = self.project.aim
                show(self.without_known(ours(check_all(targets, self.project, self.jobs, weights_beside))), where)
            except ArchcalcError as error:  # of the configuration or the baseline, which may be half written
                tell(str(error))

    def _targets_if_any(self) -> list[Target]:
        try:
            return self.targets()
        except ArchcalcError:
            return []
