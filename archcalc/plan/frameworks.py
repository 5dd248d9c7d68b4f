"""Where frameworks differ by bytes: what each does by itself, as fields of a plan that does not say otherwise.

- megatron: Megatron-LM: a flat distributed optimizer, inputs gathered again under sequence parallelism, a
  vocabulary padded by 128 times tp (--make-vocab-size-divisible-by), fp32 main gradients, a fused AdamW.
- pytorch: PyTorch 2.13: fully_shard cuts the rows of each tensor, DTensor keeps gathered inputs; bf16 by fully_shard's
  mixed precision, and by torch.autocast without it; torch.optim.AdamW is foreach on a GPU.
- deepspeed: DeepSpeed: flat buffers, the weights of the next layer fetched in both passes (ZeRO 3), bf16
  gradients (Rajbhandari et al. 2020, arXiv:1910.02054), a fused AdamW.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

Framework = Literal["megatron", "pytorch", "deepspeed"]
Fields = Mapping[str, Any]


class Case(NamedTuple):
    """Which plans: in words, and whether one is of them."""

    words: str
    of: Callable[[Fields], bool]


ALWAYS = Case("", lambda _: True)
SHARES = Case("with ZeRO", lambda plan: plan.get("zero") in (1, 2, 3))
SHARES_WEIGHTS = Case("with ZeRO 3", lambda plan: plan.get("zero") == 3)
CUTS_POSITIONS = Case("with sequence parallelism", lambda plan: plan.get("sequence_parallel") is True)


class Habit(NamedTuple):
    """The value of a field where a plan does not give it, and of which plans."""

    field: str
    value: Any
    case: Case


HABITS: dict[str, tuple[Habit, ...]] = {
    "megatron": (
        Habit("sharding", "flat", SHARES),
        Habit("gathered_inputs", "again", CUTS_POSITIONS),
        Habit("vocab_divisible_by", 128, ALWAYS),
    ),
    "pytorch": (
        Habit("sharding", "per-tensor", SHARES),
        Habit("gathered_inputs", "kept", CUTS_POSITIONS),
        Habit("prefetch", "backward", SHARES_WEIGHTS),
    ),
    "deepspeed": (Habit("sharding", "flat", SHARES), Habit("prefetch", "both", SHARES_WEIGHTS)),
}
RECIPES: dict[str, tuple[Habit, ...]] = {
    "megatron": (Habit("precision", "mixed-18", ALWAYS), Habit("optimizer", "adamw-fused", ALWAYS)),
    "pytorch": (
        Habit("precision", "fsdp-bf16", SHARES_WEIGHTS),
        Habit("precision", "amp", ALWAYS),
        Habit("optimizer", "adamw-foreach", ALWAYS),
    ),
    "deepspeed": (Habit("precision", "mixed-16", ALWAYS), Habit("optimizer", "adamw-fused", ALWAYS)),
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
    return {**{habit.field: habit.value for habit in HABITS.get(framework, ()) if habit.case.of(plan)}, **plan}
