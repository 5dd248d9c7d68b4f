"""What a pass knows of its positions: where they stand, who sees whom, and by which angles they are turned.

Masks and tables of angles are made once for a pass, whatever the number of layers that read them.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
from torch import Tensor

from archcalc_reference.model.rotary import Angles, angles, growth
from archcalc_reference.model.state import KeysValues, Read, Sight, reading
from archcalc_reference.model.turning import rotate, spread, turn

if TYPE_CHECKING:
    from archcalc.blocks import Rotary
    from archcalc.blocks.growth import QueryGrowth

Kernel = Literal["math", "flash"]


class Scored(NamedTuple):
    """How a mixer limits its scores: how far a query sees; with ALiBi over how many heads, slopes times what."""

    sight: Sight
    alibi_heads: int = 0
    alibi_scale: float = 1.0


class Positions:
    """The positions of a pass: `new` of them, the first of which is position `first` of its text.

    `kernel` is how attention is computed; masks are of the type and on the device of `like`.
    """

    def __init__(self, first: int, new: int, kernel: Kernel, context_length: int, like: Tensor) -> None:
        self.first, self.new, self.kernel = first, new, kernel
        self.masks: dict[Scored, Tensor] = {}
        self.tables: dict[str, Angles] = {}
        self._spread: dict[tuple[str, bool, int], tuple[Tensor, Tensor]] = {}  # the same as inference reads them
        self.growths: dict[str, Tensor] = {}
        self.shared: dict[
            Any, tuple[Tensor, Tensor]
        ] = {}  # keys and values for layers behind, by what tells them apart
        self.vector: Tensor | None = None  # of each token, for the layer that is running
        self.tokens: Tensor | None = None  # the vectors that enter the first layer, where others read them too
        self.stores: dict[Any, KeysValues | None] = {}  # where these are kept
        self._context_length, self._dtype, self._device = context_length, like.dtype, like.device

    def read(self, sight: Sight, state: KeysValues | None) -> Read:
        """The keys that it reads where these are kept, or nothing is (None)."""
        return reading(sight, self.first, self.new, None if state is None else state.places)

    def add_mask(self, scored: Scored, read: Read) -> None:
        """Make what is added to scores that are limited so."""
        if scored in self.masks:
            return
        if scored.alibi_heads == 0 and scored.sight == Sight() and read.turned == 0:
            self.masks[scored] = _causal_mask(self.first, self.new, self._dtype, self._device)
        else:
            self.masks[scored] = mask(scored, self.first, self.new, read, self._dtype, self._device)

    def add_angles(self, name: str, rotary: Rotary) -> None:
        """Make the angles of the new positions under this name."""
        if name not in self.tables:
            self.tables[name] = angles(rotary, self.first, self.new, self._context_length, self._device)

    def turned(self, x: Tensor, name: str, *, neighbours: bool) -> Tensor:
        """Vectors (B, S, ..., K), turned by the angles under this name."""
        cos, sin = self.tables[name]
        if not torch.is_inference_mode_enabled():
            return rotate(x, cos, sin, neighbours=neighbours)
        how = name, neighbours, x.dim()
        if how not in self._spread:
            self._spread[how] = spread(cos, sin, neighbours=neighbours, axes=x.dim())
        return turn(x, *self._spread[how], neighbours=neighbours)

    def add_growth(self, name: str, growing: QueryGrowth) -> None:
        """Make what queries at the new positions are multiplied by."""
        if name not in self.growths:
            self.growths[name] = growth(
                growing.rate, growing.interval, self.first + growing.first, self.new, self._device
            )


def _causal_mask(first: int, new: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """0 where a position may look, -inf where it would see its own future; `first` positions came before."""
    mask_ST = torch.full((new, first + new), -math.inf, dtype=dtype, device=device)
    return mask_ST.triu(1 + first)


def mask(scored: Scored, first: int, new: int, read: Read, dtype: torch.dtype, device: torch.device) -> Tensor:
    """-inf where a query does not see a key; elsewhere 0 or what ALiBi takes off: (S, T), with ALiBi (H, S, T)."""
    queries, keys = torch.arange(first, first + new, device=device), key_positions(read, device)
    return mask_between(scored, queries, keys, dtype)


def mask_between(scored: Scored, queries: Tensor, keys: Tensor, dtype: torch.dtype) -> Tensor:
    """The mask of queries (S) and keys (T) at these positions.

    Press et al. 2021, arXiv:2108.12409: a head's slope times the distance.
    """
    if scored.alibi_heads:
        slopes = alibi_slopes(scored.alibi_heads, scored.alibi_scale, queries.device)[:, None, None]
        found = (slopes * (keys - queries[:, None])).to(dtype)
    else:
        found = torch.zeros((len(queries), len(keys)), dtype=dtype, device=queries.device)
    return found.masked_fill_(~seen(scored.sight, queries, keys), -math.inf)


def key_positions(read: Read, device: torch.device) -> Tensor:
    """The position of each key, in the order in which the keys are read: (T)."""
    keys = torch.arange(read.count, device=device)
    return read.start + (keys - read.turned) % read.count if read.turned else keys + read.start


def seen(sight: Sight, queries: Tensor, keys: Tensor) -> Tensor:
    """Which key each query sees, by their positions: (S, T)."""
    queries = queries[:, None]
    found = keys <= queries
    if sight.window is not None:
        found &= queries - keys < sight.window
    if sight.chunk is not None:
        found &= keys >= queries - queries % sight.chunk
    return found


def alibi_slopes(heads: int, scale: float = 1.0, device: torch.device | None = None) -> Tensor:
    """A geometric sequence from 2^(-8/n) to 2^-8, times the scale; where the heads are no power of 2, it is filled up.

    As the paper's code has it: the n heads of the power of 2 below, then every second slope of twice as many.
    """
    power = 2 ** math.floor(math.log2(heads))

    def of(n: int) -> Tensor:
        return 2.0 ** (torch.arange(1, n + 1, dtype=torch.float32, device=device) * (-8.0 / n))

    return torch.cat([of(power), of(2 * power)[::2][: heads - power]]) * scale
