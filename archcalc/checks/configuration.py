"""What a project has its specs checked for: budgets, lint, and which files: archcalc.yaml, or pyproject.toml.

Paths in it are relative to its folder.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from archcalc.blocks.base import LARGEST_SIZE, Strict, Version
from archcalc.checks.amounts import read_amount
from archcalc.counts.quantities import QUANTITIES
from archcalc.errors import nearest
from archcalc.spec import namerules
from archcalc.spec.published import Text
from archcalc.spec.scalars import resolve
from archcalc.tape.optimizers import Optimizer
from archcalc.tape.precision import CachePrecision, Precision, Purpose, Recompute
from archcalc.tape.run import ActivationKernel, AttentionKernel, Causal, Logits, Phase
from archcalc.units import parse_length

MOST_BUDGETS = 1_000
MOST_PATTERNS = 1_000


def _length(written: object) -> int:
    """A number of sequences or positions: 32k is 32,768."""
    found = parse_length(written.strip()) if isinstance(written, str) else written
    if isinstance(written, str) and found is None:
        found = resolve(written.strip())
    if not isinstance(found, int) or isinstance(found, bool) or not 1 <= found <= LARGEST_SIZE:
        raise PydanticCustomError("quantity", "must be a whole number from 1 to {most}, such as 2048 or 32k", _MOST)
    return found


_MOST = {"most": f"{LARGEST_SIZE:,}"}


def _amount(written: object) -> object:
    """A bound as it was written: which amounts it may be depends on the quantity."""
    if isinstance(written, bool) or not isinstance(written, int | float | str):
        raise PydanticCustomError("quantity", "must be a number, with a unit or without")
    return written


def _wrong(field: str, what: str, fix: str | None = None) -> PydanticCustomError:
    """What is wrong with a field beside others: it is placed at the field, with its value."""
    return PydanticCustomError("constraint", "{what}", {"field": field, "what": what, "fix": fix})


def _begins_rules(word: str) -> str:
    """The identifier of a rule, or how one begins."""
    from archcalc.checks.lint.every import RULES

    if not any(rule.startswith(word) for rule in RULES):
        what = "is not an identifier of a rule, or how one begins; see `archcalc list rules`"
        raise PydanticCustomError("quantity", what)
    return word


def _in_words(name: str, value: object) -> str:
    words = name.replace("_", " ")
    return words if value is True else f"no {words}" if value is False else f"{words} {value}"


_Texts = Annotated[tuple[Text, ...], Field(strict=False, max_length=MOST_PATTERNS)]
_Selected = Annotated[str, Field(pattern=namerules.RULES, max_length=10), AfterValidator(_begins_rules)]
_Rules = Annotated[tuple[_Selected, ...], Field(strict=False, max_length=MOST_PATTERNS)]
_Some = Annotated[tuple[Text, ...], Field(strict=False, min_length=1, max_length=MOST_PATTERNS)]
_Size = Annotated[
    Any,
    BeforeValidator(_length),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 1, "maximum": LARGEST_SIZE}, {"type": "string"}]}),
]
_Amount = Annotated[
    Any, BeforeValidator(_amount), WithJsonSchema({"anyOf": [{"type": "number", "minimum": 0}, {"type": "string"}]})
]


class When(Strict):
    """The conditions that a quantity is counted under: the flags of `archcalc explain` by their names."""

    model_config = ConfigDict(serialize_by_alias=True)

    given_purpose: Purpose | None = Field(
        default=None,
        alias="for",
        description="purpose that memory is held for: training if not given, or inference where kv_precision is",
    )
    batch: _Size | None = Field(
        default=None, description="number of sequences, 1 if not given; with a plan those of a step", examples=[8]
    )
    seq: _Size | None = Field(
        default=None, description="positions per sequence; the context if not given", examples=[2048, "32k"]
    )
    precision: Precision | None = Field(
        default=None, description="number format; training: mixed-16 if not given; inference: bf16"
    )
    optimizer: Optimizer | None = Field(default=None, description="optimizer; adamw-fused if not given")
    recompute: Recompute | None = Field(default=None, description="what the backward pass recomputes")
    accumulate: bool = Field(default=False, description="whether gradients are kept between micro-batches")
    attention: AttentionKernel | None = Field(
        default=None, description="attention kernel; math for FLOPs, flash for memory if not given"
    )
    activation_kernel: ActivationKernel = Field(default="fused", description="kernel of activation functions")
    dropout: bool = Field(default=False, description="whether training applies dropout")
    kv_precision: CachePrecision | None = Field(
        default=None, description="number format of the KV cache; as activations if not given"
    )
    phase: Phase = Field(default="training", description="pass whose FLOPs are counted")
    context: _Size | None = Field(default=None, description="positions read by decode; the context if not given")
    logits: Logits | None = Field(default=None, description="positions with logits; all if not given")
    causal: Causal = Field(default="full", description="query-key pairs that FLOPs count")
    plan: Text | None = Field(
        default=None, description="parallel plan: a catalogue name or a YAML file", examples=["plans/dp8.yaml"]
    )

    @property
    def purpose(self) -> Purpose:
        """What memory is held for: only inference has a cache whose precision is asked for."""
        return self.given_purpose or ("training" if self.kv_precision is None else "inference")

    def in_words(self) -> str:
        """The conditions that were given: inference, batch 8, recompute full."""
        given = self.model_dump(include=self.model_fields_set, by_alias=True)
        alone = [str(given.pop("for"))] if "for" in given else []
        return ", ".join([*alone, *(_in_words(name, value) for name, value in given.items())])


class Budget(Strict):
    """A bound of one quantity, under conditions."""

    that: Text = Field(
        description="quantity, by its name in `archcalc list quantities`",
        examples=["parameters.stored", "cache.per_token", "memory.total"],
        json_schema_extra={
            "enum": list(QUANTITIES),
            "enumDescriptions": [quantity.meaning for quantity in QUANTITIES.values()],
        },
    )
    most: _Amount | None = Field(
        default=None,
        description="the most that it may be: a number, with a unit or without, or so many times what another spec "
        "has, which is a path, a catalogue name or a git revision (REV:PATH; REV:* for the same file)",
        examples=["1.6B", "300 KiB", "1.2x main:specs/model.yaml", "1.02x main:*"],
    )
    least: _Amount | None = Field(default=None, description="the least that it may be, written alike", examples=["1B"])
    fits: Text | None = Field(
        default=None, description="device that memory.total must fit: a catalogue name or file", examples=["a100-40gb"]
    )
    reserve: Annotated[int, Field(ge=0, le=99)] | None = Field(
        default=None, description="percent of the device's memory that is set aside; 5 if not given"
    )
    when: When = Field(default=When(), description="conditions that it is counted under")
    specs: _Some = Field(
        default=(),
        description="specs that it is for: names, paths or patterns such as specs/*.yaml; all if not given",
        examples=[["specs/small/*.yaml"]],
    )
    why: Text | None = Field(default=None, description="reason, shown where the budget is exceeded")

    @field_validator("that")
    @classmethod
    def _is_a_quantity(cls, name: str) -> str:
        if name not in QUANTITIES:
            near = nearest(name, list(QUANTITIES), 3)
            fix = f"; nearest: {', '.join(near)}" if near else ""
            what = "is not a quantity of `archcalc list quantities`{fix}"
            raise PydanticCustomError("quantity", what, {"fix": fix})
        return name

    @model_validator(mode="after")
    def _bounds_something(self) -> Self:
        if self.most is None and self.least is None and self.fits is None:
            raise PydanticCustomError("one_of", "must have most, least or fits")
        if self.fits is not None and self.that != "memory.total":
            raise _wrong("that", "must be memory.total where there is fits")
        if self.reserve is not None and self.fits is None:
            raise _wrong("reserve", "needs fits beside it")
        quantity = QUANTITIES[self.that]
        for field in sorted(self.when.model_fields_set - {"plan"}):
            name = When.model_fields[field].alias or field
            if f"--{name.replace('_', '-')}" not in quantity.flags:
                raise _wrong(f"when.{name}", f"does not change {self.that}", "leave it out")
        unit = quantity.unit
        for field in ("most", "least"):
            written = getattr(self, field)
            if written is not None:
                try:
                    read_amount(written, unit)
                except ValueError as error:
                    raise _wrong(field, str(error)) from None
        return self


class Lint(Strict):
    """Which rules of lint are on, and what the specs are meant to run on."""

    select: _Rules = Field(
        default=("AC",), description="rules that are on, by their identifiers or how those begin", examples=[["AC1"]]
    )
    ignore: _Rules = Field(
        default=(), description="rules that are off, by their identifiers or how those begin", examples=[["AC110"]]
    )
    fail_on: Literal["error", "warning"] = Field(
        default="error", description="the least severe level of problems that ends a check with exit code 1"
    )
    devices: _Texts = Field(
        default=(),
        description="devices that the specs are meant for, for rules that look at one",
        examples=[["h100-sxm"]],
    )
    plans: _Texts = Field(
        default=(),
        description="parallel plans that the specs are meant for: catalogue names or YAML files",
        examples=[["plans/tp8.yaml"]],
    )


class Configuration(Strict):
    """What a project has its specs checked for."""

    model_config = ConfigDict(title="archcalc configuration", serialize_by_alias=True)

    schema_version: Version = Field(
        default=0, alias="schema", description="of this format; 1 when the first release freezes it"
    )
    specs: _Some = Field(
        default=(),
        description="files, folders and patterns that `archcalc check` looks at where none are given",
        examples=[["specs/**/*.yaml"]],
    )
    exclude: _Texts = Field(
        default=(), description="patterns of files that are left out of folders and patterns", examples=[["old/**"]]
    )
    budgets: Annotated[tuple[Budget, ...], Field(strict=False, max_length=MOST_BUDGETS)] = Field(
        default=(), description="bounds that every spec must keep"
    )
    lint: Lint = Field(default=Lint(), description="rules of lint, and what the specs are meant to run on")
    baseline: Text | None = Field(
        default=None,
        description="file of problems that are known and not counted; `archcalc check --write-baseline` writes it",
        examples=["archcalc-baseline.json"],
    )
