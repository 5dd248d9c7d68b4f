"""The reference as PyTorch's own parallelism runs it: what a plan says, said to torch.distributed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

from archcalc.errors import Invalid, Problem
from archcalc.plan.description import Plan
from archcalc.spec.model import Model


def refuse_unrun(plan: Plan, *, tensors: bool = False, experts: bool = False) -> None:
    """Raise Invalid for a plan that the reference does not know how to run.

    With `tensors` it is cut by tp too, with `experts` ranks have different ones.
    """
    if plan.zero in (1, 2):
        raise Invalid(Problem(plan.name, "is not supported here", "zero", value=f"{plan.zero}", suggestion="0 or 3"))
    if plan.zero and plan.sharding != "per-tensor":
        fix = "per-tensor, as PyTorch's fully_shard cuts"
        raise Invalid(Problem(plan.name, "is not supported here", "sharding", value=plan.sharding, suggestion=fix))
    for name in ("cp", "pp", *(() if experts else ("ep",)), *(() if tensors else ("tp",))):
        if getattr(plan, name) > 1:
            raise Invalid(Problem(plan.name, "is not supported here", name, value=f"{getattr(plan, name)}"))


def shard(reference: Any, plan: Plan, mesh: Any, *, narrow: bool = False) -> None:
    """Make each layer a group of fully_shard, and the rest of the model the root, over a mesh of one axis.

    `narrow` weights are gathered in bf16, and their gradients reduced in fp32.
    """
    import torch
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    policy = MixedPrecisionPolicy(torch.bfloat16, torch.float32) if narrow else MixedPrecisionPolicy()
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


def cut(reference: Any, plan: Plan, mesh: Any) -> None:
    """Cut heads, features and the vocabulary over a mesh of tensor-parallel ranks, as DTensor does it.

    Raises Invalid for parts that no style of PyTorch's cuts: their ops have no rule for cut tensors.
    """
    from torch.distributed.tensor import Replicate, Shard
    from torch.distributed.tensor.parallel import (
        ColwiseParallel,
        PrepareModuleInput,
        RowwiseParallel,
        SequenceParallel,
        parallelize_module,
    )

    stream: Any = Shard(1) if plan.sequence_parallel else Replicate()
    for layer in reference.layers:
        styles: dict[str, Any] = {}
        for branch in layer.branches:
            _cut_heads(reference.spec, branch, plan)
            if plan.sequence_parallel:
                _refuse_own_norm(reference.spec, branch)
                styles[f"{branch.name}_norm"] = SequenceParallel()
            read = PrepareModuleInput(
                input_layouts=(stream, *(None,) * 2), desired_input_layouts=(Replicate(), *(None,) * 2)
            )
            styles[branch.name] = read
            for name, part in branch.mixer.named_children():
                if name in _COLUMNS:
                    styles[f"{branch.name}.{name}"] = ColwiseParallel()
                elif name in _ROWS:
                    styles[f"{branch.name}.{name}"] = RowwiseParallel(output_layouts=stream)
                elif any(True for _ in part.parameters()):
                    raise Invalid(Problem(reference.spec.name, f"{branch.name}.{name} is not cut by PyTorch"))
        parallelize_module(layer, mesh, styles)
    ends: dict[str, Any] = {
        "embedding.token": RowwiseParallel(input_layouts=Replicate(), output_layouts=stream),
        "unembedding": ColwiseParallel(input_layouts=stream, output_layouts=Shard(-1), use_local_output=False),
    }
    if reference.embedding.position is not None and plan.sequence_parallel:
        ends["embedding.position"] = RowwiseParallel(input_layouts=Replicate(), output_layouts=Shard(0))
    if plan.sequence_parallel:
        ends["final_norm"] = SequenceParallel()
    parallelize_module(reference, mesh, ends)
    if reference.unembedding.tied:  # each was cut by itself, to the same rows
        reference.unembedding.weight = reference.embedding.token.weight


@contextmanager
def cut_loss(plan: Plan) -> Iterator[None]:
    """A loss of which each rank works out the part of its rows of the vocabulary."""
    if plan.tp == 1:
        yield
        return
    from torch.distributed.tensor.parallel import loss_parallel

    with loss_parallel():
        yield


_COLUMNS, _ROWS = ("query", "key", "value", "gate", "up"), ("output", "down")


def _refuse_own_norm(model: Model, branch: Any) -> None:
    """DTensor knows PyTorch's own kernels, and not the reference's."""
    if branch.norm is None or branch.shares_norm or not getattr(branch.norm, "simple", False):
        what = f"{branch.name}_norm is a kernel of the reference, which DTensor does not run where positions are cut"
        raise Invalid(Problem(model.name, what))


def _cut_heads(model: Model, branch: Any, plan: Plan) -> None:
    """Tell an attention how many key/value heads it has here."""
    if not hasattr(branch.mixer, "G"):
        return
    if branch.mixer.G % plan.tp:
        raise Invalid(Problem(model.name, f"has {branch.mixer.G} key/value heads, which tp {plan.tp} does not divide"))
    branch.mixer.G //= plan.tp
