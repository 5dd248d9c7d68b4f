"""Kernels that PyTorch has only in pieces: each is one op here, with an op for its backward pass.

What an op makes on its way is inside a kernel, as in the fused kernels that training and inference engines use:
autograd saves what is named below and nothing else, and PyTorch's counters and dispatch modes see one op. They work in
fp32, in fp64 where they are given that, and round once. Attention has a file of its own, and so have rotations.

Under torch.inference_mode norms and rotations are computed by the same functions without being called as ops, which
would cost a third of their time at one token: a counter or a mode that is to see ops runs under torch.no_grad.

    op          saves
    rms_norm    its input and 1 / rms of each vector
    layer_norm  its input, and mean and 1 / deviation of each vector
    grow        nothing; the table is held beside the graph
    gelu_quick  its input
    xielu       its input
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

LIBRARY = torch.library.Library("archcalc", "DEF")


def op(schema: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Make a function the op of that schema, on every device."""

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        LIBRARY.define(schema)
        LIBRARY.impl(schema.partition("(")[0], function, "CompositeExplicitAutograd")
        return function

    return register


def wide(x: Tensor) -> Tensor:
    """In the precision that a kernel works in."""
    return x if x.dtype == torch.float64 else x.float()


def autocasts(x: Tensor) -> bool:
    """Whether torch.autocast is on where x is."""
    return not x.is_meta and torch.is_autocast_enabled(x.device.type)


def promoted(x: Tensor, *learned: Tensor | None) -> torch.dtype:
    """The type of what is made of data and learned numbers: the wider of theirs."""
    found = x.dtype
    for weight in learned:
        found = found if weight is None else torch.promote_types(found, weight.dtype)
    return found


def _gained(gain: Tensor | None, *, unit_offset: bool) -> Tensor | float:
    """What normed numbers are multiplied by."""
    if gain is None:
        return 1.0
    return wide(gain) + 1.0 if unit_offset else wide(gain)


def _learned(grad: Tensor, gain: Tensor | None) -> Tensor:
    """The gradient of a gain or bias: summed over all that it was broadcast to; nothing where there is none."""
    if gain is None:
        return grad.new_empty(0)
    rest = tuple(range(grad.dim() - gain.dim()))
    return grad.sum(rest).to(gain.dtype) if rest else grad.to(gain.dtype)


# --- norms -----------------------------------------------------------------------------------------------------------


@op("rms_norm(Tensor x, Tensor? gain, bool unit_offset, float epsilon) -> (Tensor, Tensor)")
def _rms_norm(x: Tensor, gain: Tensor | None, unit_offset: bool, epsilon: float) -> tuple[Tensor, Tensor]:
    full = wide(x)
    rstd = full.pow(2).mean(-1, keepdim=True).add_(epsilon).rsqrt_()
    y = full * rstd
    if gain is not None:
        y = y.mul_(_gained(gain, unit_offset=unit_offset))
    return y.to(promoted(x, gain)), rstd


@op("rms_norm_backward(Tensor grad, Tensor x, Tensor? gain, Tensor rstd, bool unit_offset) -> (Tensor, Tensor)")
def _rms_norm_backward(
    grad: Tensor, x: Tensor, gain: Tensor | None, rstd: Tensor, unit_offset: bool
) -> tuple[Tensor, Tensor]:
    grad, normed = wide(grad), wide(x) * rstd
    inner = grad * _gained(gain, unit_offset=unit_offset)
    dx = (inner - normed * (inner * normed).mean(-1, keepdim=True)) * rstd
    return dx.to(x.dtype), _learned(grad * normed, gain)


