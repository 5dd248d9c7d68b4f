"""Generation: logits, a distribution by the settings, one sampled token, and again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from archcalc_reference.model.decoding import RECORDERS, FixedStep, decodes
from archcalc_reference.model.sampling import Sampling, distribution, draw, masked, penalized
from archcalc_reference.model.transformer import Cache, Kernel, Transformer


class Step(NamedTuple):
    """One token for each of N samples.

    `probabilities_NV` are those that it was drawn from, in float64; `logits_NV` the scores that they were made of,
    after the repetition penalty.
    `position` is where the token stands, from 0.
    """

    position: int
    tokens_N: list[int]
    logits_NV: Tensor
    probabilities_NV: Tensor


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
    before: Sequence[int] = (),
    never: Sequence[int] = (),
    graph: bool = False,
) -> Iterator[Step]:
    """Up to `tokens` steps after a prompt, fewer where the context ends; `samples` continuations at once.

    The prompt is read in one pass, once for all samples, behind what a `cache` holds that is given; `before`
    are the ids there, which a repetition penalty also bears on. Without `cached` every pass reads the whole text
    again. The ids in `never` are not drawn.

    With `graph` tokens after the first are read by a CUDA graph on a GPU, where there is a cache, the kernel is flash
    and the model allows it (decoding.py): what counts ops from outside does not see them. It was tried on CPUs alone,
    with a stand-in for the graph, and is off for that reason.

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
    said_NS = torch.tensor([[*before, *prompt]] * samples, device=weight.device)
    logits_NV, follow = _read(model, text_NS, cache, kernel), following(model, cache, kernel, graph=graph)
    for position in range(first + len(prompt), length):
        logits_NV = penalized(masked(logits_NV, never), said_NS, sampling.repetition_penalty)
        p_NV = distribution(logits_NV, sampling)
        chosen = draw(p_NV, generator)
        yield Step(position, chosen, logits_NV, p_NV)
        if position + 1 < length:
            new_N1 = torch.tensor(chosen, device=weight.device)[:, None]
            said_NS = torch.cat([said_NS, new_N1], 1)
            text_NS = new_N1 if cache is not None else torch.cat([text_NS, new_N1], 1)
            logits_NV = follow(text_NS)


def following(
    model: Transformer, cache: Cache | None, kernel: Kernel, *, graph: bool = False
) -> Callable[[Tensor], Tensor]:
    """What makes logits (N, V) of what follows the prompt: one token of each sample, or without a cache all again."""
    record = RECORDERS.get(model.embedding.token.weight.device.type) if graph else None
    if record is not None and cache is not None and kernel == "flash" and decodes(model, cache):
        return FixedStep(model, cache, record)
    return lambda text_NS: model(text_NS, kernel=kernel, cache=cache, last=True).logits[:, -1]


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
