"""Outcomes as a code quality report of GitLab, which a merge request shows beside its changes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from archcalc.checks.outcome import Outcome
from archcalc.errors import printable
from archcalc.escaping import json_text
from archcalc.report.places import Place, places

MOST_ISSUES = 25_000

_SEVERITIES = {"error": "major", "warning": "minor"}


def code_quality(outcomes: Sequence[Outcome]) -> str:
    """A list with an issue for each problem, errors first; excused ones are left out. An issue needs a line."""
    issues = [json_text(_issue(place)) for place in places(outcomes)[:MOST_ISSUES]]
    return "[" + ",".join(f"\n  {issue}" for issue in issues) + ("\n" if issues else "") + "]\n"


def _issue(place: Place) -> dict[str, Any]:
    return {
        "description": place.said,
        "check_name": place.named,
        "fingerprint": place.mark,
        "severity": _SEVERITIES[place.problem.level],
        "location": {"path": printable(place.path), "lines": {"begin": place.line or 1}},
    }
