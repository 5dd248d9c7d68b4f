"""Unembedding: the last vectors become logits, and in training a loss."""

from pydantic import Field

from archcalc.blocks.base import Block
from archcalc.blocks.embedding import TOKEN_TABLE
from archcalc.tape.recording import Tape, Tensor, Weight


class Unembedding(Block):
    """Logits over the vocabulary, by the token table itself where tied."""

    tied: bool = Field(description="whether the token embedding's table serves here too, stored once")
    bias: bool = Field(description="whether each token's logit has a bias")

    def record(self, tape: Tape, x: Tensor) -> Tensor:
        """Record the logits, "B S V"."""
        with tape.scope("unembedding"):
            own = tape.weight("weight", "V D", "unembedding")
            table = Weight.of(*TOKEN_TABLE, "unembedding") if self.tied else own
            if not self.bias:
                return tape.contract("product", "B S V", x, table)
            product = tape.contract("product", "B S V", x, table, role="fused")
            return tape.sum("biased", product, tape.weight("bias", "V", "biases"))


def record_loss(tape: Tape, logits: Tensor) -> Tensor:
    """Cross-entropy: the mean of -log(softmax(logits)) at the tokens that came next, in full precision."""
    with tape.span("loss"):
        full = tape.convert("full_precision", logits, role="float")
        maximum = tape.reduce("maximum", full, "V", role="fused")
        exponential = tape.pointwise("exponential", full, maximum, role="fused", per_point=2)
        total = tape.reduce("sum", exponential, "V", role="fused")
        log_probabilities = tape.pointwise(
            "log_probabilities", full, maximum, total, role="float", keeps=True, per_point=2
        )
        targets = Tensor("targets", ("B", "S"), "index")
        picked = tape.lookup("picked", "B S", targets, log_probabilities, role="fused")
        weight = tape.reduce("weight", picked, "B S", role="float", per_point=0)  # the count that the mean divides by
        summed = tape.reduce("total", picked, "B S", role="fused")
        return tape.pointwise("mean", summed, weight, role="float", saves=(weight,))
