"""How queries grow with their position, for long texts."""

from typing import Annotated, Literal, Self

from pydantic import Field

from archcalc.blocks.base import Count, Strict
from archcalc.blocks.shrinking import Shrinking

Positive = Annotated[float, Field(gt=0, le=1e9)]


class QueryGrowth(Strict):
    """Llama 4 and Ministral 3: queries at position p are multiplied by 1 + rate x log(1 + floor(p / interval)).

    Llama 4 counts positions from 1 there.
    """

    rate: Positive = Field(description="how fast queries grow")
    interval: Count = Field(description="positions between two steps; the context that it was trained with")
    first: Literal[0, 1] = Field(default=0, description="the number of the first position")

    def small(self, shrinking: Shrinking) -> Self:
        """The same by the context that small rotary positions were trained with."""
        return self.model_copy(update={"interval": shrinking.size("original_context_length", self.interval, 16)})
