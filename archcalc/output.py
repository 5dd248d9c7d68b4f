"""Where a command's output goes: to a terminal, a pipe, or whole into a file."""

from __future__ import annotations

import contextlib
import os
import sys
from io import TextIOWrapper

from archcalc.errors import Invalid, Missing, Problem, printable, shown
from archcalc.report.render import WIDEST, render
from archcalc.report.sheet import Format, Sheet

_SUFFIXES: dict[str, Format] = {".txt": "table", ".md": "markdown", ".json": "json", ".csv": "csv"}


def emit(sheet: Sheet, form: Format | None, output: str | None) -> None:
    """Write a sheet in the format asked for, or the one that the file's suffix means."""
    output = None if output == "-" else output
    if form is None:
        suffix = os.path.splitext(output)[1] if output else ".txt"
        form = _SUFFIXES.get(suffix)
        if form is None:
            listed = ", ".join(_SUFFIXES)
            raise Invalid(
                Problem("--output", f"has no suffix of {listed}", value=shown(output), suggestion="say --format")
            )
    terminal = output is None and sys.stdout is not None and sys.stdout.isatty()
    width = WIDEST
    if output is None and (terminal or "COLUMNS" in os.environ):
        import shutil

        width = shutil.get_terminal_size((WIDEST, 40)).columns
    write(render(sheet, form, width, style=terminal and not os.environ.get("NO_COLOR")), output)


def write(text: str, output: str | None) -> None:
    """To standard output, or whole to a file: a temporary one beside it, then renamed.

    A link is followed, a file keeps its mode, and what is no file (a pipe, a device) is written to as it stands.
    """
    if output in (None, "-"):
        _print(text)
        return
    refuse_output(output)
    target = os.path.realpath(output)
    try:
        if os.path.exists(target) and not os.path.isfile(target):
            with open(target, "w", encoding="utf-8") as file:
                file.write(text)
        else:
            _replace(target, text)
    except FileNotFoundError:
        raise Missing(Problem(output, "cannot be written: its folder is not there")) from None
    except OSError as error:
        raise Invalid(Problem(output, f"cannot be written: {error.strerror}")) from None
    tell(f"wrote {printable(output)}")


def refuse_output(output: str | None) -> None:
    """Raise Invalid or Missing for a file that cannot be written, before the work whose result it is to hold."""
    if output in (None, "-"):
        return
    if not output:
        raise Invalid(Problem("--output", "names no file", value="''"))
    target = os.path.realpath(output)
    if output.endswith(os.sep) or os.path.isdir(target):
        raise Invalid(Problem(output, "cannot be written: Is a directory"))
    if not os.path.isdir(os.path.dirname(target)):
        raise Missing(Problem(output, "cannot be written: its folder is not there"))
    # A file is replaced by one that is written beside it; what is no file is written to as it stands.
    plain = os.path.isfile(target) or not os.path.exists(target)
    if not os.access(os.path.dirname(target) if plain else target, os.W_OK):
        raise Invalid(Problem(output, "cannot be written: Permission denied"))


def tell(line: str) -> None:
    """Say something on standard error, if anything listens; words never go among the data."""
    if sys.stderr is not None:
        with contextlib.suppress(OSError):
            print(line, file=sys.stderr, flush=True)


def _print(text: str) -> None:
    if sys.stdout is None:
        raise Invalid(Problem("standard output", "is closed"))
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(
            errors="backslashreplace"
        )  # a terminal that knows few characters still gets the figures
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        silence()
        raise Invalid(Problem("standard output", f"cannot be written: {error.strerror}")) from None


def silence() -> None:
    """Send what is left in standard output's buffer nowhere, so that leaving raises nothing."""
    if sys.stdout is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _replace(target: str, text: str) -> None:
    import tempfile

    mode = os.stat(target).st_mode & 0o777 if os.path.exists(target) else 0o666 & ~_umask()
    handle, temporary = tempfile.mkstemp(dir=os.path.dirname(target), prefix=".archcalc-")
    try:
        with open(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(temporary, mode)
        os.replace(temporary, target)
    except BaseException:
        os.unlink(temporary)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
