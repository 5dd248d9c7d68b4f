"""What all blocks share: strict fields, and the registry of kinds.

A new block is a class with a `kind`, deriving from the slot that it fills. The union that the YAML accepts, the JSON
Schema and the public strategies are all made from the registry; a test holds the reference's tables against it.
"""

from collections.abc import Iterable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    model_validator,
)
from pydantic_core import CoreSchema

from archcalc.arguments import LARGEST_SIZE as LARGEST_SIZE  # noqa: PLC0414  (as mypy reads an export)
from archcalc.blocks.choices import TAG as TAG  # noqa: PLC0414  (as mypy reads an export)
from archcalc.blocks.choices import chosen
from archcalc.blocks.constraints import constraints
from archcalc.blocks.relations import Relation
from archcalc.blocks.shrinking import Shrinking, small
from archcalc.errors import Where
from archcalc.tape.legend import Cuts, Env, declare
from archcalc.tape.ops import Tensor
from archcalc.tape.recording import Tape
from archcalc.tape.run import Run

Count = Annotated[int, Field(ge=1, le=LARGEST_SIZE)]
"""A size of the architecture. One is a size: multi-query attention is one key/value head."""


def no_word(number: object) -> object:
    """What stands among whole numbers as it is read: Python takes true and 1.0 for 1."""
    return str(number).lower() if isinstance(number, (bool, float)) else number


Version = Annotated[Literal[0], BeforeValidator(no_word)]
"""Of a format, as files state it."""


class Strict(BaseModel):
    """Frozen data: no field is unknown, none is converted from another type.

    `factors` are optional fields that multiply, cap or cut numbers: without them the same is computed from the same.
    """

    factors: ClassVar[tuple[str, ...]] = ()

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, defer_build=True)

    @model_validator(mode="after")
    def _constraints_hold(self) -> Self:
        for name, constraint in constraints(self):
            constraint.check(name, self)
        return self

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy with some fields changed, without what this one has worked out of its own."""
        copied = super().model_copy(update=update, deep=deep)
        for name in [name for name in vars(copied) if name not in type(copied).model_fields]:
            del vars(copied)[name]
        return copied


class Block(Strict):
    """A part of a model that records itself.

    `labels` are the labels of the tape that it decides, with their meaning; where that names a field in brackets, the
    size is stated there. `derives` are those of the frame whose sizes it may replace. `relations` between its fields
    are kept by a question. `named` are fields whose values stand in names on the tape.
    `copies` are labels that count alike vectors, not features: heads. `pairs` are labels of keys, and of their pairs
    with queries. `cuts` are labels that a parallel plan cuts by each of its axes; None where it cannot.
    """

    labels: ClassVar[Mapping[str, str]] = {}
    relations: ClassVar[tuple[Relation, ...]] = ()
    derives: ClassVar[tuple[str, ...]] = ()
    named: ClassVar[tuple[str, ...]] = ()
    copies: ClassVar[tuple[str, ...]] = ()
    cuts: ClassVar[Cuts | None] = None
    pairs: ClassVar[Mapping[str, str]] = {}

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        declare(*(cls.__dict__.get(name, {}) for name in ("labels", "copies", "pairs")))

    def sizes(self) -> Env:
        """The sizes of its labels that this block alone states."""
        return {}

    def small(self, shrinking: Shrinking) -> Self:
        """The same block with small sizes; those of what is inside it alone, if it has none of its own."""
        inner = {name: small(value, shrinking) for name, value in self if isinstance(value, Strict)}
        return self.model_copy(update=inner)

    def derived(self, env: Env, run: Run) -> Env:  # noqa: ARG002  (most blocks derive nothing)
        """Sizes that follow from those stated by it, the model and the run; they may replace a label of the run."""
        return {}


if TYPE_CHECKING:
    from pydantic.json_schema import JsonSchemaValue  # slow to load, and needed by `archcalc schema` alone


class Slot(Block):
    """A place that blocks of several kinds can fill. A subclass without a `kind` is a slot, with one a kind of it."""

    kind: str

    default_kind: ClassVar[str | None] = None
    """The kind that is meant where a spec names none; of a slot whose other kinds are rare."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """A slot is validated as the union of its kinds, told apart by `kind`."""
        if _is_kind(cls):
            return handler(source)
        mark = TAG if cls.default_kind else ""
        choices = {mark + kind: block for kind, block in registered(cls).items()}
        return chosen(choices, cls._kind_of if cls.default_kind else "kind", handler)

    @classmethod
    def _kind_of(cls, value: Any) -> Any:
        """The kind that a value names, or means by naming none."""
        if isinstance(value, Slot):
            return TAG + value.kind
        return f"{TAG}{value.get('kind', cls.default_kind) if isinstance(value, Mapping) else cls.default_kind}"

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> "JsonSchemaValue":
        """A kind is named in the YAML, although Python gives it by the class."""
        found = handler(schema)
        fields = handler.resolve_ref_schema(found)
        if _is_kind(cls):
            fields["properties"]["kind"]["description"] = first_paragraph(fields.get("description", ""))
            if cls.default_kind is None:
                fields["required"] = ["kind", *fields.get("required", [])]
                fields["properties"]["kind"].pop("default", None)
        return found

    def summary(self) -> str:
        """The block in a few words, for a report: whatever changes a count."""
        raise NotImplementedError


class Mixer(Slot):
    """What a residual branch computes: "B S D" to "B N D". `saying` is what it does, for a first reader.

    `gathers` says whether it needs all positions of a sequence at once; where not it reads "B N D".
    """

    saying: ClassVar[str] = ""
    gathers: ClassVar[bool] = True

    def assumed(self) -> str | None:
        """What its counts take for granted, in a few words; None where they take nothing."""
        return None

    def keeps(self) -> tuple[str, ...]:
        """What it keeps of each position for those that come later, in words: one for each tensor of the cache."""
        return ()

    def record(self, tape: Tape, x: Tensor) -> Tensor:
        """Write the block's forward pass on the tape."""
        raise NotImplementedError


