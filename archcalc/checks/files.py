"""Everything wrong with a file: what the reader refuses, and what it promises and does not hold."""

from __future__ import annotations

import os

from archcalc.checks.audit import audit
from archcalc.errors import ArchcalcError, Problem
from archcalc.spec.catalogue import Found, find, typed


def check(spec: str | os.PathLike[str]) -> list[Problem]:
    """Return everything wrong with a spec: read errors, validation errors, and published counts that do not hold.

    An empty list means that the spec is good. A bad spec raises nothing.
    """
    try:
        found = find(typed(spec))
    except ArchcalcError as error:
        return list(error.problems)
    return broken_promises(found)


def broken_promises(found: Found) -> list[Problem]:
    """A Problem, placed in the file, for each published figure that must hold and does not."""
    checks = audit(found.model).checks
    return [
        found.document.problem(
            f"{check.what} does not hold",
            ("published", index),
            value=f"{check.counted:,}",
        )
        for index, check in enumerate(checks)
        if check.required and not check.equal
    ]
