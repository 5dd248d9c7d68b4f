"""An indexer: it scores all positions for each query, and attention reads the few with the largest scores.

A heads of the indexer   I features of its queries and of the one key   C positions that are chosen
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import register_flop_formula

from archcalc_reference.model.kernels import op, wide
from archcalc_reference.model.linear import Linear
from archcalc_reference.model.norms import NORMS
from archcalc_reference.model.positions import Positions
from archcalc_reference.model.state import KeysValues, Sight

if TYPE_CHECKING:
    from archcalc import blocks

_BLOCK = 128  # query positions at a time


class Indexer(nn.Module):
    """It learns nothing from the loss: what it hands on are numbers of positions."""

    def __init__(self, d_model: int, d_source: int, indexer: blocks.Indexer) -> None:
        super().__init__()
        self.A, self.I, self.top_k = indexer.n_heads, indexer.d_head, indexer.top_k
        self.key = Linear(d_model, self.I, bias=False)
        self.key_norm: Any = None
        if indexer.norm is not None:
            self.key_norm = NORMS[indexer.norm.kind](indexer.norm, (self.I,))
        self.query = Linear(d_source, self.A * self.I, bias=False)
        self.shares = Linear(d_model, self.A, bias=False)
        self.rotary = indexer.rotary
        self.neighbours = self.rotary is not None and self.rotary.pairing == "neighbours"
        self.table = repr(self.rotary)
        self.requires_grad_(requires_grad=False)

    def initialize(self, std: float) -> None:
        """Draw new weights."""
        for projection in (self.query, self.key, self.shares):
            projection.initialize(std)
        if self.key_norm is not None:
            self.key_norm.initialize()

    def prepare(self, positions: Positions) -> None:
        """Make the angles that it reads, where no layer before it did."""
        if self.rotary is not None:
            positions.add_angles(self.table, self.rotary)

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def keys(self, x_BSD: Tensor, positions: Positions) -> Tensor:
        """The key of each new position, (B, S, I)."""
        k_BSI = self.key(x_BSD)
        k_BSI = k_BSI if self.key_norm is None else self.key_norm(k_BSI)
        return self._turned(k_BSI, positions)

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def forward(self, x_BSD: Tensor, source: Tensor, k_BTI: Tensor, positions: Positions) -> Tensor:
        """The positions that each query reads, (B, S, C); a query that sees fewer has later ones among them."""
        q_BSAI = self._turned(self.query(source).unflatten(-1, (self.A, self.I)), positions)
        chosen: Tensor = torch.ops.archcalc.choose(q_BSAI, k_BTI, self.shares(x_BSD), positions.first, self.top_k)
        return chosen

    def _turned(self, x: Tensor, positions: Positions) -> Tensor:
        if self.rotary is None:
            return x
        return positions.turned(x, self.table, neighbours=self.neighbours)


class IndexedLatents(KeysValues):
    """Latents and keys with positions, and the keys by which the indexer chooses among them."""

    def __init__(self, latents: Tensor, keys: Tensor, sight: Sight, index: Tensor) -> None:
        super().__init__(latents, keys, sight)
        self.index = index

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """Its memory."""
        return *super().tensors, self.index

    def first(self) -> IndexedLatents:
        """The first sequence's part of it, in the same memory."""
        return IndexedLatents(self.k_BGTK[:1], self.v_BGTW[:1], self.sight, self.index[:1])

    def store_index(self, k_BSI: Tensor, first: int) -> Tensor:
        """Keep the index keys of new positions, from `first` on; those of all positions so far come back."""
        end = first + k_BSI.shape[1]
        self.index[:, 0, first:end] = k_BSI
        return self.index[:, 0, :end]


@op("choose(Tensor q, Tensor k, Tensor shares, int first, int top_k) -> Tensor")
def _choose(q: Tensor, k: Tensor, shares: Tensor, first: int, top_k: int) -> Tensor:
    (B, S), T = q.shape[:2], k.shape[1]
    chosen = q.new_empty(B, S, min(T, top_k), dtype=torch.int32)
    if q.is_meta:
        return chosen
    keys, numbers = wide(k).transpose(1, 2), torch.arange(T, device=q.device)
    for at in range(0, S, _BLOCK):
        rows = slice(at, min(at + _BLOCK, S))
        scores_BSAT = torch.relu(wide(q[:, rows]) @ keys[:, None])
        scores_BST = (wide(shares[:, rows, None]) @ scores_BSAT).squeeze(2)
        later = numbers > torch.arange(first + rows.start, first + rows.stop, device=q.device)[:, None]
        # Of equals the first, as many of which have no head that fires: a cache must not change what is chosen.
        found = scores_BST.masked_fill(later, -math.inf).sort(dim=-1, descending=True, stable=True).indices
        chosen[:, rows] = found[..., : chosen.shape[-1]].to(torch.int32)
    return chosen


@register_flop_formula(torch.ops.archcalc.choose)  # type: ignore[untyped-decorator]
def _flops(q: Any, k: Any, *_: Any, out_shape: Any = None, **__: Any) -> int:  # noqa: ARG001
    """A score of each head for all pairs of positions, and the sum of the heads."""
    batch, queries, heads, features = q
    return int(2 * batch * queries * k[1] * heads * (features + 1))


@op("hide(Tensor chosen, Tensor mask) -> Tensor")
def _hide(chosen: Tensor, mask: Tensor) -> Tensor:
    hidden = mask.new_full((*chosen.shape[:2], mask.shape[1]), -math.inf)
    if mask.is_meta:
        return hidden
    return hidden.scatter_(2, chosen.long(), 0.0).add_(mask)


def hide(chosen_BSC: Tensor, mask_ST: Tensor) -> Tensor:
    """The mask of all, with -inf wherever a query did not choose: (B, S, T)."""
    found: Tensor = torch.ops.archcalc.hide(chosen_BSC, mask_ST)
    return found


@op("pick(Tensor kept, Tensor chosen) -> Tensor")
def _pick(kept: Tensor, chosen: Tensor) -> Tensor:
    shape = (kept.shape[0], chosen.shape[-1], kept.shape[-1])
    if kept.is_meta:
        return kept.new_empty(shape)
    return kept.gather(1, chosen[:, 0, :, None].long().expand(shape))


def pick(kept_BTZ: Tensor, chosen_B1C: Tensor) -> Tensor:
    """What is kept of the positions that the one query chose: (B, C, Z)."""
    found: Tensor = torch.ops.archcalc.pick(kept_BTZ, chosen_B1C)
    return found
