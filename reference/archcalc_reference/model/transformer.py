"""A GPT, from the bottom of this file up: Transformer, Layer, then what a layer is made of.

It is written from the spec alone and never sees a tape: it is the witness that the counts are held against. The
architecture is that of GPT-2 (Radford et al. 2019; OpenAI's code at github.com/openai/gpt-2).

The capital letters at the end of a name are the axes of the tensor:

    B sequences   S positions   T positions that are read   D d_model   V vocabulary   F MLP hidden
    G key/value heads   R query heads per key/value head   X = R*S   K query and key features   W value features
"""

from __future__ import annotations

import math
from collections.abc import Callable
from copy import copy
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from archcalc.spec.model import LayerGroup, Model

if TYPE_CHECKING:
    from archcalc import blocks

Kernel = Literal["math", "flash"]
Store = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""Keeps the keys and values of new positions, and gives back those of all positions so far."""


class Cache:
    """The keys and values of the positions read so far, so that a new one need not read the old ones again.

    Its memory is taken once, for `batch` sequences of at most `length` positions; `filled` of them are there. The
    positions of a head stand together, as products of matrices read them: nothing is copied to be read.
    """

    def __init__(
        self, model: Model, batch: int, length: int, dtype: torch.dtype = torch.float32, device: Any = None
    ) -> None:
        layers: list[Any] = [group.attention for group in model.layers for _ in range(group.repeat)]
        self.filled, self.length = 0, length
        self.k_BGTK = [torch.empty(batch, a.n_kv_heads, length, a.d_head, dtype=dtype, device=device) for a in layers]
        self.v_BGTW = [torch.empty(batch, a.n_kv_heads, length, a.d_head, dtype=dtype, device=device) for a in layers]

    @property
    def nbytes(self) -> int:
        """Bytes of its memory, filled or not."""
        return sum(tensor.nbytes for tensor in (*self.k_BGTK, *self.v_BGTW))

    def store(self, layer: int, k_BGSK: Tensor, v_BGSW: Tensor) -> tuple[Tensor, Tensor]:
        """Write what is new behind what is there; all of it so far, at T positions, comes back."""
        end = self.filled + k_BGSK.shape[2]
        self.k_BGTK[layer][:, :, self.filled : end] = k_BGSK
        self.v_BGTW[layer][:, :, self.filled : end] = v_BGSW
        return self.k_BGTK[layer][:, :, :end], self.v_BGTW[layer][:, :, :end]

    def first(self) -> Cache:
        """The part of it that is the first sequence's, in the same memory."""
        one = copy(self)
        one.k_BGTK, one.v_BGTW = ([kept[:1] for kept in all_kept] for all_kept in (self.k_BGTK, self.v_BGTW))
        return one

    def spread(self, one: Cache) -> None:
        """Give all sequences what the first has."""
        for kept in (*self.k_BGTK, *self.v_BGTW):
            kept[1:, :, : one.filled] = kept[:1, :, : one.filled]
        self.filled = one.filled


class Output(NamedTuple):
    """The result of a forward pass: logits (B, S, V), and the mean cross-entropy in nats, or None without targets."""

    logits: Tensor
    loss: Tensor | None


# PyTorch's layers draw random weights when they are made, and Transformer.initialize draws the right ones after
# that. Once is enough; on the meta device the first drawing costs more than the whole model.
class Linear(nn.Linear):
    """y = x W^T + b, W stored as (out, in)."""

    def reset_parameters(self) -> None:
        pass


class Table(nn.Embedding):
    """Row i is the vector of item i."""

    def reset_parameters(self) -> None:
        pass


class LayerNorm(nn.LayerNorm):
    """Each vector to mean 0 and variance 1, then a learned gain and bias for each feature."""

    def __init__(self, d_model: int, norm: blocks.LayerNorm) -> None:
        super().__init__(d_model, eps=norm.epsilon, bias=norm.bias)

    def reset_parameters(self) -> None:
        pass


class MultiHeadAttention(nn.Module):
    """Each position asks (query), offers (key) and hands on (value); what it gets is written back (output)."""

    def __init__(self, d_model: int, attention: blocks.MultiHead) -> None:
        super().__init__()
        self.G, self.R = attention.n_kv_heads, attention.n_heads // attention.n_kv_heads
        self.K = self.W = attention.d_head
        self.query = Linear(d_model, self.G * self.R * self.K, bias=attention.bias)
        self.key = Linear(d_model, self.G * self.K, bias=attention.bias)
        self.value = Linear(d_model, self.G * self.W, bias=attention.bias)
        self.output = Linear(self.G * self.R * self.W, d_model, bias=attention.bias)

    def forward(self, x_BSD: Tensor, mask_ST: Tensor | None, kernel: Kernel, store: Store | None = None) -> Tensor:
        # What mixing reads is gone when it is done: a name of it here would keep it until the output is made.
        y_BSGRW = self._mix(x_BSD, mask_ST, kernel, store)
        return self.output(y_BSGRW.flatten(2))

    def _mix(self, x_BSD: Tensor, mask_ST: Tensor | None, kernel: Kernel, store: Store | None) -> Tensor:
        B, S, _ = x_BSD.shape
        G, R, K, W = self.G, self.R, self.K, self.W
        q_BSGRK = self.query(x_BSD).view(B, S, G, R, K)
        k_BGTK = self.key(x_BSD).view(B, S, G, K).transpose(1, 2)
        v_BGTW = self.value(x_BSD).view(B, S, G, W).transpose(1, 2)
        if store is not None:
            k_BGTK, v_BGTW = store(k_BGTK, v_BGTW)
        attention = {"math": _math_attention, "flash": _flash_attention}[kernel]
        return attention(q_BSGRK, k_BGTK, v_BGTW, mask_ST)


