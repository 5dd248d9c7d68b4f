"""Bounded readers of what lies beside weights: folders, JSON, lines.

Nothing here takes PyTorch.
"""

from __future__ import annotations

import json
import os
import stat
from typing import Any, BinaryIO

from archcalc.errors import Invalid, Missing, Problem

CONFIG = "config.json"
LONGEST_REASON = 100  # characters that a message quotes of what a package said
LARGEST_FILE = 4 * 2**20
"""Bytes of a file of settings, such as config.json or tokenizer_config.json."""
LARGEST = {
    "tokenizer.json": 64 * 2**20,  # 262,000 tokens with their merges take 35 MB
    "vocab.json": 64 * 2**20,
    "merges.txt": 64 * 2**20,
    "chat_template.jinja": 2**18,  # published ones reach 20 kB
    "model.safetensors.index.json": 32 * 2**20,  # 100,000 tensors take 10 MB
}
"""Bytes of the files that may be larger, or must be smaller."""
MOST_VALUES = 4_000_000
"""Commas, colons and brackets of a JSON file: each may become a Python object of some 60 bytes."""


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
    if stat.S_ISREG(mode):
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


def read_bytes(path: str) -> bytes:
    """A file, whole. Raises Missing where there is none, Invalid where it is larger than its kind may be."""
    largest = LARGEST.get(os.path.basename(path), LARGEST_FILE)
    with open_file(path) as file:
        try:
            data = file.read(largest + 1)
        except OSError as error:
            raise unreadable(path, error) from None
    if len(data) > largest:
        raise Invalid(Problem(path, f"is larger than {largest:,} bytes"))
    return data


def read_text(path: str) -> str:
    """A file of UTF-8, whole. Raises as `read_bytes` does, and Invalid where it is not UTF-8."""
    data = read_bytes(path)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Invalid(Problem(path, "is not UTF-8", value=f"byte {error.object[error.start]:#04x}")) from None


def parse_object(text: str, path: str) -> dict[str, Any]:
    """The JSON object that a file's text is; Invalid says where it stops being one."""
    if not text.strip():
        raise Invalid(Problem(path, "is empty"))
    if sum(map(text.count, ",:[{")) > MOST_VALUES:
        raise Invalid(Problem(path, f"has more than {MOST_VALUES:,} values"))
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise Invalid(Problem(path, f"is not JSON: {error.msg}", "", error.lineno, error.colno)) from None
    except (RecursionError, ValueError):  # brackets without end, a number without end
        raise Invalid(Problem(path, "is not readable JSON: nested too deeply, or a number is too long")) from None
    if not isinstance(value, dict):
        raise Invalid(Problem(path, "is not a JSON object", value=type(value).__name__))
    return value


def read_object(path: str) -> dict[str, Any]:
    """A file's JSON object."""
    return parse_object(read_text(path), path)
