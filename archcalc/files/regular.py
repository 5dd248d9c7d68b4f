"""Regular files and folders, opened without ever waiting: pipes, devices and sockets are refused."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from typing import BinaryIO

from archcalc.errors import Invalid, Missing, Problem
from archcalc.files.reading import is_ready


def refuse_what_is_no_folder(folder: str) -> None:
    """Raise Missing where nothing is there, Invalid where a file is."""
    if not os.path.exists(folder):
        raise Missing(Problem(folder or "--weights", "no such directory"))
    if not os.path.isdir(folder):
        raise Invalid(Problem(folder, "is not a directory", suggestion="give the directory that it is in"))


def names_in(folder: str) -> list[str]:
    """The names of the files in a folder, in alphabetical order."""
    refuse_what_is_no_folder(folder)
    try:
        return sorted(os.listdir(folder))
    except OSError as error:
        raise Invalid(Problem(folder, f"cannot be read: {error.strerror}")) from None


def folders_above() -> Iterator[str]:
    """The current folder and those above it, up to the root: as paths from the current one, which is ""."""
    folder = ""
    for _ in range(MOST_ABOVE):
        yield folder
        if os.path.abspath(folder or ".") == os.path.abspath(os.sep):
            return
        folder = os.path.join(folder, os.pardir)


MOST_ABOVE = 100
"""Folders above the current one that are looked at."""


def open_file(path: str) -> BinaryIO:
    """A regular file, opened without ever waiting for one.

    Raises Missing where there is none, Invalid for a directory, a pipe, a device or a socket, which have no size and
    may have no end.
    """
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except (OSError, ValueError) as error:  # ValueError: a name with a NUL
        if _is_socket(path):
            raise _no_file(path, "a socket") from None
        raise unreadable(path, error) from None
    mode = os.fstat(handle).st_mode
    if stat.S_ISREG(mode) and is_ready(handle):  # /proc has regular files that wait as a device does
        return os.fdopen(handle, "rb")
    os.close(handle)
    if stat.S_ISDIR(mode):
        raise Invalid(Problem(path, "is a directory"))
    raise _no_file(path, "a pipe" if stat.S_ISFIFO(mode) else "a device")


def _no_file(path: str, kind: str) -> Invalid:
    return Invalid(Problem(path, f"is {kind}, not a file", suggestion="save its content to a file first"))


def _is_socket(path: str) -> bool:
    """Opening a socket fails with an error that does not say what it is."""
    try:
        return stat.S_ISSOCK(os.stat(path).st_mode)
    except (OSError, ValueError):
        return False


def unreadable(path: str, error: OSError | ValueError) -> Invalid | Missing:
    """What is said of a file that cannot be opened or read."""
    if isinstance(error, FileNotFoundError):
        return Missing(Problem(path, "no such file"))
    if isinstance(error, IsADirectoryError):
        return Invalid(Problem(path, "is a directory"))
    return Invalid(Problem(path, f"cannot be read: {getattr(error, 'strerror', None) or error}"))


def read_regular(path: str, most: int) -> bytes:
    """A regular file, up to `most` bytes and one more, however it grows meanwhile. Raises as `open_file` does."""
    with open_file(path) as file:
        try:
            return file.read(most + 1)
        except OSError as error:
            raise unreadable(path, error) from None
