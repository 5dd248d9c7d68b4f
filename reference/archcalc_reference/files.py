"""Bounded readers of what lies beside weights: folders, JSON, lines; and the packages that read the rest.

Nothing here takes PyTorch.
"""

from __future__ import annotations

import json
import os
from importlib import import_module
from typing import Any

from archcalc.errors import Invalid, Missing, Problem

LONGEST_REASON = 100  # characters that a message quotes of what a package said
LARGEST_FILE = 100 * 2**20
"""Bytes: a tokenizer of 250,000 tokens has 17 MB, an index of 100,000 tensors 10 MB."""


def extra(name: str, where: str) -> Any:
    """A package of the extra `run`; Missing, at `where`, says how to install it."""
    try:
        return import_module(name)
    except ModuleNotFoundError:
        fix = "pip install 'archcalc[run]'"
        raise Missing(Problem(where, f"needs the package {name}", suggestion=fix)) from None


def refuse_what_is_no_folder(folder: str) -> None:
    """Raise Missing where nothing is there, Invalid where a file is."""
    if not os.path.exists(folder):
        raise Missing(Problem(folder or "--weights", "no such folder"))
    if not os.path.isdir(folder):
        raise Invalid(Problem(folder, "is no folder", suggestion="name the folder that it is in"))


def names_in(folder: str) -> list[str]:
    """The names of the files in a folder, in alphabetical order."""
    refuse_what_is_no_folder(folder)
    try:
        return sorted(os.listdir(folder))
    except OSError as error:
        raise Invalid(Problem(folder, f"cannot be read: {error.strerror}")) from None


def read_text(path: str) -> str:
    """A file of UTF-8, whole. Raises Missing where there is none, Invalid where it is not that or too large."""
    try:
        with open(path, "rb") as file:
            data = file.read(LARGEST_FILE + 1)
    except FileNotFoundError:
        raise Missing(Problem(path, "no such file")) from None
    except OSError as error:
        raise Invalid(Problem(path, f"cannot be read: {error.strerror}")) from None
    if len(data) > LARGEST_FILE:
        raise Invalid(Problem(path, f"is larger than {LARGEST_FILE:,} bytes"))
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Invalid(Problem(path, "is not UTF-8", value=f"byte {error.object[error.start]:#04x}")) from None


def parse_object(text: str, path: str) -> dict[str, Any]:
    """The JSON object that a file's text is; Invalid says where it stops being one."""
    if not text.strip():
        raise Invalid(Problem(path, "is empty"))
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise Invalid(Problem(path, f"is not JSON: {error.msg}", "", error.lineno, error.colno)) from None
    except (RecursionError, ValueError):  # brackets without end, a number without end
        raise Invalid(Problem(path, "is not JSON that can be read: nested too deep, or a number too long")) from None
    if not isinstance(value, dict):
        raise Invalid(Problem(path, "is no JSON object", value=type(value).__name__))
    return value


def read_object(path: str) -> dict[str, Any]:
    """A file's JSON object."""
    return parse_object(read_text(path), path)
