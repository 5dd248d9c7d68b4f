"""What proofs take from modules that PyTorch calls private, all in one place: where one has moved, it says which."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import SimpleNamespace
from typing import Any, NamedTuple

from archcalc.counts.exchanged import Operation
from archcalc.errors import Missing, Problem

TRIED_WITH = "2.13"


class Moved(Missing):
    """PyTorch has no longer, or not yet, what a proof needs of it. As other things that are missing, exit code 3."""


def _take(module: str, name: str) -> Any:
    """A name of a module, or Moved with the version that has it and the one that is here."""
    import torch

    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError):
        what = f"{module}.{name} is not in PyTorch {torch.__version__}; this proof was written for {TRIED_WITH}"
        raise Moved(Problem("verify", what)) from None


@contextmanager
def simulated_group(rank: int, ranks: int) -> Iterator[None]:
    """One rank of a process group whose others are not there: collectives take place in name only."""
    import torch.distributed as dist

    store = _take("torch.testing._internal.distributed.fake_pg", "FakeStore")()
    dist.init_process_group("fake", rank=rank, world_size=ranks, store=store)
    try:
        yield
    finally:
        dist.destroy_process_group()


def shapes_only() -> Any:
    """A mode of PyTorch in which tensors of the CPU have no numbers."""
    return _take("torch._subclasses.fake_tensor", "FakeTensorMode")(allow_non_fake_inputs=True)


def with_numbers() -> Any:
    """Out of that mode again: a mesh of devices is worked out with numbers."""
    return _take("torch._subclasses.fake_tensor", "unset_fake_temporarily")()


def tracker(reference: Any, optimizer: Any, *, sharded: bool) -> Any:
    """PyTorch's own tracker of memory: a mode, and the module's peak by kinds of tensors. It rounds nothing."""
    within = "torch.distributed._tools"
    rounding = import_module(f"{within}.mem_tracker")
    _take(f"{within}.mem_tracker", "_PYTORCH_MIN_ALLOCATE")
    rounding._PYTORCH_MIN_ALLOCATE = 1  # type: ignore[attr-defined]  # noqa: SLF001
    if sharded:
        return _take(f"{within}.fsdp2_mem_tracker", "FSDPMemTracker")(reference, optimizer)
    found = _take(f"{within}.mem_tracker", "MemTracker")()
    found.track_external(reference, optimizer)
    return found


def actions(schedule: str, ranks: int, chunks: int, micro_batches: int) -> list[list[tuple[str, int, int]]]:
    """What each rank does in a schedule of PyTorch's: forward or backward, which stage, which micro-batch."""
    made = _take("torch.distributed.pipelining", schedule)
    stages = [
        SimpleNamespace(
            num_stages=ranks * chunks,
            group_size=ranks,
            group_rank=0,
            stage_index=chunk * ranks,
            is_first=chunk == 0,
            is_last=False,
            has_backward=True,
            submod=None,
        )
        for chunk in range(chunks)
    ]
    order = made(stages if chunks > 1 else stages[0], micro_batches).pipeline_order
    kinds = {"FORWARD": "forward", "FULL_BACKWARD": "backward"}
    return [
        [
            (kinds[action.computation_type.name], action.stage_index, action.microbatch_index)
            for action in order[rank]
            if action is not None and action.computation_type.name in kinds
        ]
        for rank in range(ranks)
    ]


class Called(NamedTuple):
    """A call of a collective: the ranks among which it is, one of its tensors, and the bytes of the whole."""

    operation: Operation
    ranks: tuple[int, ...]
    tensor: Any
    bytes: int


_COLLECTIVES: dict[str, Operation] = {
    "all_reduce": "all-reduce",
    "allreduce_": "all-reduce",
    "all_gather_into_tensor": "all-gather",
    "_allgather_base_": "all-gather",
    "reduce_scatter_tensor": "reduce-scatter",
    "_reduce_scatter_base_": "reduce-scatter",
    "all_to_all_single": "all-to-all",
    "alltoall_base_": "all-to-all",
    "send": "send",
}
_SILENT = ("wait_tensor", "recv_", "_wrap_tensor_autograd", "monitored_barrier_", "barrier")
"""Ops that send nothing: what is received is sent by another."""


def collective(op: Any, args: Any) -> Called | None:
    """What an op of PyTorch's sends to other ranks; None of one that sends nothing.

    Raises Moved for a collective that is not among those that are known.
    """
    import torch
    import torch.distributed as dist
    from torch.utils._pytree import tree_leaves

    name = op._schema.name.partition("::")[2]  # noqa: SLF001
    if op.namespace not in ("c10d", "_c10d_functional") or name in _SILENT:
        return None
    if name not in _COLLECTIVES:
        what = f"the collective {op.namespace}.{name} is not known; this proof was written for {TRIED_WITH}"
        raise Moved(Problem("verify", what))
    tensors = [x for x in tree_leaves(args) if isinstance(x, torch.Tensor)]
    ranks = tuple(dist.get_process_group_ranks(_group(args)))
    operation = _COLLECTIVES[name]
    sizes = [x.nbytes for x in tensors]
    if operation == "all-to-all":  # what it sends; where it comes in is given first
        sizes = sizes[-1:]
    elif name == "all_gather_into_tensor":
        sizes = [sizes[0] * len(ranks)]
    return Called(operation, ranks, tensors[0], max(sizes))


def _group(args: Any) -> Any:
    """The ranks that a collective is among: a group, or the name of one."""
    import torch.distributed as dist
    from torch.utils._pytree import tree_leaves

    for x in reversed(tree_leaves(args)):
        if isinstance(x, str):
            return _take("torch.distributed.distributed_c10d", "_resolve_process_group")(x)
        if "ProcessGroup" in str(getattr(x, "_type", str)()):
            return dist.ProcessGroup.unbox(x)
    return None
