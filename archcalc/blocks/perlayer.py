"""Vectors of a token for each layer: a second table, what a projection adds to it, and the mixer that reads them."""

from collections.abc import Mapping
from typing import ClassVar, Literal, Self

from pydantic import Field

from archcalc.blocks import activation
from archcalc.blocks.activation import ACTIVATION, Activation
from archcalc.blocks.base import Block, Count, Mixer
from archcalc.blocks.norm import Norm
from archcalc.blocks.relations import Relation, Same
from archcalc.blocks.shrinking import Shrinking
from archcalc.tape.legend import Cuts, Env
from archcalc.tape.ops import Tensor
from archcalc.tape.recording import Tape
from archcalc.tape.run import Run
from archcalc.units import grouped


class PerLayerVectors(Block):
    """Gemma 3n and Gemma 4: a vector of each token for each layer, from a table and from the token's own vector.

    (norm(projection(x) / sqrt(d_model)) + sqrt(d_per_layer) * table[token]) / sqrt(2), for all layers at once.
    """

    d_per_layer: Count = Field(description="features of a token's vector for each layer")
    vocab_size: Count | None = Field(default=None, description="rows of their table; null: as many as of the other")
    norm: Norm = Field(description="of what is projected from the token's vector, each layer's by itself")

    labels: ClassVar[Mapping[str, str]] = {
        "each": "features of a token's vector for each layer (d_per_layer)",
        "layers": "layers, each with a vector of its own for a token",
        "rows": "rows of the table of vectors for each layer",
    }

    def sizes(self) -> Env:
        return {"each": self.d_per_layer}

    def derived(self, env: Env, run: Run) -> Env:  # noqa: ARG002  (the same in every run)
        return {"rows": env["V"] if self.vocab_size is None else self.vocab_size}

    def small(self, shrinking: Shrinking) -> Self:
        update = {
            "d_per_layer": shrinking.size("d_per_layer", self.d_per_layer, 6),
            "vocab_size": None if self.vocab_size is None else SMALL_TABLE,
            "norm": self.norm.small(shrinking),
        }
        return self.model_copy(update=update)

    def record(self, tape: Tape, token_ids: Tensor, x: Tensor) -> None:
        """Make all vectors; layers read them as `per_layer_vectors`, and keep them for their way back."""
        with tape.scope("per_layer"):
            with tape.scope("token"):
                table = tape.weight("weight", "rows (layers each)", "per_layer_embedding")
                rows = tape.lookup("rows", "B S layers each", token_ids, table)
                vectors = tape.pointwise("scaled", tape.view(rows, S="N"))
            part = "per_layer_projection"
            projected = tape.linear("projection", "B N layers each", x, "(layers each) D", part=part, bias=False)
            projected = tape.pointwise("divided", projected)
            with tape.scope("norm"):
                projected = self.norm.record(tape, projected, "each")
            both = tape.sum("sum", projected, vectors)
            tape.hand_on(tape.pointwise("vectors", both, keeps=True))


SMALL_TABLE = 101
"""Rows of a small table that has another number of them than the model's vocabulary."""


class PerLayer(Mixer):
    """What a layer makes of its vector of the token: projection(activation(gate(x)) * vector)."""

    kind: Literal["per_layer"] = "per_layer"
    d_per_layer: Count = Field(description="features of the vector, as the embedding has them")
    activation: Activation = Field(description=ACTIVATION)

    relations: ClassVar[tuple[Relation, ...]] = (Same(("d_per_layer", "embedding.per_layer.d_per_layer")),)
    saying: ClassVar[str] = "each vector hears of its own token"
    cuts: ClassVar[Cuts | None] = {}

    def summary(self) -> str:
        return f"a vector of the token with {grouped(self.d_per_layer)} features ({self.activation})"

    def sizes(self) -> Env:
        return {"each": self.d_per_layer}

    def small(self, shrinking: Shrinking) -> Self:
        return self.model_copy(update={"d_per_layer": shrinking.size("d_per_layer", self.d_per_layer, 6)})

    def record(self, tape: Tape, x: Tensor) -> Tensor:
        gate = tape.linear("gate", "B S each", x, "each D", part="up_projection", bias=False)
        gate = activation.record(tape, self.activation, gate)
        vector = tape.given("per_layer_vectors", "B S each", "shared")
        gated = tape.pointwise("gated", gate, vector, saves=(gate,))
        return tape.linear("down", "B S D", gated, "D each", part="down_projection", bias=False, leaves=True)
