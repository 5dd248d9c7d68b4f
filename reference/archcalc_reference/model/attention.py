"""Attention: each position asks (query), offers (key) and hands on (value); what it gets is written back (output)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from archcalc_reference.model.adapters import Adapter
from archcalc_reference.model.flash import Rule, flash_attention
from archcalc_reference.model.kernels import grow
from archcalc_reference.model.linear import Linear
from archcalc_reference.model.norms import NORMS
from archcalc_reference.model.positions import Positions, Scored
from archcalc_reference.model.sinks import softmax_with_sinks
from archcalc_reference.model.state import KeysValues, Read, Sight

if TYPE_CHECKING:
    from archcalc import blocks


class MultiHeadAttention(nn.Module):
    """Query heads in groups that share a key/value head: one group is multi-query, groups of one are multi-head."""

    def __init__(self, d_model: int, attention: blocks.MultiHead, d_input: int | None = None) -> None:
        """`d_input` is the width of what it reads, where that is not d_model."""
        super().__init__()
        d_input = d_model if d_input is None else d_input
        self.spec = attention
        self.G, self.R = attention.n_kv_heads, attention.n_heads // attention.n_kv_heads
        self.K, self.W = attention.d_head, attention.d_value or attention.d_head
        self.query = Linear(d_input, self.G * self.R * self.K, bias=attention.has_bias("query"))
        # In the order of the forward pass: an optimizer's step peaks by which tensors follow each other.
        own, self.value, self.value_norm = not attention.shared_kv, None, None
        self.key = Linear(d_input, self.G * self.K, bias=attention.has_bias("key")) if own else None
        if own and not attention.values_are_keys:
            self.value = Linear(d_input, self.G * self.W, bias=attention.has_bias("value"))
        if own and attention.value_norm is not None:
            self.value_norm = NORMS[attention.value_norm.kind](attention.value_norm, (self.W,))
        self.query_norm = _norm(attention, self.G * self.R)
        self.key_norm = _norm(attention, self.G) if own else None
        self.is_read_again = False  # whether a layer behind it reads its keys and values
        self.norms_last = attention.qk_norm_place == "after"
        self.sinks = nn.Parameter(torch.empty(self.G * self.R)) if attention.sinks else None
        gates = {None: 0, "head": self.G * self.R, "feature": self.G * self.R * self.W}[attention.gate]
        self.output_gate = Linear(d_input, gates, bias=False) if gates else None
        features, sub = self.G * self.R * self.W, attention.sub_norm
        self.sub_norm = None if sub is None else NORMS[sub.kind](sub, (features,))
        self.output = Linear(features, d_model, bias=attention.has_bias("output"))
        self.clip, self.rotary, self.sight = attention.clip, attention.rotary, _sight(attention)
        self.neighbours = self.rotary is not None and self.rotary.pairing == "neighbours"
        self.table = repr(self.rotary)
        self.growth, self.growing = attention.query_growth, repr(attention.query_growth)
        scored = Scored(self.sight, attention.n_heads if attention.alibi else 0, attention.alibi_scale or 1.0)
        beyond = attention.sinks or self.K != self.W
        self.rule = Rule(attention.scale or 1 / math.sqrt(self.K), attention.softcap, scored, beyond)

    @staticmethod
    def new_state(
        attention: blocks.MultiHead, batch: int, length: int, dtype: torch.dtype, device: Any = None
    ) -> KeysValues | None:
        """Room for the keys and values of `length` positions, or of as many of them as are ever seen again."""
        if attention.shared_kv:
            return None
        sight = _sight(attention)
        kept = (batch, attention.n_kv_heads, sight.places(length))
        features = attention.d_head, attention.d_value or attention.d_head
        return KeysValues.empty(kept, features, sight, dtype, device)

    def adapters(self, d_input: int, rank: int) -> nn.ModuleDict:
        """What one use of it adds to its projections, where layers share it."""
        made = {"query": self.query, "key": self.key, "value": self.value}
        return nn.ModuleDict(
            {
                f"{name}_adapter": Adapter(d_input, rank, up=linear.out_features)
                for name, linear in made.items()
                if linear is not None
            }
        )

    def initialize(self, std: float, residual_std: float) -> None:
        """Draw new weights; `residual_std` is of the matrix that writes to the residual stream."""
        for projection in (self.query, self.key, self.value, self.output_gate):
            if projection is not None:
                projection.initialize(std)
        if self.sinks is not None:
            nn.init.normal_(self.sinks, 0.0, std)
        self.output.initialize(residual_std)
        for norm in (self.query_norm, self.key_norm, self.value_norm, self.sub_norm):
            if norm is not None:
                norm.initialize()

    def prepare(self, positions: Positions, state: KeysValues | None) -> None:
        """Make the mask and the angles that it reads, where no layer before it did."""
        if self.is_read_again:
            positions.stores[self.spec.sharing] = state
        read = self._read(positions, state)
        # Flash attention masks by itself what is all new, and one new position, which may see all that came before.
        behind = positions.new > 1 and positions.first > 0 and not self.rule.hides(read, positions)
        if positions.kernel == "math" or behind or read.masked:
            positions.add_mask(self.rule.scored, read)
        if self.rotary is not None:
            positions.add_angles(self.table, self.rotary)
        if self.growth is not None:
            positions.add_growth(self.growing, self.growth)

    def forward(
        self, x_BSD: Tensor, positions: Positions, state: KeysValues | None = None, adapters: Any = None
    ) -> Tensor:
        # What mixing reads is gone when it is done: a name of it here would keep it until the output is made.
        y_BSGRW = self._mix(x_BSD, positions, state, adapters)
        if self.output_gate is not None:
            y_BSGRW = y_BSGRW * self._share(self.output_gate(x_BSD))
        found = y_BSGRW.flatten(2)
        del y_BSGRW
        found = found if self.sub_norm is None else self.sub_norm(found)
        return self.output(found)

    def _share(self, gate: Tensor) -> Tensor:
        """What the vectors that heads found are multiplied by."""
        made = gate.unflatten(2, (self.G, self.R, -1))
        return F.softplus(made) if self.spec.gate_activation == "softplus" else torch.sigmoid(made)

    def _mix(self, x_BSD: Tensor, positions: Positions, state: KeysValues | None, adapters: Any) -> Tensor:
        B, S, _ = x_BSD.shape
        q_BSGRK = self._projected("query", x_BSD, adapters).view(B, S, self.G, self.R, self.K)
        if self.key is None:
            k_BGTK, v_BGTW = positions.shared[self.spec.sharing]
            if self.query_norm is not None and not self.norms_last:
                q_BSGRK = self._normed(self.query_norm, q_BSGRK)
            q_BSGRK = self._turned(q_BSGRK, positions)
            if self.query_norm is not None and self.norms_last:
                q_BSGRK = self._normed(self.query_norm, q_BSGRK)
            q_BSGRK = self._grown(q_BSGRK, positions)
            return self._core(q_BSGRK, k_BGTK, v_BGTW, positions, state, fresh=False)
        k_BSGK = self._projected("key", x_BSD, adapters).view(B, S, self.G, self.K)
        v_BSGW = k_BSGK
        if self.value is not None:
            v_BSGW = self._projected("value", x_BSD, adapters).view(B, S, self.G, self.W)
        if self.clip is not None:
            q_BSGRK = F.hardtanh(q_BSGRK, -self.clip, self.clip)
            k_BSGK = F.hardtanh(k_BSGK, -self.clip, self.clip)
            v_BSGW = F.hardtanh(v_BSGW, -self.clip, self.clip)
        if self.spec.value_scale is not None:
            v_BSGW = v_BSGW * self.spec.value_scale
        if self.value_norm is not None:
            v_BSGW = self.value_norm(v_BSGW)
        if self.query_norm is not None and not self.norms_last:
            q_BSGRK = self._normed(self.query_norm, q_BSGRK)
            k_BSGK = self._normed(self.key_norm, k_BSGK)
        q_BSGRK = self._turned(q_BSGRK, positions)
        k_BSGK = self._turned(k_BSGK, positions)
        if self.query_norm is not None and self.norms_last:
            q_BSGRK = self._normed(self.query_norm, q_BSGRK)
            k_BSGK = self._normed(self.key_norm, k_BSGK)
        k_BGTK, v_BGTW = k_BSGK.transpose(1, 2), v_BSGW.transpose(1, 2)
        del k_BSGK, v_BSGW
        if state is not None:
            k_BGTK, v_BGTW = state.store(k_BGTK, v_BGTW, positions.first)
        if self.is_read_again:
            if state is None and positions.kernel == "math":
                k_BGTK, v_BGTW = _in_order(k_BGTK), _in_order(v_BGTW)
            positions.shared[self.spec.sharing] = k_BGTK, v_BGTW
        q_BSGRK = self._grown(q_BSGRK, positions)
        return self._core(q_BSGRK, k_BGTK, v_BGTW, positions, state, fresh=state is None and not self.is_read_again)

    def _projected(self, name: str, x_BSD: Tensor, adapters: Any) -> Tensor:
        """Queries, keys or values, and what the layer's adapter adds to them."""
        y: Tensor = getattr(self, name)(x_BSD)
        if adapters is None:
            return y
        adapter = adapters[f"{name}_adapter"]
        beside: Tensor = adapter.beside("up", y, adapter(x_BSD))
        return beside

    def _turned(self, x: Tensor, positions: Positions) -> Tensor:
        """Queries or keys, turned by the angles of their positions."""
        if self.rotary is None:
            return x
        return positions.turned(x, self.table, neighbours=self.neighbours)

    def _grown(self, q_BSGRK: Tensor, positions: Positions) -> Tensor:
        return q_BSGRK if self.growth is None else grow(q_BSGRK, positions.growths[self.growing])

    def _core(
        self,
        q_BSGRK: Tensor,
        k_BGTK: Tensor,
        v_BGTW: Tensor,
        positions: Positions,
        state: KeysValues | None,
        *,
        fresh: bool,
    ) -> Tensor:
        """What queries find among keys and values; `fresh`: these stand in the order of positions."""
        if positions.kernel == "math":
            mask = positions.masks[self.rule.scored]
            return _math_attention(q_BSGRK, k_BGTK, v_BGTW, self.rule, mask, self.sinks, fresh=fresh)
        read = self._read(positions, state)
        q_BHSK = q_BSGRK.flatten(2, 3).transpose(1, 2)
        y_BHSW = flash_attention(q_BHSK, k_BGTK, v_BGTW, self.sinks, self.rule, positions, read)
        return y_BHSW.transpose(1, 2).unflatten(2, (self.G, self.R))

    def _read(self, positions: Positions, state: KeysValues | None) -> Read:
        state = positions.stores.get(self.spec.sharing) if self.key is None else state
        return positions.read(self.sight, state)

    def _normed(self, norm: nn.Module, x: Tensor) -> Tensor:
        """Each head's vector by itself, or all heads together."""
        if self.spec.qk_norm_over == "width":
            normed: Tensor = norm(x.flatten(2))
        else:
            normed = norm(x.flatten(2, -2))
        return normed.view(x.shape)


