"""The wheel by itself: in an empty environment without torch it finds its specs and reports."""

import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest
from command import ask

from archcalc.hardware.devices import device_names
from archcalc.spec.catalogue import names

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    pytest.importorskip("build", reason="builds the wheel")
    out = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--outdir", str(out), str(ROOT)], check=True, capture_output=True
    )
    return next(out.glob("*.whl"))


def without_path():
    return {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}


@pytest.fixture
def archcalc(wheel, tmp_path_factory):
    home = tmp_path_factory.mktemp("empty")
    # By this environment's pip: to install another one, and to compile what is started three times, takes longer.
    venv.create(home / "venv")
    pip = [sys.executable, "-m", "pip", "--python", home / "venv" / "bin" / "python"]
    subprocess.run([*pip, "install", "--quiet", "--no-compile", str(wheel)], check=True)

    def run(*arguments):
        command = [home / "venv" / "bin" / "archcalc", *arguments]
        return subprocess.run(command, cwd=home, env=without_path(), capture_output=True, text=True, check=False)

    return run


def test_the_wheel_holds_what_it_needs_and_reports(wheel, tmp_path):
    held = set(zipfile.ZipFile(wheel).namelist())
    assert {f"archcalc/specs/models/{name}.yaml" for name in names()} <= held
    assert {f"archcalc/specs/hardware/{name}.yaml" for name in device_names()} <= held
    assert {"archcalc/specs/schema/device.json", "archcalc/specs/schema/draft-07/model.json"} <= held
    assert {"archcalc/specs/schema/model.json", "archcalc/py.typed", "archcalc_reference/model/transformer.py"} <= held
    assert not any(name.startswith(("tests", "benchmarks", "specs", "reference/")) for name in held)

    zipfile.ZipFile(wheel).extractall(tmp_path)
    program = "import archcalc.cli; print(archcalc.cli.__file__, flush=True); archcalc.cli.main()"
    done = subprocess.run(
        [sys.executable, "-c", program, "report", "gpt3-175b"],
        cwd=tmp_path,
        env=without_path(),
        capture_output=True,
        text=True,
        check=False,
    )
    ours = f"{tmp_path / 'archcalc' / 'cli.py'}\n"
    assert (done.returncode, done.stderr, done.stdout) == (0, "", ours + ask("report", "gpt3-175b").out)


@pytest.mark.prove  # an environment of its own takes as long as the wheel
def test_an_installed_wheel_reports_without_torch_and_says_what_to_install(archcalc):
    done = archcalc("report", "gpt3-175b")
    assert (done.returncode, done.stderr, done.stdout) == (0, "", ask("report", "gpt3-175b").out)
    assert archcalc("check").returncode == 0

    done = archcalc("verify", "gpt2")
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == "verify: needs the package torch; pip install 'archcalc[torch]'\n"
