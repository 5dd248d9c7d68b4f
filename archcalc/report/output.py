"""Write a command's output: to a terminal, a pipe or, whole, a file.

While a command runs, standard output is an `Out`: whatever prints, typer's help and rich's live view too, goes one way
and ends in one way.
"""

from __future__ import annotations

import codecs
import contextlib
import os
import sys
from collections.abc import Iterable, Iterator
from io import TextIOWrapper
from typing import Any, TextIO, cast

from archcalc.errors import LONGEST_LINE, Invalid, Problem, cut, shown
from archcalc.files.writing import refuse, write_file
from archcalc.report.render import WIDEST, rendered
from archcalc.report.sheet import Format, Sheet

_SUFFIXES: dict[str, Format] = {".txt": "table", ".md": "markdown", ".json": "json", ".csv": "csv"}


class ReaderGone(BaseException):
    """Whoever read the output has closed it: no error, and there is nothing to add.

    It is no OSError, since typer makes exit code 1 of a broken pipe, and no Exception, so that nobody catches it.
    """


class Out:
    """Standard output. What it cannot take is Invalid; after that, and after ReaderGone, the rest goes nowhere."""

    def __init__(self, stream: TextIO | None) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        """Raises Invalid where it is closed or full, ReaderGone where nobody reads."""
        if not text:  # with an empty one, of bytes or not, typer's help asks what kind of stream it is
            return len("" + text)
        if self.stream is None:
            raise Invalid(Problem("standard output", "is closed"))
        with self._ending():
            return self.stream.write(text)

    def flush(self) -> None:
        """Raises the same."""
        if self.stream is not None:
            with self._ending():
                self.stream.flush()

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return self.stream is not None and self.stream.isatty()

    def __getattr__(self, name: str) -> Any:
        if name == "buffer":  # the way around, which typer's help takes where the encoding is ASCII
            raise AttributeError(name)
        return getattr(self.stream, name)

    @contextlib.contextmanager
    def _ending(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:
            self._silence()
            raise ReaderGone from None
        except OSError as error:
            self._silence()
            raise Invalid(Problem("standard output", f"cannot be written: {error.strerror}")) from None

    def _silence(self) -> None:
        """Send what is left in its buffer nowhere, so that leaving raises nothing."""
        with contextlib.suppress(OSError, ValueError, AttributeError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, cast("TextIO", self.stream).fileno())
            os.close(nowhere)
            cast("TextIO", self.stream).flush()


@contextlib.contextmanager
def one_way_out() -> Iterator[None]:
    """Everything that is printed inside goes through an Out; a terminal that knows few characters gets the figures."""
    before = sys.stdout
    if isinstance(before, TextIOWrapper):
        codecs.register_error("archcalc", _plainly)
        before.reconfigure(errors="archcalc")
    sys.stdout = cast("TextIO", Out(before))
    try:
        yield
    finally:
        sys.stdout = before


_PLAIN = str.maketrans(
    {"█": "#", "…": "...", "\u2013": "-", "\u2014": "-", "\u00d7": "x", "\u2019": "'", **dict.fromkeys("▏▎▍▌▋▊▉", ".")}
)


def _plainly(error: UnicodeError) -> tuple[str, int]:
    """What an encoding lacks: a sign that is like it, or its escape."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    plain = lacking.translate(_PLAIN)
    return plain.encode("ascii", "backslashreplace").decode(), error.end


def emit(sheet: Sheet, form: Format | None, output: str | None) -> None:
    """Write a sheet in the format asked for, or the one that the file's suffix means."""
    output = None if output == "-" else output
    form = format_of(form, output)
    terminal = output is None and on_terminal()
    width = WIDEST
    if output is None and (terminal or "COLUMNS" in os.environ):
        import shutil

        width = shutil.get_terminal_size((WIDEST, 40)).columns
    write(rendered(sheet, form, width, style=terminal and not os.environ.get("NO_COLOR")), output)


def format_of(form: Format | None, output: str | None, others: Iterable[str] = ()) -> Format:
    """The format asked for, or the one that the file's suffix means; `others` are suffixes that a command has beside.

    Raises Invalid where the suffix means none.
    """
    found = form or _SUFFIXES.get(os.path.splitext(output)[1] if output else ".txt")
    if found is None:
        listed = ", ".join((*_SUFFIXES, *others))
        fix = "name it with --format"
        raise Invalid(Problem("--output", f"has no suffix of {listed}", value=shown(output), suggestion=fix))
    return found


def is_read_here(form: Format | None, output: str | None) -> bool:
    """Whether a sheet is printed with all its lines, and not as records or to a file."""
    return output in (None, "-") and form not in ("csv", "json")


def write(text: str | Iterable[str], output: str | None) -> None:
    """To standard output, or whole to a file: see `archcalc.files.writing`. A long text may come in pieces."""
    pieces = (text,) if isinstance(text, str) else text
    if output in (None, "-"):
        for piece in pieces:
            stream(piece)
        return
    try:
        write_file(output, pieces)
    except BrokenPipeError:  # a pipe by its name
        raise ReaderGone from None
    tell(f"wrote {output}")


def refuse_output(output: str | None) -> None:
    """Raise Invalid or Missing for a file that cannot be written, before the work whose result it is to hold."""
    if output not in (None, "-"):
        refuse(output)


def stream(text: str) -> None:
    """A piece of text to standard output, at once."""
    out = sys.stdout if isinstance(sys.stdout, Out) else Out(sys.stdout)
    out.write(text)
    out.flush()


def on_terminal() -> bool:
    """Whether standard output is a terminal."""
    return sys.stdout is not None and sys.stdout.isatty()


def tell(text: str) -> None:
    """Say something on standard error, if anything listens; words never go among the data.

    Its lines are bounded, and whatever a terminal might obey is escaped but the ends of lines.
    """
    if sys.stderr is not None:
        lines = [cut(line, LONGEST_LINE) for line in text.split("\n")]
        with contextlib.suppress(OSError):
            print("\n".join(lines), file=sys.stderr, flush=True)
