"""Call the package `tokenizers`: what it raises becomes one line, and what it prints by itself is not seen."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from archcalc.errors import Invalid, Problem, cut
from archcalc_reference.files import LONGEST_REASON

T = TypeVar("T")


def guarded(path: str, call: Callable[[], T]) -> T:
    """Call the package, whose errors are plain Exceptions and whose panics are not Exceptions at all."""
    try:
        with _quiet():
            return call()
    except (KeyboardInterrupt, SystemExit, MemoryError):
        raise
    except BaseException as error:  # noqa: BLE001
        raise Invalid(Problem(path, f"is not a valid tokenizer: {cut(str(error), LONGEST_REASON)}")) from None


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what the package writes to standard error by itself: a panic prints its stack before it is raised."""
    try:
        kept = os.dup(2)
    except OSError:  # closed
        yield
        return
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 2)
        os.close(nowhere)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
