"""MLPs: each position alone; many questions are asked (up), the answers weighed (activation), written back (down)."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from archcalc_reference.model import kernels
from archcalc_reference.model.adapters import Adapter
from archcalc_reference.model.linear import Linear, number, scaled
from archcalc_reference.model.norms import NORMS

if TYPE_CHECKING:
    from archcalc import blocks
    from archcalc.blocks.activation import Cut


def _gelu(x: Tensor, approximate: str) -> Tensor:
    return F.gelu(x, approximate=approximate)


def _relu2(x: Tensor) -> Tensor:
    """So et al. 2021, arXiv:2109.08668: relu(x)^2."""
    return torch.square(F.relu(x))


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": partial(_gelu, approximate="none"),
    "gelu_tanh": partial(_gelu, approximate="tanh"),
    "gelu_quick": kernels.gelu_quick,
    "relu": F.relu,
    "relu2": _relu2,
    "silu": F.silu,
}
"""Those that have no weights."""


class MLP(nn.Module):
    """What all have: an activation, which may have weights of its own."""

    up: Linear
    sub_norm: Any
    down: Linear

    def __init__(self, activation: str) -> None:
        super().__init__()
        self.alpha_p = self.alpha_n = None
        if activation == "xielu":
            self.alpha_p, self.alpha_n = number(0.0), number(0.0)
        else:
            self.activation = ACTIVATIONS[activation]

    @staticmethod
    def new_state(*_: Any) -> None:
        """Nothing is kept of earlier positions."""

    def prepare(self, *_: Any) -> None:
        """Nothing is read that is made once for a pass."""

    def initialize(self, std: float, residual_std: float) -> None:
        """Draw new weights; `residual_std` is of the matrix that writes to the residual stream."""
        for name, child in self.named_children():
            if name.endswith("norm"):
                child.initialize()
            else:
                child.initialize(residual_std if name == "down" else std)
        if self.alpha_p is not None:  # xIELU's slopes begin at 0.8, a beta of 0.5 in that of what is negative
            nn.init.constant_(self.alpha_p, math.log(math.expm1(0.8)))
            nn.init.constant_(self.alpha_n, math.log(math.expm1(0.8 - 0.5)))

    def active(self, x: Tensor) -> Tensor:
        """The activation of each number."""
        if self.alpha_p is not None:
            return kernels.xielu(x, self.alpha_p, self.alpha_n)
        return self.activation(x)

    def _down(self, h_BSF: Tensor) -> Tensor:
        """Hidden features back to the residual stream, normed before where the spec says so."""
        if self.sub_norm is not None:
            h_BSF = self.sub_norm(h_BSF)
        return self.down(h_BSF)

    def active_gate(self, x: Tensor, cut: Cut | None) -> Tensor:
        """The activation of a gate, which may be cut from above, before it or after it."""
        if cut is not None and cut.gate == "before":
            x = F.hardtanh(x, -math.inf, cut.limit)
        x = self.active(x)
        return F.hardtanh(x, -math.inf, cut.limit) if cut is not None and cut.gate == "after" else x

    @staticmethod
    def other(x: Tensor, cut: Cut | None) -> Tensor:
        """What an active gate is multiplied by, which may be cut on both sides."""
        if cut is None:
            return x
        x = F.hardtanh(x, -cut.limit, cut.limit)
        return x + 1 if cut.plus_one else x


def _norm(mlp: blocks.PlainMLP | blocks.GatedMLP) -> Any:
    """The norm of its hidden features."""
    return None if mlp.sub_norm is None else NORMS[mlp.sub_norm.kind](mlp.sub_norm, (mlp.d_ff,))


class PlainMLP(MLP):
    """Two matrices with an activation between them."""

    def __init__(self, d_model: int, mlp: blocks.PlainMLP) -> None:
        super().__init__(mlp.activation)
        self.up = Linear(d_model, mlp.d_ff, bias=mlp.bias)
        self.sub_norm = _norm(mlp)
        self.down = Linear(mlp.d_ff, d_model, bias=mlp.bias)

    def adapters(self, d_model: int, rank: int) -> nn.ModuleDict:
        """What one use of it adds to its projection, where layers share it."""
        return nn.ModuleDict({"adapter": Adapter(d_model, rank, up=self.up.out_features)})

    def forward(self, x_BSD: Tensor, _positions: Any = None, _state: Any = None, adapters: Any = None) -> Tensor:
        return self._down(self.active(self._up(x_BSD, adapters)))

    def _up(self, x_BSD: Tensor, adapters: Any) -> Tensor:
        if adapters is None:
            up_BSF: Tensor = self.up(x_BSD)
            return up_BSF
        adapter = adapters["adapter"]
        added_BSF: Tensor = adapter.beside("up", self.up(x_BSD), adapter(x_BSD))
        return added_BSF


class GatedMLP(MLP):
    """A second matrix (gate) says by how much each answer counts."""

    def __init__(self, d_model: int, mlp: blocks.GatedMLP) -> None:
        super().__init__(mlp.activation)
        self.gate = Linear(d_model, mlp.d_ff, bias=mlp.has_bias("gate"))
        self.up = Linear(d_model, mlp.d_ff, bias=mlp.has_bias("up"))
        self.sub_norm = _norm(mlp)
        self.down = Linear(mlp.d_ff, d_model, bias=mlp.has_bias("down"))
        self.cut, self.gate_scale = mlp.cut, mlp.gate_scale

    def adapters(self, d_model: int, rank: int) -> nn.ModuleDict:
        """What one use of it adds to its projections, where layers share it."""
        F = self.up.out_features
        return nn.ModuleDict({"adapter": Adapter(d_model, rank, gate=F, up=F)})

    def forward(self, x_BSD: Tensor, _positions: Any = None, _state: Any = None, adapters: Any = None) -> Tensor:
        if adapters is not None:
            return self._down(self._adapted(x_BSD, adapters["adapter"]))
        gate = self.active_gate
        return self._down(
            gate(scaled(self.gate(x_BSD), self.gate_scale), self.cut) * self.other(self.up(x_BSD), self.cut)
        )

    def _adapted(self, x_BSD: Tensor, adapter: Adapter) -> Tensor:
        """The hidden features where a layer adds to the projections that it shares."""
        gate_BSF, low = self.gate(x_BSD), adapter(x_BSD)
        gate_BSF = adapter.beside("gate", gate_BSF, low)
        gate_BSF = self.active_gate(scaled(gate_BSF, self.gate_scale), self.cut)
        up_BSF = adapter.beside("up", self.up(x_BSD), low)
        del low
        return gate_BSF * self.other(up_BSF, self.cut)


DENSE: dict[str, type[Any]] = {"plain": PlainMLP, "gated": GatedMLP}
"""Which module each kind of a spec's dense MLPs becomes."""
