"""What was found in files, remembered for as long as each is the file that it was."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Generic, TypeVar

Found = TypeVar("Found")

_SETTLED = 2_000_000_000
"""Nanoseconds since a file was written: clocks of file systems are coarse, and two contents may bear one time."""


class Remembered(Generic[Found]):
    """What was found in the last few files. It is shared by all who ask: nobody may change it."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._found: dict[tuple[str | int, ...], Found] = {}

    def of(self, path: str, there: os.stat_result, find: Callable[[], Found]) -> Found:
        """What `find` gives for a file whose fstat is `there`, or gave before; a file just written is read anew."""
        key = (path, there.st_dev, there.st_ino, there.st_size, there.st_mtime_ns)
        if key in self._found:
            return self._found[key]
        found = find()
        if time.time_ns() - there.st_mtime_ns > _SETTLED:
            while len(self._found) >= self._most:
                del self._found[next(iter(self._found))]
            self._found[key] = found
        return found
