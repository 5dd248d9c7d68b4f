"""Convolutions over a position and the few before it, each channel by itself: one op, with one for its backward pass.

It saves its input. PyTorch's own would also do for the forward pass; its counter takes the gradient of the weights of
such a convolution for that of a full one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import Function
from torch.utils.flop_counter import register_flop_formula

from archcalc_reference.model.kernels import op, wide
from archcalc_reference.model.linear import Linear
from archcalc_reference.model.positions import Positions
from archcalc_reference.model.state import Memory

if TYPE_CHECKING:
    from archcalc import blocks


class ShortConvolution(nn.Module):
    """gate x convolution(gate x value): a position and those just before it (LFM2)."""

    def __init__(self, d_model: int, spec: blocks.ShortConvolution) -> None:
        super().__init__()
        for name in ("input_gate", "output_gate", "value"):
            self.add_module(name, Linear(d_model, spec.d_inner, bias=spec.bias))
        self.value_conv = CausalConv(spec.d_inner, spec.d_conv, bias=spec.bias)
        self.output = Linear(spec.d_inner, d_model, bias=spec.bias)

    @staticmethod
    def new_state(
        spec: blocks.ShortConvolution, batch: int, _length: int, dtype: torch.dtype, device: Any = None
    ) -> Memory:
        """Room for the positions that the convolution sees again."""
        return Memory(torch.zeros(batch, spec.d_inner, spec.d_conv - 1, dtype=dtype, device=device))

    def prepare(self, *_: Any) -> None:
        """Nothing is read that is made once for a pass."""

    def initialize(self, std: float, residual_std: float) -> None:
        """Draw new weights."""
        for module in self.children():
            module.initialize(std)
        self.output.initialize(residual_std)

    def forward(self, x_BSD: Tensor, positions: Positions, state: Memory | None = None) -> Tensor:
        if state is not None and positions.first == 0:
            state.clear()
        return self.output(self._mix(x_BSD, state))

    def _mix(self, x_BSD: Tensor, state: Memory | None) -> Tensor:
        first_BSC, last_BSC = self.input_gate(x_BSD), self.output_gate(x_BSD)
        y_BSC = first_BSC * self.value(x_BSD)
        del first_BSC
        y_BSC = self.value_conv(y_BSC, None if state is None else state.recent[0])
        return last_BSC * y_BSC


class CausalConv(nn.Module):
    """A convolution over a position and those before it, each channel by itself."""

    def __init__(self, channels: int, taps: int, *, bias: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(channels, 1, taps))
        self.bias = nn.Parameter(torch.empty(channels)) if bias else None

    def initialize(self, std: float) -> None:
        """Draw new weights; the bias is 0."""
        nn.init.normal_(self.weight, 0.0, std)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x_BSC: Tensor, recent: Tensor | None) -> Tensor:
        return causal_conv(x_BSC, self.weight, self.bias, recent)


@op("causal_conv(Tensor x, Tensor weight, Tensor? bias) -> Tensor")
def _causal_conv(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    before = weight.shape[-1] - 1
    return _over(F.pad(wide(x).transpose(1, 2), (before, 0)), weight, bias).to(x.dtype)


@op("causal_conv_on(Tensor x, Tensor weight, Tensor? bias, Tensor(a!) recent) -> Tensor")
def _causal_conv_on(x: Tensor, weight: Tensor, bias: Tensor | None, recent: Tensor) -> Tensor:
    before = weight.shape[-1] - 1
    all_BCS = torch.cat([wide(recent), wide(x).transpose(1, 2)], 2)
    recent.copy_(all_BCS[:, :, all_BCS.shape[2] - before :])
    return _over(all_BCS, weight, bias).to(x.dtype)


def _over(x_BCS: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    bias = None if bias is None else wide(bias)
    return F.conv1d(x_BCS, wide(weight), bias, groups=x_BCS.shape[1]).transpose(1, 2).contiguous()


@op("causal_conv_backward(Tensor grad, Tensor x, Tensor weight, Tensor? bias) -> (Tensor, Tensor, Tensor)")
def _causal_conv_backward(
    grad: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    S, taps = x.shape[1], weight.shape[-1]
    grad_BCS, x_BCS = wide(grad).transpose(1, 2), F.pad(wide(x).transpose(1, 2), (taps - 1, 0))
    dx = F.conv1d(F.pad(grad_BCS, (0, taps - 1)), wide(weight).flip(-1), groups=x_BCS.shape[1])
    dw = torch.stack([(grad_BCS * x_BCS[:, :, k : k + S]).sum((0, 2)) for k in range(taps)], -1)
    db = grad.new_empty(0) if bias is None else grad_BCS.sum((0, 2)).to(bias.dtype)
    return dx.transpose(1, 2).contiguous().to(x.dtype), dw[:, None].to(weight.dtype), db


class _CausalConv(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight, bias)
        return torch.ops.archcalc.causal_conv(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias = ctx.saved_tensors
        dx, dw, db = torch.ops.archcalc.causal_conv_backward(grad, x, weight, bias)
        return dx, dw, None if bias is None else db


def causal_conv(x_BSC: Tensor, weight: Tensor, bias: Tensor | None, recent: Tensor | None = None) -> Tensor:
    """Each channel's last positions, the present one included, weighted and summed: (B, S, C).

    `recent` (B, C, taps - 1) are the positions before; the last of them all are there afterwards.
    """
    if recent is not None:
        return torch.ops.archcalc.causal_conv_on(x_BSC, weight, bias, recent)
    if torch.is_grad_enabled():
        return _CausalConv.apply(x_BSC, weight, bias)
    return torch.ops.archcalc.causal_conv(x_BSC, weight, bias)


@register_flop_formula(  # type: ignore[untyped-decorator]
    [torch.ops.archcalc.causal_conv, torch.ops.archcalc.causal_conv_on]
)
def _conv_flops(x: Any, weight: Any, *_: Any, **__: Any) -> int:
    """A multiplication and an addition for each number and tap."""
    B, S, C = x
    return int(2 * B * S * C * weight[-1])


@register_flop_formula(torch.ops.archcalc.causal_conv_backward)  # type: ignore[untyped-decorator]
def _conv_backward_flops(_: Any, x: Any, weight: Any, *__: Any, **___: Any) -> int:
    return 2 * int(_conv_flops(x, weight))
