"""Gated delta net: a recurrent mixer that writes into its state what differs from what is there already."""

from typing import Literal

from archcalc.blocks.recurrent import Scan, StateMixer, one_position
from archcalc.tape.ops import Tensor
from archcalc.tape.recording import Tape
from archcalc.units import grouped, several


class GatedDelta(StateMixer):
    """Yang et al. 2024, arXiv:2412.06464, as in Qwen3-Next: queries and keys of length one, heads that share them."""

    kind: Literal["gated_delta"] = "gated_delta"

    def summary(self) -> str:
        groups = f" in {several(self.n_groups, 'group')}" if self.n_groups < self.n_heads else ""
        return (
            f"gated delta net, {several(self.n_heads, 'head')} of {grouped(self.d_head)}{groups}, "
            f"state {grouped(self.d_state)}, convolution over {grouped(self.d_conv)}"
        )

    def record(self, tape: Tape, x: Tensor) -> Tensor:
        q = tape.linear("query", "B S g n", x, "(g n) D", each="g", part="query", bias=False)
        k = tape.linear("key", "B S g n", x, "(g n) D", each="g", part="key", bias=False)
        v = tape.linear("value", "B S g h p", x, "(g h p) D", each="g h", part="value", bias=False)
        gate = tape.linear("output_gate", "B S g h p", x, "(g h p) D", part="gates", bias=False)
        share = tape.linear("share", "B S g h", x, "(g h) D", part="gates", bias=False)
        step = tape.linear("step", "B S g h", x, "(g h) D", part="gates", bias=False)
        q = self._convolved(tape, "query", q, "g n", bias=False)
        k = self._convolved(tape, "key", k, "g n", bias=False)
        v = self._convolved(tape, "value", v, "g h p", bias=False)
        with tape.span("scan"):
            y = self._scan(tape, q, k, v, share, step)
        y = self._gated(tape, y, gate)
        return tape.linear("output", "B S D", y, "D (g h p)", part="output", bias=False, leaves=True)

    @staticmethod
    def _scan(tape: Tape, q: Tensor, k: Tensor, v: Tensor, share: Tensor, step: Tensor) -> Tensor:
        """Positions of a chunk that correct each other are a triangular system of equations."""
        step_bias, rate = (tape.weight(name, "(g h)", "decays") for name in ("step_bias", "decay"))
        decay = tape.pointwise("decays", step, step_bias, rate, share, role="fused", per_point=7)
        queries, keys = (
            tape.pointwise(name, y, role="fused", per_point=3) for name, y in (("queries", q), ("keys", k))
        )
        if tape.run.phase == "decode":
            state = tape.given(f"{v.name}.state", "B g h p n", "state")
            decayed = tape.pointwise("decayed", state, *one_position(tape, decay=decay), role="fused")
            there = tape.contract("there", "B S g h p", keys, decayed, role="fused", casts=False)
            differs = tape.pointwise("differs", v, there, decay, role="fused", per_point=2)
            added = one_position(tape, keys, differs)
            written = tape.pointwise("written", decayed, *added, role="fused", per_point=2)
            read = tape.contract("read", "B S g h p", queries, written, role="fused", casts=False)
            return tape.pointwise("output", read, per_point=0)
        scan = Scan(tape, queries, keys, decay)
        values = tape.regroup(tape.pointwise("values", v, decay, role="fused"), "B c s g h p")
        system = scan.product("system", "B c g h l s", tape.regroup(keys, "B c l g n"), scan.k, scan.decay)
        new = tape.solve("new_values", "B c l g h p", system, values)
        read_keys = tape.solve("read_keys", "B c l g h n", system, scan.k)
        carried = scan.carried(tape.regroup(new, "B c s g h p"))
        there = scan.product("there", "B c l g h p", read_keys, carried)
        new = tape.pointwise("corrected", new, there, role="fused")
        read = scan.read(scan.scores(), tape.regroup(new, "B c s g h p"), carried)
        return tape.pointwise("output", read, saves=(q, k, v, share, step))
