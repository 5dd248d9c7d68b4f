"""Which files have been saved since they were last looked at, by their times and sizes."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence

from archcalc.checks.collecting import Target

EACH = 0.5
"""Seconds between two looks."""

_Stamp = tuple[int, int, int]


def saved(collect: Callable[[], Sequence[Target]], beside: Sequence[str] = ()) -> Iterator[list[Target]]:
    """What was saved, or is new, each time that something was; all of it where a file `beside` was saved.

    Never ends by itself. What is looked at is collected anew each time.
    """
    before = _stamps([*(target.path for target in collect()), *beside])
    while True:
        time.sleep(EACH)
        targets = collect()
        now = _stamps([*(target.path for target in targets), *beside])
        if now != before:
            every = any(now.get(path) != before.get(path) for path in beside)
            yield [one for one in targets if every or now.get(one.path) != before.get(one.path)]
            before = now


def _stamps(paths: Sequence[str]) -> dict[str, _Stamp]:
    found: dict[str, _Stamp] = {}
    for path in paths:
        try:
            told = os.stat(path)
        except OSError:
            continue
        found[path] = told.st_mtime_ns, told.st_size, told.st_ino
    return found
