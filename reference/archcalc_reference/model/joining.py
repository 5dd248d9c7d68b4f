"""Kernels that join features, head by head or whole vectors, and the attention of a query over latents.

op                 saves
join               nothing
side_by_side       nothing
latent_attention   nothing: it is of decoding, which has no backward pass
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.utils.flop_counter import register_flop_formula

from archcalc_reference.model.kernels import op, wide


@op("join(Tensor own, Tensor shared) -> Tensor")
def _join(own: Tensor, shared: Tensor) -> Tensor:
    B, S, H, first = own.shape
    joined = own.new_empty(B, H, S, first + shared.shape[-1])
    joined[..., :first] = own.transpose(1, 2)
    joined[..., first:] = shared.transpose(1, 2) if shared.dim() == own.dim() else shared[:, None]
    return joined


@op("join_backward(Tensor grad, int own, bool by_head) -> (Tensor, Tensor)")
def _join_backward(grad: Tensor, own: int, by_head: bool) -> tuple[Tensor, Tensor]:
    grad = grad.transpose(1, 2)
    rest = grad[..., own:]
    shared = rest.contiguous() if by_head else wide(rest).sum(2).to(grad.dtype)
    return grad[..., :own].clone(memory_format=torch.contiguous_format), shared


class _Join(Function):
    @staticmethod
    def forward(ctx: Any, own: Tensor, shared: Tensor) -> Tensor:
        ctx.own, ctx.by_head = own.shape[-1], own.dim() == shared.dim()
        return torch.ops.archcalc.join(own, shared)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
        return tuple(torch.ops.archcalc.join_backward(grad, ctx.own, ctx.by_head))


def join(own_BSHO: Tensor, shared: Tensor) -> Tensor:
    """The features of each head and then `shared` ones, which it has of its own or all heads in common.

    (B, S, H, O) and (B, S, H, U) or (B, S, U) become (B, H, S, O + U).
    """
    if torch.is_grad_enabled():
        return _Join.apply(own_BSHO, shared)
    return torch.ops.archcalc.join(own_BSHO, shared)


@op("side_by_side(Tensor first, Tensor second) -> Tensor")
def _side_by_side(first: Tensor, second: Tensor) -> Tensor:
    return torch.cat([first, second], -1)


@op("side_by_side_backward(Tensor grad, int first) -> (Tensor, Tensor)")
def _side_by_side_backward(grad: Tensor, first: int) -> tuple[Tensor, Tensor]:
    return tuple(part.clone(memory_format=torch.contiguous_format) for part in (grad[..., :first], grad[..., first:]))


class _SideBySide(Function):
    @staticmethod
    def forward(ctx: Any, first: Tensor, second: Tensor) -> Tensor:
        ctx.first = first.shape[-1]
        return torch.ops.archcalc.side_by_side(first, second)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
        return tuple(torch.ops.archcalc.side_by_side_backward(grad, ctx.first))


def side_by_side(first_BSD: Tensor, second_BSD: Tensor) -> Tensor:
    """The features of a vector and then those of another: (B, S, 2 D)."""
    if torch.is_grad_enabled():
        return _SideBySide.apply(first_BSD, second_BSD)
    return torch.ops.archcalc.side_by_side(first_BSD, second_BSD)


@op("latent_attention(Tensor q, Tensor turned, Tensor latents, Tensor keys, Tensor? chosen, float scale) -> Tensor")
def _latent_attention(
    q: Tensor, turned: Tensor, latents: Tensor, keys: Tensor, chosen: Tensor | None, scale: float
) -> Tensor:
    if q.is_meta:
        return torch.empty_like(q)
    if chosen is not None:
        at = chosen[:, 0, :, None].long()
        latents, keys = (kept.gather(1, at.expand(-1, -1, kept.shape[-1])) for kept in (latents, keys))
    full = wide(latents)
    scores = wide(q) @ full.transpose(1, 2) + wide(turned) @ wide(keys).transpose(1, 2)
    return (torch.softmax(scores * scale, -1) @ full).to(q.dtype)


def latent_attention(
    q_BHZ: Tensor, q_BHU: Tensor, c_BTZ: Tensor, r_BTU: Tensor, chosen_B1C: Tensor | None, scale: float
) -> Tensor:
    """What the query of each head finds among the latents, by these and by the keys with positions: (B, H, Z).

    Where an indexer chose, it reads those positions alone.
    """
    found: Tensor = torch.ops.archcalc.latent_attention(q_BHZ, q_BHU, c_BTZ, r_BTU, chosen_B1C, scale)
    return found


@register_flop_formula(torch.ops.archcalc.latent_attention)  # type: ignore[untyped-decorator]
def _flops(q: Any, turned: Any, latents: Any, _keys: Any, chosen: Any, *_: Any, **__: Any) -> int:
    """Scores by the latent and by the position, and the mix of the latents."""
    batch, heads, rank = q
    read = latents[1] if chosen is None else chosen[2]
    return int(2 * batch * heads * read * (2 * rank + turned[2]))
