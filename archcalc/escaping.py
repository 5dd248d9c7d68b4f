"""Text that came from a file, made safe for each format: no escape, no markup and no delimiter passes through."""

from __future__ import annotations

import json
import re
from math import isfinite
from typing import Any

from archcalc.errors import printable

# What the format of JSON itself needs, or no terminal minds.
_SEEN = re.compile(r"[^\n -~]")
# In Markdown a backslash takes the sign behind it along: such ones are doubled first, then signs get their own.
_BACKSLASHES = re.compile(r"\\{2,}|\\(?=[!-/:-@[-`{-~])")
_MARKUP = re.compile(r"[~*]|(?<![^\W_])_|_(?![^\W_])|<(?=[A-Za-z/!?])|\](?=[(\[])|&(?=#?\w+;)")
_ENTITIES = {"<": "&lt;", "&": "&amp;"}
# What begins a line as a list, a heading, a quotation, a line below one, or code.
_FIRST = re.compile(r"^(?: *(?=[-+](?: |$)|[-=]+ *$|#+(?: |$)|>|```)| *\d+(?=[.)](?: |$)))")
_MENTION = re.compile(r"(?<![A-Za-z0-9_])@(?=[A-Za-z0-9])|#(?=\d)")  # a user, and an issue


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
    """A line of Markdown that reads as the text does, and notifies nobody on GitHub.

    No HTML, link, emphasis, list or heading begins in it. Backticks stay: messages have commands between them.
    """
    return _FIRST.sub(r"\g<0>\\", _inline(text))


def markdown_words(text: str) -> str:
    """The same of names and values, which have no commands in them: a heading, or a part of one."""
    return _inline(text).replace("`", "\\`")


def markdown_cell(text: str) -> str:
    """A cell of a Markdown table: no `|` ends it, and spaces before it are kept."""
    cell = markdown_words(text).replace("|", "\\|")
    words = cell.lstrip(" ")
    return "&nbsp;" * (len(cell) - len(words)) + words


def _inline(text: str) -> str:
    text = _BACKSLASHES.sub(r"\g<0>\g<0>", printable(text))
    text = _MARKUP.sub(lambda sign: _ENTITIES.get(sign[0], f"\\{sign[0]}"), text)
    return _MENTION.sub(r"\g<0><!-- -->", text)
