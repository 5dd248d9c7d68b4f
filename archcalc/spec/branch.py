"""A residual branch: a mixer with the norms around it, and what its output is added to."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Discriminator, Field, Tag

from archcalc.blocks.base import Block, Mixer, Strict
from archcalc.blocks.constraints import Needs
from archcalc.blocks.norm import Norm
from archcalc.spec.namerules import PART
from archcalc.spec.shared import SharedBlock

Name = Annotated[str, Field(pattern=PART)]


def _norm_or_word(value: Any) -> str:
    return "~shared" if isinstance(value, str) else "~own"


class Branch(Strict):
    """One residual branch of a layer."""

    name: Name = Field(
        description="of its weights: layers.{i}.NAME, layers.{i}.NAME_norm", examples=["attention", "mlp"]
    )
    norm: (
        Annotated[
            Annotated[Norm, Tag("~own")] | Annotated[Literal["shared"], Tag("~shared")], Discriminator(_norm_or_word)
        ]
        | None
    ) = Field(description="before the mixer; shared: it reads what the norm of the branch before it made; null: none")
    added: SharedBlock | None = Field(
        default=None,
        description="a block that layers share, and what it makes of the branch's input; that is added to what the "
        "norm reads, and not to the residual stream (Zamba); null: none",
    )
    mixer: Mixer = Field(description="what the branch computes: an attention or an MLP")
    post_norm: Norm | None = Field(default=None, description="of what the mixer made, before it is added; null: none")
    stream_norm: Norm | None = Field(default=None, description="of the sum; null: none")
    scale: Annotated[float, Field(gt=0, le=1e9)] | None = Field(
        default=None, description="what the branch is multiplied by before it is added; null: nothing"
    )
    input_scale: Annotated[float, Field(gt=0, le=1e9)] | None = Field(
        default=None, description="what the mixer's input is multiplied by, behind the norm; null: nothing"
    )
    residual: Annotated[Literal["input", "normed"], Needs("norm", "input")] = Field(
        default="input",
        description="what it is added to: the branch's input, or what its norm made of that (MiniMax-Text-01)",
    )
    residual_scale: Annotated[float, Field(gt=0, le=1e9)] | None = Field(
        default=None, description="what that is multiplied by before the branch is added; null: nothing"
    )
    joins: Literal["stream", "end"] = Field(
        default="stream",
        description="stream: its output is added before the next branch reads; end: behind the last branch of the "
        "layer (LongCat-Flash)",
    )

    factors: ClassVar[tuple[str, ...]] = ("scale", "input_scale", "residual_scale")

    def why_not_late(self, *, parallel: bool, last: bool) -> str | None:
        """Why a branch that joins at the end cannot; None where it can, or joins the stream at once."""
        if self.joins == "stream":
            return None
        if parallel or last:
            return "another branch must follow" if last else "the branches must not be parallel"
        taken = {"stream_norm": self.stream_norm, "residual_scale": self.residual_scale}
        if named := next((name for name, value in taken.items() if value is not None), None):
            return f"it can have no {named}"
        return "residual must be input" if self.residual == "normed" else None

    @property
    def mixers(self) -> tuple[Mixer, ...]:
        """What it computes, in order: with a shared block that has an attention and an MLP of its own."""
        return (self.mixer,) if self.added is None else (self.added.attention, self.added.mlp, self.mixer)

    @property
    def blocks(self) -> Iterator[Block]:
        """The blocks that it consists of, without what is added before its norm."""
        return (x for x in (self.norm, self.mixer, self.post_norm, self.stream_norm) if isinstance(x, Block))
