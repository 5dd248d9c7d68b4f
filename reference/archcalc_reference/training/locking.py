"""The lock of a folder of checkpoints, which a running training holds: a file .lock beside them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from archcalc.errors import Invalid, Problem

LOCK = ".lock"


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder, which is made where there is none: two trainings would drop each other's checkpoints.

    The system lets go of it when the process ends, however it ends, so that the file can stay and means nothing by
    itself. What was made for a training that wrote nothing is removed. Raises Invalid where another process holds the
    lock, or the folder cannot be written.
    """
    new = [path for path in (folder / LOCK, folder, *folder.parents) if not path.exists()]
    try:
        _take(folder)
        try:
            yield
        finally:
            _tidy(folder, new)
    finally:
        _let_go(folder)


def _tidy(folder: Path, new: list[Path]) -> None:
    """Remove the lock, and the folders around it, where these are new and hold nothing else."""
    with suppress(OSError):  # a folder that others write to stays
        if os.listdir(folder) == [LOCK]:
            for path in new:
                path.unlink() if path == folder / LOCK else path.rmdir()


_HELD: dict[Path, int] = {}  # the open lock of each folder that `alone` holds


def _take(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _HELD[folder] = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise Invalid(Problem(str(folder), f"cannot be written: {error.strerror}")) from None
    _hold(_HELD[folder], folder)


def _let_go(folder: Path) -> None:
    if folder in _HELD:
        os.close(_HELD.pop(folder))


def hold_on(folder: Path) -> None:
    """Take a lock that is held anew where the folder, or the lock in it, was removed during the training."""
    if folder not in _HELD:
        return
    try:
        there = os.path.samestat(os.stat(folder / LOCK), os.fstat(_HELD[folder]))
    except OSError:
        there = False
    if not there:
        _let_go(folder)
        _take(folder)


def _hold(handle: int, folder: Path) -> None:
    try:
        import fcntl
    except ModuleNotFoundError:  # Windows
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        what, fix = "another training is writing there", "choose another --out"
        raise Invalid(Problem(str(folder), what, suggestion=fix)) from None
    except OSError:  # a file system without locks
        return
