"""What a walk through a segment holds: tensors that are saved, made again, or on their way."""

from __future__ import annotations

from collections import Counter

from archcalc.counts.moments import Storage
from archcalc.tape.kernels import Node, is_given
from archcalc.tape.legend import Size, volume
from archcalc.tape.ops import Tensor
from archcalc.tape.passes import Segment
from archcalc.tape.roles import Widths


class Holding:
    """Bytes by what they are held for."""

    def __init__(self, segment: Segment, width: Widths) -> None:
        self.segment, self.width = segment, width
        self.saved: Size = 0
        self.recomputed: Size = 0
        self.transient: Size = 0
        self.held: dict[str, Size] = {}
        self.sizes: dict[tuple[tuple[str, ...], str], Size] = {}
        self.made_again: set[str] = set()

    def _make(self, tensor: Tensor, keeps: dict[str, Tensor], loose: dict[str, Size], *, again: bool) -> None:
        if is_given(tensor) or tensor.name in self.held:
            return
        size = self._bytes(tensor)
        if tensor.name not in keeps:
            loose[tensor.name] = size
            self.transient = self.transient + size
            return
        self.held[tensor.name] = size
        if again:
            self.made_again.add(tensor.name)
            self.recomputed = self.recomputed + size
        else:
            self.saved = self.saved + size

    def _release(self, node: Node, readers: Counter[str], *, again: bool) -> None:
        """Drop what it saved and no other backward pass reads; what was made `again` goes first."""
        for tensor in node.saves:
            if (tensor.name in self.made_again) != again:
                continue
            readers[tensor.name] -= 1
            if readers[tensor.name] or tensor.name not in self.held or self._stays(tensor):
                continue
            size = self.held.pop(tensor.name)
            if again:
                self.recomputed = self.recomputed - size
            else:
                self.saved = self.saved - size

    def _stays(self, tensor: Tensor) -> bool:
        """Whether others hold it on: layers that are computed again and share read what enters the first one."""
        raise NotImplementedError

    def _drop(self, storage: Storage) -> None:
        storage.holders -= 1
        if not storage.holders:
            self.transient = self.transient - storage.size

    def _bytes(self, tensor: Tensor) -> Size:
        kind = (tensor.labels, tensor.role)
        if kind not in self.sizes:  # a walk asks about each kind many times, and a formula takes its time
            self.sizes[kind] = volume(tensor.labels, self.segment.env) * self.width[tensor.role]
        return self.sizes[kind]
