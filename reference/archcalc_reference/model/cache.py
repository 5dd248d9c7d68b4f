"""The cache: what all layers keep of the positions read so far."""

from __future__ import annotations

from copy import copy
from typing import Any

import torch
from torch import Tensor

from archcalc.spec.model import Model
from archcalc_reference.model.layer import states
from archcalc_reference.model.state import Memory, State


class Cache:
    """What mixers keep of the positions read so far, so that a new one need not read the old ones again.

    Its memory is taken once, for `batch` sequences of at most `length` positions; `filled` of them were read. There is
    a state for each mixer that keeps one, in the order of the forward pass; None for one that does not.
    """

    def __init__(
        self, model: Model, batch: int, length: int, dtype: torch.dtype = torch.float32, device: Any = None
    ) -> None:
        self.filled, self.length = 0, length
        self.states = states(model, batch, length, dtype, device)

    @property
    def kept(self) -> list[State]:
        """The states that there are."""
        return [state for layer in self.states for state in layer if state is not None]

    @property
    def tensors(self) -> list[Tensor]:
        """All of its memory."""
        return [tensor for state in self.kept for tensor in state.tensors]

    @property
    def nbytes(self) -> int:
        """Bytes of its memory, filled or not."""
        return sum(tensor.nbytes for tensor in self.tensors)

    @property
    def state_nbytes(self) -> int:
        """The part of them that stands for all positions, however many."""
        states = [state for state in self.kept if isinstance(state, Memory)]
        return sum(tensor.nbytes for state in states for tensor in state.tensors)

    def first(self) -> Cache:
        """The part of it that is the first sequence's, in the same memory."""
        one = copy(self)
        one.states = [[state and state.first() for state in layer] for layer in self.states]
        return one

    def spread(self, one: Cache) -> None:
        """Give all sequences what the first has."""
        for state in self.kept:
            state.spread(one.filled)
        self.filled = one.filled

    def rewind(self, filled: int) -> int:
        """Forget all positions from `filled` on; how many are there then.

        None are where a window has moved on from one that would be seen again, or a recurrent state has taken it in:
        the text is to be read anew.
        """
        lost = not all(state.can_rewind(self.filled, filled) for state in self.kept)
        self.filled = 0 if lost else min(filled, self.filled)
        return self.filled
