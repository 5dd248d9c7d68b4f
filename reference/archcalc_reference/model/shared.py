"""Blocks that layers share: the model has each once, and each layer that uses it what is its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from archcalc_reference.model.attention import ATTENTIONS
from archcalc_reference.model.flash import Rule
from archcalc_reference.model.joining import side_by_side
from archcalc_reference.model.linear import Linear
from archcalc_reference.model.mlp import DENSE
from archcalc_reference.model.norms import NORMS
from archcalc_reference.model.positions import Positions
from archcalc_reference.model.state import KeysValues

if TYPE_CHECKING:
    from archcalc.spec.shared import SharedBlock as Spec


class SharedBlock(nn.Module):
    """An attention over twice the width and an MLP, with the norms before them; nothing is added to its input."""

    def __init__(self, d_model: int, spec: Spec) -> None:
        super().__init__()
        self.norm = _norm(spec.norm, 2 * d_model)
        self.attention = ATTENTIONS[spec.attention.kind](d_model, spec.attention, d_input=2 * d_model)
        self.mlp_norm = _norm(spec.mlp_norm, d_model)
        self.mlp = DENSE[spec.mlp.kind](d_model, spec.mlp)

    def initialize(self, std: float, residual_std: float) -> None:
        """Draw new weights."""
        for norm in (self.norm, self.mlp_norm):
            if norm is not None:
                norm.initialize()
        self.attention.initialize(std, residual_std)
        self.mlp.initialize(std, residual_std)


class Use(nn.Module):
    """One use of a shared block: its adapters, and the matrix behind it. The block's weights are not its own."""

    def __init__(self, d_model: int, spec: Spec, block: SharedBlock) -> None:
        super().__init__()
        self._block = [block]  # in a list, so that it is no module of this one
        attention, rank = block.attention, spec.attention_adapter
        self.attention = None if rank is None else attention.adapters(2 * d_model, rank)
        self.mlp = None if spec.mlp_adapter is None else block.mlp.adapters(d_model, spec.mlp_adapter)
        self.projection = Linear(d_model, d_model, bias=False)

    @staticmethod
    def new_state(spec: Spec, batch: int, length: int, dtype: torch.dtype, device: Any = None) -> KeysValues:
        """Room for the keys and values of this use."""
        state: KeysValues = ATTENTIONS[spec.attention.kind].new_state(spec.attention, batch, length, dtype, device)
        return state

    @property
    def block(self) -> SharedBlock:
        """What other layers use too."""
        return self._block[0]

    @property
    def rule(self) -> Rule:
        """How its attention scores: of a shared one each use counts."""
        rule: Rule = self.block.attention.rule
        return rule

    def initialize(self, std: float) -> None:
        """Draw new weights of its own."""
        for module in self.modules():
            if isinstance(module, Linear):
                module.initialize(std)

    def prepare(self, positions: Positions, state: KeysValues | None) -> None:
        """Make the mask and the angles that its attention reads."""
        self.block.attention.prepare(positions, state)

    def forward(self, x_BSD: Tensor, positions: Positions, state: KeysValues | None = None) -> Tensor:
        block = self.block
        assert positions.tokens is not None  # noqa: S101  (the model keeps them for such blocks)
        y_BSD = side_by_side(x_BSD, positions.tokens)
        y_BSD = y_BSD if block.norm is None else block.norm(y_BSD)
        y_BSD = block.attention(y_BSD, positions, state, self.attention)
        y_BSD = y_BSD if block.mlp_norm is None else block.mlp_norm(y_BSD)
        return self.projection(block.mlp(y_BSD, positions, None, self.mlp))


def _norm(norm: Any, features: int) -> Any:
    return None if norm is None else NORMS[norm.kind](norm, (features,))