@op(
    "layer_norm(Tensor x, Tensor? gain, Tensor? bias, bool unit_offset, float epsilon, bool mixed) "
    "-> (Tensor, Tensor, Tensor)"
)
def _layer_norm(
    x: Tensor, gain: Tensor | None, bias: Tensor | None, unit_offset: bool, epsilon: float, mixed: bool
) -> tuple[Tensor, Tensor, Tensor]:
    full = wide(x)
    mean = full.mean(-1, keepdim=True)
    rstd = torch.rsqrt((full - mean).pow(2).mean(-1, keepdim=True) + epsilon)
    y = (full - mean) * rstd * _gained(gain, unit_offset=unit_offset)
    if bias is not None:
        y = y + wide(bias)
    made = promoted(x, gain, bias)
    kept = made if x.device.type == "cpu" and not mixed else mean.dtype  # as PyTorch's own
    return y.to(made), mean.to(kept), rstd.to(kept)


@op(
    "layer_norm_backward(Tensor grad, Tensor x, Tensor? gain, Tensor? bias, Tensor mean, Tensor rstd, "
    "bool unit_offset) -> (Tensor, Tensor, Tensor)"
)
def _layer_norm_backward(
    grad: Tensor, x: Tensor, gain: Tensor | None, bias: Tensor | None, mean: Tensor, rstd: Tensor, unit_offset: bool
) -> tuple[Tensor, Tensor, Tensor]:
    grad, normed = wide(grad), (wide(x) - wide(mean)) * wide(rstd)
    inner = grad * _gained(gain, unit_offset=unit_offset)
    dx = inner - inner.mean(-1, keepdim=True) - normed * (inner * normed).mean(-1, keepdim=True)
    return (dx * wide(rstd)).to(x.dtype), _learned(grad * normed, gain), _learned(grad, bias)


class _RMSNorm(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, gain: Tensor | None, unit_offset: bool, epsilon: float) -> Tensor:
        y, rstd = torch.ops.archcalc.rms_norm(x, gain, unit_offset, epsilon)
        ctx.save_for_backward(x, gain, rstd)
        ctx.unit_offset = unit_offset
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, gain, rstd = ctx.saved_tensors
        dx, dgain = torch.ops.archcalc.rms_norm_backward(grad, x, gain, rstd, ctx.unit_offset)
        return dx, None if gain is None else dgain, None, None


class _LayerNorm(Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, gain: Tensor | None, bias: Tensor | None, unit_offset: bool, epsilon: float, mixed: bool
    ) -> Tensor:
        y, mean, rstd = torch.ops.archcalc.layer_norm(x, gain, bias, unit_offset, epsilon, mixed)
        ctx.save_for_backward(x, gain, bias, mean, rstd)
        ctx.unit_offset = unit_offset
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, gain, bias, mean, rstd = ctx.saved_tensors
        dx, dgain, dbias = torch.ops.archcalc.layer_norm_backward(grad, x, gain, bias, mean, rstd, ctx.unit_offset)
        return dx, None if gain is None else dgain, None if bias is None else dbias, None, None, None


def rms_norm(x: Tensor, gain: Tensor | None, epsilon: float, *, unit_offset: bool) -> Tensor:
    """X / sqrt(mean of squares + epsilon) * gain, over the last axis; the gain may have more axes than that."""
    if torch.is_grad_enabled():
        return _RMSNorm.apply(x, gain, unit_offset, epsilon)
    run = _rms_norm if torch.is_inference_mode_enabled() else torch.ops.archcalc.rms_norm
    return run(x, gain, unit_offset, epsilon)[0]


def layer_norm(
    x: Tensor, gain: Tensor | None, bias: Tensor | None, epsilon: float, *, unit_offset: bool, mixed: bool
) -> Tensor:
    """(x - mean) / sqrt(variance + epsilon) * gain + bias, over the last axis; the gain may have more axes.

    With `mixed` the statistics are fp32 on a CPU too, where they are of the input's type otherwise.
    """
    if torch.is_grad_enabled():
        return _LayerNorm.apply(x, gain, bias, unit_offset, epsilon, mixed)
    return torch.ops.archcalc.layer_norm(x, gain, bias, unit_offset, epsilon, mixed)[0]


# --- factors of positions --------------------------------------------------------------------------------------------


