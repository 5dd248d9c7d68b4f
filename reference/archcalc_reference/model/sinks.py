"""A softmax that a learned score of each head, its sink, takes a share of: probabilities of keys sum to less than 1.

It is one op, with an op for its backward pass, and saves its output and the logarithm of each query's sum. See
kernels.py for what such an op is.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from archcalc_reference.model.kernels import op, wide


def _beside(scores: Tensor, sinks: Tensor) -> Tensor:
    """The sinks of (G R) heads, to stand beside scores (B, G, R, S, T)."""
    return wide(sinks).view(*scores.shape[1:3], 1, 1)


@op("softmax_with_sinks(Tensor scores, Tensor sinks) -> (Tensor, Tensor)")
def _softmax(scores: Tensor, sinks: Tensor) -> tuple[Tensor, Tensor]:
    full = wide(scores)
    logsumexp = torch.logaddexp(full.logsumexp(-1, keepdim=True), _beside(scores, sinks))
    return torch.exp(full - logsumexp).to(scores.dtype), logsumexp


@op("softmax_with_sinks_backward(Tensor grad, Tensor y, Tensor logsumexp, Tensor sinks) -> (Tensor, Tensor)")
def _softmax_backward(grad: Tensor, y: Tensor, logsumexp: Tensor, sinks: Tensor) -> tuple[Tensor, Tensor]:
    grad, full = wide(grad), wide(y)
    given = (grad * full).sum(-1, keepdim=True)
    shares = torch.exp(_beside(y, sinks) - logsumexp)
    return (full * (grad - given)).to(y.dtype), -(shares * given).sum((0, 3, 4)).flatten().to(sinks.dtype)


class _SoftmaxWithSinks(Function):
    @staticmethod
    def forward(ctx: Any, scores: Tensor, sinks: Tensor) -> Tensor:
        y, logsumexp = torch.ops.archcalc.softmax_with_sinks(scores, sinks)
        ctx.save_for_backward(y, logsumexp, sinks)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
        return tuple(torch.ops.archcalc.softmax_with_sinks_backward(grad, *ctx.saved_tensors))


def softmax_with_sinks(scores: Tensor, sinks: Tensor) -> Tensor:
    """The softmax of scores (B, G, R, S, T) and the head's sink over the last axis, without the share of the sink."""
    if torch.is_grad_enabled():
        return _SoftmaxWithSinks.apply(scores, sinks)
    return torch.ops.archcalc.softmax_with_sinks(scores, sinks)[0]
