"""Ask git about a repository: bounded in time and size, over no network, and with nothing run that it configures.

Only commands that print objects and names are meant to be asked: they run no hook, filter, textconv or pager, and
change nothing.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
from threading import Timer
from typing import NamedTuple

from archcalc.files.reading import TooSlow

SECONDS = 10
"""How long git may take for one answer."""

# A repository in a folder of files that a stranger sent is one without a work tree: only GIT_DIR may name such a one.
_OPTIONS = (
    *("--no-pager", "--literal-pathspecs"),
    *("-c", "safe.bareRepository=explicit", "-c", "core.fsmonitor=false", "-c", f"core.hooksPath={os.devnull}"),
)
_ENVIRONMENT = {
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_NO_LAZY_FETCH": "1",  # of objects that a partial clone lacks; git before 2.45 obeys the next line alone
    "GIT_ALLOW_PROTOCOL": "none",
    "LC_ALL": "C",
}


class Answer(NamedTuple):
    """Git's exit code and its output, up to the bound and one byte more."""

    code: int
    data: bytes


def ask_git(*arguments: str, most: int, errors: bool = False) -> Answer:
    """Run a command of git in the current folder; with `errors` the output has what it says on standard error too.

    Raises FileNotFoundError where git is not installed, TooSlow where it does not answer in time, OSError and
    ValueError for arguments that no process can be given.
    """
    process = subprocess.Popen(  # noqa: S603  (git, and arguments that its callers have checked)
        ["git", *_OPTIONS, *arguments],  # noqa: S607  (whichever git its user runs)
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT if errors else subprocess.DEVNULL,
        env={**os.environ, **_ENVIRONMENT},
        start_new_session=True,
    )
    late = Timer(SECONDS, _end, [process])
    late.start()
    try:
        data = process.stdout.read(most + 1) if process.stdout else b""
        if len(data) <= most:
            process.wait()
    finally:
        ended = late.finished.is_set()
        late.cancel()
        _end(process)
        with process:  # closes the pipe
            pass
    if ended:
        raise TooSlow(errno.ETIMEDOUT, f"git did not answer within {SECONDS} seconds")
    return Answer(process.returncode, data)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End git, and what it may have started, if it has not come to its end."""
    if process.returncode is not None:
        return
    if hasattr(os, "killpg"):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    process.kill()
