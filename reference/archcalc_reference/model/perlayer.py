"""What a layer makes of the vector that its token has for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor

from archcalc_reference.model.linear import Linear
from archcalc_reference.model.mlp import MLP
from archcalc_reference.model.positions import Positions

if TYPE_CHECKING:
    from archcalc import blocks


class PerLayer(MLP):
    """A gate made of the stream, times the vector, projected back."""

    def __init__(self, d_model: int, spec: blocks.PerLayer) -> None:
        super().__init__(spec.activation)
        self.gate = Linear(d_model, spec.d_per_layer, bias=False)
        self.down = Linear(spec.d_per_layer, d_model, bias=False)

    def forward(self, x_BSD: Tensor, positions: Positions, _state: Any = None) -> Tensor:
        return self.down(self.active(self.gate(x_BSD)) * positions.vector)


PER_LAYER: dict[str, type[Any]] = {"per_layer": PerLayer}
"""Which module each kind of a spec's mixers becomes."""
