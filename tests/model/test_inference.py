"""What runs under torch.inference_mode is leaner than what counters and autograd see, and is the same numbers."""

import pytest

torch = pytest.importorskip("torch")

from variants import CONTEXT, VARIANTS, VOCABULARY, variant  # noqa: E402

from archcalc.blocks import Rotary  # noqa: E402
from archcalc_reference import Transformer  # noqa: E402
from archcalc_reference.model.positions import Positions  # noqa: E402
from archcalc_reference.model.transformer import Cache  # noqa: E402
from archcalc_reference.model.turning import rotate  # noqa: E402


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", VARIANTS)
def test_every_model_gives_the_same_bits(name, dtype):
    torch.manual_seed(1)
    model = Transformer(variant(name)).to(dtype).eval()
    tokens = torch.randint(VOCABULARY, (2, CONTEXT // 2))

    def logits():
        cache = Cache(model.spec, 2, CONTEXT // 2, dtype)
        pieces = [tokens[:, :-3], tokens[:, -3:-1], tokens[:, -1:]]
        read = [model(piece, kernel="flash", cache=cache).logits for piece in pieces]
        return torch.cat([model(tokens, kernel="flash").logits, *read], 1)

    with torch.no_grad():
        seen = logits()
    with torch.inference_mode():
        assert torch.equal(logits(), seen)


@pytest.mark.parametrize("axes", [(), (2,), (2, 3)], ids=len)
@pytest.mark.parametrize("pairing", ["halves", "neighbours"])
@pytest.mark.parametrize("turned", [6, 8])
def test_a_rotation_is_a_product_of_complex_numbers(turned, pairing, axes):
    """Su et al. 2021, arXiv:2104.09864, equation 13: a pair is a complex number, times e^(i position theta^(-2j/d))."""
    first, new, K = 5, 4, 8
    x = torch.randn(1, new, *axes, K)
    pairs = x[..., :turned].double().unflatten(-1, (2, -1) if pairing == "halves" else (-1, 2))
    axis = -2 if pairing == "halves" else -1
    turns = torch.arange(first, first + new)[:, None] * 100.0 ** (-torch.arange(0, turned, 2) / turned).double()
    turns = turns.view(new, *(1 for _ in axes), turned // 2)
    found = torch.complex(*pairs.unbind(axis)) * torch.exp(1j * turns)
    expected = torch.cat([torch.stack([found.real, found.imag], axis).flatten(-2), x[..., turned:].double()], -1)

    rotary = Rotary(d_rotary=turned, theta=100, pairing=pairing)
    positions = Positions(first, new, "flash", 100, x)
    positions.add_angles("table", rotary)
    neighbours = pairing == "neighbours"
    with torch.inference_mode():
        lean = positions.turned(x, "table", neighbours=neighbours)
    learning = rotate(x.requires_grad_(), *positions.tables["table"], neighbours=neighbours)
    assert torch.allclose(lean.double(), expected, rtol=0, atol=2e-6)
    assert torch.equal(lean, learning.detach())
    learning.backward(learning.detach())  # turning back what was turned
    assert torch.allclose(x.grad, x.detach(), rtol=0, atol=2e-6)


@pytest.mark.parametrize("name", ["llama", "multi-query"])
@pytest.mark.parametrize(("dtype", "near"), [(torch.float32, 1e-5), (torch.bfloat16, 0.1)])
def test_one_token_of_heads_that_share_keys_finds_what_the_kernel_in_pieces_does(name, dtype, near):
    torch.manual_seed(1)
    model = Transformer(variant(name)).to(dtype).eval()
    tokens = torch.randint(VOCABULARY, (2, CONTEXT // 2))
    cache = Cache(model.spec, 2, CONTEXT // 2, dtype)
    with torch.inference_mode():
        model(tokens[:, :-1], kernel="flash", cache=cache)
        found = model(tokens[:, -1:], kernel="flash", cache=cache).logits[:, -1]
        assert torch.allclose(found, model(tokens, kernel="math").logits[:, -1], rtol=0, atol=near)
