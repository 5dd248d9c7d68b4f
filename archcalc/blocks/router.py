"""How a mixture chooses the experts of a vector."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from archcalc.blocks.base import Strict
from archcalc.blocks.constraints import Needs
from archcalc.blocks.norm import Norm

Positive = Annotated[float, Field(gt=0, le=1e9)]


class Router(Strict):
    """Which experts a vector goes to, and by how much each counts."""

    scores: Literal["softmax", "softmax_of_chosen", "sigmoid", "sigmoid_of_chosen", "sparse_mixer"] = Field(
        description="softmax of all experts' scores; softmax_of_chosen: of those that were chosen; "
        "sigmoid, sigmoid_of_chosen: of each of them; "
        "sparse_mixer: one after the other, each by a softmax of those that come near it (Phi-3.5-MoE)"
    )
    normalized: bool = Field(description="whether the chosen scores are divided by their sum")
    bias: bool = Field(default=False, description="whether the projection to scores has a bias")
    correction: bool = Field(
        default=False,
        description="whether a number for each expert is added before choosing, to balance their use; it is a buffer, "
        "and no parameter (DeepSeek-V3)",
    )
    scale: Positive | None = Field(default=None, description="what the weights are multiplied by; null: nothing")
    norm: Norm | None = Field(default=None, description="a norm of what scores are made of; null: none")
    score_scale: Literal["inverse_sqrt_d_model"] | None = Field(
        default=None,
        description="what scores are multiplied by before all else: 1 / sqrt(d_model); null: nothing (Gemma 4)",
    )
    expert_scale: bool = Field(
        default=False, description="whether weights are multiplied by a learned number of their expert (Gemma 4)"
    )
    jitter: Annotated[Positive | None, Needs("scores", having="sparse_mixer")] = Field(
        default=None, description="half the share by which scores may fall short of the best and come near it"
    )
    weighs: Literal["output", "input"] = Field(
        default="output", description="what the weights multiply: what an expert makes, or what it gets (Llama 4)"
    )

    factors: ClassVar[tuple[str, ...]] = ("scale", "score_scale")
