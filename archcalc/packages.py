"""Packages that only some commands need: importing one, and how to install what is missing."""

import os
import shlex
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from archcalc.errors import Missing, Problem

CHECKOUT = Path(__file__).resolve().parent.parent


def needed(package: str, where: str, extra: str = "run") -> Any:
    """A package that the extra installs. Raises Missing, at `where`, with the command that installs the extra."""
    try:
        return import_module(package)
    except ModuleNotFoundError as error:
        raise missing(error, where, extra) from None


def missing(error: ModuleNotFoundError, where: str, extra: str) -> Missing:
    """The error that says which package is missing and how to install it."""
    return Missing(Problem(where, f"needs the package {error.name}", suggestion=install_command(extra)))


def install_command(extra: str) -> str:
    """The shell command that installs an extra, as it can be typed in the current directory.

    archcalc may not be on PyPI: from a checkout the command names the checkout, and the Python that is running.
    """
    if not _from_checkout():
        return pip_install(f"archcalc[{extra}]")
    return f"{_pip()} install -e {shlex.quote(f'{_shortest(CHECKOUT)}[{extra}]')}"


def pip_install(package: str) -> str:
    """The shell command that installs a package from PyPI."""
    return f"{_pip()} install {shlex.quote(package)}"


def _pip() -> str:
    """Pip of the Python that is running: a checkout's is often not the first on the path."""
    if not _from_checkout() or not sys.executable:
        return "pip"
    return f"{shlex.quote(_shortest(Path(sys.executable)))} -m pip"


def _from_checkout() -> bool:
    return (CHECKOUT / "pyproject.toml").is_file() and (CHECKOUT / "reference").is_dir()


def _shortest(path: Path) -> str:
    """A path as it is, or relative to the current directory where that is shorter.

    The relative form begins with a dot, since a name without a slash is looked up elsewhere.
    """
    try:
        relative = os.path.relpath(path)
    except (OSError, ValueError):  # the current directory was deleted, or is on another drive
        return str(path)
    if not relative.startswith("."):
        relative = os.path.join(".", relative)
    return min(str(path), relative, key=len)
