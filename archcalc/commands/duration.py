"""The flags of time and money: a device, a utilization, a price; what cannot be is refused in one line."""

from typing import Annotated, get_args

import typer

from archcalc.commands.base import number
from archcalc.commands.completing import device_words
from archcalc.counts.executed import Executed
from archcalc.counts.leastread import Reading, least_read
from archcalc.errors import Invalid, Problem, shown
from archcalc.hardware.devices import Precision, find_device
from archcalc.hardware.duration import WIDTHS, Duration, Price, duration
from archcalc.spec.model import Model
from archcalc.tape.legend import Size
from archcalc.tape.run import Run
from archcalc.units import parse_price, parse_share

MOST_DEVICES = 10**7

DeviceOf = Annotated[
    str | None,
    typer.Option(
        "--device",
        metavar="NAME",
        autocompletion=device_words,
        show_default=False,
        help="device to time the work on (see `archcalc list devices`)",
    ),
]
Mfu = Annotated[
    str | None,
    typer.Option(
        "--mfu",
        metavar="%",
        show_default=False,
        help="model FLOPs utilization, such as 40%; default: the peak, a lower bound",
    ),
]
Devices = Annotated[
    str,
    typer.Option("--devices", metavar="N", help="number of devices that share the work"),
]
PriceOf = Annotated[
    str | None,
    typer.Option("--price", metavar="P", show_default=False, help="price of one device per hour, such as 2/h or $2/h"),
]
PeakIn = Annotated[
    Precision | None,
    typer.Option(
        "--precision",
        metavar="TYPE",
        show_default=False,
        help=f"number format whose peak FLOP/s counts: {', '.join(get_args(Precision))}; default: bf16, else fp16",
    ),
]


def time_of(
    work: Executed,
    batch: int,
    tokens: int | None,
    *,
    device: str | None,
    devices: str | int,
    mfu: str | None,
    precision: Precision | None,
    price: str | None,
    longest: Size | None = None,
) -> Duration | None:
    """The time of a pass of `batch` tokens, or of as many passes as `tokens` need; None where no device is named.

    `longest` are the FLOPs of a pass if all devices had as many as the one that has the most.
    """
    given = {
        "--mfu": mfu is not None,
        "--devices": f"{devices}".strip() != "1",
        "--price": price is not None,
        "--precision": precision is not None,
    }
    if device is None:
        for flag, is_given in given.items():
            if is_given:
                raise Invalid(Problem(flag, "needs a --device", suggestion="such as --device a100-80gb"))
        return None
    amount = batch if tokens is None else tokens
    return duration(
        work.model * amount // batch,
        work.hardware * amount // batch,
        find_device(device),
        devices=devices if isinstance(devices, int) else number("--devices", devices, MOST_DEVICES, count=True),
        mfu=None if mfu is None else _share("--mfu", mfu),
        precision=precision,
        price=None if price is None else _price("--price", price),
        longest=None if longest is None else longest * amount // batch,
    )


def read_by(model: Model, run: Run, taken: Duration, device: str) -> Reading:
    """The least memory traffic of such a pass, in the precision whose peak counts."""
    bandwidth = find_device(device).bandwidth_bytes
    return least_read(model, run, WIDTHS[taken.precision], bandwidth, taken.devices)


def _share(flag: str, text: str) -> float:
    """More than nothing and at most all: 40%, 0.4 or 40."""
    share = parse_share(text.strip())
    if share is None or not 0 < share <= 1:
        what = "must be a percentage from above 0% to 100%, such as 40% or 0.4"
        raise Invalid(Problem(flag, what, value=shown(text)))
    return float(share)


def _price(flag: str, text: str) -> Price:
    """An amount of money, with or without its currency."""
    found = parse_price(text.strip())
    if found is None or not found[0]:
        raise Invalid(Problem(flag, "must be the price of one device per hour, such as 2/h", value=shown(text)))
    return Price(float(found[0]), found[1])
