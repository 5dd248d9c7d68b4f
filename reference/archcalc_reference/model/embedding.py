"""The two ends of the model: tokens become vectors, and the last vectors become a score for each token."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from archcalc.spec.model import Model
from archcalc_reference.model.linear import Linear, Table
from archcalc_reference.model.mlp import MLP
from archcalc_reference.model.norms import NORMS
from archcalc_reference.model.sinusoids import add_sinusoids


@cache
def rounded(value: float, dtype: torch.dtype) -> float:
    """The number of that type that is nearest."""
    return float(torch.tensor(value, dtype=dtype, device="cpu").item())


class Embedding(nn.Module):
    """A vector for each token, plus one for each position where these are learned, or sinusoids."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        spec: Any = model.embedding
        narrow, D = spec.d_embedding, model.d_model
        self.scale = spec.scale if spec.scale != "sqrt_d_model" else None
        self.by_width = D if spec.scale == "sqrt_d_model" else None
        self.offset = spec.extra_positions
        self.token = Table(model.vocab_size, narrow or D)
        self.projection = Linear(narrow, D, bias=False) if narrow else None
        learned = spec.positions == "learned"
        self.position = Table(model.context_length + spec.extra_positions, D) if learned else None
        self.sinusoidal = spec.positions == "sinusoidal"
        self.closed, self.number = spec.sinusoids == "tensor2tensor", spec.first_position
        self.norm = NORMS[spec.norm.kind](spec.norm, (D,)) if spec.norm else None
        self.per_layer = PerLayerVectors(model, spec.per_layer) if spec.per_layer else None

    def initialize(self, std: float) -> None:
        """Draw new weights."""
        for part in (self.token, self.projection, self.position, self.per_layer):
            if part is not None:
                part.initialize(std)
        if self.norm is not None:
            self.norm.initialize()

    def forward(self, tokens_BS: Tensor, first: Any = 0) -> Tensor:
        """Vectors of tokens from position `first` on; of one position that may be a tensor (1), see decoding.py."""
        x_BSD = self._tokens(tokens_BS)
        if self.position is not None:
            begin = first + self.offset
            if not isinstance(begin, Tensor):
                begin = torch.arange(begin, begin + tokens_BS.shape[1], device=tokens_BS.device)
            x_BSD = x_BSD + self.position(begin)
        elif self.sinusoidal:
            x_BSD = add_sinusoids(x_BSD, first + self.number, closed=self.closed)
        return x_BSD if self.norm is None else self.norm(x_BSD)

    def for_each_layer(self, tokens_BS: Tensor, x_BSD: Tensor) -> tuple[Tensor, ...]:
        """The vectors that layers have of the tokens, each its own; none where they have none."""
        return () if self.per_layer is None else self.per_layer(tokens_BS, x_BSD)

    def _tokens(self, tokens_BS: Tensor) -> Tensor:
        x = self.token(tokens_BS)
        if self.by_width is not None:  # Gemma's is as precise as its weights are
            x = x * rounded(math.sqrt(self.by_width), x.dtype)
        if self.scale is not None:
            x = x * self.scale
        return x if self.projection is None else self.projection(x)


class Transform(MLP):
    """A matrix, an activation and a norm, as BERT has them before its token table."""

    def __init__(self, d_model: int, spec: Any) -> None:
        super().__init__(spec.activation)
        self.dense = Linear(d_model, d_model, bias=spec.bias)
        self.norm = None if spec.norm is None else NORMS[spec.norm.kind](spec.norm, (d_model,))

    def forward(self, x_BSD: Tensor) -> Tensor:
        y_BSD = self.active(self.dense(x_BSD))
        return y_BSD if self.norm is None else self.norm(y_BSD)


class PerLayerVectors(nn.Module):
    """A vector of each token for each layer: a row of a table, and what a projection makes of the token's own."""

    def __init__(self, model: Model, spec: Any) -> None:
        super().__init__()
        self.each, self.d_model = spec.d_per_layer, model.d_model
        whole = model.n_layers * self.each
        self.token = Table(spec.vocab_size or model.vocab_size, whole)
        self.projection = Linear(model.d_model, whole, bias=False)
        self.norm = NORMS[spec.norm.kind](spec.norm, (self.each,))

    def initialize(self, std: float) -> None:
        """Draw new weights."""
        self.token.initialize(std)
        self.projection.initialize(std)
        self.norm.initialize()

    def forward(self, tokens_BS: Tensor, x_BSD: Tensor) -> tuple[Tensor, ...]:
        """The vectors of each layer, (B, S, d_per_layer), parts of one tensor."""
        table = self.token(tokens_BS).unflatten(-1, (-1, self.each))
        table = table * rounded(math.sqrt(self.each), table.dtype)
        made = self.projection(x_BSD).unflatten(-1, (-1, self.each))
        made = made * self.d_model**-0.5
        made = self.norm(made)
        made = made + table
        del table
        made = made * 2.0**-0.5
        return tuple(made.unbind(2))


class Unembedding(Linear):
    """Logits over the vocabulary, by the token table itself where that serves here too."""

    def __init__(self, model: Model) -> None:
        spec: Any = model.unembedding
        super().__init__(spec.d_embedding or model.d_model, spec.rows or model.vocab_size, bias=spec.bias)
        self.tied, self.scale, self.softcap = spec.tied, spec.scale, spec.softcap
        self.transform = None if spec.transform is None else Transform(model.d_model, spec.transform)
        self.projection = Linear(model.d_model, spec.d_embedding, bias=False) if spec.d_embedding else None

    def initialize(self, std: float) -> None:
        """Draw new weights, but those that are the token table's."""
        if self.transform is not None:
            self.transform.initialize(std, std)
        if self.projection is not None:
            self.projection.initialize(std)
        if not self.tied:
            super().initialize(std)
        elif self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x_BSD: Tensor) -> Tensor:
        logits = self._scores(x_BSD)
        if self.scale is not None:
            logits = logits * self.scale
        if self.softcap is not None:
            logits = logits / self.softcap
            logits = torch.tanh(logits)
            logits = logits * self.softcap
        return logits

    def _scores(self, x: Tensor) -> Tensor:
        x = x if self.transform is None else self.transform(x)
        x = x if self.projection is None else self.projection(x)
        return F.linear(x, self.weight, self.bias)


EMBEDDINGS: dict[str, type[Any]] = {"tokens": Embedding}
UNEMBEDDINGS: dict[str, type[Any]] = {"linear": Unembedding}
"""Which module each kind of a spec's embeddings and unembeddings becomes."""
