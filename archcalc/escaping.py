"""Text that came from a file, made safe for each format: no escape, no markup and no delimiter passes through."""

from __future__ import annotations

import json
import re
from math import isfinite
from typing import Any

from archcalc.errors import printable

# What the format of JSON itself needs, or no terminal minds.
_SEEN = re.compile(r"[^\n -~]")
_PIPES = re.compile(r"(\\*)\|")
_MARKUP = re.compile(r"<(?=[A-Za-z/!?])|\](?=[(\[])")


def json_text(value: Any, indent: int | None = None) -> str:
    r"""A value as JSON, with `\u` escapes for what a terminal might obey or that cannot be seen.

    Text in any language stays readable. The JSON says the same with and without the escapes. It knows neither NaN nor
    infinity: null stands for them.
    """
    try:
        text = json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False)
    except ValueError:
        text = json.dumps(_finite(value), indent=indent, ensure_ascii=False, allow_nan=False)
    return _SEEN.sub(_escape, text)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    return [_finite(one) for one in value] if isinstance(value, list | tuple) else value


def _escape(match: re.Match[str]) -> str:
    """A character as JSON's own escape, two for those beyond 16 bits; as it is where it can be seen."""
    return match[0] if match[0].isprintable() else json.dumps(match[0])[1:-1] if match[0] > "\x7f" else "\\u007f"


def csv_text(value: object) -> object:
    """A field of CSV. Quotes and commas are the writer's; a spreadsheet may still take `=1+1` for a formula."""
    return printable(value) if isinstance(value, str) else value


def markdown(text: str) -> str:
    """A line of Markdown in which no HTML and no link begins."""
    return _MARKUP.sub(lambda match: "&lt;" if match[0] == "<" else "\\]", printable(text))


def markdown_cell(text: str) -> str:
    """A cell of a Markdown table: no `|` ends it, whatever stands before it."""
    return _PIPES.sub(r"\1\1\\|", markdown(text))
