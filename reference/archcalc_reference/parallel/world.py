"""The ranks that torchrun started, or one process alone: how they join, agree, and tell."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist

from archcalc.errors import ArchcalcError, Invalid, Missing, Problem
from archcalc_reference.parallel.place import Ended, place, tell

Found = TypeVar("Found")


class World:
    """All ranks of a training, as one of them sees it."""

    def __init__(self, rank: int, size: int, device: torch.device) -> None:
        self.rank, self.size, self.device = rank, size, device

    @property
    def first(self) -> bool:
        """Whether this is the rank that tells, and writes what is written once."""
        return self.rank == 0

    def tell(self, text: str) -> None:
        """A line of the first rank."""
        if self.first:
            tell(text)

    @contextmanager
    def together(self) -> Iterator[None]:
        """What one rank cannot do, none does: an error of archcalc's inside ends all. The first that has one tells."""
        said: ArchcalcError | None = None
        try:
            yield
        except ArchcalcError as error:
            said = error
        found = self.gathered(None if said is None else said.exit_code)
        worst = next((rank for rank, code in enumerate(found) if code is not None), None)
        if worst is not None:
            if worst == self.rank:
                tell(str(said))
            raise Ended(found[worst] or 0)

    def of_first(self, work: Callable[[], Found]) -> Found:
        """What the first rank finds, for all. Its errors end all."""
        found: Found | None = None
        with self.together():
            if self.first:
                found = work()
        return cast("Found", self.gathered(found)[0])

    def gathered(self, own: Found) -> list[Found]:
        """What each rank has, in their order."""
        found: list[Any] = [None] * self.size
        dist.all_gather_object(found, own)
        return found

    def mean(self, own: float) -> float:
        """The mean of a number over all ranks."""
        total = torch.tensor(own, dtype=torch.float64)
        dist.all_reduce(total)
        return total.item() / self.size

    def any(self, own: bool) -> bool:  # noqa: FBT001  (a question has no other argument)
        """Whether something is so on some rank."""
        return self.mean(float(own)) > 0


@contextmanager
def joined(asked: str | None) -> Iterator[World]:
    """Join the other ranks, on the device that was asked for or the best that is there.

    Numbers of the CPU go over gloo, those of GPUs over NCCL. Raises Missing or Invalid for a device that is not there.
    """
    rank, size = place()
    device = _device(asked)
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, store=_store(size), rank=rank, world_size=size)
    try:
        yield World(rank, size, device)
    except (ArchcalcError, Ended):  # the same on all ranks
        dist.destroy_process_group()
        raise
    dist.destroy_process_group()  # where anything else was raised another rank may be gone, and be waited for


def _store(size: int) -> Any:
    """Where ranks find each other.

    torchrun's own store outlives a restart, with the addresses of processes that are gone: each attempt has its names.
    """
    if size == 1:
        return dist.HashStore()
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    of_torchrun = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    store = dist.TCPStore(address, port, size, is_master=place() == (0, size) and not of_torchrun)
    return dist.PrefixStore(f"attempt {os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)


def _device(asked: str | None) -> torch.device:
    there = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if asked == "cpu" or (asked is None and not there):
        return torch.device("cpu")
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if not there:
        raise Missing(Problem("--device", "no CUDA device is visible", value="'cuda'", suggestion="use --device cpu"))
    if local >= there:
        fix = f"start at most {there} ranks on a machine, or use --device cpu"
        raise Invalid(Problem("--device", f"rank {local} of this machine has no GPU: it has {there}", suggestion=fix))
    torch.cuda.set_device(local)
    return torch.device("cuda", local)
