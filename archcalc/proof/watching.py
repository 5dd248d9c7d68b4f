"""One step of a real training: its FLOPs by PyTorch's own counter, its peak of memory by the device's own record."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from archcalc.proof.allocator import identity, peak_within, undisturbed

if TYPE_CHECKING:
    from torch import Tensor

Told = TypeVar("Told")


class Seen(NamedTuple):
    """What a step took: FLOPs, and its peak memory in bytes."""

    flops: int
    peak_bytes: int


def watch(step: Callable[[], Told], held: Iterable[Tensor], device: str) -> tuple[Told, Seen]:
    """Run a step and see what it took; what it computes is what it would compute unseen.

    The record of a CPU begins with the step, so that `held`, the tensors that are there before it, is added.
    """
    import torch

    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        told, flops = _counted(step)
        return told, Seen(flops, torch.cuda.memory_stats()["requested_bytes.all.peak"])

    from torch.profiler import ProfilerActivity, profile, record_function

    before = sum({identity(tensor.untyped_storage()): tensor.untyped_storage().nbytes() for tensor in held}.values())
    with undisturbed(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        stretch = record_function("watched")
        with stretch:
            told, flops = _counted(step)
    return told, Seen(flops, before + peak_within(record, "watched")[1])


def _counted(step: Callable[[], Told]) -> tuple[Told, int]:
    """FLOPs by PyTorch's counter. It knows no flash attention on a CPU, so it is lent its own formula of the GPU's."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode, flop_registry

    aten, flash = torch.ops.aten, "_scaled_dot_product_flash_attention"
    lent = {
        getattr(aten, f"{flash}_for_cpu{end}"): _raw(flop_registry[getattr(aten, f"{flash}{end}")])
        for end in ("", "_backward")
    }
    with FlopCounterMode(display=False, custom_mapping=lent) as counter:
        told = step()
    return told, counter.get_total_flops()


def _raw(formula: Any) -> Any:
    """A formula of the registry, which takes tensors already and wants no wrapping."""

    def same(*arguments: Any, **named: Any) -> Any:
        return formula(*arguments, **named)

    same._get_raw = True  # type: ignore[attr-defined]  # noqa: SLF001  (how the counter is told)
    return same
