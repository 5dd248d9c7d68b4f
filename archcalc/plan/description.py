"""A parallel plan as YAML or flags describe it: degrees, schedule, and what ranks share of the optimizer's state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from archcalc.blocks.base import Count, Strict, Version, no_word
from archcalc.plan.frameworks import Framework, with_habits
from archcalc.spec import namerules
from archcalc.spec.published import Text
from archcalc.tape.legend import anywhere
from archcalc.tape.optimizers import Optimizer
from archcalc.tape.precision import Precision, Recompute

Schedule = Literal["1f1b", "gpipe", "interleaved"]
Sharding = Literal["flat", "per-tensor"]
Gathered = Literal["again", "kept"]
Prefetch = Literal["backward", "both", "none"]
MOST_STAGES = 1_024
_WEIGHTS = 3  # the stage of ZeRO that shares them


class Need(NamedTuple):
    """What a plan must have for a field to be other than by default: in words, and whether it has it."""

    words: str
    met: Callable[[Any], bool]


_ZERO_3 = Need("zero: 3", lambda plan: plan.zero == _WEIGHTS)
_STAGES = Need("pp of at least 2", lambda plan: plan.pp > 1)
NEEDS: dict[str, Need] = {
    "sequence_parallel": Need("tp of at least 2", lambda plan: plan.tp > 1),
    "gathered_inputs": Need("sequence_parallel", lambda plan: plan.sequence_parallel),
    "sharding": Need("zero of at least 1", lambda plan: plan.zero > 0),
    "reshard_after_forward": _ZERO_3,
    "prefetch": _ZERO_3,
    "stage_layers": _STAGES,
    "chunks": Need("schedule: interleaved", lambda plan: plan.schedule == "interleaved"),
    "schedule": _STAGES,
    "recompute_layers": Need("recompute: full", lambda plan: plan.recompute == "full"),
}
HOW = ("gathered_inputs", "sharding", "reshard_after_forward", "prefetch")
"""Fields that say how something is done: of plans that do not do it they may be left as they are."""


class Plan(Strict):
    """How many ranks share what. Degrees are 1 where nothing is shared; the world is dp x cp x tp x pp ranks."""

    model_config = ConfigDict(title="archcalc plan", serialize_by_alias=True)

    schema_version: Version = Field(
        default=0, alias="schema", description="of this format; 1 when the first release freezes it"
    )
    name: Annotated[str, Field(pattern=namerules.DEVICE, max_length=100)] = Field(
        default="plan", description="of the plan: small letters, digits, dots and dashes", examples=["tp8-pp4"]
    )
    source: Text | None = Field(
        default=None, description="where the plan was published", examples=["arXiv:2205.05198, Table 3"]
    )
    dp: Count = Field(default=1, description="data-parallel ranks, expert ranks included")
    tp: Count = Field(default=1, description="tensor-parallel ranks")
    sequence_parallel: bool = Field(
        default=False, description="whether the residual stream's positions are cut over the tensor-parallel ranks"
    )
    cp: Count = Field(default=1, description="context-parallel ranks, which share the positions of a sequence")
    pp: Annotated[Count, Field(le=MOST_STAGES)] = Field(default=1, description="pipeline stages")
    schedule: Schedule = Field(
        default="1f1b", description="of the pipeline: 1f1b, gpipe (all forward, then all backward) or interleaved"
    )
    chunks: Count = Field(default=1, description="chunks of layers that each stage has in an interleaved schedule")
    stage_layers: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(strict=False)] | None = Field(
        default=None,
        description="layers of each stage (each chunk, in order), first to last; null: as many for all",
        examples=[[11, 12, 12, 13]],
    )
    ep: Count = Field(default=1, description="expert-parallel ranks, which are data-parallel ranks of all else")
    etp: Count | None = Field(
        default=None, description="ranks that share each expert (expert tensor parallelism); null: as tp"
    )
    zero: Annotated[Literal[0, 1, 2, 3], BeforeValidator(no_word)] = Field(
        default=0,
        description="what data-parallel ranks share: 1 optimizer state, 2 gradients too, 3 weights too (FSDP)",
    )
    sharding: Sharding = Field(
        default="flat",
        description="flat: one buffer of all parameters is cut (Megatron-LM, DeepSpeed); per-tensor: the rows of each "
        "(FSDP2)",
    )
    reshard_after_forward: bool = Field(
        default=True,
        description="of ZeRO 3: whether a layer's gathered weights are dropped after its forward pass and gathered "
        "again for the backward pass (PyTorch's fully_shard)",
    )
    prefetch: Prefetch = Field(
        default="backward",
        description="of ZeRO 3: in which passes the weights of the next layer are gathered while one runs (backward: "
        "as PyTorch's fully_shard does by itself)",
    )
    gathered_inputs: Gathered = Field(
        default="again",
        description="of sequence parallelism: gathered inputs are gathered again in the backward pass (Megatron-LM) "
        "or kept (PyTorch)",
    )
    micro_batch: Count = Field(default=1, description="sequences that a rank computes at a time")
    accumulation: Count = Field(default=1, description="micro-batches of a step")
    vocab_divisible_by: Count | None = Field(
        default=None,
        description="rows of the token table are padded to a multiple of this times tp (Megatron-LM: 128); null: the "
        "last rank has fewer rows",
        examples=[128],
    )

    cache_block: Count | None = Field(
        default=None,
        description="positions of a block of the key-value cache, as an engine pages it (vLLM: 16); null: exact",
        examples=[16],
    )

    framework: Framework | None = Field(
        default=None,
        description="whose habits hold where the plan says nothing: of sharding, gathered_inputs, prefetch, "
        "vocab_divisible_by, precision and optimizer",
    )
    precision: Precision | None = Field(
        default=None, description="recipe of training, or precision of the weights in inference; null: the command's"
    )
    optimizer: Optimizer | None = Field(default=None, description="of training; null: the command's")
    recompute: Recompute | None = Field(
        default=None, description="what the backward pass computes again; null: the command's"
    )
    recompute_layers: Count | None = Field(
        default=None,
        description="of recompute: full, how many layers of each stage (and chunk) are recomputed, the first ones; "
        "null: all",
    )
    offload_optimizer: bool = Field(
        default=False,
        description="whether the optimizer's state is in the host's memory, and the optimizer steps there",
    )

    @model_validator(mode="before")
    @classmethod
    def _has_habits(cls, data: Any) -> Any:
        return with_habits(data)

    @property
    def expert_tp(self) -> Any:
        """Ranks that share each expert."""
        return self.tp if self.etp is None else self.etp

    @property
    def world(self) -> Any:
        """All ranks."""
        return self.dp * self.cp * self.tp * self.pp

    @property
    def expert_dp(self) -> Any:
        """Ranks that hold the same experts: the data-parallel ranks of their weights."""
        return self.dp * self.cp // self.ep_of_dp

    @property
    def ep_of_dp(self) -> Any:
        """Data-parallel ranks that hold different experts; where experts are spread, those that share heads do too."""
        return self.ep // self.tp if self.spreads_experts else self.ep

    @property
    def parts_of_a_sequence(self) -> Any:
        """Ranks over which the positions of the residual stream are cut."""
        return self.cp * (self.tp if self.sequence_parallel else 1)

    @property
    def spreads_experts(self) -> bool:
        """Whether ranks that share heads have different experts, each whole, and tokens of their own to send."""
        return self.etp is not None and anywhere((self.tp > 1) & (self.etp == 1))

    @property
    def virtual_stages(self) -> int:
        """Stages, each chunk of an interleaved schedule for itself."""
        return self.pp * self.chunks

    @property
    def cuts_the_model(self) -> bool:
        """Whether a rank has a part of the model, and not only of the batch."""
        return anywhere(self.tp * self.cp * self.pp * self.ep > 1)

    @model_validator(mode="after")
    def _schedule_and_stages_agree(self) -> Self:
        if self.schedule == "interleaved" and self.chunks == 1:
            raise _error("has schedule interleaved, which needs chunks of at least 2")
        for field, need in NEEDS.items():
            if getattr(self, field) != type(self).model_fields[field].default and not need.met(self):
                raise _error("has {field}, which needs {needs}", field=field, needs=need.words)
        if self.stage_layers is not None and len(self.stage_layers) != self.virtual_stages:
            raise _error(
                "has {found} stage_layers; pp {pp} x chunks {chunks} needs {needs}",
                found=len(self.stage_layers),
                pp=self.pp,
                chunks=self.chunks,
                needs=self.virtual_stages,
            )
        return self


def _error(what: str, **context: Any) -> PydanticCustomError:
    return PydanticCustomError("one_of", what, context)
