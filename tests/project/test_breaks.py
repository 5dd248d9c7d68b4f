"""A reference that is another model of the same shapes is noticed, whatever makes it another."""

import importlib.machinery
import importlib.util
import sys
from pathlib import Path

import pytest
from breaks import BREAKS, MODEL, ROOT, SPECS, main

import archcalc

torch = pytest.importorskip("torch", reason="the reference is PyTorch")
pytest.importorskip("transformers", reason="the outside voice")

import torch.utils.flop_counter  # noqa: E402, F811

import archcalc_reference.model.flash  # noqa: E402
import archcalc_reference.model.transformer  # noqa: E402
from archcalc.proof.miniature import miniature  # noqa: E402
from archcalc.proof.numerics import compare_numbers  # noqa: E402
from archcalc_reference.model import kernels  # noqa: E402

OTHER_MODELS = [fault for fault in BREAKS if fault.file.startswith(MODEL) and "too large" not in fault.name]


@pytest.fixture
def rewritten(monkeypatch):
    """Put another text of one of the reference's modules in its place, and load those that read it anew."""

    def write(file, old, new):
        path = Path(ROOT, file)
        assert old in path.read_text(), "the table of faults and the reference have parted"
        room = "archcalc_reference.model"
        # An op is registered once in a process.
        monkeypatch.setattr(kernels, "op", lambda _: lambda function: function)
        monkeypatch.setattr(torch.utils.flop_counter, "register_flop_formula", lambda *_, **__: lambda made: made)
        for name in [name for name in sys.modules if name.startswith(f"{room}.") and name != kernels.__name__]:
            monkeypatch.delitem(sys.modules, name)
            # An import sets it in its package, too: what stood there before is to stand there afterwards.
            whole = archcalc_reference.model
            monkeypatch.setattr(whole, name.rpartition(".")[2], getattr(whole, name.rpartition(".")[2]))
        broken = f"{room}.{path.stem}"
        loader = importlib.machinery.SourceFileLoader(broken, str(path))
        text = path.read_text().replace(old, new)
        monkeypatch.setattr(loader, "get_code", lambda _: compile(text, str(path), "exec"))

        class Finder:
            @staticmethod
            def find_spec(name, *_):
                return importlib.util.spec_from_loader(name, loader) if name == broken else None

        monkeypatch.setattr(sys, "meta_path", [Finder, *sys.meta_path])
        importlib.import_module(f"{room}.transformer")

    return write


def failed():
    """What differs of the first model that shows it."""
    for spec in SPECS:
        found = [check for check in compare_numbers(miniature(archcalc.load(spec)))[0] if not check.equal]
        if found:
            return found
    return []


def test_a_copy_without_a_fault_passes(rewritten):
    rewritten(f"{MODEL}/attention.py", "math.sqrt(self.K)", "math.sqrt(self.K)")
    assert failed() == []


@pytest.mark.parametrize("fault", BREAKS, ids=[fault.name for fault in BREAKS])
def test_a_fault_of_the_table_can_be_put_in(fault):
    assert fault.old in Path(ROOT, fault.file).read_text()


@pytest.mark.parametrize("fault", OTHER_MODELS, ids=[fault.name.removeprefix("reference: ") for fault in OTHER_MODELS])
def test_another_model_is_noticed(fault, rewritten):
    rewritten(fault.file, fault.old, fault.new)
    found = failed()
    assert found
    assert all(check.reason.startswith(("DIFFERS", "ANOTHER SHAPE", "DOES NOT RUN")) for check in found)


@pytest.mark.prove
def test_verify_notices_every_fault_of_the_table():
    assert main([]) == 0
