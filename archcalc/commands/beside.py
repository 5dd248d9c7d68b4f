"""The weights in a folder that `check` looks at, held against the config or the spec there: headers alone are read."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from archcalc.checks.collecting import Target
from archcalc.checks.rules import WEIGHTS, Stored
from archcalc.checks.stored import PACKED
from archcalc.errors import ArchcalcError, Problem
from archcalc.huggingface.stored import has_weights
from archcalc.spec.configs import CONFIG

if TYPE_CHECKING:
    from archcalc.checks.verdict import Check, Verdict
    from archcalc.spec.catalogue import Found


def weights_beside(target: Target, found: Found) -> Stored | None:
    """What the weights beside a spec say otherwise than it; None where there are none.

    A folder is looked at that was named, or in which a config.json was found. A config.json that is named is meant
    alone, and a question asks about a spec that the weights are not of.
    """
    folder = found.folder or (os.path.dirname(target.path) or os.curdir) if _stands_for_folder(target, found) else ""
    if not os.path.isdir(folder):
        return None
    try:
        if not has_weights(folder):
            return None
        from archcalc.commands.held import held_against

        verdict = held_against(found, folder)
    except ArchcalcError as error:
        return Stored([_cannot_be_compared(target, problem) for problem in error.problems])
    totals = [check._replace(reason="as the weights' headers have it") for check in verdict.checks if check.equal]
    unknown = [
        Problem(target.path, f"the weights cannot all be compared: {line}").under(WEIGHTS.id, "warning")
        for line in verdict.not_compared
        if PACKED in line
    ]
    return Stored([*_problems(target, verdict), *unknown], totals, verdict.not_compared, verdict.warnings)


def _stands_for_folder(target: Target, found: Found) -> bool:
    stands = bool(found.folder) or (target.found and os.path.basename(target.path) == CONFIG)
    return stands and not found.changes


def _problems(target: Target, verdict: Verdict) -> list[Problem]:
    """A problem for each tensor that differs; the totals alone where no tensor tells why."""
    wrong = [check for check in verdict.checks if not check.equal]
    tensors = [check for check in wrong if check.what not in ("tensors", "parameters")]
    return [_problem(target, check) for check in tensors or wrong]


def _problem(target: Target, check: Check) -> Problem:
    """A comparison that does not hold, as one line."""
    reason = _in_prose(check.reason or "DIFFERS")
    spec, weights = _size(check.counted), _size(check.measured)
    if check.reason == "UNEXPECTED":
        what = f"is in the weights as {weights}, and not in the spec"
    elif (check.reason or "").startswith("MISSING"):
        what = f"is {reason} in the weights; the spec has it as {spec}"
    elif None in (check.counted, check.measured):
        what = reason + (f"; the spec has it as {spec}" if check.counted is not None else "")
    else:
        what = f"is {weights} in the weights, and {spec} by the spec: {reason}"
    return Problem(target.path, what, check.what)


def _in_prose(reason: str) -> str:
    """A verdict without its capitals: WRONG TYPE: I8 is wrong type: I8."""
    return re.sub(r"\b[A-Z]{4,}(?: [A-Z]{4,})*\b", lambda match: match[0].lower(), reason)


def _size(value: object) -> str:
    if isinstance(value, list):
        return " x ".join(f"{size:,}" for size in value) + " numbers" * (len(value) == 1)
    return f"{value:,}" if isinstance(value, int) else str(value)


def _cannot_be_compared(target: Target, problem: Problem) -> Problem:
    return Problem(target.path, f"the weights cannot be compared: {problem}")
