"""Probabilities from logits at a temperature, and probabilities at another one: plain Python that cannot overflow."""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, fsum, inf, isfinite, isnan, log

from archcalc.errors import Invalid, Problem, shown

MOST_NUMBERS = 1_000_000


def softmax(logits: Sequence[float], temperature: float = 1.0) -> list[float]:
    """exp(x / T) over the sum of all of them, by way of the largest x, so that no exponential is above 1.

    At T = 0, the limit, the first of the largest has all the weight. A logit of -inf has probability 0.

    Raises Invalid for no logits, for nan, inf or nothing but -inf, and for a T that is negative or not finite.
    """
    _refuse_temperature(temperature)
    numbers = _numbers(logits, "logit", lowest=-inf)
    largest = max(numbers)
    if largest == -inf:
        raise Invalid(Problem("softmax", "needs a logit above -inf"))
    if temperature == 0:
        first = numbers.index(largest)
        return [float(place == first) for place in range(len(numbers))]
    # The largest is taken off before the division: x / T alone is inf where T is tiny.
    powers = [exp((x - largest) / temperature) for x in numbers]
    whole = fsum(powers)
    return [power / whole for power in powers]


def retemper(probabilities: Sequence[float], temperature: float) -> list[float]:
    """p^(1/T) over the sum of all of them: what softmax gives at T where it gave p at 1, whatever the logits were.

    The probabilities may be the first few of more, and add up to less than 1. At T = 0 the first of the largest has
    all the weight.

    Raises Invalid for no probabilities, for one that is no number from 0 to 1, for all 0, and for T as softmax does.
    """
    _refuse_temperature(temperature)
    numbers = _numbers(probabilities, "probability", lowest=0, highest=1)
    if not any(numbers):
        raise Invalid(Problem("softmax", "needs a probability above 0"))
    if temperature == 1:  # as they are, but for their sum: a logarithm and its power would change the last bits
        whole = fsum(numbers)
        return [p / whole for p in numbers]
    # p^(1/T) = exp(log p / T), which does not become 0 for all of them where T is tiny.
    return softmax([log(p) if p else -inf for p in numbers], temperature)


def _refuse_temperature(temperature: float) -> None:
    if not (temperature >= 0 and isfinite(temperature)):
        raise Invalid(Problem("--temperature", "must be a number of at least 0", value=shown(temperature)))


def _numbers(given: Sequence[float], what: str, lowest: float, highest: float | None = None) -> list[float]:
    """The numbers as floats, where there are some and each is in its range."""
    if not len(given):
        raise Invalid(Problem("softmax", "needs at least one number"))
    if len(given) > MOST_NUMBERS:
        raise Invalid(Problem("softmax", f"takes at most {MOST_NUMBERS:,} numbers", value=f"{len(given):,}"))
    numbers = []
    for place, number in enumerate(given, 1):
        x = _float(number)
        if isnan(x) or x == inf or x < lowest or (highest is not None and x > highest):
            must = "must be a number below inf" if highest is None else f"must be a number from {lowest} to {highest}"
            raise Invalid(Problem("softmax", must, f"{what} {place:,}", value=shown(number)))
        numbers.append(x)
    return numbers


def _float(number: float) -> float:
    """An int may be too large for a float."""
    try:
        return float(number)
    except OverflowError:
        return inf if number > 0 else -inf
