"""Embedding: tokens become vectors."""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Discriminator, Field, Tag

from archcalc.blocks.base import Count, Slot
from archcalc.blocks.constraints import Needs
from archcalc.blocks.norm import Norm
from archcalc.blocks.perlayer import PerLayerVectors
from archcalc.blocks.shrinking import Shrinking
from archcalc.tape.legend import Cuts, Env
from archcalc.tape.ops import Tensor, Weight
from archcalc.tape.recording import Tape
from archcalc.tape.run import Run
from archcalc.units import grouped

Positive = Annotated[float, Field(gt=0, le=1e9)]

TOKEN_TABLE = "embedding.token.weight"  # noqa: S105  (a tensor's name)
"""The path of the table that a tied unembedding reads too."""


class Embedding(Slot):
    """How tokens become vectors: the residual stream's first state, "B N D"."""

    default_kind: ClassVar[str | None] = "tokens"

    def record(self, tape: Tape) -> Tensor:
        """Write the block's forward pass on the tape."""
        raise NotImplementedError


class TokenEmbedding(Embedding):
    """A vector for each token, and one for each position added to it."""

    kind: Literal["tokens"] = "tokens"
    positions: Literal["learned", "sinusoidal", "none"] = Field(
        description="learned: a table of context_length rows; sinusoidal: sines and cosines, which have no weights; "
        "none: nothing is added here"
    )
    extra_positions: Annotated[int, Field(ge=0, le=2**32), Needs("positions", idle=0, having="learned")] = Field(
        default=0, description="rows of the table of positions beyond context_length (OPT: 2)"
    )
    sinusoids: Annotated[Literal["paper", "tensor2tensor"], Needs("positions", idle="paper", having="sinusoidal")] = (
        Field(
            default="paper",
            description="paper: n frequencies 10,000^(-i / n), as in Vaswani et al. 2017; "
            "tensor2tensor: 10,000^(-i / (n - 1)) (XGLM)",
        )
    )
    first_position: Annotated[int, Field(ge=0, le=2**32), Needs("positions", idle=0, having="sinusoidal")] = Field(
        default=0, description="the number of the first position (XGLM: 2)"
    )
    d_embedding: Count | None = Field(
        default=None, description="features of the token table where they are not d_model; a matrix then projects them"
    )
    scale: (
        Annotated[
            Annotated[Literal["sqrt_d_model"], Tag("~word")] | Annotated[Positive, Tag("~number")],
            Discriminator(lambda value: "~word" if isinstance(value, str) else "~number"),
        ]
        | None
    ) = Field(default=None, description="what the tokens' vectors are multiplied by; null: nothing")
    norm: Norm | None = Field(default=None, description="a norm of the vectors before the first layer")
    per_layer: PerLayerVectors | None = Field(
        default=None,
        description="a vector of each token for each layer beside its own; null: none (Gemma 3n, Gemma 4)",
    )

    cuts: ClassVar[Cuts | None] = {"tp": (("V",),)}
    labels: ClassVar[Mapping[str, str]] = {"A": "features of the token table (d_embedding)"}
    factors: ClassVar[tuple[str, ...]] = ("scale",)

    def summary(self) -> str:
        narrow = "" if self.d_embedding is None else f", projected from {grouped(self.d_embedding)} features"
        normed = f", {self.norm.summary()}" if self.norm else ""
        each = f", {grouped(self.per_layer.d_per_layer)} features more for each layer" if self.per_layer else ""
        return f"{self.positions} positions{narrow}{normed}{each}".replace("none positions", "no learned positions")

    def small(self, shrinking: Shrinking) -> Self:
        narrow = {"d_embedding": shrinking.optional("d_embedding", self.d_embedding, 24)}
        return super().small(shrinking).model_copy(update=narrow)

    def sizes(self) -> Env:
        narrow = {} if self.d_embedding is None else {"A": self.d_embedding}
        return {**narrow, **(self.per_layer.sizes() if self.per_layer else {})}

    def derived(self, env: Env, run: Run) -> Env:
        return {"P": env["P"] + self.extra_positions, **(self.per_layer.derived(env, run) if self.per_layer else {})}

    def record(self, tape: Tape) -> Tensor:
        narrow = self.d_embedding is not None
        with tape.span("embedding"), tape.span("token"):
            token_ids = Tensor("token_ids", ("B", "S"), "index")
            table = Weight.of(TOKEN_TABLE, "V A" if narrow else "V D", "embedding")
            x = tape.view(tape.lookup("rows", "B S A" if narrow else "B S D", token_ids, table), S="N")
            if self.scale is not None:
                x = tape.pointwise("scaled", x)
        with tape.scope("embedding"):
            if narrow:
                x = tape.linear("projection", "B N D", x, "D A", part="embedding_projection", bias=False)
            if self.positions == "learned":
                with tape.scope("position"):
                    position_ids = Tensor("position_ids", ("N",), "index")
                    positions = tape.lookup("rows", "N D", position_ids, tape.weight("weight", "P D", "positions"))
                    x = tape.sum("added", x, positions)
            elif self.positions == "sinusoidal":
                x = tape.pointwise("positioned", x, passes=True, per_point=2)
            if self.norm is not None:
                with tape.scope("norm"):
                    x = self.norm.record(tape, x)
            if self.per_layer is not None:
                self.per_layer.record(tape, token_ids, x)
        return x
