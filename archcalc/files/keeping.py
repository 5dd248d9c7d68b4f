"""A folder of things that took long to make, the user's own: bounded, written in one step, trusted by nobody's word.

`$XDG_CACHE_HOME/archcalc`, or where the system keeps such folders. A folder that is another user's, that others may
write to or that is a link is not used, nor is a file of that kind in it. Where nothing can be kept, nothing is, and
that is no error.
"""

from __future__ import annotations

import os
import secrets
import stat
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import BinaryIO

OFF = "ARCHCALC_NO_CACHE"
"""Environment variable that switches it off, whatever its value, unless that is empty or 0."""
LARGEST_CACHE = 4 * 2**30
"""Bytes of all that is kept; the oldest in use goes first."""
_ABANDONED = 3600  # seconds after which a file that was never finished is somebody's who was killed
_PART = ".part"


def place() -> str | None:
    """Where the folder is, whether or not it is there; None where the cache is off or there is no home."""
    if os.environ.get(OFF, "0") not in ("", "0"):
        return None
    base = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(base):  # by the XDG specification others are ignored
        if os.environ.get("HOME") == "":
            return None  # which would be the root of the file system
        home = os.path.expanduser("~")
        if sys.platform == "darwin":
            base = os.path.join(home, "Library", "Caches")
        elif os.name == "nt":
            base = os.environ.get("LOCALAPPDATA", "")
        else:
            base = os.path.join(home, ".cache")
    return os.path.join(base, "archcalc") if os.path.isabs(base) else None


def open_kept(name: str) -> BinaryIO | None:
    """A file of the folder, opened to be read, and marked as used; None where it is not there or not to be trusted."""
    folder = _own_folder(make=False)
    if folder is None:
        return None
    path = os.path.join(folder, name)
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        handle = os.open(path, flags)
    except OSError:
        return None
    if not _own(os.fstat(handle)) or not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        return None
    with suppress(OSError):
        os.utime(path)
    return os.fdopen(handle, "rb")


def keep(name: str, pieces: Iterable[bytes | memoryview], size: int) -> bool:
    """Write a file of the folder whole, or leave what is there; whether it was written.

    What is older goes until all is no more than LARGEST_CACHE. A process that is killed leaves a file that no name
    leads to, which the next one takes away after an hour.
    """
    if size > LARGEST_CACHE:
        return False
    folder = _own_folder(make=True)
    if folder is None:
        return False
    temporary = os.path.join(folder, f"{secrets.token_hex(8)}{_PART}")
    try:
        _make_room(folder, size, name)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
        with os.fdopen(os.open(temporary, flags, 0o600), "wb") as file:
            file.writelines(pieces)
        os.replace(temporary, os.path.join(folder, name))
    except OSError:
        return False
    finally:
        with suppress(OSError):
            os.unlink(temporary)
    return True


def _own_folder(*, make: bool) -> str | None:
    folder = place()
    if folder is None:
        return None
    with suppress(OSError):
        if make:
            os.makedirs(os.path.dirname(folder), exist_ok=True)
            with suppress(FileExistsError):
                os.mkdir(folder, 0o700)
        found = os.lstat(folder)
        if stat.S_ISDIR(found.st_mode) and _own(found):
            return folder
    return None


def _own(found: os.stat_result) -> bool:
    """Whether it is this user's, and nobody else writes to it."""
    return not hasattr(os, "geteuid") or (found.st_uid == os.geteuid() and not found.st_mode & 0o022)


def _make_room(folder: str, size: int, name: str) -> None:
    """Take away what was not used for longest, and what was never finished, until `size` bytes more fit."""
    files = []
    for entry in os.scandir(folder):
        with suppress(OSError):
            found = entry.stat(follow_symlinks=False)
            if entry.name.endswith(_PART):
                if time.time() - found.st_mtime > _ABANDONED:
                    os.unlink(entry.path)
                    continue
            elif entry.name == name:  # what will be replaced
                continue
            if stat.S_ISREG(found.st_mode):
                files.append((found.st_mtime, found.st_size, entry.path))
    total = size + sum(held for _, held, _ in files)
    for _, held, path in sorted(files):
        if total <= LARGEST_CACHE:
            break
        with suppress(OSError):
            os.unlink(path)
            total -= held