def _math_attention(q_BSGRK: Tensor, k_BGTK: Tensor, v_BGTW: Tensor, mask_ST: Tensor | None) -> Tensor:
    """softmax(q k / sqrt(K) + mask) v, every step there to see, in the type that the model works in."""
    B, S, G, R, K = q_BSGRK.shape
    T, W = v_BGTW.shape[2:]
    a_BGRST = _scores(q_BSGRK, k_BGTK) / math.sqrt(K)
    if mask_ST is not None:
        a_BGRST = a_BGRST + mask_ST
    a_BGRST = torch.softmax(a_BGRST, dim=-1)
    y_BGXW = a_BGRST.view(B, G, R * S, T) @ v_BGTW  # (B,G,X,T) @ (B,G,T,W) -> (B,G,X,W)
    return _in_order(y_BGXW.view(B, G, R, S, W).permute(0, 3, 1, 2, 4))


def _scores(q_BSGRK: Tensor, k_BGTK: Tensor) -> Tensor:
    """How well each query fits each key; a key's R query heads stand one below the other, so it is not repeated."""
    B, S, G, R, K = q_BSGRK.shape
    q_BGXK = _in_order(q_BSGRK.permute(0, 2, 3, 1, 4)).view(B, G, R * S, K)
    return (q_BGXK @ k_BGTK.transpose(2, 3)).view(B, G, R, S, -1)  # (B,G,X,K) @ (B,G,K,T) -> (B,G,X,T)


def _in_order(x: Tensor) -> Tensor:
    """A copy whose numbers stand in memory as its axes do: heads are split off, and put together again, by copying."""
    return x.clone(memory_format=torch.contiguous_format)


def _flash_attention(q_BSGRK: Tensor, k_BGTK: Tensor, v_BGTW: Tensor, mask_ST: Tensor | None) -> Tensor:
    """The same numbers from PyTorch's fused kernel, which never stores the scores.

    It masks by itself where queries and keys are of the same positions; one new query has nothing to mask.
    """
    G, R = q_BSGRK.shape[2:4]
    q, k, v = q_BSGRK.flatten(2, 3).transpose(1, 2), k_BGTK, v_BGTW
    if q.is_meta:  # there PyTorch takes the kernel apart and stores the scores after all, unless it is asked by name
        y = torch.ops.aten._scaled_dot_product_flash_attention(q, k, v, 0.0, is_causal=True)[0]  # noqa: SLF001
    else:
        causal = mask_ST is None and q.shape[2] == k.shape[2]
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask_ST, is_causal=causal, enable_gqa=R > 1)
    return y.transpose(1, 2).unflatten(2, (G, R))


class PlainMLP(nn.Module):
    """Each position alone: many questions asked (up), the answers weighed (activation) and written back (down)."""

    def __init__(self, d_model: int, mlp: blocks.PlainMLP) -> None:
        super().__init__()
        self.up = Linear(d_model, mlp.d_ff, bias=mlp.bias)
        self.approximate = {"gelu": "none", "gelu_tanh": "tanh"}[mlp.activation]
        self.down = Linear(mlp.d_ff, d_model, bias=mlp.bias)

    def forward(self, x_BSD: Tensor) -> Tensor:
        h_BSF = F.gelu(self.up(x_BSD), approximate=self.approximate)
        return self.down(h_BSF)


# Which module each kind of a spec's blocks becomes.
NORMS: dict[str, type[Any]] = {"layernorm": LayerNorm}
ATTENTIONS: dict[str, type[Any]] = {"multi_head": MultiHeadAttention}
MLPS: dict[str, type[Any]] = {"plain": PlainMLP}


