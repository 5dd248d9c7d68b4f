"""What a start loads: a scalar report has no use for torch or numpy."""

import subprocess
import sys

import pytest
from command import calling, loaded

SCALAR = [
    ("report", "gpt3-175b"),
    ("params", "gpt3-175b"),
    ("params", "gpt3-175b", "--format", "json"),
    ("trace", "gpt3-175b"),
    ("flops", "gpt3-175b", "--tokens", "300B", "--causal", "half"),
    ("check", "gpt3-175b"),
    ("list",),
    ("softmax", "2.0", "-1.0", "--temperature", "5"),
    ("schema",),
]


def test_a_scalar_report_loads_neither_torch_nor_numpy():
    """All in one process: what none has loaded at the end, none has loaded."""
    assert loaded("\n".join(calling(*arguments) for arguments in SCALAR)) == []


def test_words_of_a_file_load_numpy_alone(tmp_path):
    (tmp_path / "words.txt").write_text("king 1 2\nqueen 3 4\n")
    assert loaded(calling("embed", str(tmp_path / "words.txt"), "king")) == ["numpy"]


def test_a_models_own_vectors_load_no_torch(tmp_path):
    numpy, safetensors = pytest.importorskip("numpy"), pytest.importorskip("safetensors.numpy")
    safetensors.save_file({"wte.weight": numpy.eye(256)}, tmp_path / "model.safetensors")
    assert loaded(calling("embed", str(tmp_path), "a")) == ["numpy", "archcalc_reference"]


def test_the_library_loads_neither():
    code = "import archcalc\nm = archcalc.load('gpt3-175b')\nassert archcalc.params(m).stored == 174604259328\narchcalc.check('gpt2')"
    assert loaded(code) == []


def test_importing_the_package_loads_nothing_of_ours():
    probe = "import archcalc, sys\nprint([m for m in sys.modules if m.startswith(('archcalc.', 'pydantic', 'yaml'))])"
    assert subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_this_test_can_fail():
    assert loaded("import numpy") == ["numpy"]


@pytest.mark.prove  # to load torch takes seconds
def test_what_a_command_loads_is_seen():
    pytest.importorskip("torch")
    assert "torch" in loaded(calling("verify", "tiny", "--tensors"))


def test_the_package_runs_as_a_module_too():
    done = subprocess.run([sys.executable, "-m", "archcalc", "nope"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", "archcalc: no such command 'nope'\n")
