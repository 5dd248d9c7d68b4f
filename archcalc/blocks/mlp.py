"""MLPs: transform the vector of each position by itself."""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Discriminator, Field, Tag

from archcalc.blocks import activation
from archcalc.blocks.activation import ACTIVATION, CUT, Activation, Cut, Positive
from archcalc.blocks.adapters import narrowed, widened
from archcalc.blocks.attention import of_kind
from archcalc.blocks.base import Count, Mixer, Strict
from archcalc.blocks.norm import Norm
from archcalc.blocks.relations import Multiple, Relation
from archcalc.blocks.shrinking import Shrinking
from archcalc.tape.legend import Cuts, Env
from archcalc.tape.ops import Tensor
from archcalc.tape.recording import Tape
from archcalc.units import grouped

_LABELS = {"F": "hidden features of the MLP (d_ff)"}
_SUB_NORM = "a norm of the hidden features, before they are projected back; null: none (BitNet)"


class MLP(Mixer):
    """A mixer of features: "B S D" to "B N D"."""

    saying: ClassVar[str] = "each vector on its own"


class DenseMLP(MLP):
    """One whose weights every vector goes through."""

    d_ff: Count
    sub_norm: Norm | None

    def record(self, tape: Tape, x: Tensor, *, adapted: bool = False) -> Tensor:
        """The forward pass; `adapted`: of a block that layers share."""
        raise NotImplementedError

    def _normed(self) -> str:
        return f" + sub {self.sub_norm.summary()}" if self.sub_norm else ""

    def _down(self, tape: Tape, hidden: Tensor, *, bias: bool) -> Tensor:
        """Hidden features back to the residual stream, normed before where it is asked for."""
        if self.sub_norm is not None:
            with tape.scope("sub_norm"):
                hidden = self.sub_norm.record(tape, hidden, "F")
        return tape.linear("down", "B S D", hidden, "D F", part="down_projection", bias=bias, leaves=True)


class PlainMLP(DenseMLP):
    """Two matrices with an activation between them."""

    kind: Literal["plain"] = "plain"
    d_ff: Count = Field(description="hidden features")
    activation: Activation = Field(description=ACTIVATION)
    bias: bool = Field(description="whether both projections have biases")
    sub_norm: Norm | None = Field(default=None, description=_SUB_NORM)

    labels: ClassVar[Mapping[str, str]] = _LABELS
    cuts: ClassVar[Cuts | None] = {"tp": (("F",),)}
    relations: ClassVar[tuple[Relation, ...]] = (Multiple(("d_ff", "d_model")),)

    def summary(self) -> str:
        return f"d_ff {grouped(self.d_ff)} ({self.activation})" + (" + biases" * self.bias) + self._normed()

    def small(self, shrinking: Shrinking) -> Self:
        return super().small(shrinking).model_copy(update={"d_ff": shrinking.size("d_ff", self.d_ff, 56)})

    def sizes(self) -> Env:
        return {"F": self.d_ff}

    def record(self, tape: Tape, x: Tensor, *, adapted: bool = False) -> Tensor:
        up = tape.linear("up", "B S F", x, "F D", part="up_projection", bias=self.bias)
        if adapted:
            up = widened(tape, "adapter", up, narrowed(tape, "adapter", x, "slim"), "F")
        active = activation.record(tape, self.activation, up)
        return self._down(tape, active, bias=self.bias)


class GatedBiases(Strict):
    """Which projections of a gated MLP have biases."""

    gate: bool = Field(description="of the projection that the activation is of")
    up: bool = Field(description="of the projection that it is multiplied by")
    down: bool = Field(description="of the projection back to d_model")


class GatedMLP(DenseMLP):
    """Shazeer 2020, arXiv:2002.05202: activation(gate x) * (up x), then down. The gate counts as an up projection."""

    kind: Literal["gated"] = "gated"
    d_ff: Count = Field(description="hidden features")
    activation: Activation = Field(description=ACTIVATION)
    bias: Annotated[Annotated[bool, Tag("~all")] | Annotated[GatedBiases, Tag("~each")], Discriminator(of_kind)] = (
        Field(description="whether gate, up and down have biases; true, false, or each by its name")
    )
    cut: Cut | None = Field(default=None, description=CUT)
    sub_norm: Norm | None = Field(default=None, description=_SUB_NORM)
    gate_scale: Positive | None = Field(
        default=None, description="what the gate is multiplied by before its activation; null: nothing"
    )

    labels: ClassVar[Mapping[str, str]] = _LABELS
    cuts: ClassVar[Cuts | None] = {"tp": (("F",),)}
    relations: ClassVar[tuple[Relation, ...]] = (Multiple(("d_ff", "d_model")),)
    factors: ClassVar[tuple[str, ...]] = ("cut", "gate_scale")

    def summary(self) -> str:
        has = [name for name in GatedBiases.model_fields if self.has_bias(name)]
        biases = (
            " + biases" if len(has) == len(GatedBiases.model_fields) else f" + {'/'.join(has)} biases" if has else ""
        )
        return f"gated d_ff {grouped(self.d_ff)} ({self.activation}){biases}{self._normed()}"

    def has_bias(self, name: str) -> bool:
        """Whether one of the three projections has a bias."""
        return self.bias if isinstance(self.bias, bool) else bool(getattr(self.bias, name))

    def small(self, shrinking: Shrinking) -> Self:
        return super().small(shrinking).model_copy(update={"d_ff": shrinking.size("d_ff", self.d_ff, 56)})

    def sizes(self) -> Env:
        return {"F": self.d_ff}

    def record(self, tape: Tape, x: Tensor, *, adapted: bool = False) -> Tensor:
        gate = tape.linear("gate", "B S F", x, "F D", part="up_projection", bias=self.has_bias("gate"))
        low = narrowed(tape, "adapter", x, "slim") if adapted else None
        gate = gate if low is None else widened(tape, "adapter", gate, low, "F", "gate")
        gate = gate if self.gate_scale is None else tape.pointwise("scaled_gate", gate)

        def up() -> Tensor:
            up = tape.linear("up", "B S F", x, "F D", part="up_projection", bias=self.has_bias("up"))
            return up if low is None else widened(tape, "adapter", up, low, "F")

        hidden = activation.gated(tape, self.activation, gate, up, self.cut)
        return self._down(tape, hidden, bias=self.has_bias("down"))
