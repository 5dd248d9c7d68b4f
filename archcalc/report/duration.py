"""Time and money in words and as JSON."""

from __future__ import annotations

from typing import Any

from archcalc.counts.leastread import Reading
from archcalc.hardware.duration import CONVENTIONS, Duration
from archcalc.tape.run import Run
from archcalc.units import binary, elapsed, grouped, in_digits, money, rate

_SHORT = 36.0  # seconds: a hundredth of an hour

Lines = tuple[tuple[str, tuple[str, ...]], ...]


def time_payload(time: Duration, reading: Reading | None = None) -> dict[str, Any]:
    """A duration as JSON: FLOPs, seconds, and money where it has a price."""
    read = None if reading is None else {**reading._asdict(), "total": reading.total}
    price = None if time.price is None else time.price._asdict()
    return {**time._asdict(), "price": price, "reading": read, "conventions": CONVENTIONS}


def time_lines(time: Duration, reading: Reading | None, run: Run, shared: str = "work divided evenly") -> Lines:
    """How long, at which utilisation of which peak, and what it costs; `shared` says how several divide the work."""
    hour = f"{time.unit}-hour"
    least = "at least " * time.lower_bound
    hours = f": {in_digits(time.device_seconds / 3600)} {hour}s" if time.device_seconds >= _SHORT else ""
    what = " of computation" if reading is not None else ""
    peak = f"{rate(time.peak, 'OP/s' if time.precision == 'int8' else 'FLOP/s')} ({time.precision}, dense)"
    if time.lower_bound:
        at = f"at the peak of {peak}, a lower bound; --mfu 40% gives the time at that utilization"
    elif utilization(time.hfu) == utilization(time.mfu):
        at = f"at {utilization(time.mfu)} MFU of a peak of {peak}"
    else:
        at = f"at {utilization(time.mfu)} MFU and {utilization(time.hfu)} HFU of a peak of {peak}"
    lines: Lines = (("Time", (f"{least}{elapsed(time.seconds)} on {_devices(time, shared)}{what}{hours}", at)),)
    if reading is not None:
        lines = (*lines, ("Memory", (_reading(time, reading, run),)))
    if time.price is not None and time.money is not None:
        currency = time.price.currency
        each = money(time.price.per_hour, currency)
        lines = (*lines, ("Cost", (f"{least}{money(time.money, currency)} at {each} per {hour}",)))
    return lines


def _devices(time: Duration, shared: str) -> str:
    if time.devices == 1:
        return f"one {time.device}"
    return f"{grouped(time.devices)} {time.device}, {shared}"


def _reading(time: Duration, reading: Reading, run: Run) -> str:
    """The other lower bound: of a pass that reads more than it multiplies."""
    slowest = max(time.seconds, reading.seconds)
    kept = f" and {binary(reading.cache)} of cache" if reading.cache else ""
    some = " (experts as expected)" if reading.weights != reading.most_weights else ""
    bound = f"at least {elapsed(reading.seconds)} to read {binary(reading.weights)} of weights{some}{kept} once"
    speed = f"; at most {in_digits(run.batch * run.positions / slowest)} tokens/s (modelled)"
    speed = speed if reading.seconds < time.seconds else f", longer than the computation{speed}"
    return f"{bound}, at {rate(reading.bandwidth, 'B/s')}{speed}"


def utilization(x: float) -> str:
    """A share of a peak."""
    return f"{100 * x:.4g}%"
