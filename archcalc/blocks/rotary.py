"""Rotary positions: pairs of features are turned by an angle that grows with the position."""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field

from archcalc.blocks.base import Count, Slot, Strict
from archcalc.blocks.constraints import AtLeast, AtMost, Even, OneForEachPair
from archcalc.blocks.shrinking import Shrinking
from archcalc.tape.ops import Tensor
from archcalc.tape.recording import Tape
from archcalc.units import grouped

Factor = Annotated[float, Field(gt=0, le=1e9)]
_Factors = Annotated[tuple[Factor, ...], Field(min_length=1, max_length=4096, strict=False)]


class Scaling(Slot):
    """How the angles are changed for contexts longer than trained on. It changes no count."""

    def small_over(self, d_rotary: int, shrinking: Shrinking) -> Self:
        """The same for few features, trained with a short context."""
        update: dict[str, Any] = {}
        for name, value in self:
            if name == "original_context_length":
                update[name] = shrinking.size(name, value, 16)
            elif isinstance(value, tuple):
                update[name] = value[: d_rotary // 2]
        return self.model_copy(update=update)

    def summary(self) -> str:
        return str(type(self).model_fields["kind"].default)


class Linear(Scaling):
    """Chen et al. 2023, arXiv:2306.15595: positions divided by a factor."""

    kind: Literal["linear"] = "linear"
    factor: Factor = Field(description="what positions are divided by")


class Dynamic(Scaling):
    """The base grows with the length of the text beyond the original context ("dynamic NTK")."""

    kind: Literal["dynamic"] = "dynamic"
    factor: Factor = Field(description="how fast the base grows with the length")
    original_context_length: Count = Field(description="tokens of the context that it was trained with")


class Yarn(Scaling):
    """Peng et al. 2023, arXiv:2309.00071: slow pairs of features are interpolated, fast ones are not."""

    kind: Literal["yarn"] = "yarn"
    factor: Factor = Field(description="how much longer contexts are than the original one")
    original_context_length: Count = Field(description="tokens of the context that it was trained with")
    beta_fast: Factor = Field(
        default=32.0,
        description="turns within the original context from which on a pair is fast, and not interpolated",
    )
    beta_slow: Annotated[Factor, AtMost("beta_fast")] = Field(
        default=1.0,
        description="turns within the original context up to which a pair is slow, and interpolated in whole",
    )
    attention_factor: Factor | None = Field(default=None, description="of cosines and sines; default: by the factor")
    mscale: Annotated[float, Field(ge=0, le=1e9)] | None = Field(
        default=None, description="part of the attention factor (DeepSeek); null: none"
    )
    mscale_all_dim: Annotated[float, Field(ge=0, le=1e9)] | None = Field(
        default=None, description="what the part by mscale is divided by; null: none"
    )
    truncate: bool = Field(default=True, description="whether the bounds between fast and slow are whole pairs")

    factors: ClassVar[tuple[str, ...]] = ("attention_factor", "mscale", "mscale_all_dim")


class Llama3(Scaling):
    """Dubey et al. 2024, arXiv:2407.21783, and Meta's code: low frequencies are divided by a factor."""

    kind: Literal["llama3"] = "llama3"
    factor: Factor = Field(description="what low frequencies are divided by")
    low_freq_factor: Factor = Field(
        description="turns within the original context up to which a frequency is low, and divided in full"
    )
    high_freq_factor: Annotated[Factor, AtLeast("low_freq_factor")] = Field(
        description="turns within the original context from which on a frequency is high, and left as it is"
    )
    original_context_length: Count = Field(description="tokens of the context that it was trained with")


class LongRope(Scaling):
    """Ding et al. 2024, arXiv:2402.13753: a factor for each pair of features, of short texts and of long ones."""

    kind: Literal["longrope"] = "longrope"
    short_factor: _Factors = Field(description="of texts up to the original context, a number for each pair")
    long_factor: _Factors = Field(description="of longer texts, a number for each pair")
    original_context_length: Count = Field(description="texts of up to so many tokens take the short factors")
    factor: Factor | None = Field(default=None, description="of the context; default: context / original context")
    attention_factor: Factor | None = Field(
        default=None, description="of cosines and sines; default: by the factor of the context"
    )

    factors: ClassVar[tuple[str, ...]] = ("attention_factor",)


class Proportional(Scaling):
    """Gemma 4: the pairs with the highest frequencies turn, as those of a whole head would, and the others do not."""

    kind: Literal["proportional"] = "proportional"
    share: Annotated[float, Field(gt=0, le=1)] = Field(description="of the pairs that turn")
    factor: Factor | None = Field(default=None, description="what frequencies are divided by; null: nothing")

    factors: ClassVar[tuple[str, ...]] = ("factor",)


class Rotary(Strict):
    """Su et al. 2021, arXiv:2104.09864: features 2i and 2i + 1, or i and i + half, turned by position / theta^(2i/d).

    The rest of the features, where fewer than all are turned, stays as it is.
    """

    d_rotary: Annotated[Count, Even()] = Field(description="features per head that are turned")
    theta: Annotated[float, Field(gt=0, le=1e15)] = Field(
        description="the base of the angles", examples=[10_000.0, 500_000.0]
    )
    pairing: Literal["halves", "neighbours"] = Field(
        default="halves", description="which features are a pair: i and i + d_rotary/2, or 2i and 2i + 1 (interleaved)"
    )
    reversed: bool = Field(default=False, description="whether the angles are negative (nanochat); changes no count")
    scaling: Annotated[Scaling | None, OneForEachPair("d_rotary")] = Field(
        default=None, description="for contexts longer than trained on; null: none"
    )

    def summary(self) -> str:
        scaled = f", {self.scaling.summary()} scaling" if self.scaling else ""
        return f"rotary positions over {grouped(self.d_rotary)} features{scaled}"

    def small_over(self, d_rotary: int, shrinking: Shrinking) -> Self:
        """The same with few features to turn."""
        scaling = None if self.scaling is None else self.scaling.small_over(d_rotary, shrinking)
        return self.model_copy(update={"d_rotary": d_rotary, "scaling": scaling})

    def table(self, tape: Tape, turned_features: str = "U") -> Tensor:
        """The cosines and sines of the new positions, made once for a pass and for each way of turning."""
        turned = {name: value for name, value in self if name != "d_rotary"}
        return tape.given(f"rotary({turned!r})", f"S {turned_features}", "table", by=turned_features)

    def record(self, tape: Tape, name: str, x: Tensor, turned_features: str = "U") -> Tensor:
        """Turn queries or keys; the turned ones take the place of the others, and nothing is saved but the angles."""
        with tape.span(f"{name}_rotary"):
            return tape.pointwise("turned", x, self.table(tape, turned_features), per_point=3)
