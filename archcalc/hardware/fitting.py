"""Whether a run fits a device: memory used, memory left, and the largest batch and context that fit."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from archcalc.blocks.base import LARGEST_SIZE
from archcalc.counts.memory import Memory, peak_bytes
from archcalc.hardware.devices import Device
from archcalc.spec.model import Model
from archcalc.tape.legend import Size, add
from archcalc.tape.precision import Keeping
from archcalc.tape.run import Run

RESERVE = 5  # percent: the driver's context, libraries' workspaces, fragmentation; an allowance, not measured


class Fit(NamedTuple):
    """A run on a device, in bytes.

    `capacity` is what a program sees where that was measured (`basis` "visible"), else the maker's label, a GB taken
    as 10^9 bytes: the least that it can mean. `usable` is what `reserve`, so many `percent`, leaves of it.
    `largest_batch` and `longest_context` are those that still fit, the rest as asked, and 0 where none does;
    `longest_context` is at most the model's. `devices_at_least` is how many such devices it takes whatever the
    parallel plan: to hold what stays (see `stays`) in the most that each can have. `devices_if_even` is how many there
    are where all that is alive at the peak divides evenly over what each can use.
    """

    device: str
    basis: str
    capacity: int
    reserve: int
    percent: int
    usable: int
    left: int
    fits: bool
    largest_batch: int
    longest_context: int
    devices_at_least: int
    devices_if_even: int


def stays(used: Memory) -> Size:
    """Bytes that must be there all the time, once over all devices: the state, and in inference what is cached."""
    return used.state + add(term.bytes for term in used.terms if term.name in ("key-value cache", "recurrent state"))


def devices_at_least(used: Memory, device: Device) -> Size:
    """How many of a device hold what stays, each with the most memory that it can have and nothing set aside."""
    return -(-stays(used) // device.largest_bytes)


def capacity(device: Device) -> int:
    """What a program sees of it, else what its label says."""
    visible = device.visible_bytes
    return device.label_bytes if visible is None else visible


def basis(device: Device) -> str:
    """Where its capacity is from."""
    return "label" if device.visible_bytes is None else "visible"


def usable(device: Device, reserve: int = RESERVE) -> int:
    """Its capacity without `reserve` percent."""
    return capacity(device) - capacity(device) * reserve // 100


def missing(device: str, short: int) -> str:
    """That something does not fit a device, and by how many bytes."""
    return f"does not fit on {device}; {short:,} bytes are missing"


def fit(model: Model, run: Run, keeping: Keeping, used: Memory, device: Device, reserve: int = RESERVE) -> Fit:
    """Hold the memory of a run against a device, `reserve` percent of which is set aside."""
    room = usable(device, reserve)

    def fits_batch(n: int) -> bool:
        return bool(peak_bytes(model, run._replace(batch=n), keeping) <= room)

    def fits_context(n: int) -> bool:
        return bool(peak_bytes(model, run._replace(sequence=n), keeping) <= room)

    return Fit(
        device=device.name,
        basis=basis(device),
        capacity=capacity(device),
        reserve=capacity(device) - room,
        percent=reserve,
        usable=room,
        left=room - used.total,
        fits=used.total <= room,
        largest_batch=most(fits_batch, LARGEST_SIZE),
        longest_context=most(fits_context, model.context_length),
        devices_at_least=devices_at_least(used, device),
        devices_if_even=-(-used.total // room),
    )


def most(fits: Callable[[int], bool], limit: int) -> int:
    """The largest number from 1 to `limit` that fits, where all smaller ones do too; 0 where none does."""
    low, high = 0, 1
    while high <= limit and fits(high):
        low, high = high, high * 2
    high = min(high, limit + 1)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low
