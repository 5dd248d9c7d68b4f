"""Everything wrong with a spec: what the reader refuses, what it promises and does not hold, budgets it exceeds."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from archcalc.checks.audit import audit
from archcalc.checks.rules import FIGURE, INVALID
from archcalc.checks.verdict import Verdict
from archcalc.errors import ArchcalcError, Problem
from archcalc.spec.catalogue import Found, find, typed

if TYPE_CHECKING:
    from archcalc.checks.project import Project


def check(
    spec: str | os.PathLike[str], budgets: str | os.PathLike[str] | Iterable[Mapping[str, Any]] | None = None
) -> list[Problem]:
    """Return everything wrong with a spec: read errors, validation errors, and published counts that do not hold.

    The problems are in order of their place.

    With `budgets`, the path of an archcalc.yaml or a list of budgets as one has them, also those that it exceeds and
    those that cannot be evaluated: `[{"that": "parameters.stored", "most": "1.6B"}]`.

    An empty list means that the spec is good. A bad spec raises nothing; bad budgets raise Invalid, and Missing where
    their file is not there.
    """
    project = None if budgets is None else _project(budgets)
    if project is not None:
        _ = project.aim  # what is wrong with it is wrong with no spec
    try:
        found = find(typed(spec))
    except ArchcalcError as error:
        return [problem.under(INVALID.id, INVALID.level) for problem in error.problems]
    problems = broken_promises(found, audit(found.model))
    if project is not None:
        from archcalc.checks.budgets import hold_budgets, unused_budgets
        from archcalc.checks.outcome import Outcome

        problems += hold_budgets(project, found).problems
        if not isinstance(budgets, str | os.PathLike):  # those of a file may be for other specs
            problems += unused_budgets(project, [Outcome(found.typed, "model", found.name)])
    return sorted(problems)


def _project(budgets: Any) -> Project:
    """The project of a path, or one with these budgets alone."""
    from archcalc.checks.configuration import Configuration
    from archcalc.checks.project import Project, find_project
    from archcalc.spec.source import Document
    from archcalc.spec.validation import validate

    if isinstance(budgets, str | os.PathLike):
        return find_project(typed(budgets))
    each = [dict(one) if isinstance(one, Mapping) else one for one in budgets]
    document = Document("budgets", {"schema": 0, "budgets": each})
    return Project(document, validate(document, Configuration))


def broken_promises(found: Found, verdict: Verdict) -> list[Problem]:
    """A Problem, placed in the file, for each published figure that must hold and does not."""
    return [
        found.document.problem(
            f"{check.what} does not hold",
            ("published", index),
            value=f"{check.counted:,}",
        ).under(FIGURE.id, FIGURE.level)
        for index, check in enumerate(verdict.checks)
        if check.required and not check.equal
    ]
