"""One process of several: its rank, what it tells, and the end that all come to. Nothing here takes PyTorch."""

from __future__ import annotations

import os
import sys
from contextlib import suppress

from archcalc.errors import LONGEST_LINE, cut


class Ended(Exception):
    """All ranks end. `code` is their exit code; one has told why."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def place() -> tuple[int, int]:
    """This process's rank and the number of ranks, as torchrun says them in the environment; (0, 1) without."""
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


def tell(text: str) -> None:
    """A line on standard error, if anything listens."""
    if sys.stderr is not None:
        lines = "\n".join(cut(line, LONGEST_LINE) for line in text.split("\n"))
        with suppress(OSError):
            sys.stderr.write(f"{lines}\n")
            sys.stderr.flush()
