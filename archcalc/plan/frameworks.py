"""Where frameworks differ by bytes: what each does by itself, as fields of a plan that does not say otherwise.

- megatron: Megatron-LM (core 0.15): a flat distributed optimizer, inputs gathered again under sequence parallelism, a
  vocabulary padded by 128 times tp (--make-vocab-size-divisible-by), fp32 main gradients, a fused AdamW.
- pytorch: PyTorch 2.13: fully_shard cuts the rows of each tensor, DTensor keeps gathered inputs; bf16 by fully_shard's
  mixed precision, and by torch.autocast without it; torch.optim.AdamW is foreach on a GPU.
- deepspeed: DeepSpeed 0.18: flat buffers, the weights of the next layer fetched in both passes (ZeRO 3), bf16
  gradients, a fused AdamW.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

Framework = Literal["megatron", "pytorch", "deepspeed"]
Fields = Mapping[str, Any]


class Habit(NamedTuple):
    """The value of a field where a plan does not give it, and of which plans."""

    field: str
    value: Any
    of: Callable[[Fields], bool]


def _shares(plan: Fields) -> bool:
    return plan.get("zero") in (1, 2, 3)


def _shares_weights(plan: Fields) -> bool:
    return plan.get("zero") == 3


def _cuts_positions(plan: Fields) -> bool:
    return plan.get("sequence_parallel") is True


def _always(_plan: Fields) -> bool:
    return True


HABITS: dict[str, tuple[Habit, ...]] = {
    "megatron": (
        Habit("sharding", "flat", _shares),
        Habit("gathered_inputs", "again", _cuts_positions),
        Habit("vocab_divisible_by", 128, _always),
    ),
    "pytorch": (
        Habit("sharding", "per-tensor", _shares),
        Habit("gathered_inputs", "kept", _cuts_positions),
        Habit("prefetch", "backward", _shares_weights),
    ),
    "deepspeed": (Habit("sharding", "flat", _shares), Habit("prefetch", "both", _shares_weights)),
}
RECIPES: dict[str, tuple[Habit, ...]] = {
    "megatron": (Habit("precision", "mixed-18", _always), Habit("optimizer", "adamw-fused", _always)),
    "pytorch": (
        Habit("precision", "fsdp-bf16", _shares_weights),
        Habit("precision", "amp", _always),
        Habit("optimizer", "adamw-foreach", _always),
    ),
    "deepspeed": (Habit("precision", "mixed-16", _always), Habit("optimizer", "adamw-fused", _always)),
}
"""Of training: the first that a plan is of."""


def precision_follows_zero(framework: str | None) -> bool:
    """Whether a framework has a recipe of its own where weights are shared."""
    return len([habit for habit in RECIPES.get(framework or "", ()) if habit.field == "precision"]) > 1


def with_habits(plan: Any) -> Any:
    """The fields of a plan, with those that follow from others or from its framework where it does not give them."""
    if not isinstance(plan, dict):
        return plan
    if plan.get("recompute_layers") is not None and plan.get("recompute") is None:
        plan = {**plan, "recompute": "full"}
    if not isinstance(framework := plan.get("framework"), str):
        return plan
    return {**{habit.field: habit.value for habit in HABITS.get(framework, ()) if habit.of(plan)}, **plan}
