"""Attention as one kernel: the scores never leave it, and its backward pass makes them again (Dao et al. 2022).

PyTorch's own does plain causal attention. `archcalc::flash_attention` does what that cannot: windows, chunks, ALiBi,
capped scores, sinks, values of another width than keys, and positions that an indexer chose. It saves what PyTorch's
saves: queries, keys, values, its output, and the logarithm of each query's sum; and what was chosen.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.utils.flop_counter import register_flop_formula

from archcalc_reference.model.kernels import autocasts, op, wide
from archcalc_reference.model.positions import Positions, Scored, alibi_slopes, key_positions, seen
from archcalc_reference.model.state import Read, Sight

_BLOCK = 128  # query positions at a time


class Rule(NamedTuple):
    """How scores are made: their scale, their cap (None: none), and what limits them.

    `own`: whether there is more to it that PyTorch's kernel does not know: sinks, another width of values, an indexer.
    """

    scale: float
    softcap: float | None
    scored: Scored
    own: bool = False

    def hides(self, read: Read, positions: Positions) -> bool:
        """Whether anything but the future is hidden or changed in this pass: PyTorch's kernel cannot do it."""
        if self.own or read.masked:
            return self.own or self.softcap is not None
        last = positions.first + positions.new - 1
        limited = self.scored.sight.farthest(last) > read.start
        return limited or self.scored.alibi_heads > 0 or self.softcap is not None


def flash_attention(
    q_BHSK: Tensor,
    k_BGTK: Tensor,
    v_BGTW: Tensor,
    sinks_H: Tensor | None,
    rule: Rule,
    positions: Positions,
    read: Read,
    chosen_BSC: Tensor | None = None,
) -> Tensor:
    """What each query finds, (B, H, S, W); query head h reads key/value head h G // H.

    Where an indexer chose positions for each query, it sees no others.
    """
    q, k, v = q_BHSK, k_BGTK, v_BGTW
    if (
        q.is_meta and not rule.own
    ):  # there PyTorch takes the kernel apart and stores the scores after all, unless it is asked by name
        found: Tensor = torch.ops.aten._scaled_dot_product_flash_attention(q, k, v, 0.0, True)[0]  # noqa: SLF001
        return found
    if not rule.hides(read, positions):
        mask_ST = positions.masks.get(rule.scored)
        causal = mask_ST is None and q.shape[2] == k.shape[2]
        shared = q.shape[1] != k.shape[1]
        if shared and q.shape[2] == 1:
            # The queries of the heads that share keys are rows of one product: five times as fast in bf16 on a CPU.
            rows = q.reshape(q.shape[0], k.shape[1], -1, q.shape[-1])
            if mask_ST is not None and mask_ST.dim() == 3:
                mask_ST = mask_ST.view(k.shape[1], -1, k.shape[2])  # each head has its own
            return F.scaled_dot_product_attention(rows, k, v, attn_mask=mask_ST, scale=rule.scale).reshape(q.shape)
        return F.scaled_dot_product_attention(
            q, k, v, attn_mask=mask_ST, is_causal=causal, scale=rule.scale, enable_gqa=shared
        )
    if autocasts(q):
        width = torch.get_autocast_dtype(q.device.type)
        v, k, q = v.to(width), k.to(width), q.to(width)
    slopes = rule.scored.alibi_scale if rule.scored.alibi_heads else None
    how = (rule.scale, rule.softcap, *rule.scored.sight, slopes)
    where = (positions.first, read.start, read.turned)
    if torch.is_grad_enabled():
        return _Flash.apply(q, k, v, sinks_H, chosen_BSC, *how, *where)
    return torch.ops.archcalc.flash_attention(q, k, v, sinks_H, chosen_BSC, *how, *where)[0]


_HOW = "float scale, float? softcap, int? window, int? chunk, float? alibi, int first, int start, int turned"


class _Scores:
    """The scores of a block of queries, made anew wherever they are needed."""

    def __init__(self, q: Tensor, k: Tensor, chosen: Tensor | None, how: tuple[Any, ...]) -> None:
        self.chosen = chosen
        self.scale, self.softcap, window, chunk, alibi, self.first, self.start, self.turned = how
        (self.B, self.H, self.S, self.K), (self.G, self.T) = q.shape, k.shape[1:3]
        self.sight = Sight(window, chunk)
        self.keys = key_positions(Read(self.start, self.T, self.turned), q.device)
        self.slopes: Tensor | None = None
        if alibi is not None:
            self.slopes = alibi_slopes(self.H, alibi, q.device).to(wide(q).dtype).view(self.G, -1, 1, 1)

    def blocks(self) -> Iterator[tuple[slice, slice]]:
        """Stretches of queries, each with the stretch of keys that it may see."""
        for at in range(0, self.S, _BLOCK):
            end = min(at + _BLOCK, self.S)
            if self.turned:
                yield slice(at, end), slice(0, self.T)
            else:
                low = max(self.sight.farthest(self.first + at) - self.start, 0)
                yield slice(at, end), slice(low, min(self.first + end - self.start, self.T))

    def heads(self, x: Tensor, at: slice) -> Tensor:
        """(B, H, S, features) to (B, G, R, s, features) of a block, in full precision."""
        return wide(x[:, :, at]).unflatten(1, (self.G, -1))

    def of(self, q: Tensor, k: Tensor, rows: slice, columns: slice) -> tuple[Tensor, Tensor | None]:
        """The scores of a block (B, G, R, s, t), and where they are capped the slope of the cap."""
        scores = self.heads(q, rows) @ wide(k[:, :, None, columns]).transpose(-1, -2) * self.scale
        slope = None
        if self.softcap is not None:
            capped = torch.tanh(scores / self.softcap)
            scores, slope = capped * self.softcap, 1 - capped * capped
        queries = torch.arange(self.first + rows.start, self.first + rows.stop, device=q.device)
        keys = self.keys[columns]
        if self.slopes is not None:
            scores = scores + self.slopes * (keys - queries[:, None])
        hidden = ~seen(self.sight, queries, keys)
        if self.chosen is not None:
            others = torch.ones(self.B, len(queries), self.T, dtype=torch.bool, device=q.device)
            others.scatter_(2, self.chosen[:, rows].long(), False)
            hidden = hidden | others[:, None, None, :, columns]
        return scores.masked_fill(hidden, -math.inf), slope


