"""Devices: their specifications with sources, and finding one by name or alias."""

import os
import re
from functools import cache
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError

from archcalc.blocks.base import Strict, Version
from archcalc.errors import LONGEST_PLACE, Invalid, Problem, cut, nearest
from archcalc.spec import namerules
from archcalc.spec.catalogue import is_path, specs_folder
from archcalc.spec.published import Text
from archcalc.spec.revisions import read_source
from archcalc.spec.source import display_name, parse
from archcalc.spec.validation import validate
from archcalc.units import Unit, parse_quantity, quantity_examples, quantity_pattern

Precision = Literal["fp32", "tf32", "bf16", "fp16", "fp8", "int8", "fp4"]


def _amount(unit: Unit) -> tuple[BeforeValidator, object]:
    """What makes text an amount: read once to see that it can be, and a pattern for the JSON Schema."""

    def readable(value: object) -> object:
        try:
            parse_quantity(value if isinstance(value, str) else "", unit)
        except ValueError as error:
            raise PydanticCustomError("quantity", "{why}", {"why": str(error)}) from None
        return value

    return BeforeValidator(readable), Field(
        json_schema_extra={"pattern": quantity_pattern(unit)}, examples=[*quantity_examples(unit)]
    )


Bytes = Annotated[str, *_amount("B")]
Rate = Annotated[str, *_amount("B/s")]
Flops = Annotated[str, *_amount("FLOP/s")]
Ops = Annotated[str, *_amount("OP/s")]
Watts = Annotated[str, *_amount("W")]
Name = Annotated[str, Field(pattern=namerules.DEVICE, max_length=100)]


def _in_binary(label: str) -> int:
    """The bytes of a label, a GB taken for a GiB."""
    return parse_quantity(re.sub(r"(?<=[0-9 ])([kMGT])B$", lambda match: f"{match[1].upper()}iB", label), "B")


class Capacity(Strict):
    """The memory of one device."""

    label: Bytes = Field(description="bytes, as its maker prints them, who may mean GiB by GB")
    visible: Bytes | None = Field(
        default=None, description="bytes that a program sees, the lower figure where hosts differ; null until measured"
    )

    @model_validator(mode="after")
    def _sees_no_more_than_there_is(self) -> Self:
        if self.visible is not None and parse_quantity(self.visible, "B") > _in_binary(self.label):
            context = {"field": "visible", "label": self.label, "fix": None}
            raise PydanticCustomError(
                "constraint", "must be at most the label, {label}, a GB taken for a GiB", context
            )
        return self


class Peaks(Strict):
    """Multiplications and additions of dense matrices, accumulated in fp32 or int32; never those of 2:4 sparsity."""

    fp32: Flops | None = Field(default=None, description="FLOP/s in full precision, not by tf32")
    tf32: Flops | None = Field(default=None, description="FLOP/s of fp32 rounded to 19 bits")
    bf16: Flops | None = Field(default=None, description="FLOP/s of bfloat16")
    fp16: Flops | None = Field(default=None, description="FLOP/s of half precision")
    fp8: Flops | None = Field(default=None, description="FLOP/s of 8 bits, E4M3 or E5M2")
    int8: Ops | None = Field(default=None, description="OP/s of 8-bit integers")
    fp4: Flops | None = Field(default=None, description="FLOP/s of 4 bits, MXFP4 or NVFP4")

    @model_validator(mode="after")
    def _tells_something(self) -> Self:
        if all(getattr(self, name) is None for name in type(self).model_fields):
            raise PydanticCustomError("one_of", "must have at least one precision")
        return self


class Link(Strict):
    """What connects a device with its nearest neighbours."""

    kind: Text = Field(description="what it is called", examples=["NVLink 4", "PCIe 5.0 x16"])
    per_direction: Rate = Field(
        description="bytes per second over all its links together, one way; adverts add both ways"
    )


class Sources(Strict):
    """Where each figure was read."""

    capacity: Text = Field(description="of the memory that its maker prints")
    visible: Text | None = Field(default=None, description="of the memory that a program sees, where that is given")
    dense_peak: Text | None = Field(default=None, description="of all peaks, where one is given")
    bandwidth: Text = Field(description="of the memory's rate")
    link: Text | None = Field(default=None, description="of the link, where one is given")
    power: Text | None = Field(default=None, description="of the power, where it is given")
    processors: Text | None = Field(default=None, description="of the number of processors, where it is given")


