"""A layer: residual branches, one after the other or side by side."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from archcalc.spec.model import Model
from archcalc_reference.model.attention import ATTENTIONS, MultiHeadAttention
from archcalc_reference.model.experts import EXPERTS
from archcalc_reference.model.kernels import grow
from archcalc_reference.model.latent import LATENT
from archcalc_reference.model.linear import WithBuffers, scaled
from archcalc_reference.model.mlp import DENSE
from archcalc_reference.model.norms import NORMS
from archcalc_reference.model.perlayer import PER_LAYER
from archcalc_reference.model.positions import Positions
from archcalc_reference.model.recurrent import RECURRENT
from archcalc_reference.model.shared import Use
from archcalc_reference.model.state import State

if TYPE_CHECKING:
    from archcalc.spec.branch import Branch as BranchSpec
    from archcalc.spec.layers import Layer as LayerSpec

MIXERS: dict[str, type[Any]] = {**ATTENTIONS, **LATENT, **DENSE, **EXPERTS, **PER_LAYER, **RECURRENT}
"""Which module each kind of a spec's mixers becomes."""

States = list[State | None]
"""What the mixers of a layer keep of earlier positions, in order; that of a shared block before its branch's own."""


class Branch(NamedTuple):
    """The parts of one residual branch: x + scale * post_norm(mixer(input_scale * norm(x))), and a norm of the sum.

    Where a shared block is `added`, what that makes of x is added to what the norm reads.

    Where it `keeps_normed` the x that is added to is norm(x) too; `residual_scale` multiplies that. What it makes
    `waits` for the last branch, or is added at once.
    """

    name: str
    added: Any
    mixer: Any
    norm: Any
    shares_norm: bool
    post_norm: Any
    stream_norm: Any
    scale: float | None
    input_scale: float | None
    keeps_normed: bool
    residual_scale: float | None
    waits: bool


class Layer(WithBuffers):
    """Each branch adds what its mixer makes to x. In GPT-2 these are attention and an MLP, each behind a norm.

    A branch's modules bear its name: `attention_norm`, `attention`, `attention_post_norm`, `attention_stream_norm`.
    """

    def __init__(self, d_model: int, layer: LayerSpec, shared: Mapping[str, Any]) -> None:
        super().__init__()
        self.side_by_side = layer.side_by_side
        self.register_buffer("scalar", torch.ones(1) if layer.has_scalar else None)
        self.branches: list[Branch] = []
        for branch in layer.residual_branches:
            added = branch.added and Use(d_model, branch.added, shared[branch.added.block])
            self._add(f"{branch.name}_added", added)
            shares = branch.norm == "shared"
            norm = None if shares else self._add(f"{branch.name}_norm", _norm(d_model, branch.norm))
            mixer = self._add(branch.name, MIXERS[branch.mixer.kind](d_model, branch.mixer))
            post = self._add(f"{branch.name}_post_norm", _norm(d_model, branch.post_norm))
            stream = self._add(f"{branch.name}_stream_norm", _norm(d_model, branch.stream_norm))
            keeps, scales = branch.residual == "normed", (branch.scale, branch.input_scale)
            parts = (branch.name, added, mixer, norm, shares, post, stream, *scales, keeps, branch.residual_scale)
            self.branches.append(Branch(*parts, waits=branch.joins == "end"))

    def _add(self, name: str, module: nn.Module | None) -> nn.Module | None:
        """Make it a part of the layer under any name, those of nn.Module's own methods among them."""
        if module is not None:
            self._modules[name] = module
        return module

    def place(self, i: int, layers: int) -> None:
        """Tell the mixers that differ by it which of how many layers this is."""
        for branch in self.branches:
            if hasattr(branch.mixer, "place"):
                branch.mixer.place(i, layers)

    def initialize(self, std: float, residual_std: float) -> None:
        """Draw new weights."""
        for branch in self.branches:
            for norm in (branch.norm, branch.post_norm, branch.stream_norm):
                if norm is not None:
                    norm.initialize()
            branch.mixer.initialize(std, residual_std)
            if branch.added is not None:
                branch.added.initialize(std)

    def prepare(self, positions: Positions, states: States | None) -> None:
        """Make what its mixers read and other layers may have made already."""
        kept = iter(states or ())
        for branch in self.branches:
            if branch.added is not None:
                branch.added.prepare(positions, next(kept, None))
            branch.mixer.prepare(positions, next(kept, None))

    def forward(
        self, x_BSD: Tensor, vector_BSE: Tensor | None, positions: Positions, states: States | None = None
    ) -> Tensor:
        positions.vector = vector_BSE
        entering_BSD, normed_BSD, kept = x_BSD, None, iter(states or ())
        late: list[Tensor] = []
        for i, branch in enumerate(self.branches):
            if not branch.shares_norm:
                normed_BSD = entering_BSD if self.side_by_side else x_BSD
                if branch.added is not None:
                    normed_BSD = normed_BSD + branch.added(normed_BSD, positions, next(kept, None))
                normed_BSD = normed_BSD if branch.norm is None else branch.norm(normed_BSD)
            read_BSD = scaled(normed_BSD, branch.input_scale)
            x_BSD = normed_BSD if branch.keeps_normed else x_BSD
            if not self._is_shared_next(i):
                normed_BSD = None  # nothing else reads it
            y_BSD = branch.mixer(read_BSD, positions, next(kept, None))
            del read_BSD
            y_BSD = y_BSD if branch.post_norm is None else branch.post_norm(y_BSD)
            y_BSD, x_BSD = scaled(y_BSD, branch.scale), scaled(x_BSD, branch.residual_scale)
            if branch.waits:
                late.append(y_BSD)
            else:
                x_BSD = x_BSD + y_BSD
            del y_BSD
            x_BSD = x_BSD if branch.stream_norm is None else branch.stream_norm(x_BSD)
        while late:
            x_BSD = x_BSD + late.pop(0)
        return x_BSD if self.scalar is None else grow(x_BSD, self.scalar)

    def _is_shared_next(self, i: int) -> bool:
        return i + 1 < len(self.branches) and self.branches[i + 1].shares_norm


def _norm(d_model: int, norm: Any) -> Any:
    return None if norm is None else NORMS[norm.kind](norm, (d_model,))


def specs(model: Model) -> Iterator[LayerSpec]:
    """The layers of a spec, one by one."""
    for group in model.layers:
        at = {offset: kind.layer for kind in group.kinds_in() for offset in kind.offsets}
        for i in range(group.repeat):
            yield at[i % group.period]


def states(model: Model, batch: int, length: int, dtype: torch.dtype, device: Any = None) -> list[States]:
    """Room for what the mixers of each layer keep of `length` positions."""

    def of(branch: BranchSpec) -> States:
        added = branch.added
        before = [] if added is None else [Use.new_state(added, batch, length, dtype, device)]
        return [*before, MIXERS[branch.mixer.kind].new_state(branch.mixer, batch, length, dtype, device)]

    return [[state for branch in layer.residual_branches for state in of(branch)] for layer in specs(model)]


def mark_sources(layers: Iterable[Layer]) -> None:
    """Tell each attention whose keys and values one behind it reads that it is to hand them on."""
    made: dict[Any, MultiHeadAttention] = {}
    for mixer in (branch.mixer for layer in layers for branch in layer.branches):
        if isinstance(mixer, MultiHeadAttention):
            if mixer.spec.shared_kv:
                made[mixer.spec.sharing].is_read_again = True
            else:
                made[mixer.spec.sharing] = mixer
