"""A file that is written whole or not at all, and what may be written to.

A plain file is replaced by one that was written beside it. What would not be the same file afterwards is written in
place, once the text is whole beside it: one with several names (hard links), another owner's, or one with extended
attributes such as an access list. What is no file (a pipe, a device) is written to as it stands.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterable
from typing import IO

from archcalc.errors import Invalid, Missing, Problem

PATIENCE = 5
"""Seconds that a pipe without a reader is waited for."""


def write_file(path: str, pieces: Iterable[str]) -> None:
    """Write text to a file in UTF-8. Raises Invalid or Missing where that cannot be; BrokenPipeError passes."""
    refuse(path)
    try:
        if _stands(path):
            with _opened(path) as file:
                file.writelines(pieces)
        else:
            _write(os.path.realpath(path), pieces)
    except BrokenPipeError:
        raise
    except FileNotFoundError:
        raise Missing(Problem(path, "cannot be written: its parent directory does not exist")) from None
    except OSError as error:
        raise Invalid(Problem(path, f"cannot be written: {error.strerror}")) from None


def refuse(path: str) -> None:
    """Raise Invalid or Missing for a file that cannot be written, before the work whose result it is to hold."""
    if not path:
        raise Invalid(Problem("--output", "is empty", value="''"))
    target, mode = _looked_up(path)
    if path.endswith(os.sep) or (mode is not None and stat.S_ISDIR(mode)):
        raise Invalid(Problem(path, "cannot be written: Is a directory"))
    if mode is None and not os.access(os.path.dirname(target), os.W_OK):
        raise Invalid(Problem(path, "cannot be written: Permission denied"))
    if mode is not None and not (mode & 0o222 and os.access(path, os.W_OK)):  # root could, and is not meant to
        raise Invalid(Problem(path, "cannot be written: it is read-only"))


def _looked_up(path: str) -> tuple[str, int | None]:
    """Where a path leads, and the mode of what is there, None of a new file."""
    try:
        os.stat(os.fsencode(path)) if "\0" in path else os.fsencode(path)
        target = os.path.realpath(path)
        try:
            return target, os.stat(path).st_mode
        except FileNotFoundError:
            os.stat(os.path.dirname(target))
            return target, None
    except ValueError:  # a zero byte, or letters that the file system's encoding lacks
        raise Invalid(Problem(path, "cannot be written: not a valid file name")) from None
    except FileNotFoundError:
        raise Missing(Problem(path, "cannot be written: its parent directory does not exist")) from None
    except OSError as error:
        raise Invalid(Problem(path, f"cannot be written: {error.strerror}")) from None


def _stands(path: str) -> bool:
    """Whether it is written to as it stands: no file, or one of the process's own, such as /dev/stdout."""
    return path.startswith("/dev/") or (os.path.exists(path) and not os.path.isfile(path))


def _opened(path: str) -> IO[str]:
    """A pipe or device, opened for writing. A pipe without a reader is waited for, for a bounded time."""
    if not stat.S_ISFIFO(os.stat(path).st_mode):
        return open(path, "w", encoding="utf-8")
    end = time.monotonic() + PATIENCE
    while True:
        try:
            handle = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
            break
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            if time.monotonic() > end:
                raise Invalid(Problem(path, f"is a pipe without a reader for {PATIENCE} seconds")) from None
            time.sleep(0.02)
    os.set_blocking(handle, True)
    return open(handle, "w", encoding="utf-8")


def _write(target: str, pieces: Iterable[str]) -> None:
    there = os.stat(target) if os.path.exists(target) else None
    folder = os.path.dirname(target)
    beside = folder if os.access(folder, os.W_OK) else None  # else where temporary files are
    handle, temporary = tempfile.mkstemp(dir=beside, prefix=".archcalc-")
    try:
        with open(handle, "w", encoding="utf-8") as file:
            file.writelines(pieces)
        if there is None:
            os.chmod(temporary, 0o666 & ~umask())
        else:
            os.chmod(temporary, stat.S_IMODE(there.st_mode))
        if beside is None or (there is not None and not _same_but_for_text(there, target, temporary)):
            _copy(temporary, target)
        else:
            os.replace(temporary, target)
    finally:
        if os.path.exists(temporary):
            os.unlink(temporary)


def _same_but_for_text(there: os.stat_result, target: str, temporary: str) -> bool:
    """Whether a new file could take the place of one that is there, and nobody would notice."""
    new = os.stat(temporary)
    named = [name for name in _attributes(target) if not name.startswith("security.")]
    return there.st_nlink == 1 and (there.st_uid, there.st_gid) == (new.st_uid, new.st_gid) and not named


def _attributes(path: str) -> list[str]:
    if not hasattr(os, "listxattr"):
        return []
    try:
        return os.listxattr(path)
    except OSError:  # a file system without them
        return []


def _copy(temporary: str, target: str) -> None:
    """The text into a file that stays the same file; where that fails half-way, what was there comes back."""
    with open(target, "rb") as old:
        before = old.read()
    with open(temporary, "rb") as new, open(target, "r+b") as file:
        try:
            shutil.copyfileobj(new, file)
            file.truncate()
            file.flush()
        except OSError:
            file.seek(0)
            file.write(before)
            file.truncate()
            raise


def umask() -> int:
    """The bits of a mode that new files do not get."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
