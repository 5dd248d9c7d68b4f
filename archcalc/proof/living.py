"""The bytes of all tensors that are there while ops run: what kernels hand out, without what they need inside.

A storage that is emptied and filled again, as gathered weights are, counts as it is at each op.
"""

from __future__ import annotations

from typing import Any
from weakref import WeakValueDictionary

from archcalc.proof.allocator import identity


def part_of(tensor: Any) -> Any:
    """Of a tensor that ranks share the part that is here."""
    return getattr(tensor, "_local_tensor", tensor)


def living(held: list[Any]) -> Any:
    """A mode of PyTorch that adds up the storages that ops read or make; `held` are tensors that are there before.

    Its `most` is the largest sum so far, in bytes.
    """
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    class Living(TorchDispatchMode):  # type: ignore[misc]  # torch's own types are not read
        def __init__(self) -> None:
            super().__init__()
            self.known: WeakValueDictionary[int, Any] = WeakValueDictionary()
            self.most = 0
            self._meet(held)

        def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if any(kind.__name__ == "DTensor" for kind in types):
                return NotImplemented  # its parts come by themselves
            found = op(*args, **(kwargs or {}))
            self._meet([*tree_leaves(args), *tree_leaves(kwargs or {}), *tree_leaves(found)])
            self.most = max(self.most, self.now)
            return found

        @property
        def now(self) -> int:
            return sum(storage.nbytes() for storage in self.known.values())

        def _meet(self, tensors: list[Any]) -> None:
            for tensor in map(part_of, tensors):
                if hasattr(tensor, "untyped_storage"):
                    storage = tensor.untyped_storage()
                    self.known[identity(storage)] = storage

    return Living()
