"""The outside voice of each family: its config is written from our spec, its weights from ours, and it says the same."""

import sys
from pathlib import Path

import pytest
from examples import one_in

import archcalc
from archcalc.huggingface.importing import import_config
from archcalc.proof.counterpart import Counterpart, counterpart
from archcalc.spec.source import Document
from archcalc.spec.validation import validate

torch = pytest.importorskip("torch", reason="the reference is PyTorch")
pytest.importorskip("transformers", reason="the outside voice")
sys.path.append(str(Path(__file__).parents[1] / "weights"))

from samples import SAMPLES, V, configuration  # noqa: E402

from archcalc_reference import Transformer  # noqa: E402

APART = {"falcon-rw": 1e-7, "minimax": 1e-7, "lfm2_moe": 2e-6, "ctrl": 1e-6}
"""Where a constant differs: slopes of ALiBi over six heads, rounded to fp32 on one side; the same of lightning
attention's decays; CTRL's sinusoids in fp32; and LFM2's mixture adds 1e-6
to the sum that it divides the chosen scores by, which a spec does not say."""


@torch.no_grad()
def random_of(model):
    """Ours in fp64, with weights that give every part its say."""
    torch.manual_seed(0)
    ours = Transformer(model).double().eval()
    for parameter in ours.parameters():
        if parameter.dim() < 2:
            parameter.add_(torch.randn_like(parameter) * 0.2)
        else:
            parameter.copy_(torch.randn_like(parameter) * 0.2)
    return ours


@torch.no_grad()
def apart(ours, theirs):
    tokens = torch.randint(V, (2, 120), generator=torch.Generator().manual_seed(1))
    expected = theirs.logits(tokens)
    return float((expected - ours(tokens).logits).abs().max() / expected.abs().max())


@pytest.mark.parametrize("name", one_in(6, SAMPLES))
def test_every_family_says_the_same(name):
    imported = import_config(configuration(name).to_dict(), "config.json", "sample")
    ours = random_of(validate(Document("config.json", imported.data), archcalc.Model))
    theirs = counterpart(ours)
    assert isinstance(theirs, Counterpart), theirs
    assert apart(ours, theirs) < APART.get(name, 1e-9)
