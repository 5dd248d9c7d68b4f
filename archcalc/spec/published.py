"""What a spec says beside its shape: how training starts, figures that somebody printed, and their misprints."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from archcalc.blocks.base import Count, Strict
from archcalc.spec import namerules
from archcalc.units import to_digits

Text = Annotated[str, Field(min_length=1)]


class Initialization(Strict):
    """Radford et al. 2019, section 2.3, and OpenAI's code for GPT-2: weights normal around 0, biases 0, gains 1."""

    std: Annotated[float, Field(gt=0, le=10)] = Field(default=0.02, description="of every matrix and table")
    residual: Literal["scaled", "plain"] = Field(
        default="scaled", description="scaled: std / sqrt(2 x layers) for the projections that end a residual branch"
    )


class Published(Strict):
    """A figure that somebody printed, with its source."""

    text: Text = Field(description="as printed", examples=["124M", "174,600M"])
    parameters: Count | None = Field(
        default=None, le=2**80, description="the figure, where it counts parameters", examples=[124_000_000]
    )
    active: Count | None = Field(
        default=None, le=2**80, description="the figure, where it counts the parameters that one token meets"
    )
    tally: Count | None = Field(
        default=None, le=2**80, description="the figure, where it tallies the eight categories"
    )
    matrices: Count | None = Field(default=None, le=2**80, description="the figure, where it counts their matrices")
    digits: Annotated[int, Field(ge=1, le=30)] | None = Field(
        default=None,
        description="significant digits that a counted figure must hold at; all of them where absent",
        examples=[3],
    )
    status: Literal["counted", "nominal"] = Field(
        description="counted: must hold; nominal: a name, shown with its difference and never a failure"
    )
    source: Text = Field(description="where it was printed", examples=["Table 2.1"])
    note: Text | None = Field(default=None, description="what else is to be known about it")

    @property
    def quantity(self) -> str:
        """Which of the four it counts."""
        return next(name for name in _QUANTITIES if getattr(self, name) is not None)

    @property
    def figure(self) -> int:
        """The number printed."""
        number: int = getattr(self, self.quantity)
        return number

    @model_validator(mode="after")
    def _counts_one_thing(self) -> Self:
        if sum(getattr(self, name) is not None for name in _QUANTITIES) != 1:
            raise PydanticCustomError("one_of", "must have exactly one of parameters, active, tally and matrices")
        if self.digits is not None and to_digits(self.figure, self.digits) != self.figure:
            context = {"field": self.quantity, "digits": self.digits, "fix": None}
            raise PydanticCustomError("constraint", "must be rounded to its {digits} digits", context)
        return self


_QUANTITIES = ("parameters", "active", "tally", "matrices")


class Misprint(Strict):
    """A value of the source that must be a misprint, and the value used here instead."""

    field: Text = Field(description="the field that is printed wrong", examples=["n_heads"])
    printed: Text = Field(description="what the source prints", examples=["24"])
    used: Text = Field(description="what the spec has", examples=["16"])
    why: Text = Field(description="how it is known")
    source: Text = Field(description="where it is printed", examples=["Table 2.1"])

    def __str__(self) -> str:
        return f"{self.source} prints {self.field} {self.printed}; {self.used} is used: {self.why}"


class Allowance(Strict):
    """A rule of lint that a spec may break, with the reason."""

    rule: Annotated[str, Field(pattern=namerules.RULE, max_length=10)] = Field(
        description="identifier of the rule, as `archcalc list rules` shows it", examples=["AC101"]
    )
    why: Text = Field(description="why the spec may break it; shown with the problem that it silences")
