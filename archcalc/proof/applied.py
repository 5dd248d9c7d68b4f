"""The reference as one rank of a plan has it, in a process group that is there."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

from archcalc.plan.description import Plan
from archcalc.spec.model import Model
from archcalc.tape.precision import Keeping


class Meshes:
    """The ranks that differ along each axis of a plan. Any of them may be one rank."""

    def __init__(self, plan: Plan) -> None:
        from torch.distributed.device_mesh import init_device_mesh

        from archcalc_reference.parallel.expert import expert_meshes

        mesh = init_device_mesh("cpu", (plan.dp, plan.tp), mesh_dim_names=("dp", "tp"))
        self.plan, self.by_data, self.by_features = plan, mesh["dp"], mesh["tp"]
        self.same_experts, self.by_expert = expert_meshes(plan) if plan.ep > 1 else (self.by_data,) * 2

    def apply(self, model: Model, keeping: Keeping) -> Any:
        """A new model whose weights this rank has a part of."""
        import torch

        from archcalc_reference import Transformer

        reference = Transformer(model).to(torch.bfloat16 if keeping.recipe.weight == 2 else torch.float32)
        self.divide(reference, keeping)
        return reference

    def divide(self, reference: Any, keeping: Keeping, sharding: Callable[[], Any] = nullcontext) -> None:
        """Leave this rank its part of each weight; `sharding` is a block in which fully_shard is applied."""
        from archcalc_reference.parallel.applying import cut, shard
        from archcalc_reference.parallel.expert import spread

        if self.plan.tp > 1:
            cut(reference, self.plan, self.by_features)
        if self.plan.ep > 1:
            spread(reference, self.by_expert)
        if self.plan.zero:
            with sharding():
                shard(reference, self.plan, self.by_data, narrow=keeping.recipe.gathered == 2)

    def end_backward(self, reference: Any) -> None:
        """Average gradients over data-parallel ranks, where fully_shard does not."""
        from archcalc_reference.parallel.averaging import average

        if not self.plan.zero:
            average(reference, self.by_data, self.same_experts)
