"""What a check found in one file."""

from __future__ import annotations

from typing import Literal, NamedTuple

from archcalc.checks.verdict import Verdict
from archcalc.errors import Problem

Kind = Literal["model", "plan", "device", "config", "weights", "configuration", "unknown"]
"""What a file is: a spec, a plan, a device, a config.json, a checkpoint's header, archcalc.yaml."""


class Excused(NamedTuple):
    """A problem that does not count: `why` is the reason that the spec gives, or names the baseline that has it."""

    problem: Problem
    why: str
    where: Literal["in the spec", "in the baseline"]


class Bound(NamedTuple):
    """A budget held against one spec: `figure` is what was counted, `bound` what it is held against, both in `unit`.

    `words` is the bound as it was written, and `that` the quantity. `left` is negative where the budget is exceeded.
    `device` is the one that is to be fitted, if any, `problem` what is told where the budget is exceeded, and
    `when` the conditions that the quantity was counted under, in words.
    """

    that: str
    words: str
    unit: str
    figure: int
    bound: int
    at_least: bool = False
    device: str = ""
    problem: Problem | None = None
    when: str = ""

    @property
    def label(self) -> str:
        """The quantity with the conditions that it was counted under: memory.total (batch 8, plan fsdp8)."""
        return f"{self.that} ({self.when})" if self.when else self.that

    @property
    def left(self) -> int:
        return self.figure - self.bound if self.at_least else self.bound - self.figure


class Outcome(NamedTuple):
    """What was found in one file. `file` is what messages call it, `spec` the name of what is described.

    `code` is the exit code that a problem asks for beyond 1: 2 for a name of nothing, 3 for what is not there.
    """

    file: str
    kind: Kind
    spec: str
    problems: tuple[Problem, ...] = ()
    excused: tuple[Excused, ...] = ()
    bounds: tuple[Bound, ...] = ()
    verdict: Verdict | None = None
    code: int = 0

    @property
    def passed(self) -> bool:
        """Whether nothing that is an error was found."""
        return self.exit_code() == 0

    def exit_code(self, *, strict: bool = False) -> int:
        """0, or 1 for an error (with `strict` for a warning too), or what the problem asks for beyond it."""
        failed = any(strict or problem.level == "error" for problem in self.problems)
        return max(self.code, int(failed))
