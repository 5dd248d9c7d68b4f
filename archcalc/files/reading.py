"""Read a file or standard input, up to a size and, from a pipe, within a time."""

from __future__ import annotations

import errno
import os
import select
import stat
import sys
import time
from typing import BinaryIO

PATIENCE = 5
"""Seconds that the first byte of a named pipe or of a device is waited for."""
LONGEST_WAIT = 60
"""Seconds until what is read, standard input too, must have come to its end. A terminal may take its time."""


class TooSlow(OSError):
    """A pipe or a device that did not bring what it should in time; `strerror` says what."""


def open_bytes(path: str) -> BinaryIO:
    """A file, open to be read; a named pipe once something is in it.

    Raises OSError and ValueError as `open` does, TooSlow for a pipe to which nobody writes and a silent device.
    """
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        mode = os.fstat(handle).st_mode
        if stat.S_ISDIR(mode):
            _refuse_folder(path)
        if stat.S_ISFIFO(mode):
            _wait(handle, PATIENCE, f"is a pipe that was not written to for {PATIENCE} seconds")
        elif not os.isatty(handle):  # what the system makes up may be a regular file and silent all the same
            _wait(handle, PATIENCE, f"had nothing to read for {PATIENCE} seconds")
        if hasattr(os, "set_blocking"):
            os.set_blocking(handle, True)
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def _refuse_folder(path: str) -> None:
    raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)


def read_bytes(path: str, most: int) -> bytes:
    """A file, up to `most` bytes and one more. Raises as `open_bytes` does, TooSlow for one that does not end."""
    with open_bytes(path) as file:
        return _all(file, most)


def read_stdin(most: int) -> bytes:
    """The same of standard input, which is not closed."""
    return _all(sys.stdin.buffer, most)


def _all(file: BinaryIO, most: int) -> bytes:
    try:
        handle = file.fileno()
    except (OSError, ValueError):  # what stands for standard input in a test
        return file.read(most + 1)
    if os.isatty(handle) or not hasattr(select, "poll"):
        return file.read(most + 1)
    end = time.monotonic() + LONGEST_WAIT
    data = bytearray()
    while len(data) <= most:
        _wait(handle, end - time.monotonic(), f"did not end within {LONGEST_WAIT} seconds")
        piece = os.read(handle, min(most + 1 - len(data), 2**16))
        if not piece:
            break
        data += piece
    return bytes(data)


def _wait(handle: int, seconds: float, otherwise: str) -> None:
    """Wait until something can be read or the end is reached; after `seconds` raise TooSlow(`otherwise`)."""
    if not is_ready(handle, seconds):
        raise TooSlow(errno.ETIMEDOUT, otherwise)


def is_ready(handle: int, seconds: float = 0) -> bool:
    """Whether within so many seconds there is something to read, or the end; a file on a disk always is."""
    if not hasattr(select, "poll"):
        return True
    ready = select.poll()
    ready.register(handle, select.POLLIN)
    return bool(ready.poll(max(seconds, 0) * 1000))
