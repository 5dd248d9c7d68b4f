"""The files that a pattern such as specs/**/*.yaml matches, found in bounded time wherever it begins.

The pattern's words are those of Python's glob: `*` and `**` leave hidden names out. `**` does not follow links to
folders, so that a folder that links to itself is one folder; and what is looked at is counted, matched or not.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from fnmatch import fnmatchcase
from glob import has_magic
from itertools import count

from archcalc.errors import Invalid, Problem

MOST_LOOKED_AT = 1_000_000
"""Entries of folders that are looked at in search of files."""

_ANY = "**"


def matches(pattern: str) -> Iterator[str]:
    """The paths that a pattern matches, in no order. Raises Invalid where more is looked at than may be."""
    words = [word for word in pattern.split(os.sep) if word]
    words = [word for i, word in enumerate(words) if word != _ANY or words[i - 1 : i] != [_ANY]]
    looked = count(1)
    left, seen = [(os.sep if pattern.startswith(os.sep) else "", 0)], set[tuple[str, int]]()
    while left:
        folder, at = left.pop()
        if (folder, at) in seen:
            continue
        seen.add((folder, at))
        is_any, is_last = words[at] == _ANY, at == len(words) - 1
        if is_any and not is_last:
            left.append((folder, at + 1))
        for path, is_folder in _fitting(pattern, folder, words[at], looked):
            if is_last and (is_folder or not pattern.endswith(os.sep)):
                yield path
            if is_folder and (is_any or not is_last):
                left.append((path, at if is_any else at + 1))


def _fitting(pattern: str, folder: str, word: str, looked: Iterator[int]) -> Iterator[tuple[str, bool]]:
    """What is in a folder and fits one word of a pattern, and whether the search goes on in there."""
    if not has_magic(word):
        path = os.path.join(folder, word)
        if os.path.lexists(path):
            yield path, True
        return
    for entry in _entries(folder):
        if next(looked) > MOST_LOOKED_AT:
            what = f"makes archcalc look at more than {MOST_LOOKED_AT:,} files"
            raise Invalid(Problem(pattern, what, suggestion="check parts of it"))
        is_hidden = entry.name.startswith(".") and not word.startswith(".")
        if not is_hidden and (word == _ANY or fnmatchcase(entry.name, word)):
            yield os.path.join(folder, entry.name), _is_folder(entry, follow=word != _ANY)


def _is_folder(entry: os.DirEntry[str], *, follow: bool) -> bool:
    try:
        return entry.is_dir(follow_symlinks=follow)
    except OSError:  # a link to itself
        return False


def _entries(folder: str) -> Iterator[os.DirEntry[str]]:
    """What is in a folder; nothing where it is none or cannot be looked at."""
    try:
        with os.scandir(folder or os.curdir) as found:
            yield from found
    except OSError:
        return
