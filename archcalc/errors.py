"""Exceptions, and the one-line form of every message.

    ArchcalcError
    |-- Invalid      the question cannot be understood            exit code 2
    |-- Missing      a file, an extra or weights are not there    exit code 3
    `-- TapeError    a block records something impossible         a bug in a block

Every message is one line, `WHERE: PATH: WHAT; got VALUE; FIX`. `Problem` is that line in parts.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import total_ordering
from typing import Any, Literal, NamedTuple

MOST_PROBLEMS_SHOWN = 20
MOST_MISTAKES = 10_000
"""Of a file; one with more is another file than it was taken for, and to tell each of them would take seconds."""
Where = tuple[str | int, ...]
"""A place in a spec: the names and indices that lead there."""

LONGEST_VALUE = 60
LONGEST_PLACE = 200
LONGEST_WORDS = 300
LONGEST_LINE = 1_000
MOST_COMPARED = 5_000
"""Characters of a value, of a file's name or a path in it, of what is said of them, and of a whole message;
and words that are compared with what was typed, for a suggestion."""
NEAR = 0.7  # of difflib's ratio, for one word alone: about one letter in four may be wrong


def printable(text: str) -> str:
    """`text` with escapes in place of characters that a terminal might interpret or that are invisible.

    These are control characters (8-bit ones too), direction marks, line separators, zero-width characters and lone
    surrogates: everything that `str.isprintable` rejects.
    """
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def cut(text: str, longest: int) -> str:
    """`text` on one line of bounded length."""
    text = printable(text[: longest + 1])  # an escape is never shorter than what it stands for
    return text if len(text) <= longest else text[: longest - 3] + "..."


def shown(value: object) -> str:
    """The repr of a value, cut so that it stays on one line."""
    return cut(repr(value), LONGEST_VALUE)


def written(value: object) -> str:
    """A value of a spec or a config.json as such a file writes it: true, false and null; of any other its repr."""
    return cut(_written(value), LONGEST_VALUE)


def _written(value: object) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key!r}: {_written(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_written, value)) + "]"
    return repr(value)


def nearest(word: str, words: list[str], count: int = 1) -> list[str]:
    """At most `count` words that `word` may be meant for, the most alike first: a slip of a few letters, none else.

    Of a dotted path its beginning or its end may be enough: `per_token` is near `flops.per_token`. The first
    MOST_COMPARED words are looked at.
    """
    from difflib import get_close_matches

    if len(word) > LONGEST_PLACE:
        return []
    typed = word.lower()
    known = {name.lower(): name for name in words[:MOST_COMPARED]}
    near = get_close_matches(typed, known, n=count, cutoff=NEAR if count == 1 else 0.6)
    parts = [name for name in known if typed and (name.endswith(f".{typed}") or name.startswith(f"{typed}."))]
    return [known[name] for name in dict.fromkeys([*parts, *near])][:count]


def did_you_mean(word: object, words: list[str]) -> str | None:
    """A suggestion where one word is near, else nothing."""
    return f"did you mean {near[0]!r}?" if (near := nearest(str(word), words)) else None


class Edit(NamedTuple):
    """A change of a file that mends a problem: the value at a path becomes another one, or is put there.

    None for an item of a list takes it out.
    """

    path: Where
    value: int | float | str | bool | None


Level = Literal["error", "warning"]


@total_ordering
@dataclass(frozen=True)
class Problem:
    """One thing wrong with a spec or a flag. `str()` gives `FILE:LINE:COLUMN: PATH: MESSAGE; got VALUE; SUGGESTION`.

    `line` and `column` count from 1, and are None where there is no position (a flag, a missing file). `value` is the
    offending value as text, or None. `suggestion` says how to fix it, or is None. `rule` is the identifier of the rule
    that is broken (AC101), for what `check` finds, and `edits` the changes that mend it without a decision of anybody.
    Problems are ordered by their place: file, line, column, path.
    """

    file: str
    message: str
    path: str = ""
    line: int | None = None
    column: int | None = None
    value: str | None = None
    suggestion: str | None = None
    rule: str = ""
    level: Level = "error"
    edits: tuple[Edit, ...] = ()

    def __str__(self) -> str:
        where = cut(self.file, LONGEST_PLACE) + (f":{self.line}:{self.column}" if self.line is not None else "")
        message = cut(self.message, LONGEST_WORDS)
        line = ": ".join(part for part in (where, cut(self.path, LONGEST_PLACE), message) if part)
        if self.value is not None:
            line += f"; got {cut(self.value, 2 * LONGEST_VALUE)}"
        if self.suggestion is not None:
            line += f"; {cut(self.suggestion, LONGEST_WORDS)}"
        rule = f" [{self.rule}]" if self.rule else ""
        return cut(line, LONGEST_LINE - len(rule)) + rule

    def __lt__(self, other: object) -> bool:
        return self._place < other._place if isinstance(other, Problem) else NotImplemented

    @property
    def _place(self) -> tuple[str, int, int, str, str, str]:
        return self.file, self.line or 0, self.column or 0, self.path, self.rule, self.message

    @property
    def words(self) -> str:
        """The message with the value and the suggestion, without the place."""
        return str(replace(self, file="", line=None, column=None, path="", rule=""))

    def under(self, rule: str, level: Level) -> Problem:
        """The same problem as one that breaks a rule."""
        return replace(self, rule=rule, level=level)

    def as_dict(self) -> dict[str, Any]:
        """The problem as JSON has it."""
        edits = [{"path": list(edit.path), "value": edit.value} for edit in self.edits]
        return {**{name: getattr(self, name) for name in self.__dataclass_fields__}, "edits": edits}


class ArchcalcError(Exception):
    """Base class of archcalc's exceptions. `problems` lists what is wrong, `exit_code` is the command line's."""

    exit_code = 2

    def __init__(self, *problems: Problem) -> None:
        super().__init__(*problems)
        self.problems = problems

    def __str__(self) -> str:
        lines = [str(problem) for problem in self.problems[:MOST_PROBLEMS_SHOWN]]
        if (more := len(self.problems) - len(lines)) > 0:
            lines.append(f"and {more:,} more")
        return "\n".join(lines)


class Invalid(ArchcalcError):
    """The input is not valid: a malformed spec, an unknown name or a bad value. Exit code 2."""


class Missing(ArchcalcError):
    """A file, an optional package or weights are missing; the suggestion says how to get them. Exit code 3."""

    exit_code = 3


def refuse_too_many(file: str, mistakes: int) -> None:
    """Raise Invalid where a file has more mistakes than are told one by one."""
    if mistakes > MOST_MISTAKES:
        what = f"has more than {MOST_MISTAKES:,} mistakes; is it the file that was meant?"
        raise Invalid(Problem(file, what)) from None


class TapeError(Exception):
    """A block recorded something impossible. A bug in the block, never a user's mistake."""
