"""Where a problem stands, as reviewers' tools name places: relative paths, URIs, and marks that outlive edits."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from archcalc.checks.lint.every import RULES
from archcalc.checks.outcome import Excused, Outcome
from archcalc.checks.rules import INVALID, Rule
from archcalc.errors import LONGEST_PLACE, Problem, cut
from archcalc.spec.source import is_stdin

_FIGURES = re.compile(r"[0-9][0-9_,.]*")


class Place(NamedTuple):
    """A problem of an outcome and the file that it is shown in; `line` is None where the whole file is meant.

    `path` is relative to the current folder, with slashes, and absolute for a file outside it. `mark` is the same
    for the same problem after lines were added or removed elsewhere, and no two problems share one.
    """

    outcome: Outcome
    problem: Problem
    path: str
    line: int | None
    column: int | None
    mark: str
    excused: Excused | None = None

    @property
    def rule(self) -> str:
        """The identifier of the rule that is broken."""
        return rule_id(self.problem)

    @property
    def named(self) -> str:
        """The rule with its name: see `named`."""
        return named(self.problem)

    @property
    def fix(self) -> str:
        """What to do: see `fix`."""
        return fix(self.problem)

    @property
    def said(self) -> str:
        """The path in the spec and the message with value and suggestion."""
        return f"{self.subject}{self.problem.words}"

    @property
    def subject(self) -> str:
        """What a message is about within the file: the path in the spec, after the flag or file that is not shown."""
        problem = self.problem
        elsewhere = problem.file if self.line is None and problem.file != self.outcome.file else ""
        return "".join(f"{cut(part, LONGEST_PLACE)}: " for part in (elsewhere, problem.path) if part)


def rule_id(problem: Problem) -> str:
    """The rule that a problem breaks; what a reader says of a file names none."""
    return problem.rule or INVALID.id


def known_rule(problem: Problem) -> Rule | None:
    """The rule itself, if this version has it."""
    return RULES.get(rule_id(problem))


def named(problem: Problem) -> str:
    """The rule that a problem breaks with its name, AC101 figure-differs."""
    known = known_rule(problem)
    return f"{known.id} {known.name}" if known else rule_id(problem)


def fix(problem: Problem) -> str:
    """What to do: the problem's own suggestion, else the rule's where that says more than to read the suggestion."""
    known = known_rule(problem)
    return problem.suggestion or (known.fix if known and known is not INVALID else "")


def places(outcomes: Iterable[Outcome], *, excused: bool = False) -> list[Place]:
    """All problems, errors first, and after them those that are excused where these are asked for.

    Those of one level stand in the order of the files.
    """
    seen: Counter[str] = Counter()
    found = [place for outcome in outcomes for place in _of(outcome, seen, excused=excused)]
    return sorted(found, key=lambda place: (place.excused is not None, place.problem.level != "error"))


def _of(outcome: Outcome, seen: Counter[str], *, excused: bool) -> Iterator[Place]:
    from hashlib import sha256

    own = relative(outcome.file)
    every: list[tuple[Problem, Excused | None]] = [(problem, None) for problem in outcome.problems]
    if excused:
        every += [(one.problem, one) for one in outcome.excused]
    for problem, excuse in every:
        placed = problem.line is not None
        path = relative(problem.file) if placed and problem.file != outcome.file else own
        about = "\n".join((rule_id(problem), path, problem.path, _FIGURES.sub("0", problem.message)))
        digest = sha256(about.encode("utf-8", "backslashreplace")).hexdigest()[:32]
        seen[digest] += 1
        mark = f"{digest}:{seen[digest]}"
        yield Place(outcome, problem, path, problem.line, problem.column if placed else None, mark, excuse)


def relative(file: str) -> str:
    """A file's path from the current folder, with slashes; as it is where it is no file or stands outside."""
    if is_stdin(file) or "\0" in file:
        return file
    path = os.path.normpath(file)
    if os.path.isabs(path):
        here = os.getcwd()
        path = path[len(here) + 1 :] if path.startswith(here.rstrip(os.sep) + os.sep) else path
    elif path.split(os.sep, 1)[0] == os.pardir:
        path = os.path.abspath(path)
    return path.replace(os.sep, "/")


def uri(path: str) -> str:
    """A path of `relative` as a URI: whatever a URI gives a meaning to has an escape."""
    from urllib.parse import quote

    encoded = quote(path.encode("utf-8", "surrogateescape" if _from_system(path) else "backslashreplace"), safe="/")
    return f"file://{encoded}" if path.startswith("/") else encoded


def _from_system(path: str) -> bool:
    """Whether surrogates in a name stand for bytes that are no UTF-8, as the system's names have them."""
    return all("\udc80" <= c <= "\udcff" for c in path if "\ud800" <= c <= "\udfff")
