"""MLPs: transform the vector of each position by itself."""

from typing import Literal

from pydantic import Field

from archcalc.blocks.base import Count, Slot
from archcalc.tape.legend import Env
from archcalc.tape.recording import Tape, Tensor
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
            active = _EAGER[self.activation](tape, up) if tape.run.activation == "eager" else _fused(self, tape, up)
        return tape.linear("down", "B S D", active, "D F", part="down_projection", bias=self.bias)


def _fused(mlp: PlainMLP, tape: Tape, x: Tensor) -> Tensor:
    return tape.pointwise("activated", x, saves=(x,), per_point=_WORK[mlp.activation])


def _gelu_tanh_eager(tape: Tape, x: Tensor) -> Tensor:
    """0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))), from left to right: transformers' NewGELUActivation."""
    half = tape.pointwise("half", x)
    cubed = tape.pointwise("cubed", x, saves=(x,), per_point=2, scratch=2)  # 3 * x^2 on its way back
    scaled = tape.pointwise("scaled", cubed)
    inner = tape.sum("inner", x, scaled)
    argument = tape.pointwise("argument", inner)
    tanh = tape.pointwise("tanh", argument, keeps=True)
    one_more = tape.pointwise("one_more", tanh, passes=True)
    return tape.pointwise("activated", half, one_more, saves=(half, one_more))


def _gelu_eager(tape: Tape, x: Tensor) -> Tensor:
    """0.5 x (1 + erf(x / sqrt(2))), from left to right: transformers' GELUActivation with use_gelu_python."""
    half = tape.pointwise("half", x)
    argument = tape.pointwise("argument", x)
    erf = tape.pointwise("erf", argument, saves=(argument,), scratch=4)  # 2/sqrt(pi) * exp(-(x^2))
    one_more = tape.pointwise("one_more", erf, passes=True)
    return tape.pointwise("activated", half, one_more, saves=(half, one_more))


_EAGER = {"gelu": _gelu_eager, "gelu_tanh": _gelu_tanh_eager}