def _norm(attention: blocks.MultiHead, heads: int) -> Any:
    if attention.qk_norm is None:
        return None
    K = attention.d_head
    shape = {"head": (K,), "heads": (heads, K), "width": (heads * K,)}[attention.qk_norm_over]
    return NORMS[attention.qk_norm.kind](attention.qk_norm, shape)


def _sight(attention: blocks.MultiHead) -> Sight:
    return Sight(attention.window, attention.chunk)


def _math_attention(
    q_BSGRK: Tensor, k_BGTK: Tensor, v_BGTW: Tensor, rule: Rule, mask: Tensor, sinks_H: Tensor | None, *, fresh: bool
) -> Tensor:
    """softmax(scale q k + mask) v, every step there to see, in the type that the model works in.

    Products of matrices read a head's positions together: keys and values that are `fresh`, out of no cache, are
    copied into that order.
    """
    B, S, G, R, _ = q_BSGRK.shape
    T, W = v_BGTW.shape[2:]
    a_BGRST = _scores(q_BSGRK, k_BGTK, fresh=fresh) * rule.scale
    if rule.softcap is not None:
        a_BGRST = a_BGRST / rule.softcap
        a_BGRST = torch.tanh(a_BGRST)
        a_BGRST = a_BGRST * rule.softcap
    a_BGRST = a_BGRST + (mask if mask.dim() == 2 else mask.view(G, R, S, T))
    a_BGRST = torch.softmax(a_BGRST, dim=-1) if sinks_H is None else softmax_with_sinks(a_BGRST, sinks_H)
    v_BGTW = _in_order(v_BGTW) if fresh else v_BGTW
    y_BGXW = a_BGRST.view(B, G, R * S, T) @ v_BGTW  # (B,G,X,T) @ (B,G,T,W) -> (B,G,X,W)
    return _in_order(y_BGXW.view(B, G, R, S, W).permute(0, 3, 1, 2, 4))


def _scores(q_BSGRK: Tensor, k_BGTK: Tensor, *, fresh: bool) -> Tensor:
    """How well each query fits each key; a key's R query heads stand one below the other, so it is not repeated."""
    B, S, G, R, K = q_BSGRK.shape
    q_BGXK = _in_order(q_BSGRK.permute(0, 2, 3, 1, 4)).view(B, G, R * S, K)
    k_BGTK = _in_order(k_BGTK) if fresh else k_BGTK
    return (q_BGXK @ k_BGTK.transpose(2, 3)).view(B, G, R, S, -1)  # (B,G,X,K) @ (B,G,K,T) -> (B,G,X,T)


def _in_order(x: Tensor) -> Tensor:
    """A copy whose numbers stand in memory as its axes do: heads are split off, and put together again, by copying."""
    return x.clone(memory_format=torch.contiguous_format)


ATTENTIONS: dict[str, type[Any]] = {"multi_head": MultiHeadAttention}
"""Which module each kind of a spec's attentions becomes."""
