"""The core of attention, scores and what they mix: as math does it, every step stored, or flash, in one kernel."""

from archcalc.tape.ops import Tensor, Weight
from archcalc.tape.recording import Tape


def math_core(
    tape: Tape, q: Tensor, k: Tensor, v: Tensor, mask: Tensor, sinks: Weight | None, *, capped: bool
) -> Tensor:
    """Every step stored: softmax(q k / sqrt(K) + mask) v.

    A product of many matrices at once reads each head's positions together, so queries, and keys and values that do
    not come out of a cache or of a layer before, are copied into that order, and what is mixed is copied back.
    """
    fresh = tape.run.phase == "training" and k.role != "shared"
    with tape.span("scores"):
        q, k = tape.copy("by_head", q), tape.copy("keys_by_head", k) if fresh else k
        scores = tape.contract("product", "B G R S T", q, k)
        scaled = tape.pointwise("scaled", scores)
        if capped:
            inner = tape.pointwise("capped", tape.pointwise("divided", scaled), keeps=True)
            scaled = tape.pointwise("cap", inner)
        masked = tape.sum("masked", scaled, mask)
    found = tape.softmax(masked, over="T") if sinks is None else _with_sinks(tape, masked, sinks)
    probabilities = tape.dropout("probabilities_dropout", found)
    with tape.span("mix"):
        v = tape.copy("values_by_head", v) if fresh else v
        return tape.copy("by_position", tape.contract("product", "B S G R W", probabilities, v))


def _with_sinks(tape: Tape, scores: Tensor, sinks: Weight) -> Tensor:
    """Softmax over the keys and the head's sink, as one kernel; the share of the sink is dropped."""
    with tape.span("softmax"):
        logsumexp = tape.reduce("logsumexp", scores, "T", role="float", per_point=4)
        return tape.pointwise("probabilities", scores, logsumexp, sinks, saves=(logsumexp,), keeps=True, per_point=2)


def flash_core(tape: Tape, q: Tensor, k: Tensor, v: Tensor, sinks: Weight | None) -> Tensor:
    """Dao et al. 2022, arXiv:2205.14135: the scores never leave the kernel, and the backward pass recomputes them.

    One statistic a query does leave it. What it drops it draws again from a seed, so that no mask is saved.
    """
    with tape.span("scores"):
        scores = tape.contract("product", "B G R S T", q, k, role="fused", repeats=1)
    with tape.span("softmax"):
        logsumexp = tape.reduce("logsumexp", scores, "T", role="float", per_point=6)
        beside = () if sinks is None else (sinks,)
        probabilities = tape.pointwise(
            "probabilities", scores, logsumexp, *beside, role="fused", saves=(logsumexp,), per_point=1
        )
    with tape.span("mix"):
        return tape.contract("product", "B S G R W", probabilities, v, keeps=True)
