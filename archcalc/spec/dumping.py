"""A model as YAML, in the style of the catalogue: what a block has on one line, and the blocks in order."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from archcalc.arguments import records
from archcalc.errors import Invalid, Problem, shown
from archcalc.spec.model import Model
from archcalc.spec.scalars import is_plain

WIDEST = 119
"""Places of a line that has more than one text on it; a single text is never broken."""

_SPREAD = ("layers", "kinds", "branches")
"""Fields with layers, branches or groups inside, each of which has lines of its own, however short it is."""
_WORD = re.compile(r"[A-Za-z][A-Za-z0-9_.-]*")
_YAML_1_1 = ("y", "n", "yes", "no", "on", "off")  # booleans to readers of YAML 1.1
_WHOLE = 2**53
"""Floats below this are written without a fraction where they have none."""


def plain(model: Any) -> Any:
    """A model as plain data, as it would be written: without what is so where nothing is said."""
    if isinstance(model, BaseModel):
        found = {}
        for name, field in type(model).model_fields.items():
            value = getattr(model, name)
            alike = type(value) is type(field.default) and not isinstance(value, float)
            implied = alike and value == field.default
            if name == "kind":
                implied = getattr(model, "default_kind", None) == value
            if field.is_required() or not implied:
                found[field.alias or name] = plain(value)
        return found
    if isinstance(model, tuple | list):
        return [plain(inner) for inner in model]
    if isinstance(model, dict):
        return {name: plain(inner) for name, inner in model.items()}
    return model


def dump(model: Model) -> str:
    """Return a model as YAML text that loads as an equal model. Raises Invalid if `model` is not a Model."""
    records("dump", model)
    return "".join(f"{line}\n" for line in _mapping(plain(model), 0))


def _mapping(data: dict[str, Any], indent: int, spread: int = 0) -> Iterator[str]:
    """The lines of a mapping's fields. What is inside them has lines of its own for `spread` levels at least."""
    for key, value in data.items():
        yield from _value(f"{' ' * indent}{scalar(key)}:", value, indent, 2 if key in _SPREAD else spread)


def _value(lead: str, value: Any, indent: int, spread: int) -> Iterator[str]:
    """The lines of a value that comes after `lead`: one where it is short, else what is in it on lines of its own."""
    items = isinstance(value, list) and any(isinstance(one, dict | list) or _is_text(one) for one in value)
    if not isinstance(value, dict | list) or not value or (_fits(f"{lead} {_flow(value)}") and not (spread or items)):
        yield f"{lead} {_flow(value)}"
    elif isinstance(value, dict):
        yield lead
        yield from _mapping(value, indent + 2, max(spread - 1, 0))
    elif items:
        yield lead
        for one in value:
            yield from _item(one, indent + 2, max(spread - 1, 0))
    else:
        yield from _wrapped(f"{lead} [", [scalar(one) for one in value], indent + 2)


def _item(value: Any, indent: int, spread: int) -> Iterator[str]:
    """The lines of a list's item, with a dash before the first."""
    dash = " " * indent + "-"
    if value and isinstance(value, dict) and (spread or not _fits(f"{dash} {_flow(value)}")):
        first, *rest = _mapping(value, indent + 2)
        yield dash + first[indent + 1 :]
        yield from rest
    else:
        yield from _value(dash, value, indent, 0)


def _fits(line: str) -> bool:
    return len(line) <= WIDEST


def _wrapped(lead: str, words: list[str], indent: int) -> Iterator[str]:
    """A list of words in brackets, on as many lines as it takes."""
    line = lead
    for i, word in enumerate(words):
        more = word + ("]" if i == len(words) - 1 else ",")
        gap = "" if line.endswith("[") or not line.strip() else " "
        if len(line + gap + more) > WIDEST:
            yield line
            line, gap = " " * indent, ""
        line += gap + more
    yield line


def _flow(value: Any) -> str:
    """A value on one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{scalar(key)}: {_flow(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_flow, value)) + "]"
    return scalar(value)


def _is_text(value: Any) -> bool:
    """Whether a value is a text in quotes, which is best read on a line of its own."""
    return isinstance(value, str) and scalar(value) != value


def scalar(value: Any) -> str:
    """A single value as it stands in YAML: a word, a text in double quotes, or a number."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str):
        word = _WORD.fullmatch(value) and is_plain(value) and value.lower() not in _YAML_1_1
        return value if word else '"' + "".join(map(_escaped, value)) + '"'
    if isinstance(value, float) and not (value.is_integer() and abs(value) < _WHOLE):
        return _fraction(value)
    if isinstance(value, int | float):
        return str(int(value))
    raise Invalid(Problem("dump", "must have single values, no arrays", value=shown(value)))


def _fraction(value: float) -> str:
    """A float that readers of YAML 1.1 take for one too: 1.0e-5, with a point and a sign."""
    if not math.isfinite(value):
        return repr(value).replace("inf", ".inf").replace("nan", ".nan")
    mantissa, e, exponent = repr(value).partition("e")
    point = "" if "." in mantissa else ".0"
    return f"{mantissa}{point}" + (f"e{int(exponent):+d}" if e else "")


def _escaped(character: str) -> str:
    """A character between double quotes: as it is where it is one to see."""
    if character in '"\\':
        return f"\\{character}"
    if character.isprintable():
        return character
    code = ord(character)
    return {"\n": "\\n", "\t": "\\t"}.get(character) or (
        f"\\x{code:02x}" if code < 2**8 else f"\\u{code:04x}" if code < 2**16 else f"\\U{code:08x}"
    )
