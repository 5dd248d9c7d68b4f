"""What all blocks share: strict fields, the registry of kinds, and constraints that are data.

A new block is a class with a `kind`, deriving from the slot that it fills. The union that the YAML accepts, the JSON
Schema and the public strategies are all made from the registry; a test holds the reference's tables against it.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, GetJsonSchemaHandler, model_validator
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from archcalc.arguments import LARGEST_SIZE as LARGEST_SIZE  # noqa: PLC0414  (as mypy reads an export)
from archcalc.tape.legend import Env
from archcalc.tape.recording import Tape, Tensor

Count = Annotated[int, Field(ge=1, le=LARGEST_SIZE)]
"""A size of the architecture. One is a size: multi-query attention is one key/value head."""


@dataclass(frozen=True)
class Divides:
    """A constraint between two fields of one block, read by the validator and by the strategies alike."""

    whole: str

    def check(self, name: str, part: int, whole: int) -> None:
        """Raise pydantic's error, placed at the field `name`, where `part` does not divide `whole`."""
        if whole % part:
            context = {"whole": f"{self.whole} ({whole:,})", "field": name, "part": part, "of": whole}
            raise PydanticCustomError("divides", "must divide {whole}", context)


def nearest_divisors(part: int, whole: int) -> str:
    """The two divisors of `whole` that are nearest to `part`, as a suggestion."""
    near = sorted(divisors(whole), key=lambda n: (abs(n - part), n))[:2]
    return f"nearest: {' or '.join(f'{n:,}' for n in sorted(near))}"


def divisors(n: int) -> list[int]:
    """The divisors of n, ascending."""
    small = [d for d in range(1, int(n**0.5) + 1) if n % d == 0]
    return small + [n // d for d in reversed(small) if d * d != n]


class Strict(BaseModel):
    """Frozen data: no field is unknown, none is converted from another type."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, defer_build=True)

    @model_validator(mode="after")
    def _constraints_hold(self) -> Self:
        for name, field in type(self).model_fields.items():
            for constraint in field.metadata:
                if isinstance(constraint, Divides):
                    constraint.check(name, getattr(self, name), getattr(self, constraint.whole))
        return self


class Block(Strict):
    """A part of a model that records itself."""

    def sizes(self) -> Env:
        """The sizes of the labels that this block alone decides."""
        return {}


if TYPE_CHECKING:
    from pydantic.json_schema import JsonSchemaValue  # slow to load, and needed by `archcalc schema` alone


_registry: dict[type, dict[str, type["Slot"]]] = {}


class Slot(Block):
    """A place in a layer that blocks of several kinds can fill. A direct subclass is a slot, its own its kinds."""

    kind: str

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        if Slot in cls.__bases__:
            _registry[cls] = {}
            return
        slot = next(base for base in cls.__mro__ if base in _registry)
        kind = cls.model_fields["kind"].default
        if kind in _registry[slot]:
            raise TypeError(f"{slot.__name__} {kind!r} is registered twice")
        _registry[slot][kind] = cls

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """A slot is validated as the union of its kinds, told apart by `kind`."""
        if cls not in _registry:
            return handler(source)
        choices = {kind: handler.generate_schema(block) for kind, block in _registry[cls].items()}
        return core_schema.tagged_union_schema(choices, discriminator="kind")

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> "JsonSchemaValue":
        """A kind is named in the YAML, although Python gives it by the class."""
        found = handler(schema)
        fields = handler.resolve_ref_schema(found)
        if "kind" in fields.get("properties", {}):
            fields["required"] = ["kind", *fields.get("required", [])]
            fields["properties"]["kind"].pop("default", None)
        return found

    def record(self, tape: Tape, x: Tensor) -> Tensor:
        """Write the block's forward pass on the tape."""
        raise NotImplementedError

    def summary(self) -> str:
        """The block in a few words, for a report: whatever changes a count."""
        raise NotImplementedError


def registered(slot: type) -> dict[str, type[Slot]]:
    """The blocks that can fill a slot, by kind; empty if it is not a slot."""
    return dict(_registry.get(slot, {}))
