"""Softmax and temperature: what mathematics promises of them, and what PyTorch makes of the same numbers."""

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from archcalc.errors import Invalid
from archcalc.words.probability import MOST_NUMBERS, retemper, softmax

MODEST = st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=30)
ANY = st.lists(st.floats(allow_nan=False, max_value=1.7e308), min_size=1, max_size=30).filter(
    lambda x: max(x) > -math.inf
)
TEMPERATURES = st.floats(0.01, 100)
ALL_TEMPERATURES = st.floats(0, allow_infinity=False)
SHARES = st.lists(st.floats(0, 1, allow_subnormal=False), min_size=1, max_size=30).filter(any)


def near(one, other, tolerance=1e-6):
    return len(one) == len(other) and all(abs(p - q) <= tolerance for p, q in zip(one, other, strict=True))


@given(ANY, ALL_TEMPERATURES)
def test_probabilities_add_up_to_one_whatever_the_logits(logits, temperature):
    found = softmax(logits, temperature)
    assert math.fsum(found) == pytest.approx(1, abs=1e-12)
    assert all(0 <= p <= 1 for p in found)


@given(ANY, st.floats(1e-300, 1e300))
def test_the_order_is_kept_and_equals_stay_equal(logits, temperature):
    found = softmax(logits, temperature)
    for x, p in zip(logits, found, strict=True):
        for y, q in zip(logits, found, strict=True):
            assert p <= q if x < y else p == q if x == y else p >= q


@given(MODEST, st.floats(-100, 100))
def test_a_number_added_to_all_of_them_changes_nothing(logits, more):
    assert near(softmax(logits), softmax([x + more for x in logits]), 1e-9)


@given(MODEST, TEMPERATURES)
def test_a_temperature_divides_the_logits(logits, temperature):
    assert near(softmax(logits, temperature), softmax([x / temperature for x in logits]))


@given(MODEST, TEMPERATURES)
def test_pytorch_gives_the_same(logits, temperature):
    torch = pytest.importorskip("torch")
    theirs = torch.softmax(torch.tensor(logits, dtype=torch.float64) / temperature, 0)
    assert near(softmax(logits, temperature), theirs.tolist())


@given(MODEST, st.one_of(st.just(1.0), TEMPERATURES))
def test_transformers_gives_the_same(logits, temperature):
    """Its warper divides; 1 is the softmax as it is."""
    torch = pytest.importorskip("torch")
    warpers = pytest.importorskip("transformers", reason="the outside voice").generation.logits_process
    scores = torch.tensor([logits], dtype=torch.float64)
    theirs = torch.softmax(warpers.TemperatureLogitsWarper(temperature)(None, scores), -1)[0].tolist()
    assert near(softmax(logits, temperature), theirs, 1e-12)


@given(MODEST)
def test_a_temperature_of_1_changes_no_bit(logits):
    assert softmax(logits, 1.0) == softmax(logits)
    once = softmax(logits)
    if math.fsum(once) == 1:
        assert retemper(once, 1) == once


@given(MODEST)
def test_at_zero_the_first_of_the_largest_has_it_all(logits):
    found = softmax(logits, 0)
    assert found.index(1) == logits.index(max(logits))
    assert sum(found) == 1


@given(MODEST)
def test_heat_evens_out_and_cold_sharpens(logits):
    assert near(softmax(logits, 1e12), [1 / len(logits)] * len(logits))
    largest = max(logits)
    assume(all(x == largest or largest - x > 1e-6 for x in logits))  # what is nearly equal is not cold enough yet
    ties = logits.count(largest)
    assert max(softmax(logits, 1e-12)) == pytest.approx(1 / ties)


@given(MODEST, TEMPERATURES, TEMPERATURES)
def test_temperatures_multiply(logits, one, other):
    assert near(softmax(logits, one * other), softmax([x / one for x in logits], other), 1e-9)


