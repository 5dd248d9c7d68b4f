"""Places of a terminal: bars, and how many a text takes. What is drawn over must not be wrapped by the terminal."""

from __future__ import annotations

import unicodedata

BAR = 30
SIGNS = "█▏▎▍▌▋▊▉"
"""What bars are made of."""
_EMOJI_STYLE = "\ufe0f"  # after a narrow sign asks for its wide picture


def bar(part: float, width: int = BAR) -> str:
    """A part of 1 as a bar, to an eighth of a place; what is more than nothing is seen."""
    eighths = round(part * width * 8) or int(part > 0)
    return "█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8].strip()


def cells(character: str, ambiguous: int = 1) -> int:
    """The places that it takes, counted alone though some terminals join it to the one before.

    `ambiguous` is what a character takes that is wide in some terminals only, such as an é.
    """
    if character == _EMOJI_STYLE:
        return 1
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return {"W": 2, "F": 2, "A": ambiguous}.get(unicodedata.east_asian_width(character), 1)


def width(text: str) -> int:
    """The places that a line takes."""
    return len(text) if text.isascii() else sum(map(cells, text))


def wrapped(text: str, width: int) -> list[str]:
    """Lines of at most `width` places in any terminal, cut where they are full."""
    lines = []
    for line in text.split("\n"):
        start = taken = 0
        for at, character in enumerate(line):
            size = cells(character, ambiguous=2)
            if taken + size > width and at > start:
                lines.append(line[start:at])
                start, taken = at, 0
            taken += size
        lines.append(line[start:])
    return lines


def fitted(text: str, width: int) -> str:
    """The text with as many spaces as are short of `width` places; cut, with an ellipsis, where it takes more."""
    taken = sum(map(cells, text))
    if taken <= width:
        return text + " " * (width - taken)
    return fitted(wrapped(text, width - 2)[0] + "…", width)
