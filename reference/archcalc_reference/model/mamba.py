"""Mamba: each channel has a state of its own, and each position says how far it decays and how much it takes in.

Axes: B sequences, S positions, e channels, n numbers of a channel's state, r features that steps are made of.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from archcalc_reference.model.convolution import CausalConv
from archcalc_reference.model.linear import Linear
from archcalc_reference.model.mlp import ACTIVATIONS
from archcalc_reference.model.norms import NORMS
from archcalc_reference.model.positions import Positions
from archcalc_reference.model.scanning import Scan
from archcalc_reference.model.state import Memory

if TYPE_CHECKING:
    from archcalc import blocks

_PIECE = 64
"""Positions that are worked out at once, each with the states of all channels."""


class Mamba(nn.Module):
    """Gu and Dao 2023, arXiv:2312.00752."""

    def __init__(self, d_model: int, spec: blocks.Mamba) -> None:
        super().__init__()
        e, n, r = spec.d_inner, spec.d_state, spec.step_rank
        self.value, self.output_gate = Linear(d_model, e, bias=spec.bias), Linear(d_model, e, bias=spec.bias)
        self.value_conv = CausalConv(e, spec.d_conv, bias=spec.conv_bias)
        for name, size in (("low_step", r), ("key", n), ("query", n)):
            self.add_module(name, Linear(e, size, bias=False))
        for name, size in (("step_norm", r), ("key_norm", n), ("query_norm", n)):
            self.add_module(name, NORMS[spec.norm.kind](spec.norm, (size,)) if spec.norm is not None else None)
        self.step = Linear(r, e, bias=False)
        self.step_bias, self.decay = nn.Parameter(torch.empty(e)), nn.Parameter(torch.empty(e, n))
        self.skip = nn.Parameter(torch.empty(e))
        self.act = ACTIVATIONS[spec.activation]
        self.output = Linear(e, d_model, bias=spec.bias)

    @staticmethod
    def new_state(spec: blocks.Mamba, batch: int, _length: int, dtype: torch.dtype, device: Any = None) -> Memory:
        """Room for the state, in fp32, and for the positions that the convolution sees again."""
        recent = torch.zeros(batch, spec.d_inner, spec.d_conv - 1, dtype=dtype, device=device)
        wide = dtype if dtype == torch.float64 else torch.float32
        return Memory(recent, state=torch.zeros(batch, spec.d_inner, spec.d_state, dtype=wide, device=device))

    def prepare(self, *_: Any) -> None:
        """Nothing is read that is made once for a pass."""

    def initialize(self, std: float, residual_std: float) -> None:
        """Draw new weights; decays are 1 to d_state, as the paper has them, and steps 0.001 to 0.1."""
        for module in self.children():
            if isinstance(module, Linear | CausalConv):
                module.initialize(std)
            elif hasattr(module, "initialize"):
                module.initialize()
        self.output.initialize(residual_std)
        nn.init.ones_(self.skip)
        with torch.no_grad():
            self.decay.copy_(torch.arange(1, self.decay.shape[1] + 1).log().expand_as(self.decay))
            step = torch.empty_like(self.step_bias).uniform_(-6.9, -2.3).exp_()
            self.step_bias.copy_(step + (-torch.expm1(-step)).log())  # of which softplus is the step

    def forward(self, x_BSD: Tensor, positions: Positions, state: Memory | None = None) -> Tensor:
        if state is not None and positions.first == 0:
            state.clear()
        return self.output(self._mix(x_BSD, positions, state))

    def _mix(self, x_BSD: Tensor, positions: Positions, state: Memory | None) -> Tensor:
        # What is read for the last time is given away, so that it is gone when that is done.
        v_BSe, gate_BSe = self.value(x_BSD), self.output_gate(x_BSD)
        v_BSe = self.value_conv(v_BSe, None if state is None else state.recent[0])
        v_BSe = self.act(v_BSe)
        low_BSr, k_BSn, q_BSn = (self.get_submodule(name)(v_BSe) for name in ("low_step", "key", "query"))
        low_BSr, k_BSn = _normed(self.step_norm, low_BSr), _normed(self.key_norm, k_BSn)
        q_BSn = _normed(self.query_norm, q_BSn)
        dt_BSe = self.step(low_BSr)
        del low_BSr
        one, kept = positions.new == 1 and positions.first > 0, None if state is None else state.state
        learned = self.step_bias, self.decay, self.skip
        y_BSe = mamba(q_BSn, k_BSn, v_BSe, dt_BSe, *learned, state=kept, one=one)
        del q_BSn, k_BSn, v_BSe, dt_BSe
        return y_BSe * self.act(gate_BSe)


def _normed(norm: Any, x: Tensor) -> Tensor:
    return x if norm is None else norm(x)


def _scan(
    q: Tensor, k: Tensor, v: Tensor, dt: Tensor, step_bias: Tensor, decay: Tensor, skip: Tensor, state: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Piece by piece; on the meta device, where nothing is held, in one."""
    state = v.new_zeros(v.shape[0], *decay.shape) if state is None else state
    dt, left = F.softplus(dt + step_bias), -decay.exp()
    pieces = [x.split(v.shape[1] if v.is_meta else _PIECE, 1) for x in (q, k, v, dt)]
    read = []
    for q_BSn, k_BSn, v_BSe, dt_BSe in zip(*pieces, strict=True):
        states = _states((left * dt_BSe[..., None]).exp(), (dt_BSe * v_BSe)[..., None] * k_BSn[:, :, None], state)
        read.append((states @ q_BSn[..., None]).squeeze(-1))
        state = states[:, -1]
    return torch.cat(read, 1) + v * skip, state


def _states(left: Tensor, taken: Tensor, state: Tensor) -> Tensor:
    """The state at each position, (B, S, e, n), of what is left of the one before and what is taken in.

    By doubling: after each turn a position has what it and twice as many before it took in (Hillis and Steele 1986).
    """
    reach = 1
    while reach < left.shape[1]:
        taken = torch.cat([taken[:, :reach], taken[:, reach:] + left[:, reach:] * taken[:, :-reach]], 1)
        left = torch.cat([left[:, :reach], left[:, reach:] * left[:, :-reach]], 1)
        reach *= 2
    return taken + left * state[:, None]


def _step(
    q: Tensor, k: Tensor, v: Tensor, dt: Tensor, step_bias: Tensor, decay: Tensor, skip: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    dt = F.softplus(dt[:, 0] + step_bias)
    state = state * (-decay.exp() * dt[..., None]).exp() + (dt * v[:, 0])[..., None] * k[:, 0, None]
    return (state @ q[:, 0, :, None]).squeeze(-1)[:, None] + v * skip, state


mamba = Scan("mamba", ("q", "k", "v", "dt", "step_bias", "decay", "skip"), "v", (), _scan, _step)