@given(SHARES, st.floats(0.05, 100))
def test_a_probability_is_raised_to_one_over_the_temperature(shares, temperature):
    powers = [p ** (1 / temperature) for p in (share / max(shares) for share in shares)]
    assert near(retemper(shares, temperature), [power / sum(powers) for power in powers], 1e-9)


@given(SHARES, TEMPERATURES)
def test_retempering_is_softmax_of_logarithms(shares, temperature):
    logarithms = [math.log(p) if p else -math.inf for p in shares]
    assert near(retemper(shares, temperature), softmax(logarithms, temperature))


@given(st.lists(st.floats(-20, 20), min_size=1, max_size=30), st.floats(0.1, 100))
def test_retempering_a_softmax_is_the_softmax_at_that_temperature(logits, temperature):
    assert near(retemper(softmax(logits), temperature), softmax(logits, temperature))


@given(SHARES)
def test_at_one_only_the_sum_changes(shares):
    assert near(retemper(shares, 1), [p / sum(shares) for p in shares], 1e-9)


def test_the_arithmetic_of_two_logits():
    assert softmax([0, math.log(3)]) == pytest.approx([0.25, 0.75])  # e^0 : e^log 3 is 1 : 3
    assert softmax([0, math.log(3)], 0.5) == pytest.approx([0.1, 0.9])  # squared, 1 : 9
    assert retemper([0.25, 0.75], 0.5) == pytest.approx([0.1, 0.9])
    assert retemper([0.1, 0.9], 2) == pytest.approx([0.25, 0.75])  # the roots, 1 : 3


def test_logits_of_any_size_do_not_overflow():
    assert softmax([1.7e308, -1.7e308, 1.7e308]) == [0.5, 0, 0.5]
    assert softmax([1.7e308, -1.7e308], 5e-324) == [1, 0]
    assert softmax([-math.inf, 3]) == [0, 1]
    assert softmax([-math.inf, 3], 0) == [0, 1]
    assert softmax([10**300, 10**300]) == [0.5, 0.5]
    assert retemper([5e-324, 5e-324], 0.01) == [0.5, 0.5]  # p^100 alone would be 0


@pytest.mark.parametrize(
    ("call", "line"),
    [
        (lambda: softmax([]), "softmax: needs at least one number"),
        (lambda: softmax([1, math.nan]), "softmax: logit 2: must be a number below inf; got nan"),
        (lambda: softmax([math.inf]), "softmax: logit 1: must be a number below inf; got inf"),
        (lambda: softmax([10**400]), "softmax: logit 1: must be a number below inf; got 1000"),
        (lambda: softmax([-math.inf] * 2), "softmax: needs a logit above -inf"),
        (lambda: softmax([1], -1), "--temperature: must be a number of at least 0; got -1"),
        (lambda: softmax([1], math.nan), "--temperature: must be a number of at least 0; got nan"),
        (lambda: softmax([1], math.inf), "--temperature: must be a number of at least 0; got inf"),
        (lambda: softmax([0] * (MOST_NUMBERS + 1)), "softmax: takes at most 1,000,000 numbers; got 1,000,001"),
        (lambda: retemper([], 1), "softmax: needs at least one number"),
        (lambda: retemper([0.5, -0.1], 1), "softmax: probability 2: must be a number from 0 to 1; got -0.1"),
        (lambda: retemper([1.5], 1), "softmax: probability 1: must be a number from 0 to 1; got 1.5"),
        (lambda: retemper([math.nan], 1), "softmax: probability 1: must be a number from 0 to 1; got nan"),
        (lambda: retemper([0, 0], 1), "softmax: needs a probability above 0"),
        (lambda: retemper([1], -2), "--temperature: must be a number of at least 0; got -2"),
    ],
)
def test_what_makes_no_distribution_is_one_line(call, line):
    with pytest.raises(Invalid) as caught:
        call()
    assert str(caught.value).startswith(line)
    assert "\n" not in str(caught.value)
