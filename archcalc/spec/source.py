"""A bounded reader of YAML, with positions.

Read iteratively from libyaml's events: yaml.load and yaml.compose recurse in C, and 60 kB of nested brackets end the
process.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import yaml

from archcalc.errors import LONGEST_PLACE, Invalid, Missing, Problem, shown
from archcalc.errors import Where as Where  # noqa: PLC0414  (as mypy reads an export)
from archcalc.files.encoding import utf8
from archcalc.files.reading import TooSlow, read_bytes, read_stdin
from archcalc.spec.scalars import LONGEST_NUMBER, is_long_number, resolve

LARGEST_FILE = 2**20
DEEPEST = 64
MOST_NODES = 50_000
LONGEST_SCALAR = 64 * 1024

TOO_DEEP = f"nested deeper than {DEEPEST} levels"
TOO_DEEP_FOR_LIBYAML = "maximum nesting depth"

_LONGEST_PATH = 8  # steps of a path that a message about its place shows

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml's reader of events where it is there."""


class Mark(NamedTuple):
    """A place in a file, counted from 1."""

    line: int
    column: int


@dataclass
class Document:
    """Plain data read from YAML, and where each of its parts stands.

    `values` has the mark of the value at each path, `keys` that of the key. `asked` has the paths whose values a
    question put in, `question` is the argument that asked, and `before` the data before it. Of a spec that was
    imported `origins` has the keys of the config.json that a field came from, by its path, those of all layers
    together, `placed` those of each layer by itself, `ignored` the keys that do not matter, and `config` is the file.
    `within` is where the data stands in a larger file: its paths begin there.
    """

    file: str
    data: Any = None
    values: dict[Where, Mark] = field(default_factory=dict)
    keys: dict[Where, Mark] = field(default_factory=dict)
    question: str = ""
    asked: set[Where] = field(default_factory=set)
    before: Any = None
    origins: dict[str, list[str]] = field(default_factory=dict)
    placed: dict[str, list[str]] = field(default_factory=dict)
    ignored: list[str] = field(default_factory=list)
    config: Any = None
    within: Where = ()

    def problem(self, message: str, path: Where = (), *, at_key: bool = False, **parts: Any) -> Problem:
        """A Problem placed at `path`, or at the nearest of its parents that has a place."""
        whole = dotted((*self.within, *path))
        if path in self.asked:
            return Problem(self.question, message, whole, **parts)
        mark = self.keys.get(path) if at_key else None
        place = path
        while mark is None and place not in self.values and place:
            place = place[:-1]
        mark = mark or self.values.get(place)
        line, column = mark if mark else (None, None)
        return Problem(self.file, message, whole, line, column, **parts)

    def origin(self, path: Where) -> list[str]:
        """The keys of a config.json that a field came from; those of a block where that was read as a whole."""
        for end in range(len(path), 0, -1) if self.placed else ():
            if keys := self.placed.get(dotted(path[:end])):
                return keys
        return []


def dotted(path: Where) -> str:
    """A path as it is written in messages and on the command line: layers.0.attention.n_heads.

    Of a long key only as much as a message shows: each of 50,000 problems has its path.
    """
    return ".".join(str(part)[: LONGEST_PLACE + 1] for part in path)


def read_file(path: str | os.PathLike[str], largest: int = LARGEST_FILE) -> bytes:
    """The bytes of a spec file, or of standard input for `-`.

    Raises Missing where there is none, Invalid for a directory, an unreadable file or one larger than `largest`.
    """
    name = os.fspath(path)
    try:
        data = standard_input(largest) if is_stdin(name) else read_bytes(name, largest)
    except FileNotFoundError:
        raise Missing(Problem(name, "no such file")) from None
    except IsADirectoryError:
        fix = "give the path of a YAML file in it, or a folder with a config.json"
        raise Invalid(Problem(name, "is a directory", suggestion=fix)) from None
    except TooSlow as error:
        raise Invalid(Problem(name, f"{error.strerror}", suggestion=SAVE)) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise Invalid(Problem(name, f"cannot be read: {reason}")) from None
    if len(data) > largest:
        raise too_large(display_name(name), largest)
    return data


def too_large(name: str, largest: int) -> Invalid:
    """The error for a file of more bytes than are read."""
    return Invalid(Problem(name, f"is larger than {largest:,} bytes, the most that is read"))


def standard_input(most: int) -> bytes:
    """All of standard input, or `most` bytes and one more.

    Raises Missing where it is closed, Invalid where it cannot be read or does not come to its end in time.
    """
    if sys.stdin is None:
        raise Missing(Problem(STDIN, "is closed"))
    try:
        return read_stdin(most)
    except TooSlow as error:
        raise Invalid(Problem(STDIN, f"{error.strerror}", suggestion=SAVE)) from None
    except OSError as error:
        raise Invalid(Problem(STDIN, f"cannot be read: {error.strerror}")) from None


STDIN = "<stdin>"
SAVE = "save its output to a file first"


def is_stdin(path: str) -> bool:
    """Whether a path means standard input: `-`, or what messages call it."""
    return path in ("-", STDIN)


def display_name(path: str) -> str:
    """How messages call a file."""
    return STDIN if is_stdin(path) else path


