"""A Python process beside this one that answers questions and can be ended: for what a checkpoint's files may run.

A chat template is a program and a tokenizer's pattern nearly one; no thread that runs them could be stopped. A
question and its answer are a line of JSON each. Nothing here takes more than the standard library: the process starts
with it.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from threading import Timer
from typing import Any

Answer = Callable[[Any], Any]
_PATIENCE = 5  # times the seconds, by the clock: a busy machine is slow
_START = 10  # seconds by the clock, in which Python starts
_OUT_OF_TIME = -getattr(signal, "SIGPROF", 0)
_LONGEST = 1_000  # characters of an error that another process told


class Ended(Exception):
    """There is no answer; the text says why, as the rest of a sentence about the file that was run.

    `line` is the line of that file which is to blame, where one is.
    """

    def __init__(self, why: str, line: int | None = None) -> None:
        super().__init__(why)
        self.line = line


class Helper:
    """One process, started with the first question and again after one that had to be ended."""

    def __init__(self, program: str, setup: Any, *, seconds: float, memory: int) -> None:
        """`program` is a module of this package that calls `serve`; `setup` is the first thing that it is told.

        Each answer, and the setup, has so many seconds of a processor's time, and five times that of a clock's; the
        process has `memory` bytes of address space.
        """
        self._program, self._setup, self._seconds, self._memory = program, setup, seconds, memory
        self._process: subprocess.Popen[bytes] | None = None

    def ask(self, question: Any) -> Any:
        """The answer. Raises Ended where there is none in time, or an error instead."""
        if self._process is None:
            self._process = self._start()
            try:
                self._exchange(self._process, self._setup, begins=True)
            except Ended:
                self._stop()
                raise
        return self._exchange(self._process, question)

    def _start(self) -> subprocess.Popen[bytes]:
        path = str(Path(__file__).with_name(f"{self._program}.py"))
        try:
            process = subprocess.Popen(  # noqa: S603  (this Python, and a module of this package)
                [sys.executable, "-P", path, str(self._memory), str(self._seconds)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                start_new_session=True,  # Ctrl-C is for this process
            )
        except OSError as error:
            raise Ended(f"cannot be run: {error.strerror}") from None
        self._finalizer = weakref.finalize(self, _end, process)
        return process

    def _exchange(self, process: subprocess.Popen[bytes], said: Any, *, begins: bool = False) -> Any:
        if process.stdin is None or process.stdout is None:
            raise Ended("cannot be run: no pipe leads there")
        timer = Timer(_PATIENCE * self._seconds + (_START if begins else 0), process.kill)
        timer.start()
        try:
            process.stdin.write(json.dumps(said).encode() + b"\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except BrokenPipeError:
            line = b""
        except BaseException:
            self._stop()
            raise
        finally:
            in_time = timer.is_alive()
            timer.cancel()
        if not line.endswith(b"\n"):
            self._stop()
            slow = not in_time or process.returncode == _OUT_OF_TIME
            raise Ended(f"takes longer than {self._seconds:g} s" if slow else "ends the process that runs it")
        found = json.loads(line)
        if "error" in found:
            raise Ended(found["error"], found["line"])
        return found["answer"]

    def _stop(self) -> None:
        self._process = None
        self._finalizer()


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):  # what was not written when it ended
                pipe.close()


def serve(begin: Callable[[Any], Answer]) -> None:
    """Answer until standard input ends. `begin` takes the setup and returns what answers questions."""
    memory, seconds = int(sys.argv[1]), float(sys.argv[2])
    _limit(memory)
    answer: Answer | None = None
    for line in sys.stdin.buffer:
        _allow(seconds)
        found: dict[str, Any]
        try:
            if answer is None:
                answer, found = begin(json.loads(line)), {"answer": None}
            else:
                found = {"answer": answer(json.loads(line))}
        except MemoryError:
            found = {"error": f"takes more than {memory:,} bytes of memory", "line": None}
        except Ended as error:
            found = {"error": str(error), "line": error.line}
        except BaseException as error:  # noqa: BLE001  (a panic of Rust's is no Exception)
            found = {"error": f"fails: {str(error)[:_LONGEST] or type(error).__name__}", "line": None}
        _allow(0)
        sys.stdout.buffer.write(json.dumps(found).encode() + b"\n")
        sys.stdout.buffer.flush()


def _limit(memory: int) -> None:
    try:
        import resource
    except ModuleNotFoundError:  # Windows, where time alone is limited
        return
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (memory if most < 0 else min(memory, most), most))


def _allow(seconds: float) -> None:
    """So much of a processor's time from now on: then the system ends this process, whoever may be waiting for it."""
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_PROF, seconds)
