"""Latent attention: of a position one small vector is kept, which the keys and values of all heads are made from.

H heads   Z features of the latent   Y of that of queries   O query and key features without positions
U those with positions   K = O + U   W value features
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from archcalc_reference.model.flash import Rule, flash_attention
from archcalc_reference.model.indexing import IndexedLatents, Indexer, hide, pick
from archcalc_reference.model.joining import join, latent_attention
from archcalc_reference.model.kernels import grow
from archcalc_reference.model.linear import Linear, scaled
from archcalc_reference.model.norms import NORMS
from archcalc_reference.model.positions import Positions, Scored
from archcalc_reference.model.state import KeysValues, Read, Sight

if TYPE_CHECKING:
    from archcalc import blocks


class LatentAttention(nn.Module):
    """A single new position behind kept ones meets the latents themselves; otherwise they are expanded."""

    def __init__(self, d_model: int, attention: blocks.LatentAttention) -> None:
        super().__init__()
        self.H, self.O, self.U = attention.n_heads, attention.d_nope, attention.d_rope
        self.W = attention.d_value
        bias, source = attention.bias, d_model
        self.query_latent, self.query_latent_norm = None, None
        if attention.q_rank is not None:
            source = attention.q_rank
            self.query_latent = Linear(d_model, source, bias=bias)
            self.query_latent_norm = _norm(attention, source)
        # In the order of the forward pass: an optimizer's step peaks by which matrices follow each other.
        self.query_rope = Linear(source, self.H * self.U, bias=False)
        self.query_nope = Linear(source, self.H * self.O, bias=False)
        self.indexer = None if attention.indexer is None else Indexer(d_model, source, attention.indexer)
        self.latent = Linear(d_model, attention.kv_rank, bias=bias)
        self.latent_norm = _norm(attention, attention.kv_rank)
        self.key_rope = Linear(d_model, self.U, bias=bias)
        self.key_nope = Linear(attention.kv_rank, self.H * self.O, bias=False)
        self.value = Linear(attention.kv_rank, self.H * self.W, bias=False)
        self.output_gate = Linear(d_model, self.H, bias=False) if attention.gate else None
        self.output = Linear(self.H * self.W, d_model, bias=bias)
        self.rotary = attention.rotary
        self.neighbours = self.rotary is not None and self.rotary.pairing == "neighbours"
        self.table = repr(self.rotary)
        self.query_factor, self.latent_factor = _ranked(d_model, attention)
        self.growth, self.growing = attention.query_growth, repr(attention.query_growth)
        scale = attention.scale or 1 / math.sqrt(self.O + self.U)
        scale *= _magnified(self.rotary) if attention.mscale else 1.0
        # PyTorch's kernel takes no values of another width: with ours one rule serves all.
        self.rule = Rule(scale, None, Scored(Sight()), own=True)

    @staticmethod
    def new_state(
        attention: blocks.LatentAttention, batch: int, length: int, dtype: torch.dtype, device: Any = None
    ) -> KeysValues:
        """Room for the latents of `length` positions, and for the keys with positions: once, not for each head."""
        features = (attention.kv_rank, attention.d_rope)
        kept = KeysValues.empty((batch, 1, length), features, Sight(), dtype, device)
        if attention.indexer is None:
            return kept
        index = torch.empty(batch, 1, length, attention.indexer.d_head, dtype=dtype, device=device)
        return IndexedLatents(kept.k_BGTK, kept.v_BGTW, kept.sight, index)

    def initialize(self, std: float, residual_std: float) -> None:
        """Draw new weights; `residual_std` is of the matrix that writes to the residual stream."""
        projections = (self.query_latent, self.query_nope, self.query_rope, self.latent, self.key_rope)
        for projection in (*projections, self.key_nope, self.value, self.output_gate):
            if projection is not None:
                projection.initialize(std)
        self.output.initialize(residual_std)
        for norm in (self.query_latent_norm, self.latent_norm):
            if norm is not None:
                norm.initialize()
        if self.indexer is not None:
            self.indexer.initialize(std)

    def prepare(self, positions: Positions, state: KeysValues | None) -> None:
        """Make the mask and the angles that it reads, where no layer before it did."""
        if positions.kernel == "math" and not self._absorbs(positions, state):
            positions.add_mask(self.rule.scored, _read(positions, state))
        if self.rotary is not None:
            positions.add_angles(self.table, self.rotary)
        if self.indexer is not None:
            self.indexer.prepare(positions)
        if self.growth is not None:
            positions.add_growth(self.growing, self.growth)

    def forward(self, x_BSD: Tensor, positions: Positions, state: KeysValues | None = None) -> Tensor:
        y_BSHW = self._mix(x_BSD, positions, state)
        if self.output_gate is not None:
            y_BSHW = y_BSHW * torch.sigmoid(self.output_gate(x_BSD))[..., None]
        return self.output(y_BSHW.flatten(2))

    def _absorbs(self, positions: Positions, state: KeysValues | None) -> bool:
        return state is not None and positions.new == 1 and positions.first > 0

    def _mix(self, x_BSD: Tensor, positions: Positions, state: KeysValues | None) -> Tensor:
        if self._absorbs(positions, state):
            return self._absorbed(x_BSD, positions, state)
        source = self._source(x_BSD)
        q_BHSK = join(*self._queries(source, positions))
        c_BTZ, r_BTU, chosen = self._latents(x_BSD, source, positions, state)
        del source
        k_BHTK = join(self.key_nope(c_BTZ).unflatten(-1, (self.H, self.O)), r_BTU)
        del r_BTU
        v_BHTW = self.value(c_BTZ).unflatten(-1, (self.H, self.W)).transpose(1, 2)
        del c_BTZ
        if positions.kernel == "math":
            mask = positions.masks[self.rule.scored]
            return _math(q_BHSK, k_BHTK, v_BHTW, self.rule.scale, mask, chosen)
        read = _read(positions, state)
        y_BHSW = flash_attention(q_BHSK, k_BHTK, v_BHTW, None, self.rule, positions, read, chosen)
        return y_BHSW.transpose(1, 2)

    def _source(self, x: Tensor) -> Tensor:
        """What queries are made of: the residual stream, or their latent."""
        if self.query_latent is None:
            return x
        x = self.query_latent(x)
        return x if self.query_latent_norm is None else self.query_latent_norm(x)

    def _grown(self, q: Tensor, positions: Positions) -> Tensor:
        return q if self.growth is None else grow(q, positions.growths[self.growing])

    def _queries(self, source: Tensor, positions: Positions) -> tuple[Tensor, Tensor]:
        """Of each head, without positions and with them."""
        q_BSHU = scaled(self.query_rope(source).unflatten(-1, (self.H, self.U)), self.query_factor)
        q_BSHU = self._grown(self._turned(q_BSHU, positions), positions)
        q_BSHO = scaled(self.query_nope(source).unflatten(-1, (self.H, self.O)), self.query_factor)
        return self._grown(q_BSHO, positions), q_BSHU

    def _latents(
        self, x: Tensor, source: Tensor, positions: Positions, state: KeysValues | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """The latent and the key that all heads share, of all positions that are read, and which a query chooses."""
        i_BTI = None if self.indexer is None else self.indexer.keys(x, positions)
        c_BTZ = self.latent(x)
        c_BTZ = scaled(c_BTZ if self.latent_norm is None else self.latent_norm(c_BTZ), self.latent_factor)
        r_BTU = self._turned(self.key_rope(x), positions)
        if state is not None:
            kept_c, kept_r = state.store(c_BTZ[:, None], r_BTU[:, None], positions.first)
            c_BTZ, r_BTU = kept_c[:, 0], kept_r[:, 0]
            if isinstance(state, IndexedLatents):
                i_BTI = state.store_index(i_BTI, positions.first)
        if self.indexer is None:
            return c_BTZ, r_BTU, None
        return c_BTZ, r_BTU, self.indexer(x, source, i_BTI, positions)

    def _turned(self, x: Tensor, positions: Positions) -> Tensor:
        if self.rotary is None:
            return x
        return positions.turned(x, self.table, neighbours=self.neighbours)

    def _absorbed(self, x_BSD: Tensor, positions: Positions, state: KeysValues | None) -> Tensor:
        """One new position: the keys' matrix is applied to its query, the values' matrix to what it finds."""
        source = self._source(x_BSD)
        q_BSHO, q_BSHU = self._queries(source, positions)
        c_BTZ, r_BTU, chosen = self._latents(x_BSD, source, positions, state)
        del source
        key_HOZ = self.key_nope.weight.unflatten(0, (self.H, self.O))
        q_BHZ = torch.bmm(q_BSHO[:, 0].transpose(0, 1), key_HOZ).transpose(0, 1)
        del q_BSHO
        if positions.kernel == "math":
            y_BHZ = _over_latents(q_BHZ, q_BSHU[:, 0], c_BTZ, r_BTU, chosen, self.rule.scale)
        else:
            y_BHZ = latent_attention(q_BHZ, q_BSHU[:, 0], c_BTZ, r_BTU, chosen, self.rule.scale)
        del q_BHZ, chosen
        value_HZW = self.value.weight.unflatten(0, (self.H, self.W)).transpose(1, 2)
        y_HBW = torch.bmm(y_BHZ.transpose(0, 1), value_HZW)
        del y_BHZ
        return y_HBW.transpose(0, 1).clone(memory_format=torch.contiguous_format)[:, None]


def _math(q_BHSK: Tensor, k_BHTK: Tensor, v_BHTW: Tensor, scale: float, mask: Tensor, chosen: Tensor | None) -> Tensor:
    """softmax(scale q k + mask) v, every step there to see; what was not chosen is masked too."""
    mask = mask if chosen is None else hide(chosen, mask)[:, None]
    a_BHST = (q_BHSK @ k_BHTK.transpose(2, 3)) * scale
    a_BHST = a_BHST + mask
    del mask
    a_BHST = torch.softmax(a_BHST, dim=-1)
    y_BHSW = a_BHST @ v_BHTW.clone(memory_format=torch.contiguous_format)
    return y_BHSW.transpose(1, 2).clone(memory_format=torch.contiguous_format)


def _over_latents(
    q_BHZ: Tensor, q_BHU: Tensor, c_BTZ: Tensor, r_BTU: Tensor, chosen: Tensor | None, scale: float
) -> Tensor:
    """softmax(scale (q c + q r)) c, of the positions that were chosen; all that are kept came before."""
    if chosen is not None:
        c_BTZ = pick(c_BTZ, chosen)
    a_BHT = torch.bmm(q_BHZ, c_BTZ.transpose(1, 2))
    if chosen is not None:
        r_BTU = pick(r_BTU, chosen)
    turned_BHT = torch.bmm(q_BHU, r_BTU.transpose(1, 2))
    del r_BTU
    a_BHT = a_BHT + turned_BHT
    del turned_BHT
    a_BHT = a_BHT * scale
    a_BHT = torch.softmax(a_BHT, dim=-1)
    return torch.bmm(a_BHT, c_BTZ)


def _norm(attention: blocks.LatentAttention, features: int) -> Any:
    return None if attention.norm is None else NORMS[attention.norm.kind](attention.norm, (features,))


def _ranked(d_model: int, attention: blocks.LatentAttention) -> tuple[float | None, float | None]:
    """What queries and the latent of keys and values are multiplied by."""
    if not attention.rank_scale or attention.q_rank is None:
        return None, None
    return math.sqrt(d_model / attention.q_rank), math.sqrt(d_model / attention.kv_rank)


def _magnified(rotary: Any) -> float:
    """The square of the attention factor that YaRN's mscale_all_dim makes, as DeepSeek scales its scores."""
    scaling = rotary.scaling
    factor = 1.0 if scaling.factor <= 1 else 0.1 * scaling.mscale_all_dim * math.log(scaling.factor) + 1.0
    return float(factor * factor)


def _read(positions: Positions, state: KeysValues | None) -> Read:
    return Read(0, positions.first + positions.new, held=state is not None)


LATENT: dict[str, type[Any]] = {"latent": LatentAttention}
"""Which module each kind of a spec's latent attentions becomes."""
