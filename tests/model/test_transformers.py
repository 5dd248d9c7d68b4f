"""The outside voice: transformers builds the same weights and, lending them, the same logits."""

import pytest
from facts import PARAMETERS
from outside import gpt2_config

import archcalc

torch = pytest.importorskip("torch", reason="the reference is PyTorch")
transformers = pytest.importorskip("transformers", reason="the outside voice")

from archcalc_reference import Transformer  # noqa: E402


def lend(theirs):
    """GPT-2's state dict under our names: Conv1D stores (in, out) and puts query, key and value side by side."""
    ours = {}
    names = {"wte": "embedding.token", "wpe": "embedding.position", "ln_f": "final_norm"}
    parts = {
        "ln_1": "attention_norm",
        "ln_2": "mlp_norm",
        "c_fc": "mlp.up",
        "mlp.c_proj": "mlp.down",
        "attn.c_proj": "attention.output",
    }
    for name, tensor in theirs.state_dict().items():
        if name == "lm_head.weight":
            continue  # the token table again
        steps = name.removeprefix("transformer.").split(".")
        suffix = steps[-1]
        if steps[0] != "h":
            ours[f"{names[steps[0]]}.{suffix}"] = tensor
            continue
        layer, part = f"layers.{steps[1]}", ".".join(steps[2:-1])
        if part == "attn.c_attn":
            for which, piece in zip(("query", "key", "value"), tensor.chunk(3, dim=-1), strict=True):
                ours[f"{layer}.attention.{which}.{suffix}"] = piece.t() if suffix == "weight" else piece
        else:
            target = parts.get(part) or parts[part.split(".")[-1]]
            linear = suffix == "weight" and tensor.dim() == 2
            ours[f"{layer}.{target}.{suffix}"] = tensor.t() if linear else tensor
    return ours


@pytest.mark.parametrize(("name", "parameters"), PARAMETERS.items())
def test_transformers_builds_as_many_parameters(name, parameters):
    with torch.device("meta"):
        theirs = transformers.GPT2LMHeadModel(gpt2_config(archcalc.load(name)))
    assert sum(p.numel() for p in theirs.parameters()) == parameters


@pytest.mark.parametrize(
    "spec",
    [
        "tiny@n_layers=3,d_model=48,d_head=8,vocab_size=101,context_length=33",
        "gpt2@n_layers=2,d_model=96,vocab_size=211,context_length=64,d_ff=100,n_heads=4,n_kv_heads=4,d_head=24",
    ],
)
def test_with_transformers_weights_the_logits_are_the_same(spec):
    model = archcalc.load(spec)
    torch.manual_seed(0)
    theirs = transformers.GPT2LMHeadModel(gpt2_config(model)).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():  # larger than at the start, so that every part has its say
            parameter.add_(torch.randn_like(parameter) * 0.2)
        lent = lend(theirs)
        ours = Transformer(model)
        wanted = dict(ours.named_parameters())
        assert {n: tuple(t.shape) for n, t in lent.items()} == {n: tuple(p.shape) for n, p in wanted.items()}
        for name, parameter in wanted.items():
            parameter.copy_(lent[name])
        x = torch.randint(model.vocab_size, (2, model.context_length))
        expected = theirs(x, labels=x)
        for kernel in ("math", "flash"):
            output = ours(x, kernel=kernel)
            assert (output.logits - expected.logits).abs().max() < 1e-4
        assert expected.logits.std() > 0.5, "logits that are all alike prove nothing"
        shifted = ours(x[:, :-1], x[:, 1:]).loss
        assert abs(shifted - expected.loss) < 1e-4
