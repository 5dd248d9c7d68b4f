"""What is asked of a model that is neither its architecture nor a parallel plan."""

from __future__ import annotations

from typing import Literal, NamedTuple

from archcalc.legend import Env, Size

Phase = Literal["training", "prefill", "decode"]
AttentionKernel = Literal["math", "flash"]
ActivationKernel = Literal["fused", "eager"]
Causal = Literal["full", "half", "exact"]
Logits = Literal["all", "last"]


class Run(NamedTuple):
    """One pass of a batch through the model.

    Attributes:
        phase: `training` scores the logits against the next tokens; `prefill` reads a prompt; `decode` adds one token
            to `context` - 1 that are there.
        batch: sequences, B.
        sequence: positions in each, N = S (1 in decode).
        context: positions that are read, T; `sequence` where None.
        attention: `math` stores the scores of every pair of positions; `flash` keeps them inside one kernel.
        causal: which pairs of positions count, see `pairs`; in decode all of them.
        logits: of `all` positions, or of the `last` of each sequence.
        activation: `fused` works an activation function out in one kernel; `eager` op by op, each result stored, as
            transformers' GPT-2 has it (NewGELUActivation).
        dropout: whether the pass drops at random (attention's probabilities, and the end of each branch).
    """

    phase: Phase = "training"
    batch: Size = 1
    sequence: Size = 1
    context: Size | None = None
    attention: AttentionKernel = "math"
    causal: Causal = "full"
    logits: Logits = "all"
    dropout: bool = False
    activation: ActivationKernel = "fused"

    @property
    def positions(self) -> Size:
        """New positions of each sequence."""
        return 1 if self.phase == "decode" else self.sequence

    @property
    def read(self) -> Size:
        """Positions whose keys and values are read."""
        return self.sequence if self.context is None else self.context

    def sizes(self) -> Env:
        """The sizes of the labels that a run decides."""
        new = self.positions
        causal = "full" if self.phase == "decode" else self.causal  # one new token has no future to leave out
        return {"B": self.batch, "N": new, "S": new, "T": self.read, "Q": pairs(new, self.read, causal)}

    def head_sizes(self) -> Env:
        """Those of them that are other at the head of the model."""
        return {"N": 1, "S": 1} if self.logits == "last" else {}


def pairs(new: Size, read: Size, causal: Causal) -> Size:
    """Query-key pairs that are scored, of the last `new` among `read` positions.

    full: every one, as PyTorch's counter has it. exact: a query sees itself and what came before. half: full less half
    the square of the new ones, the literature's S*T/2.
    """
    full = new * read
    if causal == "full":
        return full
    twice = 2 * full - new * (new - (causal == "exact"))
    if not isinstance(twice, int):
        return twice / 2
    if twice % 2 == 0:
        return twice // 2
    from fractions import Fraction

    return Fraction(twice, 2)
