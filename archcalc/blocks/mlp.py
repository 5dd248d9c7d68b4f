"""MLPs: each vector is worked on alone."""

from typing import Literal

from pydantic import Field

from archcalc.blocks.base import Count, Slot
from archcalc.legend import Env
from archcalc.tape import Tape, Tensor
from archcalc.units import grouped

Activation = Literal["gelu_tanh", "gelu"]


# Operations a number: x/sqrt(2), erf, +1, *x, /2; and x*x*x, *0.044715, +x, *sqrt(2/pi), tanh, +1, *x, /2.
_WORK = {"gelu": 5, "gelu_tanh": 9}


class MLP(Slot):
    """A mixer of features: "B S D" to "B S D"."""


class PlainMLP(MLP):
    """Two matrices with an activation between them."""

    kind: Literal["plain"] = "plain"
    d_ff: Count = Field(description="hidden features")
    activation: Activation = Field(description="gelu_tanh is GPT-2's approximation of gelu")
    bias: bool = Field(description="whether both projections have biases")

    def summary(self) -> str:
        return f"d_ff {grouped(self.d_ff)} ({self.activation})" + (" + biases" * self.bias)

    def sizes(self) -> Env:
        return {"F": self.d_ff}

    def record(self, tape: Tape, x: Tensor) -> Tensor:
        up = tape.linear("up", "B S F", x, "F D", part="up_projection", bias=self.bias)
        with tape.span(self.activation):
            active = tape.pointwise("activated", up, saves=(up,), per_point=_WORK[self.activation])
        return tape.linear("down", "B S D", active, "D F", part="down_projection", bias=self.bias)
