"""Saved bytes equal autograd's, to the byte: random whole models, GPT-2 for real, GPT-3 on the meta device."""

import pytest
from examples import few, has_wide_stream, moderate
from hypothesis import given, settings
from hypothesis import strategies as st

import archcalc
from archcalc import strategies
from archcalc.counts.activations import cache, saved
from archcalc.proof.witness import attentions
from archcalc.tape.roles import widths
from archcalc.tape.run import Run

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

    from archcalc.proof.witness import measure
    from archcalc_reference import Transformer

    with torch.device(device):
        return measure(Transformer(model).to(getattr(torch, precision)), run, recompute=recompute)


def flash_of_pytorch(model):
    import torch

    from archcalc_reference import Transformer

    with torch.device("meta"):
        return attentions(Transformer(model))


@settings(max_examples=few(5, prove=100))
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
    # device stands for keeps 24 bytes of random state an attention.
    count = saved(model, run, widths(width, width if device == "cpu" else 4), "full" if recompute else "none").total
    state = 24 * flash_of_pytorch(model) if (device, attention, recompute) == ("meta", "flash", False) else 0
    assert measured(model, run, device, precision, recompute=recompute).saved == count + state


@pytest.mark.parametrize("attention", ["math", "flash"])
def test_gpt2_itself_saves_what_was_counted(attention):
    model, run = archcalc.load("gpt2@n_layers=2,vocab_size=5000"), Run(sequence=128, attention=attention)
    found = measured(model, run, "cpu", "float32", recompute=False)
    assert found.saved == saved(model, run, widths(4, 4)).total


def test_gpt3_recomputed_saves_what_was_counted():
    model, run = archcalc.load("gpt3-175b@n_layers=8"), Run(sequence=2048, attention="flash")
    found = measured(model, run, "meta", "bfloat16", recompute=True)
    assert found.saved == saved(model, run, widths(2), "full").total


@settings(max_examples=few(5, prove=120))
@given(moderate().filter(has_wide_stream), st.sampled_from(["math", "flash"]), st.booleans(), st.integers(1, 3))
def test_autograd_saves_under_autocast_what_was_counted(model, attention, recompute, batch):
    """On a CPU, whose lists for autocast give these models the types that CUDA's give."""
    import torch

    from archcalc.proof.witness import measure
    from archcalc_reference import Transformer

    run = Run(batch=batch, sequence=model.context_length, attention=attention)
    with torch.autocast("cpu", torch.bfloat16):
        found = measure(Transformer(model), run, recompute=recompute)
    rule = "full" if recompute else "none"
    assert found.saved == saved(model, run, widths(2), rule, cast=True).total


@pytest.mark.parametrize(("function", "kernel"), [("gelu_new", "eager"), ("gelu_pytorch_tanh", "fused")])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_layer_of_transformers_gpt2_saves_what_was_counted(function, kernel, precision):
    """Its own classes: `gelu_new`, as GPT-2 is shipped, is op by op; `gelu_pytorch_tanh` is one kernel."""
    import torch

    transformers = pytest.importorskip("transformers")
    model = archcalc.load("gpt2@n_layers=1,vocab_size=50")
    run = Run(batch=2, sequence=64, attention="flash", activation=kernel)
    width = 4 if precision == "float32" else 2

    def kept_by(layers):
        off = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0)
        config = transformers.GPT2Config(
            n_layer=layers, vocab_size=50, activation_function=function, attn_implementation="sdpa", **off
        )
        theirs = transformers.GPT2LMHeadModel(config).to(getattr(torch, precision)).train()
        weights = {x.untyped_storage()._cdata for x in theirs.parameters()}
        storages = {}

        def pack(x):
            if x.untyped_storage()._cdata not in weights:
                storages[x.untyped_storage()._cdata] = x.untyped_storage()
            return x

        tokens = torch.zeros(2, 64, dtype=torch.long)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
            theirs(tokens, labels=tokens, use_cache=False)
        return sum(storage.nbytes() for storage in storages.values())

    assert kept_by(2) - kept_by(1) == saved(model, run, widths(width, width)).layers
