"""Lightning attention: a recurrent mixer whose heads forget each at a rate of its own, whatever they read."""

from typing import Literal, Self

from pydantic import Field

from archcalc.blocks.recurrent import Scan, StateMixer, one_position
from archcalc.blocks.shrinking import Shrinking
from archcalc.tape.ops import Tensor
from archcalc.tape.recording import Tape
from archcalc.units import grouped, several


class Lightning(StateMixer):
    """Qin et al. 2024, arXiv:2405.17381, as in MiniMax-Text-01 (arXiv:2501.08313): at each position the state of head
    h of H is multiplied by exp(-slope x 2^(-8 h / H)), and nothing of that is learned. The gate is a sigmoid.
    """

    kind: Literal["lightning"] = "lightning"
    activation: Literal["silu", "gelu", "gelu_tanh", "relu"] = Field(description="of queries, keys and values")
    slopes: Literal["falling", "equal"] = Field(
        description="falling: the slope of layer l of L is 1 - l / (L - 1 + 1e-5) + 1e-5, from l = 0 on; equal: 1 in "
        "all layers"
    )

    def summary(self) -> str:
        groups = f" in {several(self.n_groups, 'group')}" if self.n_groups < self.n_heads else ""
        return (
            f"lightning attention, {several(self.n_heads, 'head')} of {grouped(self.d_head)}{groups}, "
            f"state {grouped(self.d_state)}"
        )

    def small(self, shrinking: Shrinking) -> Self:
        """Sizes that are one stay one, and that of attention's heads; as many heads as attention has that shares keys
        (MiniMax-Text-01).
        """
        small = super().small(shrinking)
        update: dict[str, int] = {"d_state": small.d_head} if self.d_head == self.d_state else {}
        if self.n_groups == self.n_heads:
            update |= dict.fromkeys(("n_heads", "n_groups"), min(self.n_heads, 6))
        return small.model_copy(update=update)

    def record(self, tape: Tape, x: Tensor) -> Tensor:
        q = tape.linear("query", "B S g n", x, "(g n) D", each="g", part="query", bias=False)
        k = tape.linear("key", "B S g n", x, "(g n) D", each="g", part="key", bias=False)
        v = tape.linear("value", "B S g h p", x, "(g h p) D", each="g h", part="value", bias=False)
        gate = tape.linear("output_gate", "B S g h p", x, "(g h p) D", part="gates", bias=False)
        q, k, v = (self._active(tape, name, y) for name, y in (("query", q), ("key", k), ("value", v)))
        with tape.span("scan"):
            y = self._scan(tape, q, k, v)
        y = self._gated(tape, y, gate)
        return tape.linear("output", "B S D", y, "D (g h p)", part="output", bias=False, leaves=True)

    def _opened(self, tape: Tape, gate: Tensor) -> Tensor:
        return tape.pointwise("sigmoid", gate, keeps=True)

    @staticmethod
    def _scan(tape: Tape, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        if tape.run.phase == "decode":
            state, new = tape.given(f"{v.name}.state", "B g h p n", "state"), one_position(tape, k, v)
            written = tape.pointwise("written", state, *new, role="fused", per_point=3)
            read = tape.contract("read", "B S g h p", q, written, role="fused", casts=False)
            return tape.pointwise("output", read, per_point=0)
        queries, keys, values = (
            tape.pointwise(name, y, role="fused") for name, y in (("queries", q), ("keys", k), ("values", v))
        )
        scan, chunked = Scan(tape, queries, keys), tape.regroup(values, "B c s g h p")
        read = scan.read(scan.scores(), chunked, scan.carried(chunked))
        return tape.pointwise("output", read, saves=(v, k, q), per_point=0)
