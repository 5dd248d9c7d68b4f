"""The reference is a GPT that runs, written from the spec alone."""

import math
import re
import sys
from pathlib import Path

import pytest

import archcalc
from archcalc.tape.legend import COMPOSITES, environment

torch = pytest.importorskip("torch", reason="the reference is PyTorch")

import archcalc_reference  # noqa: E402
from archcalc.blocks import registered  # noqa: E402
from archcalc.blocks.attention import Attention  # noqa: E402
from archcalc.blocks.embedding import Embedding  # noqa: E402
from archcalc.blocks.mlp import MLP  # noqa: E402
from archcalc.blocks.norm import Norm  # noqa: E402
from archcalc.blocks.unembedding import Unembedding  # noqa: E402
from archcalc_reference import Transformer  # noqa: E402
from archcalc_reference.model import transformer as reference  # noqa: E402
from archcalc_reference.model.attention import ATTENTIONS  # noqa: E402
from archcalc_reference.model.embedding import EMBEDDINGS, UNEMBEDDINGS  # noqa: E402
from archcalc_reference.model.experts import EXPERTS  # noqa: E402
from archcalc_reference.model.latent import LATENT  # noqa: E402
from archcalc_reference.model.mlp import DENSE  # noqa: E402
from archcalc_reference.model.norms import NORMS  # noqa: E402
from archcalc_reference.model.recurrent import RECURRENT  # noqa: E402

ROOM = Path(reference.__file__).parent

TINY = "tiny@n_layers=2,d_model=24,n_heads=6,n_kv_heads=2,d_head=5,d_ff=17,vocab_size=19,context_length=11"


def build(spec=TINY, seed=0):
    torch.manual_seed(seed)
    return Transformer(archcalc.load(spec))


