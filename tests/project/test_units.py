"""Numbers as people read them."""

import math

import pytest

from archcalc.units import (
    elapsed,
    four_digits,
    grouped,
    in_digits,
    money,
    parse_count,
    parse_length,
    parse_price,
    parse_share,
    percent,
    plain,
    rate,
    shape,
    short,
    to_digits,
)


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


# Typed, as a count, as a length: with a suffix or in groups of three. What is a plain number is read elsewhere.
TYPED = [
    ("10b", 10**10, None), ("10B", 10**10, None), ("10 B", 10**10, None), ("1.5T", 15 * 10**11, None),
    ("1.5t", 15 * 10**11, None), ("32k", 32_000, 32_768), ("32K", 32_000, 32_768), ("50k", 50_000, 51_200),
    ("0.5k", 500, 512), ("1.5k", 1_500, 1_536), ("1M", 10**6, 2**20), ("1m", 10**6, 2**20), ("1,000", 1_000, 1_000),
    ("1,234,567", 1_234_567, 1_234_567), ("1_000k", 10**6, 1_024_000), ("0k", 0, 0), ("0.3k", 300, None),
    ("0.0001k", None, None), ("2048", None, None), ("1_000_000", None, None), ("2e9", None, None), ("k", None, None),
    ("", None, None), ("1,00", None, None), ("1,0000", None, None), ("1,5", None, None), ("1.5", None, None),
    ("1,000.5", None, None), ("-1k", None, None), ("10bb", None, None), ("10 bn", None, None), ("1kk", None, None),
    ("5x", None, None), ("1e3k", None, None), (".5k", None, None), ("1.k", None, None), ("\u0663k", None, None),
]  # fmt: skip


@pytest.mark.parametrize(("text", "count", "length"), TYPED)
def test_amounts_are_read_as_people_type_them(text, count, length):
    assert (parse_count(text), parse_length(text)) == (count, length)


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("40%", 0.4), ("40 %", 0.4), ("0.4", 0.4), ("40", 0.4), ("100%", 1), ("1%", 0.01), ("0.5%", 0.005), ("52.3", 0.523),
        ("150%", 1.5), ("0", 0), ("1", None), ("1.0", None), ("", None), ("%", None), ("nan", None), ("-1%", None),
        ("1e-3", None), ("forty", None),
    ],
)  # fmt: skip
def test_a_share_is_a_percentage_or_a_part_of_one(text, share):
    found = parse_share(text)
    assert (None if found is None else float(found)) == share


@pytest.mark.parametrize(
    ("text", "price"),
    [
        ("2", (2, "")), ("2/h", (2, "")), ("2 / h", (2, "")), ("$2/h", (2, "$")), ("$1.99/hr", (1.99, "$")), ("€2", (2, "€")),
        ("2 €/h", (2, "€")), ("1.99 USD/hour", (1.99, "USD")), ("USD 2.5 / h", (2.5, "USD")), ("US$2/h", (2, "US$")),
        ("2/gpu-hour", (2, "")), ("2 per GPU-hour", (2, "")), ("2元/h", (2, "元")), ("¥14/h", (14, "¥")), ("0", (0, "")),
        ("2h", None), ("2k", None), ("-2", None), ("2/day", None), ("1,99", None), ("$2€", None), ("nan", None), ("inf", None),
        ("1e3", None), ("", None), ("$", None), ("/h", None), ("9" * 20, None),
    ],
)  # fmt: skip
def test_a_price_is_money_for_an_hour_in_any_currency(text, price):
    found = parse_price(text)
    assert (None if found is None else (float(found[0]), found[1])) == price


def test_times_rates_and_money_are_read_without_powers_of_ten():
    days = 86_400
    for seconds, text in (
        (9.528 * days, "9.528 days"), (365 * days, "365.0 days"), (5_000 * days, "5,000 days"), (3_600, "1.000 hours"),
        (59.4, "59.40 seconds"), (90, "1.500 minutes"), (0.0025, "2.500 ms"), (2e-6, "0.002000 ms"), (0, "0 ms"),
    ):  # fmt: skip
        assert elapsed(seconds) == text
    assert [rate(312 * 10**12, "FLOP/s"), rate(2_039 * 10**9, "B/s"), rate(1_307_400 * 10**9, "FLOP/s")] == [
        "312 TFLOP/s",
        "2,039 GB/s",
        "1,307.4 TFLOP/s",
    ]
    assert [money(457.333, ""), money(457.333, "$"), money(2e6, "USD"), money(0.0012, "$")] == [
        "457.33",
        "$457.33",
        "2,000,000 USD",
        "$0.001200",
    ]
    assert [in_digits(x) for x in (12_350.4, 16.1, 0.659)] == ["12,350", "16.10", "0.6590"]
