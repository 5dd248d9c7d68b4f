"""The command line as a test sees it: in this process for speed, or in one of its own."""

import contextlib
import io
import json
import os
import subprocess
import sys
from typing import Any, NamedTuple

from archcalc.cli import _main

HEAVY = ("torch", "numpy", "transformers", "hypothesis", "rich", "archcalc_reference")


class Answer(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def ask(*arguments: str, stdin: bytes | None = None) -> Answer:
    """Run a command in this process; bytes that are given stand for standard input."""
    out, err, before = io.StringIO(), io.StringIO(), sys.stdin
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        if stdin is not None:
            sys.stdin = io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8")
        try:
            code = _main(list(arguments))
        finally:
            sys.stdin = before
    return Answer(code, out.getvalue(), err.getvalue())


def spawn(*arguments: str, stdin: bytes = b"", env: dict[str, str] | None = None, timeout: int = 120) -> Answer:
    """Run a command in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", "from archcalc.cli import main; main()", *arguments],
        input=stdin,
        capture_output=True,
        env={**os.environ, **(env or {})},
        check=False,
        timeout=timeout,
    )
    return Answer(done.returncode, done.stdout.decode(), done.stderr.decode())


def loaded(code: str) -> list[str]:
    """The heavy modules that a fresh process holds after running `code`."""
    probe = f"{code}\nimport sys\nprint('\\n'.join(m for m in {HEAVY!r} if m in sys.modules), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    return done.stderr.split()


def calling(*arguments: str) -> str:
    """Code that runs a command, for `loaded`."""
    return f"from archcalc.cli import _main\nassert _main({list(arguments)!r}) == 0"