@op(f"flash_attention(Tensor q, Tensor k, Tensor v, Tensor? sinks, Tensor? chosen, {_HOW}) -> (Tensor, Tensor)")
def _flash(
    q: Tensor, k: Tensor, v: Tensor, sinks: Tensor | None, chosen: Tensor | None, *how: Any
) -> tuple[Tensor, Tensor]:
    scores = _Scores(q, k, chosen, how)
    y_BSHW = q.new_empty(scores.B, scores.S, scores.H, v.shape[-1])
    logsumexp_BHS = torch.empty(scores.B, scores.H, scores.S, dtype=wide(q).dtype, device=q.device)
    if q.is_meta:
        return y_BSHW.transpose(1, 2), logsumexp_BHS
    for rows, columns in scores.blocks():
        a, _ = scores.of(q, k, rows, columns)
        logsumexp = a.logsumexp(-1, keepdim=True)
        if sinks is not None:
            logsumexp = torch.logaddexp(logsumexp, wide(sinks).view(scores.G, -1, 1, 1))
        mixed = torch.exp(a - logsumexp) @ wide(v[:, :, None, columns])
        y_BSHW[:, rows] = mixed.flatten(1, 2).transpose(1, 2).to(q.dtype)
        logsumexp_BHS[:, :, rows] = logsumexp.squeeze(-1).flatten(1, 2)
    return y_BSHW.transpose(1, 2), logsumexp_BHS


@op(
    "flash_attention_backward(Tensor grad, Tensor q, Tensor k, Tensor v, Tensor? sinks, Tensor? chosen, "
    f"Tensor y, Tensor logsumexp, {_HOW}) -> (Tensor, Tensor, Tensor, Tensor)"
)
def _flash_backward(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    sinks: Tensor | None,
    chosen: Tensor | None,
    y: Tensor,
    logsumexp: Tensor,
    *how: Any,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    scores = _Scores(q, k, chosen, how)
    dq, dk, dv = torch.empty_like(q), torch.zeros_like(wide(k)), torch.zeros_like(wide(v))
    dsinks = _of_sinks(grad, y, logsumexp, sinks)
    if q.is_meta:
        return dq, dk.to(k.dtype), dv.to(v.dtype), dsinks
    for rows, columns in scores.blocks():
        a, slope = scores.of(q, k, rows, columns)
        p = torch.exp(a - scores.heads(logsumexp[..., None], rows))
        dy = scores.heads(grad, rows)
        dv[:, :, columns] += (p.transpose(-1, -2) @ dy).sum(2)
        dp = dy @ wide(v[:, :, None, columns]).transpose(-1, -2)
        da = p * (dp - (dy * scores.heads(y, rows)).sum(-1, keepdim=True))
        da = (da if slope is None else da * slope) * scores.scale
        dq[:, :, rows] = (da @ wide(k[:, :, None, columns])).flatten(1, 2).to(q.dtype)
        dk[:, :, columns] += (da.transpose(-1, -2) @ scores.heads(q, rows)).sum(2)
    return dq, dk.to(k.dtype), dv.to(v.dtype), dsinks


def _of_sinks(grad: Tensor, y: Tensor, logsumexp_BHS: Tensor, sinks: Tensor | None) -> Tensor:
    """The gradient of sinks, nothing where there are none: each takes its share of what all that was mixed gets."""
    if sinks is None:
        return grad.new_empty(0)
    shares = torch.exp(wide(sinks)[:, None] - logsumexp_BHS)
    return -(shares * (wide(grad) * wide(y)).sum(-1)).sum((0, 2)).to(sinks.dtype)


class _Flash(Function):
    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, sinks: Tensor | None, chosen: Tensor | None, *how: Any
    ) -> Tensor:
        y, logsumexp = torch.ops.archcalc.flash_attention(q, k, v, sinks, chosen, *how)
        ctx.save_for_backward(q, k, v, sinks, chosen, y, logsumexp)
        ctx.how = how
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, sinks, chosen, y, logsumexp = ctx.saved_tensors
        back = torch.ops.archcalc.flash_attention_backward
        *found, dsinks = back(grad, q, k, v, sinks, chosen, y, logsumexp, *ctx.how)
        return *found, None if sinks is None else dsinks, None, *(None for _ in ctx.how)


@register_flop_formula(torch.ops.archcalc.flash_attention)  # type: ignore[untyped-decorator]
def _flops(q: Any, k: Any, v: Any, *_: Any, out_shape: Any = None, **__: Any) -> int:  # noqa: ARG001
    """Scores and mix of all pairs of positions, as PyTorch counts its own kernel."""
    batch, heads, queries, features = q
    return int(2 * batch * heads * queries * k[2] * (features + v[3]))


@register_flop_formula(torch.ops.archcalc.flash_attention_backward)  # type: ignore[untyped-decorator]
def _flops_backward(_grad: Any, q: Any, k: Any, v: Any, *_: Any, out_shape: Any = None, **__: Any) -> int:  # noqa: ARG001
    """Two gradients of each product, and the scores once more."""
    batch, heads, queries, features = q
    return int(2 * batch * heads * queries * k[2] * (3 * features + 2 * v[3]))
