"""Mamba: a recurrent mixer with a state for each channel, whose steps, keys and queries each position makes itself."""

from collections.abc import Mapping
from typing import ClassVar, Literal, Self

from pydantic import Field

from archcalc.blocks import activation
from archcalc.blocks.base import Count
from archcalc.blocks.norm import Norm
from archcalc.blocks.recurrent import Recurrent, convolved
from archcalc.blocks.relations import Multiple, Relation
from archcalc.blocks.shrinking import Shrinking
from archcalc.tape.legend import Env
from archcalc.tape.ops import Tensor
from archcalc.tape.recording import Tape
from archcalc.tape.run import Run
from archcalc.units import grouped


class Mamba(Recurrent):
    """Gu and Dao 2023, arXiv:2312.00752. What the paper calls C, B and x are queries, keys and values here; delta is
    the step, and A the decay.
    """

    kind: Literal["mamba"] = "mamba"
    d_inner: Count = Field(description="channels, each with a state of its own")
    d_state: Count = Field(description="numbers of a channel's state; features of queries and keys")
    d_conv: Count = Field(description="positions that the convolution sees, the present one included")
    step_rank: Count = Field(description="features that the steps of all channels are made of")
    activation: Literal["silu", "gelu", "gelu_tanh", "relu"] = Field(
        description="after the convolution, and of the gate"
    )
    bias: bool = Field(description="whether the projections from d_model and back to it have biases")
    conv_bias: bool = Field(description="whether the convolution has a bias")
    norm: Norm | None = Field(description="of queries, of keys, and of what steps are made of; null: none")

    labels: ClassVar[Mapping[str, str]] = {
        "e": "channels of a mixer (d_inner)",
        "n": "features of queries and keys (d_state)",
        "r": "features that steps are made of (step_rank)",
        "taps": "positions that a convolution sees (d_conv)",
        "before": "positions before the present one that a convolution sees (d_conv - 1)",
    }
    derives: ClassVar[tuple[str, ...]] = ("before",)
    relations: ClassVar[tuple[Relation, ...]] = (Multiple(("d_inner", "d_model")),)

    def summary(self) -> str:
        return (
            f"Mamba, {grouped(self.d_inner)} channels, state {grouped(self.d_state)}, steps of rank "
            f"{grouped(self.step_rank)}, convolution over {grouped(self.d_conv)}" + " + biases" * self.bias
        )

    def small(self, shrinking: Shrinking) -> Self:
        update = {
            "d_inner": shrinking.size("d_inner", self.d_inner, 32),
            "d_state": shrinking.size("d_state", self.d_state, 12),
            "step_rank": shrinking.size("step_rank", self.step_rank, 6),
            "d_conv": min(self.d_conv, 4),
        }
        return super().small(shrinking).model_copy(update=update)

    def sizes(self) -> Env:
        return {"e": self.d_inner, "n": self.d_state, "r": self.step_rank, "taps": self.d_conv}

    def derived(self, env: Env, run: Run) -> Env:  # noqa: ARG002  (the same in every run)
        return {"before": env["taps"] - 1}

    def record(self, tape: Tape, x: Tensor) -> Tensor:
        v = tape.linear("value", "B S e", x, "e D", part="value", bias=self.bias)
        gate = tape.linear("output_gate", "B S e", x, "e D", part="gates", bias=self.bias)
        v = convolved(tape, "value_conv", v, "e", bias=self.conv_bias)
        with tape.span("value_activation"):
            v = activation.record(tape, self.activation, v)
        low = tape.linear("low_step", "B S r", v, "r e", part="gates", bias=False)
        k = tape.linear("key", "B S n", v, "n e", part="key", bias=False)
        q = tape.linear("query", "B S n", v, "n e", part="query", bias=False)
        low, k, q = (
            self._normed(tape, name, y) for name, y in (("step_norm", low), ("key_norm", k), ("query_norm", q))
        )
        dt = tape.linear("step", "B S e", low, "e r", part="gates", bias=False)
        with tape.span("scan"):
            y = self._scan(tape, q, k, v, dt)
        with tape.span("gated"):
            active = activation.record(tape, self.activation, gate)
            y = tape.pointwise("product", y, active, saves=(y, active))
        return tape.linear("output", "B S D", y, "D e", part="output", bias=self.bias, leaves=True)

    def _normed(self, tape: Tape, name: str, x: Tensor) -> Tensor:
        if self.norm is None:
            return x
        with tape.scope(name):
            return self.norm.record(tape, x, x.labels[-1])

    @staticmethod
    def _scan(tape: Tape, q: Tensor, k: Tensor, v: Tensor, dt: Tensor) -> Tensor:
        """One kernel, in which each channel has a state at each position; a query reads those of all channels."""
        step_bias, skip = (tape.weight(name, "e", "decays") for name in ("step_bias", "skip"))
        rate = tape.weight("decay", "e n", "decays")
        step = tape.pointwise("steps", dt, step_bias, role="fused", per_point=3)
        if tape.run.phase == "decode":
            state = tape.given(f"{v.name}.state", "B e n", "state")
            new = (tape.regroup(y, labels) for y, labels in ((k, "B n"), (v, "B e"), (step, "B e")))
            states = tape.pointwise("written", state, *new, rate, role="fused", per_point=7)
        else:
            steps = tape.regroup(step, "B S e n")  # each is read for every number of its channel's state
            decays = tape.pointwise("decays", steps, rate, role="fused", per_point=3)
            taken = tape.pointwise("taken", steps, k, v, role="fused", per_point=2)
            states = tape.pointwise("states", taken, decays, role="fused", per_point=2)
        repeats = int(tape.run.phase == "training")
        read = tape.contract("read", "B S e", q, states, role="fused", repeats=repeats, casts=False)
        saves = () if tape.run.phase == "decode" else (v, dt, k, q)
        return tape.pointwise("output", read, v, skip, saves=saves, per_point=2)
