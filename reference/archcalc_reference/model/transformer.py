"""The model that a spec describes: embedding, layers, final norm, unembedding.

It is written from the spec alone and never sees a tape: it is the witness that the counts are held against. Each part
of it is in a module of this folder. Where a spec is GPT-2's, so is the model (Radford et al. 2019; OpenAI's code at
github.com/openai/gpt-2).

The capital letters at the end of a name are the axes of the tensor:

    B sequences   S positions   T positions that are read   D d_model   V vocabulary   F MLP hidden
    G key/value heads   R query heads per key/value head   H = G*R   X = R*S
    K query and key features   W value features
"""

from __future__ import annotations

import math
from functools import partial
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from archcalc.spec.model import Model
from archcalc_reference.model.cache import Cache as Cache  # noqa: PLC0414  (as mypy reads an export)
from archcalc_reference.model.embedding import EMBEDDINGS, UNEMBEDDINGS
from archcalc_reference.model.layer import Layer, States, mark_sources, specs
from archcalc_reference.model.norms import NORMS
from archcalc_reference.model.positions import Kernel as Kernel  # noqa: PLC0414
from archcalc_reference.model.positions import Positions
from archcalc_reference.model.shared import SharedBlock


class Output(NamedTuple):
    """The result of a forward pass: logits (B, S, V), and the mean cross-entropy in nats, or None without targets."""

    logits: Tensor
    loss: Tensor | None


class Transformer(nn.Module):
    """The model that a spec describes. Its parameters have the names that `archcalc params --by tensor` prints.

    New weights are drawn as the spec's `initialization` says. On the meta device (`with torch.device("meta")`) the
    model has shapes but no numbers, so that any size can be built.
    """

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.spec = model
        self.embedding = EMBEDDINGS[model.embedding.kind](model)
        blocks = model.shared_blocks
        self.shared = nn.ModuleDict({name: SharedBlock(model.d_model, block) for name, block in blocks.items()})
        self.layers = nn.ModuleList(Layer(model.d_model, layer, self.shared) for layer in specs(model))
        for i, layer in enumerate(self.layers):
            layer.place(i, len(self.layers))
        mark_sources(self.layers)
        norm = model.final_norm
        self.final_norm = None if norm is None else NORMS[norm.kind](norm, (model.d_model,))
        self.unembedding = UNEMBEDDINGS[model.unembedding.kind](model)
        if self.unembedding.tied:
            self.unembedding.weight = self.embedding.token.weight
        self.initialize()

    def initialize(self) -> None:
        """Draw new weights as the spec states: normal(0, std), biases 0, gains 1."""
        if self.embedding.token.weight.is_meta:
            return  # nothing to draw
        start = self.spec.initialization
        residual_std = start.std
        if start.residual == "scaled":  # what all branches write adds up on the residual stream
            residual_std /= math.sqrt(sum(len(layer.branches) for layer in self.layers))
        self.embedding.initialize(start.std)
        for block in self.shared.values():
            block.initialize(start.std, residual_std)
        for layer in self.layers:
            layer.initialize(start.std, residual_std)
        if self.final_norm is not None:
            self.final_norm.initialize()
        self.unembedding.initialize(start.std)

    def forward(
        self,
        tokens_BS: Tensor,
        targets_BS: Tensor | None = None,
        kernel: Kernel = "math",
        *,
        recompute: bool | int = False,
        cache: Cache | None = None,
        last: bool = False,
    ) -> Output:
        """Logits (B, S, V) for the token after each position, and the mean cross-entropy of `targets_BS` if given.

        `recompute` saves each layer's input alone, and computes the layer again when its gradient is due; a number has
        it do so with the first layers alone. With a
        `cache` the tokens stand behind those that it holds, and are kept in it. With `last` logits are those of the
        last position, (B, 1, V).

        Raises ValueError where there are more positions than the context, or the cache, has.
        """
        first, S = (0 if cache is None else cache.filled), tokens_BS.shape[1]
        most = self.spec.context_length if cache is None else min(self.spec.context_length, cache.length)
        if first + S > most:
            raise ValueError(f"{first + S:,} tokens; the context holds {most:,}")
        x_BSD = self.embedding(tokens_BS, first)
        positions = Positions(first, S, kernel, self.spec.context_length, x_BSD)
        if self.shared:
            positions.tokens = x_BSD
        vectors = self.embedding.for_each_layer(tokens_BS, x_BSD)
        states: list[States | None] = [None] * len(self.layers) if cache is None else [*cache.states]
        for layer, kept in zip(self.layers, states, strict=True):
            layer.prepare(positions, kept)
        for i, (layer, kept) in enumerate(zip(self.layers, states, strict=True)):
            vector_BSE = vectors[i] if vectors else None
            if recompute is True or i < recompute:
                # Nothing in a layer is random, so no state of random numbers need be kept for it.
                again = partial(layer, positions=positions)
                x_BSD = checkpoint(again, x_BSD, vector_BSE, use_reentrant=False, preserve_rng_state=False)
            else:
                x_BSD = layer(x_BSD, vector_BSE, positions, kept)
        if cache is not None:
            cache.filled += S
        if last:
            x_BSD = x_BSD[:, -1:]
        logits_BSV = self.unembedding(x_BSD if self.final_norm is None else self.final_norm(x_BSD))
        if targets_BS is None:
            return Output(logits_BSV, None)
        # The loss is worked out in fp32 whatever the model works in: exponentials of a whole vocabulary are summed.
        return Output(logits_BSV, F.cross_entropy(logits_BSV.flatten(0, 1).float(), targets_BS.flatten()))
