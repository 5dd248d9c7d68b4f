"""Mamba-2: a recurrent mixer in which every position says how far the state decays and how much it adds."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from archcalc.blocks.recurrent import ConvolvedMixer, Scan, one_position
from archcalc.tape.ops import Tensor
from archcalc.tape.recording import Tape
from archcalc.units import grouped, several

_SCALE = "what is projected to {} is multiplied by this; null: by nothing"
Positive = Annotated[float, Field(gt=0, le=1e9)]


class Mamba2(ConvolvedMixer):
    """Dao and Gu 2024, arXiv:2405.21060. What the paper calls C, B and x are queries, keys and values here; dt is the
    step.
    """

    kind: Literal["mamba2"] = "mamba2"
    bias: bool = Field(description="whether the projections have biases")
    conv_bias: bool = Field(description="whether the convolutions have biases")
    least_step: Positive | None = Field(default=None, description="steps are not smaller than this; null: any")
    most_step: Positive | None = Field(default=None, description="steps are not larger than this; null: any")

    query_scale: Positive | None = Field(default=None, description=_SCALE.format("queries"))
    key_scale: Positive | None = Field(default=None, description=_SCALE.format("keys"))
    value_scale: Positive | None = Field(default=None, description=_SCALE.format("values"))
    gate_scale: Positive | None = Field(default=None, description=_SCALE.format("the output's gate"))
    step_scale: Positive | None = Field(default=None, description=_SCALE.format("steps"))

    factors: ClassVar[tuple[str, ...]] = (
        *("least_step", "most_step"),
        *("query_scale", "key_scale", "value_scale", "gate_scale", "step_scale"),
    )

    def summary(self) -> str:
        groups = f" in {several(self.n_groups, 'group')}" if self.n_groups > 1 else ""
        return (
            f"Mamba-2, {several(self.n_heads, 'head')} of {grouped(self.d_head)}{groups}, "
            f"state {grouped(self.d_state)}, convolution over {grouped(self.d_conv)}" + " + biases" * self.bias
        )

    def record(self, tape: Tape, x: Tensor) -> Tensor:
        def made(name: str, out: str, part: str, scale: float | None, each: str = "") -> Tensor:
            y = tape.linear(name, f"B S {out}", x, f"({out}) D", part=part, bias=self.bias, each=each)
            return y if scale is None else tape.pointwise(f"scaled_{name}", y)

        q = made("query", "g n", "query", self.query_scale, each="g")
        k = made("key", "g n", "key", self.key_scale, each="g")
        v = made("value", "g h p", "value", self.value_scale, each="g h")
        gate = made("output_gate", "g h p", "gates", self.gate_scale)
        dt = made("step", "g h", "gates", self.step_scale)
        q = self._convolved(tape, "query", q, "g n", bias=self.conv_bias)
        k = self._convolved(tape, "key", k, "g n", bias=self.conv_bias)
        v = self._convolved(tape, "value", v, "g h p", bias=self.conv_bias)
        with tape.span("scan"):
            y = self._scan(tape, q, k, v, dt)
        y = self._gated(tape, y, gate)
        return tape.linear("output", "B S D", y, "D (g h p)", part="output", bias=self.bias, leaves=True)

    @staticmethod
    def _scan(tape: Tape, q: Tensor, k: Tensor, v: Tensor, dt: Tensor) -> Tensor:
        step_bias, rate, skip = (tape.weight(name, "(g h)", "decays") for name in ("step_bias", "decay", "skip"))
        step = tape.pointwise("steps", dt, step_bias, role="fused", per_point=3)
        decay = tape.pointwise("decays", step, rate, role="fused", per_point=3)
        values = tape.pointwise("values", v, step, role="fused")
        if tape.run.phase == "decode":
            state, new = tape.given(f"{v.name}.state", "B g h p n", "state"), one_position(tape, k, values, decay)
            written = tape.pointwise("written", state, *new, role="fused", per_point=3)
            read = tape.contract("read", "B S g h p", q, written, role="fused", casts=False)
            return tape.pointwise("output", read, v, skip, per_point=2)
        queries, keys = (tape.pointwise(name, y, role="fused") for name, y in (("queries", q), ("keys", k)))
        scan = Scan(tape, queries, keys, decay)
        chunked = tape.regroup(values, "B c s g h p")
        read = scan.read(scan.scores(), chunked, scan.carried(chunked))
        return tape.pointwise("output", read, v, skip, saves=(v, dt, k, q), per_point=2)
