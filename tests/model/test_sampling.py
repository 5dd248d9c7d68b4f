"""What may be drawn and how likely it is: the settings by transformers' own processors and warpers, in its order."""

import math

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

import archcalc  # noqa: E402
from archcalc_reference import Transformer  # noqa: E402
from archcalc_reference.model.generation import generate  # noqa: E402
from archcalc_reference.model.sampling import Sampling, distribution, penalized  # noqa: E402
from archcalc_reference.model.transformer import Cache  # noqa: E402

ROWS = 40
FLOATS = st.floats(-60, 60, width=32)  # as models give them: what differs, differs after a division in float64 too
TIED = st.sampled_from([-7.5, -1.0, 0.0, 0.5, 0.75, 3.0])
NEVER = st.one_of(FLOATS, st.just(-math.inf))  # ids that are never drawn
SCORES = st.one_of(
    *(st.lists(one, min_size=1, max_size=ROWS) for one in (FLOATS, TIED, NEVER, st.one_of(TIED, st.just(-math.inf))))
).filter(lambda logits: max(logits) > -math.inf)
SETTINGS = {
    "temperature": st.one_of(st.just(1.0), st.floats(0.05, 20), st.sampled_from([1e-6, 1e-3, 1e3, 1e9])),
    "top_k": st.one_of(st.just(0), st.integers(1, 50)),
    "top_p": st.one_of(st.just(1.0), st.floats(0.001, 1), st.sampled_from([1e-20, 0.25, 0.5])),
    "min_p": st.one_of(st.just(0.0), st.floats(0, 1), st.sampled_from([1e-9, 0.5, 1.0])),
    "repetition_penalty": st.one_of(st.just(1.0), st.floats(0.1, 5)),
}
SAID = st.lists(st.integers(0, ROWS + 5), min_size=1, max_size=9)  # some beyond the rows, some twice
ROUNDING = 1e-9
"""Of a probability: two ways to divide by a temperature of 1e-6 differ by so much, and rarely decide a threshold."""


def processors(asked):
    """Those that transformers' `generate` applies to samples, in its order, as it makes them itself."""
    transformers = pytest.importorskip("transformers", reason="the outside voice")
    generation = transformers.GenerationMixin()
    generation.config = transformers.GPT2Config()
    config = transformers.GenerationConfig(do_sample=True, **asked)
    return generation._get_logits_processor(config, input_ids_seq_length=1, device="cpu")


def warped(logits_NV, said, asked):
    """The scores after each of them, the last ones at the end."""
    found = [logits_NV]
    for one in processors(asked):
        found.append(one(torch.tensor([said] * len(logits_NV)), found[-1]))
    return found


def ours(logits_NV, said, sampling):
    said_NS = torch.tensor([said] * len(logits_NV))
    return distribution(penalized(logits_NV, said_NS, sampling.repetition_penalty), sampling)


def decided_by_rounding(stages, asked):
    """Whether a running sum stands beside the threshold of top-p, or a probability beside that of min-p.

    What stands on it exactly, as equals do, is decided by the rule.
    """
    for scores_NV in stages:
        sums_NV = torch.softmax(torch.sort(scores_NV).values, -1).cumsum(-1)
        p_NV = torch.softmax(scores_NV, -1)
        off_top_NV, off_min_NV = sums_NV - (1 - asked["top_p"]), p_NV / p_NV.amax(-1, keepdim=True) - asked["min_p"]
        for off_NV, asked_for in ((off_top_NV, asked["top_p"] < 1), (off_min_NV, asked["min_p"] > 0)):
            if asked_for and ((off_NV != 0) & (off_NV.abs() < ROUNDING)).any():
                return True
    return False


@settings(max_examples=300, deadline=None)
@given(logits=SCORES, said=SAID, asked=st.fixed_dictionaries(SETTINGS))
@example([2.0] * 4, [1], {"temperature": 1.0, "top_k": 0, "top_p": 0.5, "min_p": 0.0, "repetition_penalty": 1.0})
@example([1.0, 1.0, 0.0], [2], {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 1.0, "repetition_penalty": 1.0})
@example(
    [3.0, -1.0], [0, 0, 1], {"temperature": 1.0, "top_k": 1, "top_p": 1.0, "min_p": 0.0, "repetition_penalty": 3.0}
)
@example([-4.0], [0], {"temperature": 1e9, "top_k": 9, "top_p": 1e-20, "min_p": 1.0, "repetition_penalty": 2.0})
def test_what_may_be_drawn_and_how_likely_is_as_in_transformers(logits, said, asked):
    logits_NV = torch.tensor([logits, logits[::-1]], dtype=torch.float64)
    stages = warped(logits_NV, said, asked)
    found, theirs = ours(logits_NV, said, Sampling(**asked)), torch.softmax(stages[-1], -1)
    assert torch.allclose(found.sum(-1), torch.ones(2, dtype=torch.float64))
    if torch.equal(found > 0, theirs > 0):
        assert torch.allclose(found, theirs, rtol=0, atol=1e-6)
    else:
        assert decided_by_rounding(stages, asked)