class Layer(nn.Module):
    """Two residual branches: what attention found is added to x, then what the MLP made of it."""

    def __init__(self, d_model: int, layer: LayerGroup) -> None:
        super().__init__()
        self.attention_norm = NORMS[layer.norm.kind](d_model, layer.norm)
        self.attention = ATTENTIONS[layer.attention.kind](d_model, layer.attention)
        self.mlp_norm = NORMS[layer.norm.kind](d_model, layer.norm)
        self.mlp = MLPS[layer.mlp.kind](d_model, layer.mlp)

    def forward(self, x_BSD: Tensor, mask_ST: Tensor | None, kernel: Kernel, store: Store | None = None) -> Tensor:
        x_BSD = x_BSD + self.attention(self.attention_norm(x_BSD), mask_ST, kernel, store)
        return x_BSD + self.mlp(self.mlp_norm(x_BSD))


class Embedding(nn.Module):
    """A vector for each token plus a vector for each position."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.token = Table(model.vocab_size, model.d_model)
        self.position = Table(model.context_length, model.d_model)

    def forward(self, tokens_BS: Tensor, first: int = 0) -> Tensor:
        positions_S = torch.arange(first, first + tokens_BS.shape[1], device=tokens_BS.device)
        return self.token(tokens_BS) + self.position(positions_S)


def _causal_mask(x_BSD: Tensor, first: int) -> Tensor:
    """0 where a position may look, -inf where it would see its own future; `first` positions came before."""
    S = x_BSD.shape[1]
    T = first + S
    mask_ST = torch.full((S, T), -math.inf, dtype=x_BSD.dtype, device=x_BSD.device)
    return mask_ST.triu(1 + first)


class Transformer(nn.Module):
    """The model that a spec describes. Its parameters have the names that `archcalc params --by tensor` prints.

    New weights are drawn as the spec's `initialization` says. On the meta device (`with torch.device("meta")`) the
    model has shapes but no numbers, so that any size can be built.
    """

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.spec = model
        self.embedding = Embedding(model)
        self.layers = nn.ModuleList(Layer(model.d_model, group) for group in model.layers for _ in range(group.repeat))
        self.final_norm = NORMS[model.final_norm.kind](model.d_model, model.final_norm)
        self.unembedding = Linear(model.d_model, model.vocab_size, bias=model.unembedding.bias)
        if model.unembedding.tied:
            self.unembedding.weight = self.embedding.token.weight
        self.initialize()

    def initialize(self) -> None:
        """Draw new weights as the spec states: normal(0, std), biases 0, gains 1."""
        start = self.spec.initialization
        residual_std = start.std
        if start.residual == "scaled":
            residual_std /= math.sqrt(2 * len(self.layers))  # two branches a layer add up on the residual stream
        for name, parameter in self.named_parameters():
            if parameter.is_meta:
                return  # nothing to draw
            with torch.no_grad():
                if name.endswith("bias"):
                    parameter.zero_()
                elif parameter.dim() == 1:
                    parameter.fill_(1.0)
                else:
                    ends_branch = name.endswith(("attention.output.weight", "mlp.down.weight"))
                    parameter.normal_(0.0, residual_std if ends_branch else start.std)

    def forward(
        self,
        tokens_BS: Tensor,
        targets_BS: Tensor | None = None,
        kernel: Kernel = "math",
        *,
        recompute: bool = False,
        cache: Cache | None = None,
        last: bool = False,
    ) -> Output:
        """Logits (B, S, V) for the token after each position, and the mean cross-entropy of `targets_BS` if given.

        `recompute` saves each layer's input alone, and computes the layer again when its gradient is due. With a
        `cache` the tokens stand behind those that it holds, and are kept in it. With `last` logits are those of the
        last position, (B, 1, V).

        Raises ValueError where there are more positions than the context, or the cache, has.
        """
        first, S = (0 if cache is None else cache.filled), tokens_BS.shape[1]
        most = self.spec.context_length if cache is None else min(self.spec.context_length, cache.length)
        if first + S > most:
            raise ValueError(f"{first + S:,} tokens; the context holds {most:,}")
        x_BSD = self.embedding(tokens_BS, first)
        # Flash attention masks by itself what is all new, and one new position, which may see all that came before.
        masked = kernel == "math" or (S > 1 and first > 0)
        mask_ST = _causal_mask(x_BSD, first) if masked else None
        for i, layer in enumerate(self.layers):
            if recompute:
                # Nothing in a layer is random, so no state of random numbers need be kept for it.
                again = partial(layer, mask_ST=mask_ST, kernel=kernel)
                x_BSD = checkpoint(again, x_BSD, use_reentrant=False, preserve_rng_state=False)
            else:
                x_BSD = layer(x_BSD, mask_ST, kernel, None if cache is None else partial(cache.store, i))
        if cache is not None:
            cache.filled += S
        if last:
            x_BSD = x_BSD[:, -1:]
        logits_BSV = self.unembedding(self.final_norm(x_BSD))
        if targets_BS is None:
            return Output(logits_BSV, None)
        # The loss is worked out in fp32 whatever the model works in: exponentials of a whole vocabulary are summed.
        return Output(logits_BSV, F.cross_entropy(logits_BSV.flatten(0, 1).float(), targets_BS.flatten()))