def parse(data: bytes, file: str) -> Document:
    """Read one YAML document.

    Raises Invalid for anything that is not one bounded document of plain YAML in UTF-8.
    """
    text = utf8(data, file)
    try:
        builder = _build(text, file)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = Mark(mark.line + 1, mark.column + 1) if mark else Mark(1, 1)  # libyaml always has one
        if mark and TOO_DEEP_FOR_LIBYAML in (error.problem or ""):
            raise _too_deep(text, mark.index, place, file) from None
        raise Invalid(Problem(file, f"is not YAML: {error.problem or error.context}", "", *place)) from None
    except yaml.YAMLError as error:  # a character that YAML forbids
        reason = getattr(error, "reason", None) or str(error)
        raise Invalid(Problem(file, f"is not YAML: {reason}")) from None
    if builder.documents == 0:
        raise Invalid(Problem(file, "is empty", suggestion="`archcalc schema` describes a spec or a plan"))
    if builder.problems:
        raise Invalid(*builder.problems)
    return builder.document


def _build(text: str, file: str) -> _Builder:
    builder = _Builder(Document(file))
    for event in yaml.parse(text, Loader=LOADER):
        builder.take(event)
    return builder


def _too_deep(text: str, end: int, place: Mark, file: str) -> Invalid:
    """Our own refusal where libyaml has refused first: recent ones stop at 1,000 levels, in characters that they have
    looked at and made no events of yet. What stands before `end` is within their bound, so it is read again.
    """
    try:
        _build(text[:end], file)
    except Invalid as refused:
        return refused
    except yaml.YAMLError:
        pass
    return Invalid(Problem(file, TOO_DEEP, "", *place))


class _Builder:
    """Puts plain data together from events, with a stack of its own in place of recursion."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.documents = 0
        self.problems: list[Problem] = []
        self._nodes = 0
        self._open: list[_Open] = []

    def take(self, event: yaml.Event) -> None:
        start: Any = event.start_mark
        mark = Mark(start.line + 1, start.column + 1)
        if isinstance(event, yaml.DocumentStartEvent):
            self.documents += 1
            if self.documents > 1:
                raise self._refusal(mark, "a second document begins", "a spec is one document")
        elif isinstance(event, yaml.AliasEvent):
            raise self._refusal(mark, f"alias {shown(event.anchor)}: aliases are not supported", "write the value out")
        elif isinstance(event, yaml.CollectionEndEvent):
            self._open.pop()
        elif isinstance(event, yaml.NodeEvent):
            self._node(event, mark)

    def _node(self, event: yaml.NodeEvent, mark: Mark) -> None:
        self._nodes += 1
        if self._nodes > MOST_NODES:
            raise self._refusal(mark, f"more than {MOST_NODES:,} values")
        tag = getattr(event, "tag", None)
        if tag is not None:
            raise self._refusal(mark, f"tag {shown(tag)}: tags are not supported", "write plain YAML")
        value: Any
        if isinstance(event, yaml.ScalarEvent):
            value = self._scalar(event, mark)
        else:
            value = {} if isinstance(event, yaml.MappingStartEvent) else []
            if len(self._open) == DEEPEST:
                raise self._refusal(mark, TOO_DEEP)

        if not self._open:
            path: Where = ()
            self.document.data = value
        else:
            parent = self._open[-1]
            if isinstance(parent.value, dict) and parent.key is None:
                self._key(parent, event, value, mark)
                return
            path = parent.place(value)
        self.document.values.setdefault(path, mark)
        if not isinstance(event, yaml.ScalarEvent):
            self._open.append(_Open(value, path))

    def _key(self, parent: _Open, event: yaml.NodeEvent, value: Any, mark: Mark) -> None:
        if not isinstance(event, yaml.ScalarEvent):
            raise self._refusal(mark, "a key must be a word")
        if value == "<<":
            raise self._refusal(mark, "merge keys (<<) are not supported", "write the fields out")
        key = event.value
        path = (*parent.path, key)
        if first := self.document.keys.get(path):
            message = f"duplicate field, first in line {first.line}"
            self.problems.append(Problem(self.document.file, message, dotted(path), *mark))
        else:
            self.document.keys[path] = mark
        parent.key = key

    def _scalar(self, event: yaml.ScalarEvent, mark: Mark) -> Any:
        text = event.value
        if len(text) > LONGEST_SCALAR:
            raise self._refusal(mark, f"a value longer than {LONGEST_SCALAR:,} characters")
        if not event.implicit[0]:  # quoted
            return text
        if is_long_number(text):
            raise self._refusal(mark, f"a number longer than {LONGEST_NUMBER} characters")
        return resolve(text)

    def _refusal(self, mark: Mark, message: str, suggestion: str | None = None) -> Invalid:
        path = dotted(self._open[-1].here()[:_LONGEST_PATH]) if self._open else ""
        return Invalid(Problem(self.document.file, message, path, *mark, suggestion=suggestion))


@dataclass
class _Open:
    """A mapping or list that has begun; `key` is the key that waits for its value."""

    value: Any
    path: Where
    key: str | None = None

    def here(self) -> Where:
        """The path of what comes next."""
        if isinstance(self.value, list):
            return (*self.path, len(self.value))
        return self.path if self.key is None else (*self.path, self.key)

    def place(self, value: Any) -> Where:
        """Put a value in, and return its path. The first of two equal keys stays."""
        path = self.here()
        if isinstance(self.value, list):
            self.value.append(value)
        else:
            self.value.setdefault(self.key, value)
            self.key = None
        return path
