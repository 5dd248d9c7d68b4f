"""Embedding: tokens become vectors."""

from typing import Literal

from pydantic import Field

from archcalc.blocks.base import Block
from archcalc.tape.recording import Tape, Tensor, Weight

TOKEN_TABLE = ("embedding.token.weight", "V D")
"""Path and axes of the table that a tied unembedding reads too."""


class Embedding(Block):
    """A vector for each token, and one for each position added to it."""

    positions: Literal["learned"] = Field(description="learned: a table of context_length rows")

    def record(self, tape: Tape) -> Tensor:
        """Record the residual stream's first state, "B N D"."""
        with tape.span("embedding"), tape.span("token"):
            token_ids = Tensor("token_ids", ("B", "N"), "index")
            tokens = tape.lookup("rows", "B N D", token_ids, Weight.of(*TOKEN_TABLE, "embedding"))
        with tape.scope("embedding"), tape.scope("position"):
            position_ids = Tensor("position_ids", ("N",), "index")
            positions = tape.lookup("rows", "N D", position_ids, tape.weight("weight", "P D", "positions"))
            return tape.sum("added", tokens, positions)
