"""An indexer: small heads score all positions for a query, of which attention reads those with the largest sums."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Self

from pydantic import Field

from archcalc.blocks.base import Block, Count
from archcalc.blocks.constraints import AtMost
from archcalc.blocks.norm import Norm
from archcalc.blocks.rotary import Rotary
from archcalc.blocks.shrinking import Shrinking
from archcalc.blocks.windows import chosen
from archcalc.tape.legend import Env
from archcalc.tape.ops import Tensor
from archcalc.tape.recording import Tape
from archcalc.tape.run import Run
from archcalc.units import grouped, several


class Indexer(Block):
    """DeepSeek-AI 2025, DeepSeek-V3.2, section 2.1: sum over heads of weight x relu(query key), one key a position.

    It learns nothing from the loss, since a choice has no gradient; DeepSeek trains it to score as attention does, by
    a loss of its own, which is not counted here.
    """

    n_heads: Count = Field(description="heads, each with queries of its own; all share one key")
    d_head: Count = Field(description="features per query and of the key")
    top_k: Count = Field(description="positions that attention reads for a query, at the most")
    norm: Norm | None = Field(description="of the key; null: none")
    rotary: Annotated[Rotary | None, AtMost("d_head", "d_rotary")] = Field(
        default=None, description="rotary positions of queries and key; null: none"
    )

    labels: ClassVar[Mapping[str, str]] = {
        "indexheads": "heads of the indexer (indexer.n_heads)",
        "index": "features of the indexer's queries and key (indexer.d_head)",
        "indexturned": "features of these that are turned (indexer.rotary.d_rotary)",
        "chosen": "positions that a query reads (indexer.top_k)",
        "scanned": "positions that the indexer scores",
        "scannedpairs": "query-key pairs that the indexer scores",
    }
    copies: ClassVar[tuple[str, ...]] = ("indexheads",)
    pairs: ClassVar[Mapping[str, str]] = {"scanned": "scannedpairs"}
    derives: ClassVar[tuple[str, ...]] = ("Q", "chosen", "scanned", "scannedpairs")

    def summary(self) -> str:
        return f"{grouped(self.top_k)} positions by {several(self.n_heads, 'index head')} of {grouped(self.d_head)}"

    def small_beside(self, d_rotary: int, shrinking: Shrinking) -> Self:
        """So many heads that few pairs have a score of zero, and few positions to choose; as many features are turned
        as attention turns.
        """
        d_head = shrinking.size("indexer.d_head", self.d_head, 10)
        update = {
            "n_heads": 12,
            "d_head": d_head,
            "top_k": shrinking.size("top_k", self.top_k, 7),
            "rotary": self.rotary and self.rotary.small_over(min(d_rotary, d_head // 2 * 2), shrinking),
        }
        return super().small(shrinking).model_copy(update=update)

    def sizes(self) -> Env:
        found: dict[str, Any] = {"indexheads": self.n_heads, "index": self.d_head}
        return found if self.rotary is None else {**found, "indexturned": self.rotary.d_rotary}

    def derived(self, env: Env, run: Run) -> Env:
        return chosen(env, run, self.top_k)

    def keys(self, tape: Tape, x: Tensor) -> Tensor:
        """The key of each position, as it is kept: B T index."""
        with tape.scope("indexer"), tape.without_gradient():
            key = tape.linear("key", "B S index", x, "index D", part="indexer", bias=False)
            if self.norm is not None:
                with tape.scope("key_norm"):
                    key = self.norm.record(tape, key, "index")
            return tape.view(self._turned(tape, "key", key), "cache", S="T")

    def choose(self, tape: Tape, x: Tensor, source: Tensor, features: str, keys: Tensor) -> Tensor:
        """The positions that each query reads, B S chosen; `source` is what queries are made of, of such features."""
        with tape.scope("indexer"), tape.without_gradient():
            axes = f"(indexheads index) {features}"
            query = tape.linear("query", "B S indexheads index", source, axes, part="indexer", bias=False)
            query = self._turned(tape, "query", query)
            shares = tape.linear("shares", "B S indexheads", x, "indexheads D", part="indexer", bias=False)
            with tape.span("index_scores"):
                keys = tape.view(keys, "cache", T="scanned")
                found = tape.contract("product", "B indexheads S scanned", query, keys, role="fused", casts=False)
                found = tape.pointwise("relu", found, role="fused")
                found = tape.contract("sum", "B S scanned", found, shares, role="fused", casts=False)
            with tape.span("chosen"):
                return tape.choose("positions", found, "B S chosen", role="positions")

    def _turned(self, tape: Tape, name: str, x: Tensor) -> Tensor:
        return x if self.rotary is None else self.rotary.record(tape, name, x, "indexturned")
