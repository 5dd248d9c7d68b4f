"""What is asked of a model that is neither its architecture nor a parallel plan."""

from __future__ import annotations

from typing import Literal, NamedTuple

from archcalc.legend import Env, Size

AttentionKernel = Literal["math", "flash"]


class Run(NamedTuple):
    """One forward pass.

    Attributes:
        batch: sequences, B.
        sequence: positions in each, N = S = T.
        attention: `math` stores the scores of every pair of positions; `flash` keeps them inside one kernel.
        loss: whether the logits are scored against the next tokens, as in training.
    """

    batch: Size = 1
    sequence: Size = 1
    attention: AttentionKernel = "math"
    loss: bool = False

    def sizes(self) -> Env:
        """The sizes of the labels that a run decides."""
        return {"B": self.batch, "N": self.sequence, "S": self.sequence, "T": self.sequence}
