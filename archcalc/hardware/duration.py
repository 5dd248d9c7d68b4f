"""How long work takes on devices, at a utilisation or at their peak, and what it costs: FLOPs, seconds, money."""

from __future__ import annotations

from typing import NamedTuple

from archcalc.errors import Invalid, Problem
from archcalc.hardware.devices import Device, Precision
from archcalc.tape.legend import Size

DEFAULT_PRECISIONS: tuple[Precision, ...] = ("bf16", "fp16")
"""The default precisions of matrix products: the first one that the device supports."""

WIDTHS: dict[Precision, int] = {"fp32": 32, "tf32": 32, "bf16": 16, "fp16": 16, "fp8": 8, "int8": 8, "fp4": 4}
"""Bits of a number in memory."""

CONVENTIONS = {
    "peak": "dense peak as published by the maker; never with 2:4 sparsity",
    "mfu": "model FLOPs divided by what the devices could do at their peak in that time; recomputation does not count",
    "hfu": "executed FLOPs divided by the same; recomputation counts",
    "seconds": "the work divides evenly and every device has the same utilization",
    "lower_bound": "without an MFU the hardware is assumed to run at its peak, so no run is faster",
}


class Price(NamedTuple):
    """Money for an hour of one device; `currency` is what was written beside it, if anything."""

    per_hour: float
    currency: str = ""


class Duration(NamedTuple):
    """Some work on `devices` of a kind, in base units.

    `unit` is what one of them is called, a GPU or a device. `model_flops` is what is useful and `hardware_flops` what
    is run, of all the work; `peak` is the FLOP/s of one device in `precision`. `lower_bound` says that no utilisation
    was given and the peak taken for it. `money` is the price of `device_seconds`, None where no price was given.
    """

    device: str
    unit: str
    devices: Size
    precision: Precision
    peak: int
    model_flops: Size
    hardware_flops: Size
    mfu: float
    hfu: float
    lower_bound: bool
    seconds: float
    device_seconds: float
    price: Price | None
    money: float | None


def duration(
    model_flops: Size,
    hardware_flops: Size,
    device: Device,
    *,
    devices: Size = 1,
    mfu: float | None = None,
    precision: Precision | None = None,
    price: Price | None = None,
    longest: Size | None = None,
) -> Duration:
    """The time of some work: model FLOPs / (MFU x peak x devices), or, without an MFU, hardware FLOPs at the peak.

    `longest` are the FLOPs that all devices would run if each had as many as the one that has the most, and
    `hardware_flops` by default: it decides what is the least time, and the largest MFU.

    MFU: Chowdhery et al. 2022, arXiv:2204.02311, appendix B. Raises Invalid where the device has no such peak, and for
    an MFU at which the hardware would run beyond it.
    """
    chosen, peak = peak_of(device, precision)
    most = hardware_flops if longest is None else longest
    repeats = most / model_flops
    busy = 1.0 if mfu is None else mfu * repeats  # of the device that has the most
    if mfu is not None and busy > 1:
        which = "the hardware" if longest is None else "that of the busiest rank"
        what = f"is more than {device.name} can do: {which} would run at {busy:.1%} of its peak"
        raise Invalid(Problem("--mfu", what, value=f"{mfu:.1%}", suggestion=f"at most {1 / repeats:.1%}"))
    device_seconds = most / (busy * peak)
    return Duration(
        device=device.name,
        unit=device.unit,
        devices=devices,
        precision=chosen,
        peak=peak,
        model_flops=model_flops,
        hardware_flops=hardware_flops,
        mfu=busy / repeats,
        hfu=busy * hardware_flops / most,
        lower_bound=mfu is None,
        seconds=device_seconds / devices,
        device_seconds=device_seconds,
        price=price,
        money=None if price is None else price.per_hour * device_seconds / 3600,
    )


def peak_of(device: Device, precision: Precision | None = None) -> tuple[Precision, int]:
    """The precision asked for, or the first of DEFAULT_PRECISIONS that the device has, and its FLOP/s.

    Raises Invalid where no source tells that peak.
    """
    for name in DEFAULT_PRECISIONS if precision is None else (precision,):
        if peak := device.peak(name):
            return name, peak
    known = [name for name in WIDTHS if device.peak(name)]
    if not known:
        what = f"no peak of {device.name} is known"
        raise Invalid(Problem("--device", what, suggestion="a YAML file of the device can give one"))
    what = f"no peak of {device.name} in {precision or ' or '.join(DEFAULT_PRECISIONS)} is known"
    raise Invalid(Problem("--precision", what, suggestion=f"choose one of {', '.join(known)}"))
