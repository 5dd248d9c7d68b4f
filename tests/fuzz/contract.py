"""What every reader owes every input: an answer or lines that a terminal can show, within a second, and nothing else."""

import os
import signal
import sys
import time
from contextlib import contextmanager
from zlib import crc32

from archcalc.errors import LONGEST_LINE, MOST_PROBLEMS_SHOWN, ArchcalcError

SECONDS = 1
"""Of processor time for one input."""
WAITING = 20
"""Seconds on the clock, for what waits and does not compute."""
EACH = 32
"""Of the inputs that are accepted, one in so many is used as all commands would."""


class TooSlow(BaseException):
    """An input that took its second, and went on. No Exception, so that no reader catches it."""


@contextmanager
def bounded():
    """Raise TooSlow inside what takes longer than it may."""

    def stop(number, _):
        raise TooSlow("waits" if number == signal.SIGALRM else f"computes longer than {SECONDS} s")

    before = {number: signal.signal(number, stop) for number in (signal.SIGPROF, signal.SIGALRM)}
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    signal.setitimer(signal.ITIMER_REAL, WAITING)
    _homes.extend(_allowed)
    try:
        yield
    finally:
        _homes.clear()
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)


def is_accepted(reader, folder, data, *, deep=None):
    """Whether an input is what it says that it is. Raises AssertionError, or anything, where the contract is broken."""
    given = reader.place(folder, data)
    start = time.process_time()
    with bounded():
        try:
            found = reader.read(given)
        except ArchcalcError as error:
            told(error)
            found = None
        else:
            reader.use(found, crc32(data) % EACH == 0 if deep is None else deep)
    seconds = time.process_time() - start
    assert seconds < SECONDS, f"took {seconds:.1f} s"
    return found is not None


def told(error):
    """A refusal is a few lines, each of bounded length and harmless to a terminal."""
    assert error.problems, "refused without a reason"
    assert error.exit_code in (2, 3)
    for problem in error.problems[: MOST_PROBLEMS_SHOWN + 1]:
        assert str(problem).isprintable(), str(problem)
    lines = str(error).split("\n")
    assert len(lines) <= MOST_PROBLEMS_SHOWN + 1
    assert all(0 < len(line) <= LONGEST_LINE and line.isprintable() for line in lines), lines


_allowed: list[str] = []
_homes: list[str] = []
_WATCHED = {
    *(
        "subprocess.Popen",
        "os.system",
        "os.exec",
        "os.posix_spawn",
        "os.spawn",
        "os.fork",
        "os.kill",
        "pickle.find_class",
    ),
    *("socket.connect", "socket.bind", "socket.getaddrinfo", "ctypes.dlopen", "os.remove", "os.rename", "os.mkdir"),
    *("os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod", "shutil.rmtree"),
}
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT


def watch(*homes):
    """From now on a reader breaks its contract that runs, writes or removes something, or reads outside `homes`.

    There is no way back: Python keeps what looks at its events.
    """
    _allowed.extend(map(os.path.realpath, (*homes, "/proc/self")))

    def look(event, details):
        if not _homes:
            return
        if event in _WATCHED and details[:1] != ("git",):  # which a revision of a spec is read from
            raise AssertionError(f"{event}{details!r:.200}")
        if event == "open" and isinstance(details[0], str | bytes):
            path, _, flags = details
            if path == os.devnull:  # where a package writes while it loads a tokenizer
                return
            if flags & _WRITES or not os.path.realpath(os.fsdecode(path)).startswith(tuple(_homes)):
                raise AssertionError(f"opens {path!r:.200}")

    sys.addaudithook(look)
