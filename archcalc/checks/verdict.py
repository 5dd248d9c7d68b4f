"""What was held against what: the outcome of `check` and of `verify`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple


class Check(NamedTuple):
    """One comparison. `counted` is archcalc's figure, `measured` the other one; a None says that a side lacks it.

    `reason` says how it holds, or what is wrong; `source` where the measured figure was printed. A check that is not
    `required` is shown and cannot fail.
    """

    what: str
    counted: Any
    measured: Any
    equal: bool
    reason: str | None = None
    source: str | None = None
    required: bool = True


def same(what: str, counted: Any, measured: Any, source: str | None = None) -> Check:
    """A comparison that holds where both figures are equal."""
    return Check(what, counted, measured, counted == measured, None if counted == measured else "DIFFERS", source)


def ran(what: str, checks: Iterator[Check]) -> Iterator[Check]:
    """Comparisons that run a model, and one that fails where PyTorch refuses to run it."""
    try:
        yield from checks
    except (RuntimeError, IndexError) as error:
        yield Check(what, None, None, equal=False, reason=f"DOES NOT RUN: {str(error).splitlines()[0]}")


class Verdict(NamedTuple):
    """All comparisons of one spec.

    `not_compared` says what could not be compared and why, `warnings` which values of the source are misprints,
    `assumptions` what the spec assumes where its source says nothing.
    """

    spec: str
    checks: tuple[Check, ...]
    proven_with: str | None = None
    not_compared: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    assumptions: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        return all(check.equal or not check.required for check in self.checks)
