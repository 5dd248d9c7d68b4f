"""Read a config.json: bounded, by json and never by YAML, and without what JSON does not have but Infinity.

Python writes that, and limits of Mamba's steps say it.
"""

from __future__ import annotations

import json
from typing import Any

from archcalc.errors import Invalid, Problem, cut, shown
from archcalc.files.encoding import utf8

LARGEST_CONFIG = 4 * 2**20
"""Bytes of a config.json."""
MOST_VALUES = 400_000
"""Commas, colons and brackets: each may become a Python object of some 60 bytes."""


class _Wrong(Exception):
    """What json let through and a config may not have."""


def parse_config(data: bytes, file: str) -> dict[str, Any]:
    """The object of a config.json. Raises Invalid for anything else: NaN and keys that stand twice, too."""
    return parse_object(data, file, LARGEST_CONFIG, MOST_VALUES)


def parse_object(data: bytes, file: str, largest: int, most_values: int) -> dict[str, Any]:
    """The JSON object that a file is, of so many bytes and values at most. Raises Invalid as `parse_config` does."""
    if len(data) > largest:
        raise Invalid(Problem(file, f"is larger than {largest:,} bytes"))
    refuse_many_values(data, file, most_values)
    text = utf8(data, file)
    try:
        value = json.loads(text, object_pairs_hook=_once, parse_constant=_refuse)
    except json.JSONDecodeError as error:
        raise Invalid(Problem(file, f"is not JSON: {error.msg}", "", error.lineno, error.colno)) from None
    except _Wrong as error:
        raise Invalid(Problem(file, str(error))) from None
    except (RecursionError, ValueError):  # brackets without end, a number without end
        raise Invalid(Problem(file, "is not readable JSON: nested too deeply, or a number is too long")) from None
    if not isinstance(value, dict):
        raise Invalid(Problem(file, "is not a JSON object", value=type(value).__name__))
    return value


def refuse_many_values(data: bytes, file: str, most: int) -> None:
    """Raise Invalid for JSON that would take more memory than a file of its kind is worth, before it is read."""
    if sum(map(data.count, (b",", b":", b"[", b"{"))) > most:
        raise Invalid(Problem(file, f"has more than {most:,} values"))


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise _Wrong(f"has the key {cut(shown(twice), 60)} twice")
    return found


def _refuse(name: str) -> Any:
    if name == "Infinity":
        return float("inf")
    raise _Wrong(f"has {name}, which JSON does not have")
