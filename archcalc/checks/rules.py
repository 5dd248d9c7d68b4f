"""The rules that files are checked against: each has an identifier that stays, a reason, a source and a fix.

AC0xx are what every check finds; AC1xx are lint, and looked up by `archcalc.checks.lint`. An identifier is never used
again for another rule.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from archcalc.errors import Edit, Level

if TYPE_CHECKING:
    from archcalc.checks.subject import Subject
    from archcalc.checks.verdict import Check
    from archcalc.errors import Problem, Where


class Finding(NamedTuple):
    """What a rule says of one place in a spec: the parts of a Problem, whose rule and level are the rule's."""

    message: str
    path: Where = ()
    value: str | None = None
    suggestion: str | None = None
    edits: tuple[Edit, ...] = ()


class Rule(NamedTuple):
    """A rule: `name` is what it is called in prose, `says` what is wrong where it is broken.

    `why` is the reason, `source` where that was read, `fix` what to do, and `example` a line that breaks it. `looks`
    finds where a spec breaks it; None for what the check itself finds. A rule that `needs` a "plan", or a "device and
    plan", looks where the configuration names one.
    """

    id: str
    name: str
    says: str
    why: str
    source: str
    fix: str
    level: Level = "warning"
    needs: str = ""
    looks: Callable[[Subject], Iterable[Finding]] | None = None
    example: str = ""


class Stored(NamedTuple):
    """What the weights beside a spec say: problems, comparisons that hold, and lines on what was not compared."""

    problems: list[Problem]
    checks: Sequence[Check] = ()
    not_compared: Sequence[str] = ()
    warnings: Sequence[str] = ()


INVALID = Rule(
    "AC001",
    "invalid-file",
    "the file cannot be read, or is not valid",
    "a spec that is not understood has no counts",
    "the format: archcalc schema",
    "see the line's suggestion",
    "error",
    example="d_model: sixty-four",
)
BUDGET = Rule(
    "AC002",
    "over-budget",
    "a quantity is outside the bound that the project set",
    "somebody decided that more does not fit, or costs too much",
    "the project's archcalc.yaml",
    "change the shape, or the budget with a reason",
    "error",
    example="{that: parameters.stored, most: 1.6B} and a model of 1.7B",
)
UNKNOWN = Rule(
    "AC003",
    "budget-not-evaluated",
    "a budget cannot be evaluated for a spec, or is for none",
    "what is never evaluated never fails, and a green check would say that it holds",
    "the project's archcalc.yaml",
    "correct the budget's conditions, or name the specs that it is for",
    "error",
    example="{that: flops.training, most: 1e15, when: {seq: 4096}} and a context of 1,024",
)
FIGURE = Rule(
    "AC101",
    "figure-differs",
    "a published figure does not hold at the digits that were printed",
    "either the shape was copied wrongly or the figure was",
    "the entry's own source",
    "correct the shape, or mark the figure as nominal with a note",
    "error",
    example='{text: "125M", parameters: 125_000_000, digits: 3, status: counted} and a model of 131M',
)
UNUSED = Rule(
    "AC102",
    "unused-allowance",
    "an entry of allow: names a rule that the spec does not break",
    "a suppression that outlives its cause hides the next problem",
    "ruff's RUF100 and mypy's warn_unused_ignores have the same reason",
    "remove the entry",
    example='allow: [{rule: AC110, why: "..."}] and a vocabulary that is padded',
)

WEIGHTS = Rule(
    "AC103",
    "weights-differ",
    "the weights beside a spec are not those of its shape",
    "a checkpoint that lacks a tensor, or has one of another shape or type, loads wrongly or not at all, and its "
    "counts are not those of the spec",
    "the headers of the safetensors or GGUF files beside it",
    "correct the config.json or the spec, or put the weights there that belong to it; `archcalc check SPEC --weights "
    "PATH` shows both sides",
    "error",
    example="hidden_size: 64 in config.json and a table of 128 x 48 in model.safetensors",
)

FIXED = (INVALID, BUDGET, UNKNOWN, FIGURE, UNUSED, WEIGHTS)
"""The rules of every check."""
NEVER_ALLOWED = (INVALID.id, BUDGET.id, UNKNOWN.id)
"""Rules that no spec can excuse itself from."""


def chosen(rules: Iterable[Rule], select: Iterable[str], ignore: Iterable[str]) -> Iterator[Rule]:
    """The rules whose identifier begins with one that is selected, and with none that is ignored."""
    on, off = tuple(select), tuple(ignore)
    return (rule for rule in rules if rule.id.startswith(on) and not rule.id.startswith(off or ("-",)))
