"""What is said where a package is missing: a command that works as it is typed."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import archcalc
from archcalc import packages
from archcalc.packages import install_command, pip_install

ROOT = Path(archcalc.__file__).parent.parent

# Stands in for the Python that is running: what it was called with, and where its last argument leads.
PYTHON = """#!/bin/sh
printf '%s\\n' "$@"
for last; do :; done
cd "${last%[*}" && pwd -P
"""


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A checkout in a folder with a blank in its name, and a Python beside it."""
    root = tmp_path / "my work" / "archcalc"
    (root / "reference").mkdir(parents=True)
    (root / "pyproject.toml").touch()
    python = root / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(PYTHON)
    python.chmod(0o755)
    monkeypatch.setattr(packages, "CHECKOUT", root)
    monkeypatch.setattr(sys, "executable", str(python))
    return root


@pytest.mark.parametrize("place", [".", "reference", "..", ".venv/bin", "/"])
def test_the_command_from_a_checkout_works_wherever_it_is_typed(checkout, monkeypatch, place):
    monkeypatch.chdir(checkout / place)
    done = subprocess.run(install_command("run"), shell=True, capture_output=True, text=True, check=True)  # noqa: S602
    *arguments, last, found = done.stdout.splitlines()
    assert arguments == ["-m", "pip", "install", "-e"]
    assert last.endswith("[run]")
    assert found == str(checkout.resolve())


def test_at_the_root_of_a_checkout_it_is_short(checkout, monkeypatch):
    monkeypatch.chdir(checkout)
    assert install_command("run") == ".venv/bin/python -m pip install -e '.[run]'"
    assert pip_install("transformers") == ".venv/bin/python -m pip install transformers"


def test_installed_it_is_the_package_s_name(tmp_path, monkeypatch):
    """Also in a folder that has a project of its own, as `pip install --target` makes it."""
    monkeypatch.setattr(packages, "CHECKOUT", tmp_path)
    (tmp_path / "pyproject.toml").touch()
    assert install_command("plot") == "pip install 'archcalc[plot]'"
    assert pip_install("transformers") == "pip install transformers"


def test_where_the_current_directory_is_gone_the_path_is_whole(checkout, tmp_path, monkeypatch):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert shlex.split(install_command("run"))[-1] == f"{checkout}[run]"


def test_the_hint_of_this_checkout_is_one_that_pip_takes(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    python, *rest = shlex.split(install_command("run"))
    assert rest[:-1] == ["-m", "pip", "install", "-e"]
    assert os.path.samefile(python, sys.executable)
    assert os.path.samefile(rest[-1].removesuffix("[run]"), ROOT)


def test_a_public_name_whose_package_is_missing_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "hypothesis", None)
    monkeypatch.delitem(sys.modules, "archcalc.strategies", raising=False)
    monkeypatch.delattr(archcalc, "strategies", raising=False)  # where another test imported it
    with pytest.raises(AttributeError) as caught:
        archcalc.strategies  # noqa: B018
    assert str(caught.value) == f"archcalc.strategies needs hypothesis: {install_command('strategies')}"


def test_every_extra_that_is_named_exists_and_no_other_place_says_how_to_install():
    import re
    import tomllib

    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for folder in ("archcalc", "reference/archcalc_reference"):
        for path in (ROOT / folder).rglob("*.py"):
            text = path.read_text()
            assert path.name == "packages.py" or "pip install" not in text, path
            named = re.findall(r'\bmissing\(error, "[^"]*", "(\w+)"\)', text)
            assert set(named) <= set(extras), path