@settings(max_examples=100, deadline=None)
@given(
    logits=st.lists(FLOATS, min_size=2, max_size=ROWS, unique=True), said=SAID, asked=st.fixed_dictionaries(SETTINGS)
)
def test_in_float32_transformers_says_the_same_to_its_precision(logits, said, asked):
    """Distances of 1e-3 and more, so that none vanishes in float32, and temperatures that leave them."""
    assume(all(b - a > 1e-3 for a, b in zip(sorted(logits), sorted(logits)[1:], strict=False)))
    assume(0.05 <= asked["temperature"] <= 20)
    logits_NV = torch.tensor([logits], dtype=torch.float32)
    found, theirs = ours(logits_NV, said, Sampling(**asked)), torch.softmax(warped(logits_NV, said, asked)[-1], -1)
    if (found > 0).sum() == (theirs > 0).sum():
        assert torch.allclose(found, theirs.double(), atol=1e-4)


def test_transformers_applies_them_in_the_order_that_is_taken_here():
    """So that the property above speaks of what `generate` does; identities are none to it."""
    asked = {"temperature": 0.5, "top_k": 3, "top_p": 0.5, "min_p": 0.1, "repetition_penalty": 2.0}
    assert [type(one).__name__ for one in processors(asked)] == [
        "RepetitionPenaltyLogitsProcessor",
        "TemperatureLogitsWarper",
        "TopKLogitsWarper",
        "TopPLogitsWarper",
        "MinPLogitsWarper",
    ]
    plain = Sampling()._asdict()
    plain.pop("seed")
    assert [type(one).__name__ for one in processors(plain)] == ["MinPLogitsWarper"]  # of 0, which leaves nothing out


def of(logits, **sampling):
    return distribution(torch.tensor([logits], dtype=torch.float64), Sampling(**sampling))[0]


def test_top_p_is_of_what_top_k_left():
    """0.5, 0.25, 0.25: of the two that top-k 2 keeps the first alone has 2/3, so that top-p 0.6 draws nothing else."""
    logits = [math.log(p) for p in (0.5, 0.25, 0.2499, 0.0001)]
    assert (of(logits, top_p=0.6) > 0).tolist() == [True, True, False, False]
    assert (of(logits, top_k=2, top_p=0.6) > 0).tolist() == [True, False, False, False]


@pytest.mark.parametrize(("share", "kept"), [(0.25, 1), (0.2501, 2), (0.4999, 2), (0.5, 2), (0.5001, 3), (0.75, 3)])
def test_at_the_threshold_of_top_p_what_has_the_share_is_enough(share, kept):
    """Four equals, a quarter each: sums are exact."""
    found = of([2.0] * 4, top_p=share)
    assert (found > 0).sum() == kept
    stages = warped(torch.full((1, 4), 2.0, dtype=torch.float64), [0], {"top_k": 0, "top_p": share})
    assert torch.equal(found, torch.softmax(stages[-1], -1)[0])


def test_equals_at_the_threshold_of_top_k_are_all_kept():
    assert of([1.0, 3.0, 1.0, 0.0, 1.0], top_k=2).gt(0).tolist() == [True, True, True, False, True]


def test_min_p_is_a_part_of_the_most_likely_at_the_temperature():
    """0.5, 0.25, 0.125: a half and a quarter of the first; at temperature 2 the square roots of these, .71 and .5."""
    logits = [math.log(p) for p in (0.5, 0.25, 0.125)]
    assert (of(logits, min_p=0.4) > 0).tolist() == [True, True, False]
    assert of(logits, min_p=0.4).tolist() == pytest.approx([2 / 3, 1 / 3, 0])
    assert (of(logits, min_p=0.6) > 0).tolist() == [True, False, False]
    assert (of(logits, min_p=0.6, temperature=2) > 0).tolist() == [True, True, False]


