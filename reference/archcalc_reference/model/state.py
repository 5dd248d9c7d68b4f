"""What a layer keeps of the positions read so far, and where in it a new position finds what it may see.

A layer whose queries see a window, or their chunk, keeps no more positions than that: position p stands at place p mod
the number of places, over the one that nobody sees any more. Where there are chunks p counts from its chunk,
so that a chunk shorter than a window stands in order.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor


class Sight(NamedTuple):
    """How far a query sees: a window of positions, its own chunk of them, or all that came before (both None)."""

    window: int | None = None
    chunk: int | None = None

    def farthest(self, position: int) -> int:
        """The first position that a query at `position` sees."""
        from_window = 0 if self.window is None else position - self.window + 1
        from_chunk = 0 if self.chunk is None else position - position % self.chunk
        return max(from_window, from_chunk, 0)

    def places(self, length: int) -> int:
        """How many positions must be kept of a text of `length`."""
        return min(size for size in (length, self.window, self.chunk) if size is not None)

    def place(self, position: int, places: int) -> int:
        """Where a position stands among so many places."""
        return (position if self.chunk is None else position % self.chunk) % places

    def run(self, position: int, places: int) -> int:
        """How many positions from this one on stand one after the other."""
        here = places - self.place(position, places)
        return here if self.chunk is None else min(here, self.chunk - position % self.chunk)


class Read(NamedTuple):
    """The keys that a pass reads: those of `count` positions from `start` on; the first stands at place `turned`.

    Key j is that of position start + (j - turned) mod count. `held` says whether they are read where they are kept.
    `masked`: they are all that there is room for, and a mask hides those that nobody sees.
    """

    start: int
    count: int  # type: ignore[assignment]  # a tuple's own method, of which nobody reads the name here
    turned: int = 0
    held: bool = True
    masked: bool = False


def reading(sight: Sight, first: int, new: int, places: int | None) -> Read:
    """What `new` positions from `first` on read, of a state with so many places; None: nothing is kept."""
    if places is None:
        return Read(first, new, held=False)
    start, end = sight.farthest(first), first + new
    count = end - start
    if count <= sight.run(start, places):
        return Read(start, count)
    if count == places and (sight.chunk is None or start // sight.chunk == (end - 1) // sight.chunk):
        return Read(start, count, sight.place(start, places))
    return Read(start, count, held=False)


class KeysValues:
    """Keys and values of one layer. A head's positions stand together, as products of matrices read them."""

    def __init__(self, k_BGTK: Tensor, v_BGTW: Tensor, sight: Sight) -> None:
        self.k_BGTK, self.v_BGTW, self.sight = k_BGTK, v_BGTW, sight
        self.places = k_BGTK.shape[2]
        """Positions that it has room for."""

    @classmethod
    def empty(
        cls, kept: tuple[int, ...], features: tuple[int, int], sight: Sight, dtype: Any, device: Any
    ) -> KeysValues:
        """Room for `kept`: sequences, heads and positions."""
        k, v = (torch.empty(*kept, size, dtype=dtype, device=device) for size in features)
        return cls(k, v, sight)

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """Its memory."""
        return self.k_BGTK, self.v_BGTW

    def can_rewind(self, filled: int, to: int) -> bool:
        """Whether it is as it was when it had read fewer positions: while no new one has taken an old one's place."""
        return filled <= self.places or to >= filled

    def first(self) -> KeysValues:
        """The first sequence's part of it, in the same memory."""
        return KeysValues(self.k_BGTK[:1], self.v_BGTW[:1], self.sight)

    def spread(self, filled: int) -> None:
        """Give all sequences what the first has."""
        for kept in self.tensors:
            kept[1:, :, :filled] = kept[:1, :, :filled]

    def store(self, k_BGSK: Tensor, v_BGSW: Tensor, first: int) -> tuple[Tensor, Tensor]:
        """Keep what is new, from position `first` on; the keys and values that it reads come back: see `reading`."""
        read = reading(self.sight, first, k_BGSK.shape[2], self.places)
        if read.held:
            self._write(k_BGSK, v_BGSW, first)
            start = self.sight.place(read.start, self.places)
            if read.turned:
                return self.k_BGTK, self.v_BGTW
            return self.k_BGTK.narrow(2, start, read.count), self.v_BGTW.narrow(2, start, read.count)
        together = [
            new if read.start == first else torch.cat([self._positions(kept, read.start, first), new], 2)
            for kept, new in ((self.k_BGTK, k_BGSK), (self.v_BGTW, v_BGSW))
        ]
        self._write(k_BGSK, v_BGSW, first)
        return together[0], together[1]

    def _write(self, k_BGSK: Tensor, v_BGSW: Tensor, first: int) -> None:
        """The last of the new positions, as many as there are places for, each to its place."""
        new = k_BGSK.shape[2]
        for kept, fresh in ((self.k_BGTK, k_BGSK), (self.v_BGTW, v_BGSW)):
            at = max(new - self.places, 0)
            while at < new:
                place = self.sight.place(first + at, self.places)
                many = min(new - at, self.sight.run(first + at, self.places))
                kept.narrow(2, place, many).copy_(fresh.narrow(2, at, many))
                at += many

    def _positions(self, kept: Tensor, start: int, end: int) -> Tensor:
        """The kept positions from `start` to `end`, in order."""
        places = [self.sight.place(position, self.places) for position in range(start, end)]
        return kept[:, :, places]


class Memory:
    """What a recurrent mixer keeps: a state that stands for all positions, and the last ones for its convolutions."""

    def __init__(self, *recent: Tensor, state: Tensor | None = None) -> None:
        self.recent, self.state = recent, state

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """Its memory."""
        return self.recent if self.state is None else (self.state, *self.recent)

    def clear(self) -> None:
        """As before the first position."""
        for kept in self.tensors:
            kept.zero_()

    def first(self) -> Memory:
        """The first sequence's part of it, in the same memory."""
        return Memory(*(kept[:1] for kept in self.recent), state=None if self.state is None else self.state[:1])

    def spread(self, _filled: int) -> None:
        """Give all sequences what the first has."""
        for kept in self.tensors:
            kept[1:] = kept[:1]

    def can_rewind(self, filled: int, to: int) -> bool:
        """Never: what a position has added cannot be taken out again."""
        return to >= filled


State = KeysValues | Memory
"""What a mixer keeps of the positions read so far."""
