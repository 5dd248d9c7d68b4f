"""Unembedding: the last vectors become logits, and in training a loss."""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field

from archcalc.blocks import activation
from archcalc.blocks.activation import ACTIVATION, Activation
from archcalc.blocks.base import Count, Slot, Strict
from archcalc.blocks.embedding import TOKEN_TABLE
from archcalc.blocks.norm import Norm
from archcalc.blocks.shrinking import Shrinking
from archcalc.tape.legend import Cuts, Env
from archcalc.tape.ops import Tensor, Weight
from archcalc.tape.recording import Tape
from archcalc.tape.run import Run
from archcalc.units import grouped

SMALL_HEAD = 61
"""Tokens that have a logit in a model that is run, where not all have one."""
_Positive = Annotated[float, Field(gt=0, le=1e9)]


class Unembedding(Slot):
    """How vectors become logits, "B S V"."""

    default_kind: ClassVar[str | None] = "linear"

    tied: bool = Field(description="whether the token embedding's table serves here too, stored once")
    bias: bool = Field(description="whether each token's logit has a bias")

    def record(self, tape: Tape, x: Tensor) -> Tensor:
        """Write the block's forward pass on the tape."""
        raise NotImplementedError


class Transform(Strict):
    """Devlin et al. 2018, arXiv:1810.04805: a matrix, an activation and a norm before the token table."""

    activation: Activation = Field(description=ACTIVATION)
    bias: bool = Field(description="whether its matrix, d_model x d_model, has a bias")
    norm: Norm | None = Field(description="of what is made; null: none")

    def record(self, tape: Tape, x: Tensor) -> Tensor:
        """The vectors that meet the token table."""
        with tape.scope("transform"):
            x = tape.linear("dense", "B S made", x, "made D", part="unembedding_transform", bias=self.bias)
            x = activation.record(tape, self.activation, x)
            if self.norm is not None:
                with tape.scope("norm"):
                    x = self.norm.record(tape, x, "made")
        return tape.view(x, made="D")


class LinearUnembedding(Unembedding):
    """Logits over the vocabulary, by the token table itself where tied."""

    kind: Literal["linear"] = "linear"
    d_embedding: Count | None = Field(
        default=None, description="features of the table where they are not d_model; a matrix projects to them before"
    )
    rows: Count | None = Field(
        default=None,
        description="tokens that have a logit, the first of the vocabulary (Apertus 1.5); null: all have one",
    )
    transform: Transform | None = Field(
        default=None, description="what vectors go through before the table (ModernBERT's decoders); null: nothing"
    )
    scale: _Positive | None = Field(default=None, description="what the logits are multiplied by; null: nothing")
    softcap: _Positive | None = Field(
        default=None, description="c: logits become c x tanh(logit / c); null: none", examples=[30.0]
    )

    cuts: ClassVar[Cuts | None] = {"tp": (("V",), ("answers",))}
    labels: ClassVar[Mapping[str, str]] = {
        "A": "features of the token table (d_embedding)",
        "made": "features of what the head makes of a vector (d_model)",
        "answers": "tokens that have a logit (rows)",
    }
    factors: ClassVar[tuple[str, ...]] = ("scale", "softcap")

    def summary(self) -> str:
        transformed = f" behind a {self.transform.activation} layer" if self.transform else ""
        rows = f" of {grouped(self.rows)} tokens" if self.rows else ""
        return f"{'tied' if self.tied else 'untied'} unembedding{' + bias' * self.bias}{rows}{transformed}"

    def small(self, shrinking: Shrinking) -> Self:
        narrow = {
            "d_embedding": shrinking.optional("d_embedding", self.d_embedding, 24),
            "rows": None if self.rows is None else SMALL_HEAD,
        }
        return super().small(shrinking).model_copy(update=narrow)

    def derived(self, env: Env, run: Run) -> Env:  # noqa: ARG002  (the same in every run)
        return {} if self.transform is None else {"made": env["D"]}

    def sizes(self) -> Env:
        narrow = {} if self.d_embedding is None else {"A": self.d_embedding}
        return narrow if self.rows is None else {**narrow, "answers": self.rows}

    def record(self, tape: Tape, x: Tensor) -> Tensor:
        with tape.scope("unembedding"):
            x = x if self.transform is None else self.transform.record(tape, x)
            tokens = "V" if self.rows is None else "answers"
            axes = f"{tokens} D"
            if self.d_embedding is not None:
                axes = f"{tokens} A"
                x = tape.linear("projection", "B S A", x, "A D", part="unembedding_projection", bias=False)
            table = Weight.of(TOKEN_TABLE, axes, "unembedding") if self.tied else None
            table = table or tape.weight("weight", axes, "unembedding")
            logits = tape.contract("product", f"B S {tokens}", x, table, role="fused" if self.bias else "activation")
            if self.bias:
                logits = tape.sum("biased", logits, tape.weight("bias", tokens, "biases"))
            if self.scale is not None:
                logits = tape.pointwise("scaled", logits)
            if self.softcap is not None:
                inner = tape.pointwise("capped", tape.pointwise("divided", logits), keeps=True)
                logits = tape.pointwise("cap", inner)
            return logits


def record_loss(tape: Tape, logits: Tensor) -> Tensor:
    """Cross-entropy: the mean of -log(softmax(logits)) at the tokens that came next, in full precision."""
    tokens = logits.labels[-1]
    with tape.span("loss"):
        full = tape.convert("full_precision", logits, role="float")
        maximum = tape.reduce("maximum", full, tokens, role="fused")
        exponential = tape.pointwise("exponential", full, maximum, role="fused", per_point=2)
        total = tape.reduce("sum", exponential, tokens, role="fused")
        log_probabilities = tape.pointwise(
            "log_probabilities", full, maximum, total, role="float", keeps=True, per_point=2
        )
        targets = Tensor("targets", ("B", "S"), "index")
        picked = tape.lookup("picked", "B S", targets, log_probabilities, role="fused")
        weight = tape.reduce("weight", picked, "B S", role="float", per_point=0)  # the count that the mean divides by
        summed = tape.reduce("total", picked, "B S", role="fused")
        return tape.pointwise("mean", summed, weight, role="float", saves=(weight,))
