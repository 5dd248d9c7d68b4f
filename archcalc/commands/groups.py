"""The texts of --group: NAME=TEXT, or NAME=@FILE with a text on each line, in two groups or more."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple

from archcalc.commands.base import LONGEST_TEXT, decoded
from archcalc.errors import LONGEST_VALUE, Invalid, Problem, cut, shown
from archcalc.files.reading import read_bytes
from archcalc.files.regular import unreadable
from archcalc.spec.source import STDIN, standard_input

MOST_TEXTS = 200  # each is a pass of the model
_HOW = 'give --group "NAME=TEXT", or --group NAME=@FILE for a file with a text on each line'


class Text(NamedTuple):
    """A text, the group that it is of, and how a message calls its place."""

    group: str
    text: str
    where: str


def read_groups(flags: Sequence[str]) -> list[Text]:
    """The texts of all flags, in their order; one name may be given several times.

    Raises Invalid where a flag has no name or no text, a file has none, there is one group, or there are too many
    texts; Missing where a file is not there.
    """
    texts = [text for flag in flags for text in _texts(flag)]
    names = list(dict.fromkeys(text.group for text in texts))
    if len(names) < 2:
        raise Invalid(Problem("--group", "needs two groups or more", value=shown(names[0]), suggestion=_HOW))
    if len(texts) > MOST_TEXTS:
        raise Invalid(Problem("--group", f"takes at most {MOST_TEXTS} texts in all", value=f"{len(texts):,}"))
    return texts


def _texts(flag: str) -> list[Text]:
    typed = decoded("--group", flag.encode(errors="surrogateescape"))
    name, equals, text = typed.partition("=")
    name = name.strip()
    if not equals or not name:
        raise Invalid(Problem("--group", "must be NAME=TEXT or NAME=@FILE", value=shown(typed)))
    if text.startswith("@"):
        return _lines(name, text[1:])
    if not text.strip():
        raise Invalid(Problem("--group", "has no text", value=shown(typed)))
    if os.path.isfile(text):
        fix = f"give --group {name}=@{text}"
        raise Invalid(Problem("--group", "has a file where a text belongs", value=shown(typed), suggestion=fix))
    if len(text.encode()) > LONGEST_TEXT:
        raise Invalid(Problem("--group", f"is longer than {LONGEST_TEXT:,} bytes"))
    return [Text(name, text, f"--group {cut(name, LONGEST_VALUE)}")]


def _lines(name: str, path: str) -> list[Text]:
    """A text for each line of a file that is not blank; a byte-order mark before the first is none of it."""
    where = STDIN if path == "-" else path
    try:
        data = standard_input(LONGEST_TEXT) if path == "-" else read_bytes(path, LONGEST_TEXT)
    except (OSError, ValueError) as error:  # ValueError: a name with a NUL
        raise unreadable(path or "--group", error) from None
    if len(data) > LONGEST_TEXT:
        raise Invalid(Problem(where, f"is longer than {LONGEST_TEXT:,} bytes"))
    lines = decoded(where, data).removeprefix("\ufeff").replace("\r\n", "\n").split("\n")
    texts = [Text(name, line, f"{where}: line {n}") for n, line in enumerate(lines, 1) if line.strip()]
    if not texts:
        raise Invalid(Problem(where, "has no text"))
    return texts
