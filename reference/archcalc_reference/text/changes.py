"""Check that tokens decode to the text: a tokenizer may change case, or drop or add spaces.

What is told and what is refused: a blank added before the text, another Unicode normal form of the same characters and
blanks that an added token takes with it belong to the tokenizer's format and lose nothing. Anything else is another
text.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from archcalc.errors import shown
from archcalc_reference.text.special import Added

PREFIX = "a space is added before the text"
STRIPS = "spaces around an added token are dropped"
NORMAL_FORM = "the text is changed to another Unicode normal form"
_EXCERPT = 20  # characters of each text that are shown


class Change(NamedTuple):
    """What tokens say that the text does not; `loses` where it is another text."""

    what: str
    loses: bool


def change(text: str, ids: Sequence[int], joined: Sequence[bytes], added: Mapping[int, Added]) -> Change | None:
    """How the text of tokens differs from the one that was cut; None where every byte is the same.

    `joined` has the bytes of each token, `added` those tokens that are cut out as a whole.
    """
    if b"".join(joined) == text.encode():
        return None
    runs: list[tuple[str, Added | None]] = []
    held: list[bytes] = []
    for token, part in zip(ids, joined, strict=True):
        if (one := added.get(token)) is None:
            held.append(part)
            continue
        runs += [(b"".join(held).decode(errors="replace"), None), (one.content, one)]
        held = []
    runs.append((b"".join(held).decode(errors="replace"), None))
    for form in (None, "NFC"):
        found = _beside(text, runs, form)
        if found is not None:
            return Change("; ".join([*found, *([NORMAL_FORM] if form else [])]), loses=False)
    return Change(_difference(text, "".join(run for run, _ in runs)), loses=True)


def _beside(text: str, runs: list[tuple[str, Added | None]], form: str | None) -> list[str] | None:
    """What is added to a text or left out, where nothing else differs; None where something does."""
    place, told = 0, dict[str, None]()
    if form is not None:
        text, runs = unicodedata.normalize("NFC", text), [(unicodedata.normalize("NFC", run), a) for run, a in runs]

    def skip() -> None:
        nonlocal place
        begin = place
        while place < len(text) and text[place].isspace():
            place += 1
        if place > begin:
            told[STRIPS] = None

    for run, one in runs:
        if one is not None and one.lstrip and not text.startswith(run, place):
            skip()
        if text.startswith(run, place):
            place += len(run)
        elif run[:1] == " " and text.startswith(run[1:], place):
            place += len(run) - 1
            told[PREFIX] = None
        else:
            return None
        if one is not None and one.rstrip:
            skip()
    return list(told) if place == len(text) else None


def _difference(text: str, said: str) -> str:
    """The first place where two texts differ."""
    at = next((i for i, (a, b) in enumerate(zip(text, said, strict=False)) if a != b), min(len(text), len(said)))
    begin = max(at - _EXCERPT // 2, 0)
    ours, theirs = (shown(one[begin : begin + _EXCERPT]) for one in (text, said))
    return f"its tokens have {theirs} where the text has {ours}"
