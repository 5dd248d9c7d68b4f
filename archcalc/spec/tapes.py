"""Tapes of parts of models, recorded once for all that differ in sizes alone: a tape knows no sizes."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from pydantic import BaseModel

from archcalc.tape.recording import Tape
from archcalc.tape.run import Run

_WORDS = frozenset((str, bool, type(None)))


def without_sizes(part: object) -> object:
    """What is left of a block where its sizes are not looked at: its kinds, words and booleans."""
    kind: Any = type(part)
    if kind in _WORDS:
        return part
    fields = _telling(kind)
    if fields is not None:
        values = vars(part)
        return (kind, *[repr(values[name]) if named else without_sizes(values[name]) for name, named in fields])
    return tuple(map(without_sizes, part)) if isinstance(part, tuple) else False


@cache
def _telling(kind: type) -> tuple[tuple[str, bool], ...] | None:
    """The fields of a block's class that may hold more than a size, and whether names on the tape have their value."""
    if not issubclass(kind, BaseModel):
        return None
    named = getattr(kind, "named", ())
    fields = kind.__pydantic_fields__.items()
    return tuple((name, name in named) for name, field in fields if name in named or field.annotation is not int)


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