def tokens(model, batch=2, length=11, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(model.spec.vocab_size, (batch, length), generator=generator)


def test_the_reference_s_tables_have_the_registered_kinds():
    assert set(NORMS) == set(registered(Norm))
    assert {*ATTENTIONS, *LATENT, *RECURRENT} == set(registered(Attention))
    assert {*DENSE, *EXPERTS} == set(registered(MLP))
    assert set(EMBEDDINGS) == set(registered(Embedding))
    assert set(UNEMBEDDINGS) == set(registered(Unembedding))


def test_shapes_at_the_end_of_names_are_true_at_run_time():
    """Every local such as q_BSGRK, in every function of the reference, while a model runs."""
    model = build()
    attention, mlp = model.spec.layers[0].attention, model.spec.layers[0].mlp
    run = archcalc.Run(batch=3, sequence=7)
    sizes = {"D": 24, "V": 19, "P": 11}
    env = environment(sizes, run.sizes(), attention.sizes(), mlp.sizes())
    env |= {letter: math.prod(env[label] for label in whole.split()) for letter, whole in COMPOSITES.items()}
    seen = set()

    def look(frame, event, _):
        if event == "return" and Path(frame.f_code.co_filename).parent == ROOM:
            for name, value in frame.f_locals.items():
                match = re.fullmatch(r"\w+?_([A-Z]+)", name)
                if match and isinstance(value, torch.Tensor):
                    assert tuple(value.shape) == tuple(env[label] for label in match[1]), name
                    seen.add(name)
        return look

    sys.settrace(look)
    try:
        model(tokens(model, 3, 7), tokens(model, 3, 7))
        model(tokens(model, 3, 7), kernel="flash")
        model(tokens(model, 3, 7), cache=reference.Cache(model.spec, 3, 7))
    finally:
        sys.settrace(None)
    assert seen >= {"q_BSGRK", "k_BGTK", "v_BGTW", "q_BGXK", "a_BGRST", "h_BSF", "logits_BSV"}


def test_flash_gives_the_numbers_of_math():
    model = build()
    x = tokens(model)
    assert torch.allclose(model(x).logits, model(x, kernel="flash").logits, atol=1e-5)


def test_nothing_sees_its_future():
    model = build()
    x = tokens(model)
    y = x.clone()
    y[:, 6:] = (y[:, 6:] + 1) % 19
    with torch.no_grad():
        for kernel in ("math", "flash"):
            a, b = model(x, kernel=kernel).logits, model(y, kernel=kernel).logits
            assert torch.equal(a[:, :6], b[:, :6])
            assert not torch.allclose(a[:, 6:], b[:, 6:])


def test_the_loss_is_the_mean_of_minus_log_softmax():
    model = build()
    x, t = tokens(model), tokens(model, seed=2)
    logits, loss = model(x, t)
    by_hand = -logits.double().log_softmax(-1).gather(-1, t[..., None]).mean()
    assert loss.item() == pytest.approx(by_hand.item(), rel=1e-6)
    assert model(x).loss is None


def test_a_fresh_model_is_as_unsure_as_can_be():
    model = build("tiny@std=0.02")
    x, t = tokens(model, 4, 64), tokens(model, 4, 64, seed=2)
    assert model(x, t).loss.item() == pytest.approx(math.log(256), abs=0.1)


def test_initialisation_is_gpt2_s():
    model = build("tiny")
    layer = model.layers[2]
    for weight, std in [
        (model.embedding.token.weight, 0.06),
        (model.embedding.position.weight, 0.06),
        (layer.attention.query.weight, 0.06),
        (layer.mlp.up.weight, 0.06),
        (layer.attention.output.weight, 0.06 / math.sqrt(2 * 5)),
        (layer.mlp.down.weight, 0.06 / math.sqrt(2 * 5)),
    ]:
        assert weight.std().item() == pytest.approx(std, rel=0.03)
        assert abs(weight.mean().item()) < 0.1 * std
    assert all((p == (0 if n.endswith("bias") else 1)).all() for n, p in model.named_parameters() if p.dim() == 1)


def test_initialisation_is_stated_in_the_spec():
    model = archcalc.load("tiny@residual=plain,std=0.1")
    built = Transformer(model)
    assert built.layers[0].mlp.down.weight.std().item() == pytest.approx(0.1, rel=0.03)


def test_a_tied_table_is_one_tensor_and_an_untied_one_two():
    tied, untied = build("tiny"), build("tiny@tied=false")
    assert tied.unembedding.weight is tied.embedding.token.weight
    assert untied.unembedding.weight is not untied.embedding.token.weight
    assert untied.unembedding.weight.std().item() == pytest.approx(0.06, rel=0.03)


def test_the_context_has_an_end():
    model = build()
    with pytest.raises(ValueError, match=r"^12 tokens; the context holds 11$"):
        model(torch.zeros(1, 12, dtype=torch.long))


def test_the_public_names_are_those_of_the_package():
    assert archcalc_reference.__all__ == ["Output", "Transformer"]


def test_gradients_reach_every_weight():
    model = build()
    model(tokens(model), tokens(model, seed=2)).loss.backward()
    assert all(
        p.grad is not None and p.grad.abs().sum() > 0 for n, p in model.named_parameters() if "key.bias" not in n
    )


def test_sinusoids_are_those_of_the_paper_and_of_tensor2tensor():
    """Vaswani et al. 2017, section 3.5: sin(p / 10,000^(2i / d)), here with d 8; tensor2tensor divides by d / 2 - 1."""
    from archcalc_reference.model.sinusoids import sinusoids

    for closed, steps in ((False, 4), (True, 3)):
        found = sinusoids(2, 3, 9, closed=closed)
        for row, position in enumerate((2, 3, 4)):
            angles = [position / 10_000 ** (i / steps) for i in range(4)]
            expected = [*map(math.sin, angles), *map(math.cos, angles), 0.0]
            assert found[row].tolist() == pytest.approx(expected, abs=1e-6)
