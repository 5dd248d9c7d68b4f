"""Tapes of parts of models, recorded once for all that differ in sizes alone: a tape knows no sizes."""

from __future__ import annotations

from collections.abc import Callable

from pydantic import BaseModel

from archcalc.tape.recording import Tape
from archcalc.tape.run import Run

_WORDS = frozenset((str, bool, type(None)))


def without_sizes(part: object) -> object:
    """What is left of a block where its sizes are not looked at: its kinds, words and booleans."""
    if isinstance(part, BaseModel):
        named = getattr(part, "named", ())
        values = vars(part)
        kept: list[object] = [type(part)]
        for name in type(part).__pydantic_fields__:
            value = values[name]
            if name in named:
                kept.append(repr(value))
            else:
                kept.append(value if type(value) in _WORDS else type(value) is not int and without_sizes(value))
        return tuple(kept)
    if isinstance(part, tuple):
        return tuple(map(without_sizes, part))
    return part if type(part) in _WORDS else False


_tapes: dict[object, Tape] = {}
"""The tapes that were recorded last, by what is left of a part without its sizes: thousands of specs that are checked
in one go are of a few kinds."""
_MOST_TAPES = 512


def tape_of(alike: object, run: Run, record: Callable[[Tape], None]) -> Tape:
    """A tape of a part of the model: one that was recorded for a part that differs in sizes alone, if there is one.

    Runs that differ in sizes alone share it too; the run that the tape has tells none.
    """
    key = alike, run.words
    known = _tapes.get(key)
    if known is None:
        known = Tape(run.of_one())
        record(known)
        if len(_tapes) >= _MOST_TAPES:
            _tapes.clear()
        _tapes[key] = known
    return known
