"""Recurrent mixers: a state of one size for each head stands for all positions so far.

The letters are those of `scans`; g is the groups of heads that share queries and keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from archcalc_reference.model.convolution import CausalConv, ShortConvolution
from archcalc_reference.model.linear import Linear, scaled
from archcalc_reference.model.mamba import Mamba
from archcalc_reference.model.mlp import ACTIVATIONS
from archcalc_reference.model.norms import NORMS
from archcalc_reference.model.positions import Positions
from archcalc_reference.model.scanning import Scan
from archcalc_reference.model.scans import gated_delta, lightning, mamba2
from archcalc_reference.model.state import Memory

if TYPE_CHECKING:
    from archcalc import blocks
    from archcalc.blocks.recurrent import StateMixer


class Recurrent(nn.Module):
    """What mixers with a state for each head have in common."""

    names = ("query", "key", "value")
    scales: Mapping[str, float | None] = {}
    scan: Scan
    numbers: tuple[float, ...]

    def __init__(self, d_model: int, spec: StateMixer, *, bias: bool, conv_bias: bool | None) -> None:
        super().__init__()
        self.spec = spec
        H, inner = spec.n_heads, spec.n_heads * spec.d_head
        for name, size in zip(self.names, _widths(spec), strict=True):
            self.add_module(name, Linear(d_model, size, bias=bias))
        self.gates = self._gates(spec)
        for name, size, rank in self.gates:
            if rank is not None:
                self.add_module(f"{name}_latent", Linear(d_model, rank, bias=bias))
            self.add_module(name, Linear(d_model if rank is None else rank, size, bias=bias))
        if conv_bias is not None:
            for name, size in zip(self.names, _widths(spec), strict=True):
                self.add_module(f"{name}_conv", CausalConv(size, _taps(spec), bias=conv_bias))
        self.learns = len(self.gates) > 1
        if self.learns:
            self.step_bias, self.decay = nn.Parameter(torch.empty(self.gates[-1][1])), nn.Parameter(torch.empty(H))
        self.act = self.open = ACTIVATIONS[spec.activation]
        self.norm = _norm(spec)
        self.output = Linear(inner, d_model, bias=bias)

    @staticmethod
    def _gates(spec: StateMixer) -> list[tuple[str, int, int | None]]:
        """The output gate and what the scan takes for each head, by name: how many numbers, and of how many of a
        latent they are made. The last are steps, of which a state learns to decay.
        """
        return [("output_gate", spec.n_heads * spec.d_head, None), ("step", spec.n_heads, None)]

    @staticmethod
    def new_state(spec: StateMixer, batch: int, _length: int, dtype: torch.dtype, device: Any = None) -> Memory:
        """Room for the state, in fp32, and for the positions that the convolutions see again."""
        sizes = _widths(spec) if _taps(spec) else ()
        recent = [torch.zeros(batch, size, _taps(spec) - 1, dtype=dtype, device=device) for size in sizes]
        wide = dtype if dtype == torch.float64 else torch.float32
        state = torch.zeros(batch, spec.n_heads, spec.d_head, spec.d_state, dtype=wide, device=device)
        return Memory(*recent, state=state)

    def prepare(self, *_: Any) -> None:
        """Nothing is read that is made once for a pass."""

    def initialize(self, std: float, residual_std: float) -> None:
        """Draw new weights; a head's decays are those of Mamba-2: 1 to 16 at a step of one, and short steps."""
        for module in self.children():
            if isinstance(module, Linear | CausalConv):
                module.initialize(std)
        self.output.initialize(residual_std)
        if self.norm is not None:
            self.norm.initialize()
        if not self.learns:
            return
        with torch.no_grad():
            self.decay.uniform_(1.0, 16.0).log_()
            step = torch.empty_like(self.step_bias).uniform_(-6.9, -2.3).exp_()  # 0.001 to 0.1
            self.step_bias.copy_(step + (-torch.expm1(-step)).log())  # of which softplus is the step

    def forward(self, x_BSD: Tensor, positions: Positions, state: Memory | None = None) -> Tensor:
        if state is not None and positions.first == 0:
            state.clear()
        return self.output(self._mix(x_BSD, positions, state).flatten(2))

    def learned(self) -> tuple[Tensor, ...]:
        """The weights of the scan."""
        return ()

    def _mix(self, x_BSD: Tensor, positions: Positions, state: Memory | None) -> Tensor:
        # What is read for the last time is given away, so that it is gone when that is done.
        spec, heads = self.spec, (self.spec.n_heads, self.spec.d_head)
        made = {name: self._made(name, x_BSD) for name in self.names}
        gate, *steps = (self._made(name, x_BSD) for name, *_ in self.gates)
        gate_BSHp = gate.unflatten(-1, heads)
        del gate
        recent = state.recent if state is not None and state.recent else [None] * len(self.names)
        for name, kept in zip(self.names, recent, strict=True):
            x_BSC, conv = made.pop(name), self._modules.get(f"{name}_conv")
            x_BSC = x_BSC if conv is None else conv(x_BSC, kept)
            made[name] = self.act(x_BSC)
            del x_BSC
        one, kept = positions.new == 1 and positions.first > 0, None if state is None else state.state
        q_BSgn, k_BSgn = (made.pop(name).unflatten(-1, (spec.n_groups, spec.d_state)) for name in ("query", "key"))
        v_BSHp = made.pop("value").unflatten(-1, heads)
        y_BSHp = self.scan(q_BSgn, k_BSgn, v_BSHp, *steps, *self.learned(), *self.numbers, state=kept, one=one)
        del q_BSgn, k_BSgn, v_BSHp, steps
        if self.norm is not None and spec.norm_place == "before":
            y_BSHp = self._normed(y_BSHp)
        y_BSHp = y_BSHp * self.open(gate_BSHp)
        del gate_BSHp
        return self._normed(y_BSHp) if self.norm is not None and spec.norm_place == "after" else y_BSHp

    def _made(self, name: str, x_BSD: Tensor) -> Tensor:
        """A projection, of a latent where it has one."""
        latent = self._modules.get(f"{name}_latent")
        return scaled(self.get_submodule(name)(x_BSD if latent is None else latent(x_BSD)), self.scales.get(name))

    def _normed(self, y_BSHp: Tensor) -> Tensor:
        shape, spec = y_BSHp.shape, self.spec
        if spec.norm_over == "width":
            y_BSHp = y_BSHp.flatten(2)
        elif spec.norm_over == "group":
            y_BSHp = y_BSHp.unflatten(2, (spec.n_groups, -1)).flatten(3)
        return self.norm(y_BSHp).view(shape)