def first_paragraph(text: str) -> str:
    """What a docstring begins with, in one line."""
    return " ".join(text.partition("\n\n")[0].split())


def _is_kind(slot: type[Slot]) -> bool:
    field = slot.model_fields.get("kind")
    return field is not None and isinstance(field.default, str)


def parts(part: Any) -> list[tuple[Where, BaseModel]]:
    """A model and every part of it that has fields, with where it stands, from the top down."""
    found: list[tuple[Where, BaseModel]] = []
    _collect(part, (), found)
    return found


def _collect(part: Any, where: Where, found: list[tuple[Where, BaseModel]]) -> None:
    """Add to what was found. Thousands of specs are walked through in one go, and most fields never have parts."""
    if isinstance(part, BaseModel):
        found.append((where, part))
        values = vars(part)
        inside: Iterable[tuple[Any, Any]] = [(name, values[name]) for name in _with_parts(type(part))]
    else:
        inside = part.items() if isinstance(part, dict) else enumerate(part) if isinstance(part, tuple) else ()
    for name, inner in inside:
        if inner is not None:
            _collect(inner, (*where, name), found)


@cache
def _with_parts(kind: type[BaseModel]) -> tuple[str, ...]:
    """The fields of a class in which models may be."""
    return tuple(name for name, field in kind.__pydantic_fields__.items() if models_in(field.annotation))


def models_in(annotation: Any) -> list[type[BaseModel]]:
    """The classes of models that an annotation is made of, however deep."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for inner in getattr(annotation, "__args__", ()) for found in models_in(inner)]


def registered(slot: type) -> dict[str, type[Slot]]:
    """The blocks that can fill a slot, by kind; empty if it is not a slot."""
    if not issubclass(slot, Slot) or _is_kind(slot):
        return {}
    found: dict[str, type[Slot]] = {}
    for one in slot.__subclasses__():
        inner = {one.model_fields["kind"].default: one} if _is_kind(one) else registered(one)
        if twice := [kind for kind in inner if found.get(kind, inner[kind]) is not inner[kind]]:
            raise TypeError(f"{slot.__name__} {sorted(twice)[0]!r} is registered twice")
        found |= inner
    return found
