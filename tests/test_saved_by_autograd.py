"""Saved bytes equal autograd's, to the byte: random whole models, GPT-2 for real, GPT-3 on the meta device."""

import pytest
from examples import few
from hypothesis import given, settings
from hypothesis import strategies as st

import archcalc
from archcalc import strategies
from archcalc.activations import cache, saved, widths
from archcalc.run import Run

pytest.importorskip("torch", reason="the reference is PyTorch")


def test_the_cache_is_what_the_reference_would_hold():
    import torch

    from archcalc_reference import Transformer

    model = archcalc.load("tiny@n_kv_heads=2,n_layers=3")
    reference = Transformer(model).to(torch.bfloat16)
    held = []
    for layer in reference.layers:
        for part in (layer.attention.key, layer.attention.value):
            part.register_forward_hook(lambda *call: held.append(call[2]))
    reference(torch.zeros(5, 17, dtype=torch.long))
    assert len(held) == 6
    assert sum(tensor.nbytes for tensor in held) == cache(model, Run("prefill", 5, 17), 2)


def measured(model, run, device, precision, *, recompute):
    import torch

    from archcalc.witness import measure
    from archcalc_reference import Transformer

    with torch.device(device):
        return measure(Transformer(model).to(getattr(torch, precision)), run, recompute=recompute)


@settings(max_examples=few(20))
@given(
    strategies.models(),
    st.sampled_from(["cpu", "meta"]),
    st.sampled_from(["float32", "bfloat16"]),
    st.sampled_from(["math", "flash"]),
    st.booleans(),
    st.integers(1, 3),
)
def test_autograd_saves_what_was_counted(model, device, precision, attention, recompute, batch):
    run = Run(batch=batch, sequence=model.context_length, attention=attention)
    width = {"float32": 4, "bfloat16": 2}[precision]
    # Named differences: LayerNorm on a CPU keeps its statistics in the type of its input, the CUDA kernel that the meta
    # device stands for keeps 24 bytes of random state a layer.
    count = saved(model, run, widths(width, width if device == "cpu" else 4), "full" if recompute else "none").total
    state = 24 * model.n_layers if (device, attention, recompute) == ("meta", "flash", False) else 0
    assert measured(model, run, device, precision, recompute=recompute).saved == count + state


@pytest.mark.parametrize("attention", ["math", "flash"])
def test_gpt2_itself_saves_what_was_counted(attention):
    model, run = archcalc.load("gpt2@n_layers=3"), Run(sequence=128, attention=attention)
    found = measured(model, run, "cpu", "float32", recompute=False)
    assert found.saved == saved(model, run, widths(4, 4)).total


def test_gpt3_recomputed_saves_what_was_counted():
    model, run = archcalc.load("gpt3-175b@n_layers=8"), Run(sequence=2048, attention="flash")
    found = measured(model, run, "meta", "bfloat16", recompute=True)
    assert found.saved == saved(model, run, widths(2), "full").total
