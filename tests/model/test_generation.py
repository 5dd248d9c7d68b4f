"""Drawing tokens: temperature, the choice of the likely ones, seeds, and a cache that changes nothing."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

import archcalc  # noqa: E402
from archcalc.counts.activations import cache as cache_bytes  # noqa: E402
from archcalc.errors import Invalid  # noqa: E402
from archcalc_reference import Transformer  # noqa: E402
from archcalc_reference.model.generation import generate  # noqa: E402
from archcalc_reference.model.sampling import Sampling, distribution, draw  # noqa: E402
from archcalc_reference.model.transformer import Cache  # noqa: E402

LOGITS = st.lists(st.floats(-1e300, 1e300), min_size=1, max_size=50)
ORDINARY = st.lists(st.floats(-50, 50), min_size=1, max_size=50)
TEMPERATURES = st.floats(0.01, 100)


def of(logits, **sampling):
    return distribution(torch.tensor([logits], dtype=torch.float64), Sampling(**sampling))[0]


def model(spec="tiny", scale=3.0):
    """Random weights, larger than at the start of training so that tokens differ."""
    torch.manual_seed(1)
    reference = Transformer(archcalc.load(spec)).eval()
    with torch.no_grad():
        for parameter in reference.parameters():
            parameter.mul_(scale)
    return reference


@given(logits=ORDINARY, temperature=TEMPERATURES)
def test_probabilities_are_the_softmax_of_logits_over_the_temperature(logits, temperature):
    top = max(logits)
    weights = [math.exp((x - top) / temperature) for x in logits]
    expected = torch.tensor([w / math.fsum(weights) for w in weights], dtype=torch.float64)
    assert torch.allclose(of(logits, temperature=temperature), expected, rtol=0, atol=1e-6)


@given(logits=LOGITS, temperature=TEMPERATURES)
def test_logits_of_any_size_make_a_distribution(logits, temperature):
    p = of(logits, temperature=temperature)
    assert p.min() >= 0
    assert abs(p.sum().item() - 1) < 1e-9
    assert p[logits.index(max(logits))] == p.max()


@given(logits=ORDINARY)
def test_a_temperature_of_0_takes_the_first_of_the_most_likely(logits):
    p = of(logits, temperature=0)
    assert p.sum() == 1
    assert p.argmax() == logits.index(max(logits))


@given(logits=ORDINARY, k=st.integers(1, 60))
def test_top_k_keeps_so_many_and_their_proportions(logits, k):
    p, q = of(logits), of(logits, top_k=k)
    kept = q > 0
    last = p.sort(descending=True).values[min(k, len(logits)) - 1]
    assert kept.sum() <= k + (p == last).sum() - 1, "and those that equal the last"
    assert p[kept].min() >= p[~kept].max() if 0 < kept.sum() < len(logits) else True
    assert torch.allclose(q[kept], p[kept] / p[kept].sum())


@given(logits=ORDINARY, share=st.floats(0.01, 1))
def test_top_p_keeps_the_fewest_that_have_the_share(logits, share):
    p, q = of(logits), of(logits, top_p=share)
    kept = q > 0
    assert p[kept].sum() >= share - 1e-9
    smallest = p[kept].min()
    assert p[kept].sum() - smallest < share + 1e-9


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("temperature", [0, 1.0])
def test_scores_that_are_no_numbers_are_refused(bad, temperature):
    with pytest.raises(Invalid, match=r"logits: token 1: are not finite; got (nan|inf); the weights are damaged"):
        of([0.0, bad, 1.0], temperature=temperature)
    with pytest.raises(Invalid, match="logits: are all -inf"):
        of([-math.inf, -math.inf], temperature=temperature)
    assert of([-math.inf, 2.0], temperature=temperature, top_k=2, top_p=0.9).tolist() == [0, 1]


@given(logits=ORDINARY, seed=st.integers(0, 2**31), k=st.integers(1, 5))
def test_what_has_no_probability_is_never_drawn(logits, seed, k):
    p = of(logits, top_k=k)[None]
    token = draw(p, torch.Generator().manual_seed(seed))[0]
    assert p[0, token] > 0


def test_tokens_are_drawn_as_often_as_they_are_likely():
    p = torch.tensor([[0.5, 0.3, 0.2, 0.0]], dtype=torch.float64).expand(20_000, 4)
    drawn = torch.tensor(draw(p, torch.Generator().manual_seed(0)))
    shares = drawn.bincount(minlength=4) / 20_000
    # four standard deviations of a share of 20,000 draws: 4 x sqrt(0.25 / 20,000) = 0.014
    assert torch.allclose(shares, torch.tensor([0.5, 0.3, 0.2, 0.0]), atol=0.014)
    assert shares[3] == 0


@pytest.mark.parametrize("kernel", ["math", "flash"])
@pytest.mark.parametrize("spec", ["tiny@context_length=256", "tiny@context_length=256,n_kv_heads=2"])
@pytest.mark.parametrize("sampling", [Sampling(0), Sampling(1.0, seed=3), Sampling(1.3, top_k=20, top_p=0.9, seed=5)])
def test_the_cache_changes_no_token(spec, kernel, sampling):
    reference = model(spec)
    with_cache, without = (
        [step.tokens_N for step in generate(reference, [1, 2, 3], 40, sampling, samples=2, kernel=kernel, cached=c)]
        for c in (True, False)
    )
    assert with_cache == without
    assert len(with_cache) == 40


def test_a_cache_takes_a_text_in_any_pieces():
    reference = model("tiny@n_kv_heads=2", scale=1.0)
    tokens = torch.randint(256, (2, 30), generator=torch.Generator().manual_seed(0))
    whole = reference(tokens).logits
    for kernel in ("math", "flash"):
        cache = Cache(reference.spec, 2, 30)
        pieces = [reference(tokens[:, a:b], kernel=kernel, cache=cache).logits for a, b in ((0, 7), (7, 8), (8, 30))]
        assert torch.allclose(torch.cat(pieces, 1), whole, atol=1e-4)
        assert cache.filled == 30


def test_the_same_seed_gives_the_same_text():
    reference = model()
    texts = [
        [step.tokens_N for step in generate(reference, [5], 30, Sampling(seed=seed), samples=2)] for seed in (1, 1, 2)
    ]
    assert texts[0] == texts[1] != texts[2]
    assert [pair[0] for pair in texts[0]] != [pair[1] for pair in texts[0]]  # samples differ


@pytest.mark.parametrize("spec", ["tiny", "tiny@n_kv_heads=1", "gpt2@n_layers=2"])
@pytest.mark.parametrize(("dtype", "width"), [(torch.float32, 4), (torch.bfloat16, 2)])
def test_the_cache_has_the_bytes_that_are_counted(spec, dtype, width):
    spec = archcalc.load(spec)
    held = Cache(spec, 3, 17, dtype)
    assert held.nbytes == cache_bytes(spec, archcalc.Run("prefill", 3, 17), width)


def test_steps_say_what_was_drawn_from_what():
    steps = list(generate(model(), [7, 8], 5, Sampling(0.7, seed=2), samples=3))
    assert [step.position for step in steps] == [2, 3, 4, 5, 6]
    for step in steps:
        assert step.probabilities_NV.shape == (3, 256)
        assert torch.allclose(step.probabilities_NV.sum(-1), torch.ones(3, dtype=torch.float64))
        assert all(step.probabilities_NV[n, token] > 0 for n, token in enumerate(step.tokens_N))


def test_a_text_ends_where_the_context_does():
    assert len(list(generate(model(), [1] * 58, 100))) == 6
    assert len(list(generate(model("tiny@context_length=2"), [1], 100))) == 1


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ([], "the prompt is empty"),
        ([1] * 64, "a prompt of 64 tokens fills the context of 64"),
        ([1, 256], "token 256 is outside the vocabulary of 256"),
        ([-1], "token -1 is outside the vocabulary of 256"),
    ],
)
def test_a_prompt_that_cannot_be_is_refused(prompt, message):
    with pytest.raises(ValueError, match=message):
        list(generate(model(), prompt, 5))


def test_more_tokens_than_the_cache_holds_are_refused():
    reference = model()
    with pytest.raises(ValueError, match="5 tokens; the context holds 4"):
        reference(torch.zeros(1, 5, dtype=torch.long), cache=Cache(reference.spec, 1, 4))
