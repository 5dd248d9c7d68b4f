"""Gated delta net: a recurrent mixer that writes into its state what differs from what is there already."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field

from archcalc.blocks.base import Count
from archcalc.blocks.recurrent import ConvolvedMixer, Scan, one_position
from archcalc.blocks.shrinking import Shrinking
from archcalc.tape.legend import Env
from archcalc.tape.ops import Tensor
from archcalc.tape.recording import Tape
from archcalc.units import grouped, several

Positive = Annotated[float, Field(gt=0, le=1e9)]
STEEPEST = 1000.0
"""A decay of exp(-104) is 0 in fp32: a much larger limit is no other model, only one whose small gates round more."""


class GatedDelta(ConvolvedMixer):
    """Yang et al. 2024, arXiv:2412.06464, as in Qwen3-Next: queries and keys of length one, heads that share them.

    Where each feature of the keys decays by itself it is Kimi delta attention (arXiv:2510.26692).
    """

    kind: Literal["gated_delta"] = "gated_delta"
    decay: Literal["head", "feature"] = Field(
        default="head",
        description="head: each head's state decays as a whole; feature: each of its d_state features by itself (Kimi "
        "delta attention)",
    )
    decay_rank: Count | None = Field(
        default=None, description="features of the latent that decays are made from; null: none"
    )
    decay_limit: Annotated[float, Field(gt=0, le=STEEPEST)] | None = Field(
        default=None,
        description="c: at a position a state keeps exp(-c) of itself or more: the logarithm of what it keeps is "
        "-c x sigmoid(exp(decay) x step) (Ling 3); null: that is -exp(decay) x softplus(step)",
    )
    gate_rank: Count | None = Field(
        default=None, description="features of the latent that the output gate is made from; null: none"
    )
    gate_activation: Literal["sigmoid"] | None = Field(
        default=None, description="of the gate; null: as after the convolutions"
    )
    share_scale: Positive | None = Field(
        default=None,
        description="what the share of a new value that is written is multiplied by (OLMo Hybrid: 2); null: nothing",
    )

    labels: ClassVar[Mapping[str, str]] = {
        "decayrank": "features of the latent of decays (decay_rank)",
        "gaterank": "features of the latent of the output gate (gate_rank)",
    }
    factors: ClassVar[tuple[str, ...]] = ("decay_limit", "share_scale")

    def summary(self) -> str:
        groups = f" in {several(self.n_groups, 'group')}" if self.n_groups < self.n_heads else ""
        name = "Kimi delta attention" if self.decay == "feature" else "gated delta net"
        return (
            f"{name}, {several(self.n_heads, 'head')} of {grouped(self.d_head)}{groups}, "
            f"state {grouped(self.d_state)}, convolution over {grouped(self.d_conv)}"
        )

    def small(self, shrinking: Shrinking) -> Self:
        """Sizes that are one size stay one."""
        small = super().small(shrinking)
        update: dict[str, Any] = {}
        if self.d_head == self.d_state:
            update["d_head"] = small.d_state
        for name, rank in (("decay_rank", self.decay_rank), ("gate_rank", self.gate_rank)):
            same = rank is not None and rank == self.d_state
            update[name] = small.d_state if same else shrinking.optional(name, rank, 5)
        return small.model_copy(update=update)

    def sizes(self) -> Env:
        ranks = {"decayrank": self.decay_rank, "gaterank": self.gate_rank}
        return {**super().sizes(), **{label: rank for label, rank in ranks.items() if rank is not None}}

    def record(self, tape: Tape, x: Tensor) -> Tensor:
        q = tape.linear("query", "B S g n", x, "(g n) D", each="g", part="query", bias=False)
        k = tape.linear("key", "B S g n", x, "(g n) D", each="g", part="key", bias=False)
        v = tape.linear("value", "B S g h p", x, "(g h p) D", each="g h", part="value", bias=False)
        gate = self._made(tape, "output_gate", x, "g h p", "gate_rank")
        share = tape.linear("share", "B S g h", x, "(g h) D", part="gates", bias=False)
        step = self._made(tape, "step", x, self._decays, "decay_rank")
        q = self._convolved(tape, "query", q, "g n", bias=False)
        k = self._convolved(tape, "key", k, "g n", bias=False)
        v = self._convolved(tape, "value", v, "g h p", bias=False)
        with tape.span("scan"):
            y = self._scan(tape, q, k, v, share, step)
        y = self._gated(tape, y, gate)
        return tape.linear("output", "B S D", y, "D (g h p)", part="output", bias=False, leaves=True)

    @property
    def _decays(self) -> str:
        """The labels of numbers that decay by themselves."""
        return "g h n" if self.decay == "feature" else "g h"

    def _made(self, tape: Tape, name: str, x: Tensor, out: str, rank: str) -> Tensor:
        """A projection, from the residual stream or from a latent of its own."""
        source = "D"
        if getattr(self, rank) is not None:
            source = rank.replace("_", "")
            x = tape.linear(f"{name}_latent", f"B S {source}", x, f"{source} D", part="gates", bias=False)
        return tape.linear(name, f"B S {out}", x, f"({out}) {source}", part="gates", bias=False)

    def _opened(self, tape: Tape, gate: Tensor) -> Tensor:
        if self.gate_activation is None:
            return super()._opened(tape, gate)
        return tape.pointwise("sigmoid", gate, keeps=True)

    def _scan(self, tape: Tape, q: Tensor, k: Tensor, v: Tensor, share: Tensor, step: Tensor) -> Tensor:
        """Positions of a chunk that correct each other are a triangular system of equations."""
        step_bias, rate = (
            tape.weight(name, f"({axes})", "decays") for name, axes in (("step_bias", self._decays), ("decay", "g h"))
        )
        decay = tape.pointwise("decays", step, step_bias, rate, role="fused", per_point=4)
        shares = tape.pointwise("shares", share, role="fused", per_point=3)
        queries, keys = (
            tape.pointwise(name, y, role="fused", per_point=3) for name, y in (("queries", q), ("keys", k))
        )
        if tape.run.phase == "decode":
            state = tape.given(f"{v.name}.state", "B g h p n", "state")
            decayed = tape.pointwise("decayed", state, *one_position(tape, decay=decay), role="fused")
            there = tape.contract("there", "B S g h p", keys, decayed, role="fused", casts=False)
            differs = tape.pointwise("differs", v, there, shares, role="fused", per_point=2)
            added = one_position(tape, keys, differs)
            written = tape.pointwise("written", decayed, *added, role="fused", per_point=2)
            read = tape.contract("read", "B S g h p", queries, written, role="fused", casts=False)
            return tape.pointwise("output", read, per_point=0)
        scan = Scan(tape, queries, keys, decay)
        values = tape.regroup(tape.pointwise("values", v, shares, role="fused"), "B c s g h p")
        system = scan.product("system", "B c g h l s", tape.regroup(keys, "B c l g n"), scan.k, *scan.decays)
        new = tape.solve("new_values", "B c l g h p", system, values)
        read_keys = tape.solve("read_keys", "B c l g h n", system, scan.k)
        carried = scan.carried(tape.regroup(new, "B c s g h p"))
        there = scan.product("there", "B c l g h p", read_keys, carried)
        new = tape.pointwise("corrected", new, there, role="fused")
        read = scan.read(scan.scores(), tape.regroup(new, "B c s g h p"), carried)
        return tape.pointwise("output", read, saves=(q, k, v, share, step))
