"""Accelerators: what their makers promise, with where it was read, and finding one by what was typed."""

import os
from functools import cache
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError

from archcalc.blocks.base import Strict
from archcalc.catalogue import is_path, specs_folder
from archcalc.errors import Invalid, Problem, nearest
from archcalc.source import display_name, parse, read_file
from archcalc.spec import Text
from archcalc.units import Unit, parse_quantity, quantity_pattern
from archcalc.validation import validate

Precision = Literal["fp32", "tf32", "bf16", "fp16", "fp8", "int8", "fp4"]


def _amount(unit: Unit) -> tuple[BeforeValidator, object]:
    """What makes text an amount: read once to see that it can be, and a pattern for the JSON Schema."""

    def readable(value: object) -> object:
        try:
            parse_quantity(value if isinstance(value, str) else "", unit)
        except ValueError as error:
            raise PydanticCustomError("quantity", "{why}", {"why": str(error)}) from None
        return value

    return BeforeValidator(readable), Field(json_schema_extra={"pattern": quantity_pattern(unit)})


Bytes = Annotated[str, *_amount("B")]
Rate = Annotated[str, *_amount("B/s")]
Flops = Annotated[str, *_amount("FLOP/s")]
Ops = Annotated[str, *_amount("OP/s")]
Watts = Annotated[str, *_amount("W")]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]*$", max_length=100)]


class Capacity(Strict):
    """The memory of one device."""

    label: Bytes = Field(description="as its maker prints it, who may mean GiB by GB")
    visible: Bytes | None = Field(default=None, description="what a program sees, as measured; null until it was")


class Peaks(Strict):
    """Multiplications and additions of dense matrices, accumulated in fp32 or int32; never those of 2:4 sparsity."""

    fp32: Flops | None = Field(default=None, description="in full precision, not by tf32")
    tf32: Flops | None = None
    bf16: Flops | None = None
    fp16: Flops | None = None
    fp8: Flops | None = None
    int8: Ops | None = None
    fp4: Flops | None = None

    @model_validator(mode="after")
    def _tells_something(self) -> Self:
        if all(getattr(self, name) is None for name in type(self).model_fields):
            raise PydanticCustomError("one_of", "must have at least one precision")
        return self


class Link(Strict):
    """What connects a device with its nearest neighbours."""

    kind: Text
    per_direction: Rate = Field(description="over all its links together, one way; adverts add both ways")


class Sources(Strict):
    """Where each figure was read."""

    capacity: Text
    visible: Text | None = None
    dense_peak: Text
    bandwidth: Text
    link: Text | None = None
    power: Text | None = None


class Device(Strict):
    """One accelerator as a program addresses it. What no source tells is absent."""

    model_config = ConfigDict(title="archcalc device", serialize_by_alias=True)

    schema_version: Literal[0] = Field(
        alias="schema", description="of this format; 1 when the first release freezes it"
    )
    name: Name
    title: Text = Field(description="in full")
    aliases: Annotated[tuple[Name, ...], Field(strict=False)] = Field(default=(), description="other names of it")
    capacity: Capacity
    dense_peak: Peaks
    bandwidth: Rate = Field(description="of its memory")
    link: Link | None = None
    power: Watts | None = Field(default=None, description="the most that it may draw")
    notes: Annotated[tuple[Text, ...], Field(strict=False)] = ()
    sources: Sources

    @field_validator("sources")
    @classmethod
    def _every_figure_has_a_source(cls, sources: Sources, info: ValidationInfo) -> Sources:
        """A figure that was not readable is told already."""
        figures = {name: info.data[name] for name in Sources.model_fields if name in info.data}
        if "capacity" in figures:
            figures["visible"] = figures["capacity"].visible
        for name, figure in figures.items():
            if (figure is None) != (getattr(sources, name) is None):
                what = "must say where {name} is from" if figure is not None else "names a source of {name}, not given"
                raise PydanticCustomError("one_of", what, {"name": name})
        return sources

    @property
    def label_bytes(self) -> int:
        """The memory that its maker prints, as printed: a GB is 10^9 bytes."""
        return parse_quantity(self.capacity.label, "B")

    @property
    def visible_bytes(self) -> int | None:
        """The memory that a program sees, where somebody measured it."""
        return None if self.capacity.visible is None else parse_quantity(self.capacity.visible, "B")

    def peak(self, precision: Precision) -> int | None:
        """FLOP/s (OP/s for int8) of dense matrices; None where the device has no such units or no source tells."""
        printed: str | None = getattr(self.dense_peak, precision)
        return None if printed is None else parse_quantity(printed, "OP/s" if precision == "int8" else "FLOP/s")

    @property
    def bandwidth_bytes(self) -> int:
        """Bytes per second from and to its memory."""
        return parse_quantity(self.bandwidth, "B/s")

    @property
    def link_bytes(self) -> int | None:
        """Bytes per second to its neighbours, one way."""
        return None if self.link is None else parse_quantity(self.link.per_direction, "B/s")

    @property
    def watts(self) -> int | None:
        """The most that it may draw."""
        return None if self.power is None else parse_quantity(self.power, "W")


@cache
def device_names() -> tuple[str, ...]:
    """The names of the devices, in alphabetical order."""
    return tuple(sorted(file.removesuffix(".yaml") for file in os.listdir(_folder()) if file.endswith(".yaml")))


def find_device(name: str) -> Device:
    """The device that `name` means: its name or an alias, in letters of any case, or a path to a YAML file.

    Raises Invalid for a name of none or of several and for a malformed file, Missing for a path that leads nowhere.
    """
    typed = name.strip().lower()
    if typed in device_names():
        return _read(_path(typed))
    if is_path(name):
        return _read(name)
    known = _aliases()
    if typed in known:
        return _read(_path(known[typed]))
    several = sorted({device for alias, device in known.items() if typed and alias.startswith(f"{typed}-")})
    if len(several) > 1:
        raise Invalid(Problem("--device", f"{name!r} is several devices", suggestion=f"say one: {', '.join(several)}"))
    near = nearest(typed, list(device_names()), 3)
    suggestion = f"nearest: {', '.join(near)}" if near else "a path to a YAML file describes one"
    raise Invalid(Problem("--device", f"{name!r} is no device", suggestion=suggestion))


@cache
def _aliases() -> dict[str, str]:
    """Every name that a device answers to, its own included."""
    devices = [_read(_path(name)) for name in device_names()]
    return {alias: device.name for device in devices for alias in (device.name, *device.aliases)}


def _read(path: str) -> Device:
    return validate(parse(read_file(path), display_name(path)), Device)


def _path(name: str) -> str:
    return os.path.join(_folder(), f"{name}.yaml")


def _folder() -> str:
    return os.path.join(specs_folder(), "hardware")