@op("grow(Tensor x, Tensor by) -> Tensor")
def _grow(x: Tensor, by: Tensor) -> Tensor:
    return (wide(x) * by.view(-1, *(1,) * (x.dim() - 2))).to(x.dtype)


class _Grow(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, by: Tensor) -> Tensor:
        ctx.table = by
        return torch.ops.archcalc.grow(x, by)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        by, ctx.table = ctx.table, None
        return torch.ops.archcalc.grow(grad, by), None


def grow(x: Tensor, by: Tensor) -> Tensor:
    """Vectors (B, S, ...) times a number for each position."""
    if torch.is_grad_enabled():
        return _Grow.apply(x, by)
    return torch.ops.archcalc.grow(x, by)


# --- activations -----------------------------------------------------------------------------------------------------

_QUICK = 1.702
_BETA, _EPSILON = 0.5, -1e-6  # of xIELU


@op("gelu_quick(Tensor x) -> Tensor")
def _gelu_quick(x: Tensor) -> Tensor:
    full = wide(x)
    return (full * torch.sigmoid(_QUICK * full)).to(x.dtype)


@op("gelu_quick_backward(Tensor grad, Tensor x) -> Tensor")
def _gelu_quick_backward(grad: Tensor, x: Tensor) -> Tensor:
    full = wide(x)
    gate = torch.sigmoid(_QUICK * full)
    return (wide(grad) * gate * (1 + _QUICK * full * (1 - gate))).to(x.dtype)


@op("xielu(Tensor x, Tensor alpha_p, Tensor alpha_n) -> Tensor")
def _xielu(x: Tensor, alpha_p: Tensor, alpha_n: Tensor) -> Tensor:
    full = wide(x)
    up, down = (torch.nn.functional.softplus(wide(alpha)) for alpha in (alpha_p, alpha_n))
    negative = (torch.expm1(full.clamp(max=_EPSILON)) - full) * (_BETA + down)
    y = torch.where(full > 0, up * full * full, negative) + _BETA * full
    return y.to(promoted(x, alpha_p, alpha_n))


@op("xielu_backward(Tensor grad, Tensor x, Tensor alpha_p, Tensor alpha_n) -> (Tensor, Tensor, Tensor)")
def _xielu_backward(grad: Tensor, x: Tensor, alpha_p: Tensor, alpha_n: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    grad, full = wide(grad), wide(x)
    up, down = (torch.nn.functional.softplus(wide(alpha)) for alpha in (alpha_p, alpha_n))
    capped = full.clamp(max=_EPSILON)
    slope = torch.where(full < _EPSILON, torch.exp(capped), 0.0) - 1
    dx = grad * (torch.where(full > 0, 2 * up * full, slope * (_BETA + down)) + _BETA)
    learned = [
        (grad * torch.where(full > 0, here, there)).sum().reshape(1) * torch.sigmoid(wide(alpha))
        for alpha, here, there in ((alpha_p, full * full, 0.0), (alpha_n, 0.0, torch.expm1(capped) - full))
    ]
    return dx.to(x.dtype), learned[0].to(alpha_p.dtype), learned[1].to(alpha_n.dtype)


class _GELUQuick(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return torch.ops.archcalc.gelu_quick(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return torch.ops.archcalc.gelu_quick_backward(grad, *ctx.saved_tensors)


class _XIELU(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, alpha_p: Tensor, alpha_n: Tensor) -> Tensor:
        ctx.save_for_backward(x, alpha_p, alpha_n)
        return torch.ops.archcalc.xielu(x, alpha_p, alpha_n)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
        return tuple(torch.ops.archcalc.xielu_backward(grad, *ctx.saved_tensors))


def gelu_quick(x: Tensor) -> Tensor:
    """X sigmoid(1.702 x)."""
    return _GELUQuick.apply(x)


def xielu(x: Tensor, alpha_p: Tensor, alpha_n: Tensor) -> Tensor:
    """Huang and Schlag 2024, arXiv:2411.13010: a parabola for what is positive, an integrated ELU for what is not."""
    return _XIELU.apply(x, alpha_p, alpha_n)
