"""A project's configuration where it is found, with the plans, devices and specs that it names."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeVar

from archcalc.checks.amounts import Ratio, read_amount
from archcalc.checks.configuration import Configuration
from archcalc.checks.subject import Aim
from archcalc.counts.quantities import QUANTITIES
from archcalc.errors import ArchcalcError, Invalid, Problem, shown
from archcalc.files.encoding import other_encoding, utf8
from archcalc.files.regular import folders_above
from archcalc.hardware.devices import Device, find_device
from archcalc.plan.description import Plan
from archcalc.plan.reading import find_plan
from archcalc.spec.catalogue import Found, find, is_path
from archcalc.spec.configs import HUB
from archcalc.spec.revisions import revision
from archcalc.spec.source import DEEPEST, TOO_DEEP, Document, Where, display_name, dotted, parse, read_file
from archcalc.spec.validation import validate

Named = TypeVar("Named")

NAME = "archcalc.yaml"
PYPROJECT = "pyproject.toml"
_TABLE = ("tool", "archcalc")
# tomllib takes a minute for a key of 300,000 steps, on one line of 600 kB.
_DOTTED = re.compile(rf"""(?<![\w"'-])(?:[\w"'-]++[ \t]*+\.[ \t]*+){{{DEEPEST}}}""")


@dataclass
class Project:
    """A configuration, and what it names, each read once. `document` has the places of its fields."""

    document: Document
    configuration: Configuration
    folder: str = ""
    _plans: dict[str, Plan] = field(default_factory=dict)
    _devices: dict[str, Device] = field(default_factory=dict)
    _found: dict[str, Found] = field(default_factory=dict)

    def path(self, written: str) -> str:
        """A path of the configuration, from the current folder."""
        return os.path.join(self.folder, written) if self.folder and is_path(written) else written

    def plan(self, name: str) -> Plan:
        """A plan that the configuration names. Raises Invalid and Missing as `find_plan` does."""
        if name not in self._plans:
            self._plans[name] = find_plan(self.path(name), {})
        return self._plans[name]

    def device(self, name: str) -> Device:
        """A device that the configuration names. Raises Invalid and Missing as `find_device` does."""
        if name not in self._devices:
            self._devices[name] = find_device(self.path(name))
        return self._devices[name]

    def spec(self, name: str) -> Found:
        """A spec that a budget is held against; of a git revision `REV:PATH`. Raises as `find` does."""
        if name not in self._found:
            at_revision = ":" in name and not name.startswith(HUB)
            if at_revision and revision(name) is None:  # a change could bring the file that it is held against
                what = "is ambiguous: a file on disk has the name of this revision and path"
                raise Invalid(Problem(name, what, suggestion="rename the file"))
            self._found[name] = find(name if at_revision else self.path(name))
        return self._found[name]

    @property
    def baseline(self) -> str | None:
        """The file of problems that are known, from the current folder."""
        known = self.configuration.baseline
        return None if known is None else os.path.join(self.folder, known)

    def reads(self, path: str) -> bool:
        """Whether a file is the configuration, or one that it names beside the specs that are checked."""
        named = (self.document.file, *(self.path(one) for one in self._named_files() if one is not None))
        return os.path.abspath(path) in map(os.path.abspath, named)

    def _named_files(self) -> Iterator[str | None]:
        configuration = self.configuration
        yield from (*configuration.lint.plans, *configuration.lint.devices, configuration.baseline)
        for budget in configuration.budgets:
            yield from (budget.when.plan, budget.fits)
            for written in (budget.most, budget.least):
                amount = None if written is None else read_amount(written, QUANTITIES[budget.that].unit)
                yield amount.of if isinstance(amount, Ratio) else None

    def with_rules(self, select: tuple[str, ...] | None, ignore: tuple[str, ...] | None) -> Project:
        """The same project with other rules on or off, where they are given."""
        if select is not None and ignore is None:
            ignore = ()  # what is selected is not ignored by a file
        given = {name: rules for name, rules in (("select", select), ("ignore", ignore)) if rules is not None}
        lint = self.configuration.lint.model_copy(update=given)
        return replace(self, configuration=self.configuration.model_copy(update={"lint": lint}))

    @cached_property
    def aim(self) -> Aim:
        """What the specs are meant to run on. Raises Invalid, placed in the configuration.

        The devices and plans of budgets are read too: what is wrong with them is wrong with no spec.
        """
        for i, budget in enumerate(self.configuration.budgets):
            if budget.fits is not None:
                self._named(("budgets", i, "fits"), budget.fits, self.device)
            if budget.when.plan is not None:
                self._named(("budgets", i, "when", "plan"), budget.when.plan, self.plan)
        lint = self.configuration.lint
        return Aim(
            [self._named(("lint", "devices", i), name, self.device) for i, name in enumerate(lint.devices)],
            [(name, self._named(("lint", "plans", i), name, self.plan)) for i, name in enumerate(lint.plans)],
        )

    def _named(self, where: Where, name: str, read: Callable[[str], Named]) -> Named:
        """What an entry names. Raises Invalid, placed there, where it cannot be read."""
        try:
            return read(name)
        except ArchcalcError as error:
            first = error.problems[0]
            if first.file.startswith("--"):  # of a name, which is told as of a flag
                problem = self.document.problem(first.message, where, suggestion=first.suggestion)
            else:
                problem = self.document.problem(f"cannot be read: {first}", where, value=shown(name))
            raise Invalid(problem) from None


def no_project() -> Project:
    """A project without a configuration: no budgets, and all rules of lint."""
    return Project(Document(NAME), Configuration())


def find_project(path: str | None = None) -> Project:
    """The project of a configuration's path; without one that of the current folder, or of the nearest above it.

    A folder with .git ends the search. Raises Invalid for a malformed configuration, Missing for a path that leads
    nowhere.
    """
    if path is not None:
        return _project(path)
    for folder in folders_above():
        for name in (NAME, PYPROJECT):
            here = os.path.join(folder, name)
            is_lost = name == NAME and os.path.islink(here) and not os.path.exists(here)  # a link that leads nowhere
            if is_lost or (os.path.isfile(here) and is_configuration(here)):
                return _project(here)
        if os.path.exists(os.path.join(folder, ".git")):
            break
    return no_project()


def is_configuration(path: str) -> bool:
    """Whether a file of one of the two names is for archcalc: a pyproject.toml is where it has the table."""
    return os.path.basename(path) == NAME or _table(path) is not None


def _project(path: str) -> Project:
    folder = os.path.dirname(path)
    if os.path.basename(path) == PYPROJECT:
        document = Document(display_name(path), _table(path, required=True), within=_TABLE)
    else:
        document = parse(read_file(path), display_name(path))
    return Project(document, validate(document, Configuration), folder)


_OURS = re.compile(r"\btool\b[\s\S]*\barchcalc\b")
"""Stands in every file that has the table, however it is written: [tool."archcalc"], archcalc = {...} of [tool]."""


def _table(path: str, *, required: bool = False) -> Any:
    """The table of a pyproject.toml; None where it has none. Raises Invalid for a file that is no TOML."""
    import tomllib

    whole = read_file(path)
    text = whole.decode(other_encoding(whole) or "utf-8", "ignore")  # tells whose it is, whatever is wrong with it
    try:
        text = utf8(whole, path)
        data, wrong = ({}, f"is {TOO_DEEP}") if _DOTTED.search(text) else (tomllib.loads(text), "")
    except Invalid as error:
        data, wrong = {}, error.problems[0].words
    except (ValueError, RecursionError) as error:  # ValueError: a number of 5,000 digits too
        data, wrong = {}, f"is not TOML: {str(error).partition(';')[0]}"
    if wrong:
        if not required and not _OURS.search(text):
            return None  # somebody else's file
        raise Invalid(Problem(path, wrong))
    tool = data.get("tool", {})
    found = tool.get("archcalc") if isinstance(tool, dict) else None
    if found is None and required:
        raise Invalid(Problem(path, f"has no table [{dotted(_TABLE)}]"))
    return found
