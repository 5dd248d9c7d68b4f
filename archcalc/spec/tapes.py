"""Tapes of parts of models, recorded once for all that differ in sizes alone: a tape knows no sizes."""

from __future__ import annotations

from collections.abc import Callable

from pydantic import BaseModel

from archcalc.tape.recording import Tape
from archcalc.tape.run import Run


def without_sizes(part: object) -> object:
    """What is left of a block where its sizes are not looked at: its kinds, words and booleans."""
    if isinstance(part, BaseModel):
        named = getattr(part, "named", ())
        return (type(part), *(repr(inner) if name in named else without_sizes(inner) for name, inner in part))
    if isinstance(part, tuple):
        return tuple(map(without_sizes, part))
    return part if isinstance(part, bool | str) else part is None


_tapes: dict[object, Tape] = {}
"""The tapes that were recorded last, by what is left of a part without its sizes: thousands of specs that are checked
in one go are of a few kinds."""
_MOST_TAPES = 512


def tape_of(alike: object, run: Run, record: Callable[[Tape], None]) -> Tape:
    """A tape of a part of the model: one that was recorded for a part that differs in sizes alone, if there is one."""
    key = alike, run
    try:
        known = _tapes.get(key)
    except TypeError:  # arrays are not compared
        tape = Tape(run)
        record(tape)
        return tape
    if known is None:
        known = Tape(run)
        record(known)
        if len(_tapes) >= _MOST_TAPES:
            _tapes.clear()
        _tapes[key] = known
    return known
