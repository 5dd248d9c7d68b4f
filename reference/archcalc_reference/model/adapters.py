"""Adapters: what a layer adds to a projection that it shares with others, by two thin matrices."""

from __future__ import annotations

from torch import Tensor, nn

from archcalc_reference.model.linear import Linear


class Adapter(nn.Module):
    """A few features of the input (down), and what is made of them for each of the projections that it is beside."""

    def __init__(self, d_input: int, rank: int, **outputs: int) -> None:
        super().__init__()
        self.down = Linear(d_input, rank, bias=False)
        for name, features in outputs.items():
            self.add_module(name, Linear(rank, features, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        return self.down(x)

    def beside(self, name: str, y: Tensor, low: Tensor) -> Tensor:
        """What a projection made, and what this adds to it."""
        return y + self.get_submodule(name)(low)
