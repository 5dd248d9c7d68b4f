"""A short convolution between two gates: mixes a position with the few before it (LFM2)."""

from collections.abc import Mapping
from typing import ClassVar, Literal, Self

from pydantic import Field

from archcalc.blocks.base import Count
from archcalc.blocks.recurrent import Recurrent, convolved
from archcalc.blocks.relations import Multiple, Relation
from archcalc.blocks.shrinking import Shrinking
from archcalc.tape.legend import Env
from archcalc.tape.ops import Tensor
from archcalc.tape.recording import Tape
from archcalc.tape.run import Run
from archcalc.units import grouped


class ShortConvolution(Recurrent):
    """Liquid AI 2025, arXiv:2511.23404: gate x convolution(gate x value), each channel by itself."""

    kind: Literal["short_conv"] = "short_conv"
    d_inner: Count = Field(description="channels of the convolution")
    d_conv: Count = Field(description="positions that the convolution sees, the present one included")
    bias: bool = Field(description="whether projections and convolution have biases")

    labels: ClassVar[Mapping[str, str]] = {
        "e": "channels of a mixer (d_inner)",
        "taps": "positions that a convolution sees (d_conv)",
        "before": "positions before the present one that a convolution sees (d_conv - 1)",
    }
    derives: ClassVar[tuple[str, ...]] = ("before",)
    relations: ClassVar[tuple[Relation, ...]] = (Multiple(("d_inner", "d_model")),)

    saying: ClassVar[str] = "vectors hear those just before"

    def summary(self) -> str:
        return f"convolution over {grouped(self.d_conv)} positions, {grouped(self.d_inner)} channels" + (
            " + biases" * self.bias
        )

    def small(self, shrinking: Shrinking) -> Self:
        update = {"d_inner": shrinking.size("d_inner", self.d_inner, 32), "d_conv": min(self.d_conv, 4)}
        return self.model_copy(update=update)

    def sizes(self) -> Env:
        return {"e": self.d_inner, "taps": self.d_conv}

    def derived(self, env: Env, run: Run) -> Env:  # noqa: ARG002  (the same in every run)
        return {"before": env["taps"] - 1}

    def record(self, tape: Tape, x: Tensor) -> Tensor:
        first = tape.linear("input_gate", "B S e", x, "e D", part="gates", bias=self.bias)
        last = tape.linear("output_gate", "B S e", x, "e D", part="gates", bias=self.bias)
        value = tape.linear("value", "B S e", x, "e D", part="value", bias=self.bias)
        gated = tape.pointwise("gated_value", first, value, saves=(first, value))
        y = convolved(tape, "value_conv", gated, "e", bias=self.bias)
        y = tape.pointwise("gated_output", last, y, saves=(last, y))
        return tape.linear("output", "B S D", y, "D e", part="output", bias=self.bias, leaves=True)
