"""One token at a time: the model's scores, a distribution by temperature, one token drawn from it, and again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from archcalc_reference.model import Cache, Kernel, Transformer


class Sampling(NamedTuple):
    """How a token is drawn.

    Attributes:
        temperature: 0 takes the most likely token; 1 is the model's own distribution; there is no upper limit.
        top_k: only so many of the most likely tokens may be drawn.
        top_p: only the most likely tokens that together have at least this probability (Holtzman et al. 2019,
            arXiv:1904.09751).
        seed: of the random numbers; the same one gives the same tokens on the same machine.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    seed: int = 0


class Step(NamedTuple):
    """One token for each of N samples.

    `probabilities_NV` are those that it was drawn from, in float64; `logits_NV` the scores that they were made of.
    `position` is where the token stands, from 0.
    """

    position: int
    tokens_N: list[int]
    logits_NV: Tensor
    probabilities_NV: Tensor


def distribution(logits_NV: Tensor, sampling: Sampling) -> Tensor:
    """softmax(logits / temperature), in float64; what may not be drawn is 0, and the rest sums to 1.

    Of equals the first is the most likely. Logits of any size do not overflow: their maximum is taken off first.
    """
    logits_NV = logits_NV.double()
    best_N1 = logits_NV.argmax(-1, keepdim=True)
    if sampling.temperature == 0:
        return torch.zeros_like(logits_NV).scatter(-1, best_N1, 1.0)
    scaled_NV = (logits_NV - logits_NV.gather(-1, best_N1)) / sampling.temperature
    p_NV = torch.softmax(scaled_NV, -1)
    sorted_NV, order_NV = torch.sort(p_NV, dim=-1, descending=True, stable=True)
    kept_NV = torch.ones_like(sorted_NV, dtype=torch.bool)
    if sampling.top_k is not None:
        kept_NV[:, sampling.top_k :] = False
    if sampling.top_p is not None:
        before_NV = sorted_NV.cumsum(-1) - sorted_NV  # the first is kept whatever its share
        kept_NV &= before_NV < sampling.top_p
    p_NV = p_NV * torch.zeros_like(kept_NV).scatter(-1, order_NV, kept_NV)
    return p_NV / p_NV.sum(-1, keepdim=True)


def masked(logits_NV: Tensor, never: Sequence[int]) -> Tensor:
    """The scores, with those of ids that are `never` drawn at minus infinity: of a model's rows without a token."""
    if not never:
        return logits_NV
    return logits_NV.index_fill(-1, torch.tensor(never, device=logits_NV.device), float("-inf"))


def draw(p_NV: Tensor, generator: torch.Generator) -> list[int]:
    """A token for each row: the first whose running sum passes a random number."""
    random_N1 = torch.rand(p_NV.shape[0], 1, dtype=torch.float64, generator=generator).to(p_NV.device)
    sums_NV = p_NV.cumsum(-1)
    passed_N1 = torch.searchsorted(sums_NV, random_N1 * sums_NV[:, -1:], right=True)
    last_N1 = p_NV.shape[1] - 1 - (p_NV.flip(-1) > 0).double().argmax(-1, keepdim=True)
    return torch.minimum(passed_N1, last_N1).flatten().tolist()  # rounding never draws what has no probability


@torch.inference_mode()  # type: ignore[untyped-decorator]
def generate(
    model: Transformer,
    prompt: list[int],
    tokens: int,
    sampling: Sampling | None = None,
    *,
    samples: int = 1,
    kernel: Kernel = "flash",
    cache: Cache | None = None,
    cached: bool = True,
    never: Sequence[int] = (),
) -> Iterator[Step]:
    """Up to `tokens` steps after a prompt, fewer where the context ends; `samples` continuations at once.

    The prompt is read in one pass, once for all samples, behind what a `cache` holds that is given. Without `cached`
    every pass reads the whole text again. The ids in `never` are not drawn.

    Raises ValueError for an empty prompt, one that fills the context, or a token outside the vocabulary.
    """
    sampling = sampling or Sampling()
    weight, most = model.embedding.token.weight, model.spec.context_length
    first = cache.filled if cache is not None else 0
    _refuse(model, prompt, first)
    length = min(first + len(prompt) + tokens, most)
    if cached and cache is None:
        cache = Cache(model.spec, samples, length, weight.dtype, weight.device)
    generator = torch.Generator().manual_seed(sampling.seed)
    text_NS = torch.tensor([prompt] * samples, device=weight.device)
    logits_NV = _read(model, text_NS, cache, kernel)
    for position in range(first + len(prompt), length):
        logits_NV = masked(logits_NV, never)
        p_NV = distribution(logits_NV, sampling)
        chosen = draw(p_NV, generator)
        yield Step(position, chosen, logits_NV, p_NV)
        if position + 1 < length:
            new_N1 = torch.tensor(chosen, device=weight.device)[:, None]
            text_NS = new_N1 if cache is not None else torch.cat([text_NS, new_N1], 1)
            logits_NV = model(text_NS, kernel=kernel, cache=cache, last=True).logits[:, -1]


def _refuse(model: Transformer, prompt: list[int], first: int) -> None:
    """What no text can follow."""
    most, vocabulary = model.spec.context_length, model.spec.vocab_size
    if not prompt:
        raise ValueError("the prompt is empty")
    if first + len(prompt) >= most:
        raise ValueError(f"a prompt of {first + len(prompt):,} tokens fills the context of {most:,}")
    if outside := [token for token in prompt if not 0 <= token < vocabulary]:
        raise ValueError(f"token {outside[0]:,} is outside the vocabulary of {vocabulary:,}")


def _read(model: Transformer, text_NS: Tensor, cache: Cache | None, kernel: Kernel) -> Tensor:
    """The prompt's logits. Samples begin alike, so one is read and its keys and values are copied to the others."""
    if cache is None or text_NS.shape[0] == 1 or cache.filled:
        return model(text_NS, kernel=kernel, cache=cache, last=True).logits[:, -1]
    one = cache.first()
    logits_1V = model(text_NS[:1], kernel=kernel, cache=one, last=True).logits[:, -1]
    cache.spread(one)
    return logits_1V.expand(text_NS.shape[0], -1)