class Device(Strict):
    """One accelerator as a program addresses it. What no source tells is absent."""

    model_config = ConfigDict(title="archcalc device", serialize_by_alias=True)

    schema_version: Version = Field(alias="schema", description="of this format; 1 when the first release freezes it")
    name: Name = Field(
        description="as --device takes it: small letters, digits, dots and dashes", examples=["h100-sxm"]
    )
    title: Text = Field(description="its name in full, with its maker's", examples=["NVIDIA H100 SXM5 80 GB"])
    aliases: Annotated[tuple[Name, ...], Field(strict=False)] = Field(
        default=(), description="other names of it", examples=[["h100-sxm5", "h100-80gb"]]
    )
    capacity: Capacity = Field(description="its memory, in bytes")
    dense_peak: Peaks | None = Field(
        default=None,
        description="operations per second on dense matrices, by precision; absent where its maker prints none",
    )
    bandwidth: Rate = Field(description="of its memory, in bytes per second")
    link: Link | None = Field(
        default=None, description="what connects it with its nearest neighbours; absent where no source tells"
    )
    power: Watts | None = Field(default=None, description="the most that it may draw, in watts")
    processors: Annotated[int, Field(ge=1, le=100_000)] | None = Field(
        default=None,
        description="streaming multiprocessors, each of which computes one tile of a product at a time",
        examples=[132],
    )
    notes: Annotated[tuple[Text, ...], Field(strict=False)] = Field(
        default=(), description="what else is to be known about its figures"
    )
    sources: Sources = Field(description="where each figure was read; a figure without a source is left out")

    @field_validator("sources")
    @classmethod
    def _every_figure_has_a_source(cls, sources: Sources, info: ValidationInfo) -> Sources:
        """A figure that could not be read has been reported already."""
        figures = {name: info.data[name] for name in Sources.model_fields if name in info.data}
        if "capacity" in figures:
            figures["visible"] = figures["capacity"].visible
        for name, figure in figures.items():
            if (figure is None) != (getattr(sources, name) is None):
                what = (
                    "must give the source of {name}"
                    if figure is not None
                    else "has a source of {name}, which is not given"
                )
                raise PydanticCustomError("one_of", what, {"name": name})
        return sources

    @property
    def unit(self) -> str:
        """What one is called: a GPU, or a device where it is something else."""
        return "GPU" if self.title.startswith(("NVIDIA", "AMD")) else "device"

    @property
    def label_bytes(self) -> int:
        """The memory that its maker prints, as printed: a GB is 10^9 bytes."""
        return parse_quantity(self.capacity.label, "B")

    @property
    def largest_bytes(self) -> int:
        """The most memory it can have: what is seen, or its label with a GB taken for a GiB, as memory is made."""
        return max(_in_binary(self.capacity.label), self.visible_bytes or 0)

    @property
    def visible_bytes(self) -> int | None:
        """The memory that a program sees, where somebody measured it."""
        return None if self.capacity.visible is None else parse_quantity(self.capacity.visible, "B")

    def peak(self, precision: Precision) -> int | None:
        """FLOP/s (OP/s for int8) of dense matrices; None where the device has no such units or no source tells."""
        printed: str | None = getattr(self.dense_peak, precision, None)
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
    """The device that `name` means, or a path to a YAML file.

    A name is a device's own or an alias, as people and drivers write it: in letters of any case, with or without
    dashes and its maker's name, its words in any order, 80g for 80gb ("NVIDIA A100-SXM4-80GB", "H100 SXM", rtx4090).

    Raises Invalid for a name of none or of several and for a malformed file, Missing for a path that leads nowhere.
    """
    typed = name.strip().lower()
    if typed in device_names():
        return _read(_path(typed))
    if is_path(name):
        given = _read(name)  # its name may be one of the catalogue's, whose figures these are not
        return given.model_copy(
            update={"name": f"{given.name} ({cut(os.path.normpath(display_name(name)), LONGEST_PLACE)})"}
        )
    words = _words(typed)
    known = _aliases()
    if found := known.get(_key(words)) or known.get("".join(words)):
        return _read(_path(found))
    several = _beginning_with(words)
    if len(several) > 1:
        raise Invalid(
            Problem("--device", f"{name!r} matches several devices", suggestion=f"choose one of {', '.join(several)}")
        )
    near = several or nearest(typed, list(device_names()), 3)
    suggestion = (
        f"nearest: {', '.join(near)}"
        if near
        else "`archcalc list devices` shows all; a path to a YAML file describes another"
    )
    raise Invalid(Problem("--device", f"unknown device {name!r}", suggestion=suggestion))


def is_device(name: str) -> bool:
    """Whether a name means a device of the catalogue, or several of them."""
    words = _words(name.strip().lower())
    return bool(_key(words) in _aliases() or "".join(words) in _aliases() or _beginning_with(words))


_MAKERS = {"nvidia", "geforce", "tesla", "amd", "instinct", "google", "cloud", "intel", "aws", "apple"}


def _words(name: str) -> list[str]:
    """The words of a name without its maker's: ["a100", "sxm4", "80gb"]."""
    joined = re.sub(r"(?<![a-z])(\d+)[ _-]?gi?b?\b", r"\1gb", name.lower())
    words = [word for word in re.split(r"[^a-z0-9.]+", joined) if word]
    return [word for word in words if word not in _MAKERS] or words


def _key(words: list[str]) -> str:
    """The same for the same words in any order."""
    return " ".join(sorted(words))


@cache
def _aliases() -> dict[str, str]:
    """The device that each name means, by its words in order without a space between, and by its words in any order.

    Its capacity may stand behind any of its names: "rtx 4090 24gb".
    """
    found: dict[str, str] = {}
    for device in map(_read, map(_path, device_names())):
        capacity = _words(device.capacity.label)
        for words in map(_words, (device.name, *device.aliases)):
            for known in (words, words + [word for word in capacity if word not in words]):
                found |= {"".join(known): device.name, _key(known): device.name}
    return found


def _beginning_with(words: list[str]) -> list[str]:
    """The devices of which a name has all of these words, the first of them first."""
    devices = map(_read, map(_path, device_names()))
    return sorted(
        device.name
        for device in devices
        if any(
            words and words[0] == known[0] and set(words) <= set(known)
            for known in map(_words, (device.name, *device.aliases))
        )
    )


def _read(path: str) -> Device:
    return validate(parse(read_source(path), display_name(path)), Device)


def _path(name: str) -> str:
    return os.path.join(_folder(), f"{name}.yaml")


def _folder() -> str:
    return os.path.join(specs_folder(), "hardware")
