"""Ctrl-C and SIGTERM while a training runs: the step at hand is finished first."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def polite() -> Iterator[list[int]]:
    """Ctrl-C and SIGTERM ask to stop after the step at hand; a second one stops at once. Filled when asked."""
    asked: list[int] = []

    def ask(number: int, _frame: Any) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)

    before = {}
    try:
        for number_ in (signal.SIGINT, signal.SIGTERM):
            before[number_] = signal.signal(number_, ask)
    except ValueError:  # not in the main thread, where no signal arrives
        pass
    try:
        yield asked
    finally:
        for number_, handler in before.items():
            signal.signal(number_, handler)
