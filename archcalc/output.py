"""Where a command's output goes: to a terminal, a pipe, or whole into a file."""

from __future__ import annotations

import os
import sys

from archcalc.errors import Invalid, Missing, Problem, shown
from archcalc.report.render import WIDEST, render
from archcalc.report.sheet import Format, Sheet

_SUFFIXES: dict[str, Format] = {".txt": "table", ".md": "markdown", ".json": "json", ".csv": "csv"}


def emit(sheet: Sheet, form: Format | None, output: str | None) -> None:
    """Write a sheet in the format asked for, or the one that the file's suffix means."""
    if form is None:
        suffix = os.path.splitext(output or ".txt")[1] if output else ".txt"
        form = _SUFFIXES.get(suffix)
        if form is None:
            listed = ", ".join(_SUFFIXES)
            raise Invalid(
                Problem("--output", f"has no suffix of {listed}", value=shown(output), suggestion="say --format")
            )
    terminal = output is None and sys.stdout.isatty()
    width = WIDEST
    if output is None and (terminal or "COLUMNS" in os.environ):
        import shutil

        width = shutil.get_terminal_size((WIDEST, 40)).columns
    write(render(sheet, form, width, style=terminal and not os.environ.get("NO_COLOR")), output)


def write(text: str, output: str | None) -> None:
    """To standard output, or whole to a file: a temporary one beside it, then renamed."""
    if output is None:
        sys.stdout.write(text)
        sys.stdout.flush()
        return
    import tempfile

    try:
        folder = os.path.dirname(output) or "."
        if os.path.isdir(output):
            raise IsADirectoryError(21, "Is a directory")
        handle, temporary = tempfile.mkstemp(dir=folder, prefix=".archcalc-")
        try:
            with open(handle, "w", encoding="utf-8") as file:
                file.write(text)
            os.chmod(temporary, 0o666 & ~_umask())
            os.replace(temporary, output)
        except BaseException:
            os.unlink(temporary)
            raise
    except FileNotFoundError:
        raise Missing(Problem(output, "cannot be written: its folder is not there")) from None
    except OSError as error:
        raise Invalid(Problem(output, f"cannot be written: {error.strerror}")) from None
    print(f"wrote {output}", file=sys.stderr)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
