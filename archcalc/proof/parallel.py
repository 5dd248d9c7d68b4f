"""The reference as PyTorch's own parallelism runs it: what a plan says, said to torch.distributed."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from archcalc.errors import Invalid, Problem
from archcalc.plan.description import Plan
from archcalc.tape.precision import Keeping


def refuse_unrun(plan: Plan) -> None:
    """Raise Invalid for a plan that the reference does not know how to run."""
    if plan.zero not in (0, 3) or (plan.zero == 3 and plan.sharding != "per-tensor"):
        fix = "fully_shard is zero: 3 with sharding: per-tensor"
        raise Invalid(Problem(plan.name, "shares what PyTorch's fully_shard does not", "zero", suggestion=fix))
    for name in ("cp", "pp", "ep", "tp"):
        if getattr(plan, name) > 1:
            raise Invalid(Problem(plan.name, f"has {name} {getattr(plan, name)}, which the reference does not run"))


def shard(reference: Any, plan: Plan, keeping: Keeping, mesh: Any) -> None:
    """Make each layer a group of fully_shard, and the rest of the model the root, over a mesh of one axis."""
    import torch
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    recipe = keeping.recipe
    narrow = {2: torch.bfloat16}.get(recipe.gathered)
    policy = MixedPrecisionPolicy(narrow, torch.float32 if narrow else None)
    layers = list(reference.layers)
    for layer in layers:
        fully_shard(layer, mesh=mesh, mp_policy=policy, reshard_after_forward=plan.reshard_after_forward)
    fully_shard(reference, mesh=mesh, mp_policy=policy)
    if plan.prefetch == "both":
        for one, following in pairwise(layers):
            one.set_modules_to_forward_prefetch([following])
    elif plan.prefetch == "none":  # what is gathered already is gathered again by nobody
        for part in (*layers, reference):
            part.set_modules_to_backward_prefetch([part])
