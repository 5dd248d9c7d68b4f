"""Numbers as people read them."""

import math

import pytest

from archcalc.units import four_digits, grouped, parse_length, percent, plain, shape, short, to_digits


@pytest.mark.parametrize(
    ("n", "text"),
    [
        (0, "0"), (9_999, "9,999"), (-9_999, "-9,999"), (10_000, "10.00k"), (123_456, "123.5k"), (999_949, "999.9k"),
        (999_950, "1.000M"), (617_558_016, "617.6M"), (14_495_514_624, "14.50B"), (175_181_291_520, "175.2B"),
        (1_000_000_000_000, "1.000T"), (2**60, "1.153E"), (10**28, "10000Y"), (-617_558_016, "-617.6M"), (1_057_152, "1.057M"),
    ],
)  # fmt: skip
def test_short_has_four_digits(n, text):
    assert short(n) == text


@pytest.mark.parametrize(
    ("n", "digits", "rounded"),
    [
        (174_604_259_328, 4, 174_600_000_000), (1_315_723_264, 3, 1_320_000_000), (12_853_386_240, 4, 12_850_000_000),
        (125, 2, 130), (124, 2, 120), (-125, 2, -130), (995, 2, 1000), (7, 3, 7), (0, 3, 0), (123, 3, 123),
    ],
)  # fmt: skip
def test_rounding_is_to_significant_digits_halves_away_from_zero(n, digits, rounded):
    assert to_digits(n, digits) == rounded


def test_other_forms():
    assert grouped(174_604_259_328) == "174,604,259,328"
    assert shape((12_288, 50_257)) == "12,288 x 50,257"
    assert percent(-4, 1_000) == "-0.40%"
    assert percent(25, 1_000) == "+2.50%"
    assert [parse_length(t) for t in ("32k", "1k", "0k", "32K", "k", "1.5k", "2048", "")] == [32_768, 1_024] + [
        None
    ] * 6


def test_a_float_has_four_digits_where_it_was_worked_out_and_its_own_where_it_was_given():
    for x, text in (
        (0.659001, "0.6590"),
        (-12.345, "-12.35"),
        (1.2344e-9, "1.234e-09"),
        (1234.4, "1234"),
        (0, "0.000"),
    ):
        assert four_digits(x) == text
    for x, text in ((2.0, "2"), (0.1, "0.1"), (-math.inf, "-inf"), (1e300, "1e+300")):
        assert plain(x) == text