def test_a_penalty_divides_what_is_above_0_and_multiplies_what_is_below():
    """Once for each id, however often it was said, and for no id without a row."""
    logits = torch.tensor([[3.0, -2.0, 1.0, 0.0], [3.0, -2.0, 1.0, 0.0]])
    said = torch.tensor([[0, 1, 0, 9], [3, 3, 2, 9]])
    assert penalized(logits, said, 2.0).tolist() == [[1.5, -4.0, 1.0, 0.0], [3.0, -2.0, 0.5, 0.0]]
    assert penalized(logits, said, 0.5).tolist() == [[6.0, -1.0, 1.0, 0.0], [3.0, -2.0, 2.0, 0.0]]
    assert penalized(logits, said, 1) is logits


@pytest.mark.parametrize("penalty", [1e-308, 1e308])
def test_a_penalty_of_any_size_leaves_a_distribution_and_hides_no_damage(penalty):
    said = torch.tensor([[0, 1, 2]])
    logits = torch.tensor([[5.0, -5.0, -math.inf, 1.0]])
    p = distribution(penalized(logits * 1e37, said, penalty), Sampling())
    assert p.sum() == 1
    assert p[0, 2] == 0
    bad = penalized(torch.tensor([[math.nan, math.inf, 0.0]]), said, penalty)
    assert bad[0, 0].isnan()
    assert bad[0, 1] == math.inf


@given(logits=SCORES, more=st.integers(0, 9))
def test_what_leaves_everything_changes_no_bit(logits, more):
    plain = torch.softmax(torch.tensor(logits, dtype=torch.float64), -1)
    every = len(logits) + more
    for asked in ({}, {"temperature": 1.0}, {"top_p": 1.0}, {"top_k": every}, {"top_k": 0}, {"min_p": 0.0}):
        assert torch.equal(of(logits, **asked), plain)


@given(logits=SCORES, k=st.integers(0, 9), share=st.floats(0.01, 1), least=st.floats(0, 1))
def test_a_temperature_of_0_is_greedy_whatever_else_is_asked(logits, k, share, least):
    scores = torch.tensor(logits)
    assert of(logits, temperature=0, top_k=k, top_p=share, min_p=least).argmax() == scores.argmax()


# The penalty in a generation: of the prompt, of what was drawn, of what the cache holds


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(1)
    reference = Transformer(archcalc.load("tiny")).eval()
    with torch.no_grad():
        for parameter in reference.parameters():
            parameter.mul_(3)
    return reference


GREEDY = Sampling(0, repetition_penalty=1e6)  # nothing is said twice


@pytest.mark.parametrize("cached", [True, False])
def test_a_large_penalty_says_nothing_twice(model, cached):
    prompt = [1, 2, 3]
    drawn = [step.tokens_N[0] for step in generate(model, prompt, 30, GREEDY, cached=cached)]
    assert len({*prompt, *drawn}) == 33
    assert len({step.tokens_N[0] for step in generate(model, prompt, 30, Sampling(0))}) < 30
    ids = torch.tensor([prompt])
    for token in drawn:  # the penalty by hand: what was said goes behind all that was not
        with torch.no_grad():
            logits = model(ids).logits[0, -1].double()
        said = ids[0].unique()
        logits[said] = torch.where(logits[said] < 0, logits[said] * 1e6, logits[said] / 1e6)
        assert logits.argmax() == token
        ids = torch.cat([ids, torch.tensor([[token]])], 1)


def test_each_sample_is_penalized_for_what_it_said_itself(model):
    asked = Sampling(2.0, repetition_penalty=3, seed=4)
    text_NS = torch.tensor([[5]] * 3)
    for step in generate(model, [5], 12, asked, samples=3):
        with torch.no_grad():
            expected = penalized(model(text_NS).logits[:, -1], text_NS, 3)
        assert torch.allclose(step.logits_NV, expected, atol=0.05)  # logits of several units, in another order of sums
        text_NS = torch.cat([text_NS, torch.tensor(step.tokens_N)[:, None]], 1)
    assert len({tuple(row) for row in text_NS.tolist()}) == 3


def test_what_a_cache_holds_is_penalized_too(model):
    whole = [7, 8, 9, 10]
    asked = Sampling(0, repetition_penalty=3)
    alone = list(generate(model, whole, 12, asked))
    cache = Cache(model.spec, 1, 40)
    with torch.inference_mode():
        model(torch.tensor([whole[:3]]), kernel="flash", cache=cache)
    steps = list(generate(model, [10], 12, asked, cache=cache, before=whole[:3]))
    assert [step.tokens_N for step in steps] == [step.tokens_N for step in alone]
    for one, other in zip(steps, alone, strict=True):
        assert torch.allclose(one.logits_NV, other.logits_NV, atol=0.05)
