"""A block that several layers share: a transformer layer of its own, whose weights each of its uses reads (Zamba)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from archcalc.blocks.attention import MultiHead
from archcalc.blocks.base import Block, Count
from archcalc.blocks.mlp import DenseMLP
from archcalc.blocks.norm import Norm
from archcalc.blocks.shrinking import Shrinking
from archcalc.spec.namerules import PART
from archcalc.tape.legend import Env
from archcalc.tape.ops import Tensor
from archcalc.tape.recording import Tape
from archcalc.tape.roles import TOKENS
from archcalc.tape.run import Run
from archcalc.units import grouped

ROOT = "shared."
"""What the paths of the weights of such blocks begin with."""


class SharedBlock(Block):
    """Glorioso et al. 2024, arXiv:2405.16712 and 2411.15242: an attention and an MLP, one after the other and added to
    nothing.

    The attention reads the vectors that enter the branch side by side with the tokens' own, as they entered the first
    layer, and so twice d_model features. Each use multiplies what the MLP made by a matrix of its own, and may add
    adapters to the projections: products of two thin matrices.
    """

    block: Annotated[str, Field(pattern=PART)] = Field(
        description="of its weights: shared.NAME; all uses of one name read the same"
    )
    norm: Norm | None = Field(description="of both vectors side by side, before the attention; null: none")
    attention: MultiHead = Field(description="mixes the vectors of different positions")
    mlp_norm: Norm | None = Field(description="of what the attention made, before the MLP; null: none")
    mlp: DenseMLP = Field(description="transforms each vector by itself")
    attention_adapter: Count | None = Field(
        default=None,
        description="features between the two matrices of an adapter of query, of key and of value, which each use "
        "has of its own; null: no adapters",
    )
    mlp_adapter: Count | None = Field(
        default=None,
        description="the same of an adapter of what goes into the MLP; gate and up share the first matrix",
    )

    labels: ClassVar[Mapping[str, str]] = {
        "wide": "features of a vector and of the token's own, side by side (2 x d_model)",
        "back": "features that a shared block makes (d_model)",
        "thin": "features of an adapter of a shared attention (attention_adapter)",
        "slim": "features of an adapter of a shared MLP (mlp_adapter)",
    }
    derives: ClassVar[tuple[str, ...]] = MultiHead.derives
    saying: ClassVar[str] = "a block that layers share has its say"

    @model_validator(mode="after")
    def _makes_keys(self) -> Self:
        if self.attention.shared_kv:
            what = "has an attention with shared_kv: that of a shared block makes keys and values of its own"
            raise PydanticCustomError("one_of", what)
        return self

    def summary(self) -> str:
        """The block in a few words, for a report: whatever changes a count."""
        ranks = {"attention": self.attention_adapter, "MLP": self.mlp_adapter}
        adapters = [f", {name} adapters of {grouped(n)}" for name, n in ranks.items() if n is not None]
        return f"shared block {self.block} ({self.attention.summary()}; {self.mlp.summary()}{''.join(adapters)})"

    def small(self, shrinking: Shrinking) -> Self:
        update = {
            "attention_adapter": shrinking.optional("attention_adapter", self.attention_adapter, 5),
            "mlp_adapter": shrinking.optional("mlp_adapter", self.mlp_adapter, 6),
        }
        return super().small(shrinking).model_copy(update=update)

    def sizes(self) -> Env:
        ranks = {"thin": self.attention_adapter, "slim": self.mlp_adapter}
        there = {label: n for label, n in ranks.items() if n is not None}
        return {**self.attention.sizes(), **self.mlp.sizes(), **there}

    def derived(self, env: Env, run: Run) -> Env:
        return {"wide": 2 * env["D"], "back": env["D"], **self.attention.derived(env, run)}

    def record(self, tape: Tape, x: Tensor) -> Tensor:
        """What is added to x, before the norm of the branch: "B N D" to "B N D"."""
        y = tape.join("side_by_side", "B N wide", x, tape.given(TOKENS, "B N D", "token"))
        with tape.shared(f"{ROOT}{self.block}"):
            if self.norm is not None:
                with tape.scope("norm"):
                    y = self.norm.record(tape, y, "wide")
            with tape.scope("attention"):
                y = self.attention.record(tape, tape.view(y, N="S"), adapted=self.attention_adapter is not None)
            if self.mlp_norm is not None:
                with tape.scope("mlp_norm"):
                    y = self.mlp_norm.record(tape, y)
            with tape.scope("mlp"):
                y = self.mlp.record(tape, tape.view(y, N="S"), adapted=self.mlp_adapter is not None)
        made = tape.view(y, D="back")
        return tape.linear("projection", "B N D", made, "D back", part="shared_projection", bias=False)
