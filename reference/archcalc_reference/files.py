"""Bounded readers of what lies beside weights: JSON and lines.

Nothing here takes PyTorch.
"""

from __future__ import annotations

import json
import os
from typing import Any

from archcalc.errors import Invalid, Problem
from archcalc.files.regular import read_regular
from archcalc_reference.unpacking import is_in_gguf, unpacked

CONFIG = "config.json"
LONGEST_REASON = 100  # characters that a message quotes of what a package said
LARGEST_FILE = 4 * 2**20
"""Bytes of a file of settings, such as config.json or tokenizer_config.json."""
LARGEST = {
    "tokenizer.json": 64 * 2**20,  # 262,000 tokens with their merges take 35 MB
    "vocab.json": 64 * 2**20,
    "merges.txt": 64 * 2**20,
    "encoder.json": 64 * 2**20,
    "vocab.bpe": 64 * 2**20,
    "tokenizer.model": 64 * 2**20,
    "chat_template.jinja": 2**18,  # published ones reach 20 kB
}
"""Bytes of the files that may be larger, or must be smaller."""
MOST_VALUES = 4_000_000
"""Commas, colons and brackets of a JSON file: each may become a Python object of some 60 bytes."""


def read_bytes(path: str) -> bytes:
    """A file, whole. Raises Missing where there is none, Invalid where it is larger than its kind may be."""
    largest = LARGEST.get(os.path.basename(path), LARGEST_FILE)
    data = unpacked(path) if is_in_gguf(path) else read_regular(path, largest)
    if len(data) > largest:
        raise Invalid(Problem(_where(path), f"is larger than {largest:,} bytes{_AS * is_in_gguf(path)}"))
    return data


_AS = " as the files beside weights have it"


def _where(path: str) -> str:
    """The file on the disk: that of a file that stands in a GGUF file is the GGUF file."""
    return os.path.dirname(path) if is_in_gguf(path) else path


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
    return parse_object(read_text(path), _where(path))