class Mamba2(Recurrent):
    """Dao and Gu 2024, arXiv:2405.21060."""

    def __init__(self, d_model: int, spec: blocks.Mamba2) -> None:
        super().__init__(d_model, spec, bias=spec.bias, conv_bias=spec.conv_bias)
        self.skip = nn.Parameter(torch.empty(spec.n_heads))
        self.scan = mamba2
        self.numbers = (spec.chunk_size, spec.least_step or 0.0, spec.most_step or float("inf"))
        scales = (spec.query_scale, spec.key_scale, spec.value_scale, spec.gate_scale, spec.step_scale)
        self.scales = dict(zip((*self.names, "output_gate", "step"), scales, strict=True))

    def initialize(self, std: float, residual_std: float) -> None:
        """Draw new weights; a value is added to what is read as it is."""
        super().initialize(std, residual_std)
        nn.init.ones_(self.skip)

    def learned(self) -> tuple[Tensor, ...]:
        return self.step_bias, self.decay, self.skip


class GatedDelta(Recurrent):
    """Yang et al. 2024, arXiv:2412.06464; where each feature decays by itself, Kimi delta attention."""

    def __init__(self, d_model: int, spec: blocks.GatedDelta) -> None:
        super().__init__(d_model, spec, bias=False, conv_bias=False)
        self.scan, self.numbers = gated_delta, (spec.chunk_size, spec.decay_limit or 0.0, spec.share_scale or 1.0)
        if spec.gate_activation == "sigmoid":
            self.open = torch.sigmoid

    @staticmethod
    def _gates(spec: Any) -> list[tuple[str, int, int | None]]:
        decays = spec.n_heads * (spec.d_state if spec.decay == "feature" else 1)
        gate = ("output_gate", spec.n_heads * spec.d_head, spec.gate_rank)
        return [gate, ("share", spec.n_heads, None), ("step", decays, spec.decay_rank)]

    def learned(self) -> tuple[Tensor, ...]:
        return self.step_bias, self.decay


class Lightning(Recurrent):
    """Qin et al. 2024, arXiv:2405.17381."""

    def __init__(self, d_model: int, spec: blocks.Lightning) -> None:
        super().__init__(d_model, spec, bias=False, conv_bias=None)
        self.scan, self.numbers, self.open = lightning, (spec.chunk_size, 1.0), torch.sigmoid
        self.falling = spec.slopes == "falling"

    @staticmethod
    def _gates(spec: StateMixer) -> list[tuple[str, int, int | None]]:
        return [("output_gate", spec.n_heads * spec.d_head, None)]

    def place(self, layer: int, layers: int) -> None:
        """Slopes fall from the first layer to the last."""
        if self.falling:
            self.numbers = (self.spec.chunk_size, 1 - layer / (layers - 1 + 1e-5) + 1e-5)


def _taps(spec: StateMixer) -> int:
    """Positions that convolutions see; 0 where there are none."""
    return int(getattr(spec, "d_conv", 0))


def _widths(spec: StateMixer) -> tuple[int, int, int]:
    """Channels of queries, keys and values."""
    return spec.n_groups * spec.d_state, spec.n_groups * spec.d_state, spec.n_heads * spec.d_head


def _norm(spec: StateMixer) -> Any:
    if spec.norm is None:
        return None
    H, p, g = spec.n_heads, spec.d_head, spec.n_groups
    if spec.norm_over == "head":
        return NORMS[spec.norm.kind](spec.norm, (p,))
    return NORMS[spec.norm.kind](spec.norm, (H * p,), groups=g if spec.norm_over == "group" else 1)


RECURRENT: dict[str, type[Any]] = {
    "mamba": Mamba,
    "mamba2": Mamba2,
    "gated_delta": GatedDelta,
    "lightning": Lightning,
    "short_conv": ShortConvolution,
}
"""Which module each kind of a spec's recurrent mixers becomes."""
