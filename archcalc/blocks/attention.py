"""Attention: mixes the vectors of different positions."""

from typing import Annotated, Literal

from pydantic import Field

from archcalc.blocks.base import Count, Divides, Slot
from archcalc.tape.legend import Env
from archcalc.tape.recording import Tape, Tensor
from archcalc.units import grouped, several


class Attention(Slot):
    """A mixer of positions: "B S D" to "B S D"."""


class MultiHead(Attention):
    """Vaswani et al. 2017, arXiv:1706.03762, section 3.2.2; fewer key/value heads as in Ainslie et al. 2023,
    arXiv:2305.13245. Multi-head is R = 1 and multi-query is G = 1: a size of one is a size.
    """

    kind: Literal["multi_head"] = "multi_head"
    n_heads: Count = Field(description="query heads")
    n_kv_heads: Annotated[Count, Divides("n_heads")] = Field(description="key/value heads; n_heads for multi-head")
    d_head: Count = Field(description="features per head; n_heads x d_head need not be d_model")
    bias: bool = Field(description="whether query, key, value and output have biases")

    def summary(self) -> str:
        shared = "" if self.n_kv_heads == self.n_heads else f" over {several(self.n_kv_heads, 'key/value head')}"
        return f"{several(self.n_heads, 'head')} of {grouped(self.d_head)}{shared}" + (" + biases" * self.bias)

    def sizes(self) -> Env:
        return {"G": self.n_kv_heads, "R": self.n_heads // self.n_kv_heads, "K": self.d_head, "W": self.d_head}

    def record(self, tape: Tape, x: Tensor) -> Tensor:
        bias = self.bias
        q = tape.linear("query", "B S G R K", x, "(G R K) D", each="G R", part="query", bias=bias)
        k = tape.linear("key", "B S G K", x, "(G K) D", each="G", part="key", bias=bias, role="cache")
        v = tape.linear("value", "B S G W", x, "(G W) D", each="G", part="value", bias=bias, role="cache")
        with tape.span("attention_core"):
            core = {"math": _math, "flash": _flash}[tape.run.kernel]
            mixed = core(tape, q, k.relabel(S="T"), v.relabel(S="T"))
        return tape.linear("output", "B S D", mixed, "D (G R W)", part="output", bias=bias)


def _math(tape: Tape, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Every step stored: softmax(q k / sqrt(K) + mask) v.

    A product of many matrices at once reads each head's positions together, so queries are copied into that order, and
    what is mixed is copied back.
    """
    with tape.span("scores"):
        scores = tape.contract("product", "B G R S T", tape.copy("by_head", q), k)
        scaled = tape.pointwise("scaled", scores)
        masked = tape.sum("masked", scaled, Tensor("mask", ("S", "T"), "constant"))
    probabilities = tape.dropout("probabilities_dropout", tape.softmax(masked, over="T"))
    with tape.span("mix"):
        return tape.copy("by_position", tape.contract("product", "B S G R W", probabilities, v))


def _flash(tape: Tape, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Dao et al. 2022, arXiv:2205.14135: the scores never leave the kernel, and the backward pass recomputes them.

    One statistic a query does leave it. What it drops it draws again from a seed, so that no mask is saved.
    """
    with tape.span("scores"):
        scores = tape.contract("product", "B G R S T", q, k, role="fused", repeats=1)
    with tape.span("softmax"):
        logsumexp = tape.reduce("logsumexp", scores, "T", role="float", per_point=6)
        probabilities = tape.pointwise(
            "probabilities", scores, logsumexp, role="fused", saves=(logsumexp,), per_point=1
        )
    with tape.span("mix"):
        return tape.contract("product", "B S G R W", probabilities, v, keeps=True)
