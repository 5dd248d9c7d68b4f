"""The collectives that a rank issues in a step: which, among which ranks, in which pass, and of how many bytes."""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

from archcalc.counts.exchanged import Operation
from archcalc.proof.private import collective


class Issued(NamedTuple):
    """A collective that ran so many times.

    `ranks` are those that took part; `bytes` are of the whole tensor, of an all-to-all what the rank sends. Where
    ranks tell each other no numbers of the model, but how many will follow, it is `told`.
    """

    operation: Operation
    phase: str
    ranks: tuple[int, ...]
    bytes: int
    told: bool
    times: int = 1


def issued() -> Any:
    """A mode of PyTorch that records the collectives that are called in it.

    Its `phase` is that of what is recorded from now on.
    """
    from torch.utils._python_dispatch import TorchDispatchMode

    class Recording(TorchDispatchMode):  # type: ignore[misc]  # torch's own types are not read
        def __init__(self) -> None:
            super().__init__()
            self.phase = "forward"
            self.met: Counter[Issued] = Counter()

        def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if any(kind.__name__ == "DTensor" for kind in types):
                return NotImplemented  # its parts come by themselves
            if (called := collective(op, args)) is not None and len(called.ranks) > 1:
                told = not called.tensor.is_floating_point()
                self.met[Issued(called.operation, self.phase, called.ranks, called.bytes, told)] += 1
            return op(*args, **(kwargs or {}))

        @property
        def found(self) -> list[Issued]:
            return [one._replace(times=times) for one, times in self.met.items()]

    return Recording()
