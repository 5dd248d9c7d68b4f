"""Norms: normalize each vector, then scale its features."""

from typing import Annotated, Literal

from pydantic import Field

from archcalc.blocks.base import Slot
from archcalc.blocks.constraints import Needs
from archcalc.tape.ops import Tensor
from archcalc.tape.recording import Tape

Epsilon = Annotated[float, Field(gt=0, le=1)]


class Norm(Slot):
    """A norm of vectors. `features` are the axes that it is over; a gain may have more of them."""

    def record(self, tape: Tape, x: Tensor, over: str = "D", gains: str | None = None) -> Tensor:
        """Record the norm of x over the labels `over`, with learned numbers for each of `gains` (default: `over`)."""
        raise NotImplementedError


class LayerNorm(Norm):
    """Ba et al. 2016, arXiv:1607.06450: (x - mean) / sqrt(variance + epsilon) * gain + bias, over D."""

    kind: Literal["layernorm"] = "layernorm"
    bias: bool = Field(description="whether a learned bias is added after the gain")
    gain: bool = Field(default=True, description="whether there is a learned gain (OLMo: false)")
    unit_offset: Annotated[bool, Needs("gain", idle=False)] = Field(
        default=False, description="whether the gain is 1 + the stored weight (Nemotron)"
    )
    epsilon: Epsilon = Field(default=1e-5, description="added to the variance; changes no count")

    def summary(self) -> str:
        return "layernorm" + (" + biases" * self.bias) + (" without gains" * (not self.gain))

    def record(self, tape: Tape, x: Tensor, over: str = "D", gains: str | None = None) -> Tensor:
        mean = tape.reduce("mean", x, over, role="statistic")
        rstd = tape.reduce("rstd", x, over, role="statistic", per_point=3)
        learned = []
        if self.gain:
            learned.append(tape.weight("weight", gains or f"({over})", "norms"))
        if self.bias:
            learned.append(tape.weight("bias", gains or f"({over})", "norms"))
        return tape.pointwise("normed", x, mean, rstd, *learned, saves=(x, mean, rstd), per_point=2 + len(learned))


class RMSNorm(Norm):
    """Zhang and Sennrich 2019, arXiv:1910.07467: x / sqrt(mean of squares + epsilon) * gain, over D.

    Counted as one fused kernel, which keeps its input and one statistic a vector, in fp32 whatever the input is.
    """

    kind: Literal["rmsnorm"] = "rmsnorm"
    gain: bool = Field(default=True, description="whether there is a learned gain")
    unit_offset: Annotated[bool, Needs("gain", idle=False)] = Field(
        default=False, description="whether the gain is 1 + the stored weight (Gemma)"
    )
    epsilon: Epsilon = Field(default=1e-6, description="added to the mean of squares; changes no count")

    def summary(self) -> str:
        return "rmsnorm" + (" without gains" * (not self.gain))

    def record(self, tape: Tape, x: Tensor, over: str = "D", gains: str | None = None) -> Tensor:
        rstd = tape.reduce("rstd", x, over, role="float", per_point=2)
        learned = [tape.weight("weight", gains or f"({over})", "norms")] if self.gain else []
        return tape.pointwise("normed", x, rstd, *learned, saves=(x, rstd), per_point=1 + len(learned))
