"""A reference that is another model of the same shapes is noticed, whatever makes it another."""

import sys
import types
from pathlib import Path

import pytest
from breaks import BREAKS, MODEL, ROOT, SPECS, main

import archcalc

torch = pytest.importorskip("torch", reason="the reference is PyTorch")
pytest.importorskip("transformers", reason="the outside voice")

import archcalc_reference.model.transformer  # noqa: E402
from archcalc.proof.miniature import miniature  # noqa: E402
from archcalc.proof.numerics import compare_numbers  # noqa: E402

OTHER_MODELS = [fault for fault in BREAKS if fault.file == MODEL and "too large" not in fault.name]


@pytest.fixture
def rewritten(monkeypatch):
    """Put another text of the reference's model in its place."""

    def write(old, new):
        text = Path(ROOT, MODEL).read_text()
        assert old in text, "the table of faults and the reference have parted"
        broken = types.ModuleType("archcalc_reference.model.transformer")
        monkeypatch.setitem(sys.modules, broken.__name__, broken)
        exec(compile(text.replace(old, new), broken.__name__, "exec"), broken.__dict__)  # noqa: S102
        monkeypatch.setattr(archcalc_reference.model, "transformer", broken)  # where a lazy `Transformer` is looked up

    return write


def compared():
    return [check for spec in SPECS for check in compare_numbers(miniature(archcalc.load(spec)))[0]]


def test_a_copy_without_a_fault_passes(rewritten):
    rewritten("math.sqrt(K)", "math.sqrt(K)")
    assert [check for check in compared() if not check.equal] == []


@pytest.mark.parametrize("fault", OTHER_MODELS, ids=[fault.name.removeprefix("reference: ") for fault in OTHER_MODELS])
def test_another_model_is_noticed(fault, rewritten):
    rewritten(fault.old, fault.new)
    failed = [check for check in compared() if not check.equal]
    assert failed
    assert all(check.reason.startswith(("DIFFERS", "ANOTHER SHAPE", "DOES NOT RUN")) for check in failed)


@pytest.mark.prove
def test_verify_notices_every_fault_of_the_table():
    assert main([]) == 0
