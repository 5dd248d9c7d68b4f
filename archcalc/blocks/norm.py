"""Norms: normalize each vector, then scale its features."""

from typing import Annotated, Literal

from pydantic import Field

from archcalc.blocks.base import Slot
from archcalc.tape.recording import Tape, Tensor


class Norm(Slot):
    """A norm of the residual stream's vectors."""


class LayerNorm(Norm):
    """Ba et al. 2016, arXiv:1607.06450: (x - mean) / sqrt(variance + epsilon) * gain + bias, over D."""

    kind: Literal["layernorm"] = "layernorm"
    bias: bool = Field(description="whether a learned bias is added after the gain")
    epsilon: Annotated[float, Field(gt=0, le=1)] = Field(
        default=1e-5, description="added to the variance; changes no count"
    )

    def summary(self) -> str:
        return "layernorm" + (" + biases" * self.bias)

    def record(self, tape: Tape, x: Tensor) -> Tensor:
        mean = tape.reduce("mean", x, "D", role="statistic")
        rstd = tape.reduce("rstd", x, "D", role="statistic", per_point=3)
        learned = [tape.weight("weight", "D", "norms")]
        if self.bias:
            learned.append(tape.weight("bias", "D", "norms"))
        return tape.pointwise("normed", x, mean, rstd, *learned, saves=(x, mean, rstd), per_point=2 + len(learned))
