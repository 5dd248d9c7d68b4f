"""Generation: logits, a distribution by temperature, one sampled token, and again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from archcalc.errors import Invalid, Problem
from archcalc_reference.model.transformer import Cache, Kernel, Transformer


class Sampling(NamedTuple):
    """How a token is drawn.

    Attributes:
        temperature: 0 takes the most likely token; 1 is the model's own distribution; there is no upper limit.
        top_k: only so many of the most likely tokens may be drawn, and those that are as likely as the last of them.
        top_p: only the most likely tokens that together have at least this probability (Holtzman et al. 2019,
            arXiv:1904.09751), of what top_k leaves.
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
    """What a token is drawn from: softmax(logits / temperature), in float64; what may not be drawn is 0.

    Temperature, top-k and top-p mean what they do in transformers' `generate`: TemperatureLogitsWarper,
    TopKLogitsWarper and TopPLogitsWarper, in this order. Top-k keeps all tokens that are as likely as the k-th. Top-p
    then leaves out the least likely tokens that have at most 1 - P of what is left together; which of equal tokens
    these are is up to torch.sort, as it is there. Temperature 1, a top-k of the whole vocabulary and top-p 1 change
    no bit. At temperature 0 the first of the most likely tokens has all of it.

    transformers computes in float32: where a running sum comes within about 1e-6 of 1 - P, it may keep one token more
    or less than this does.

    A logit of -inf has probability 0. Raises Invalid for NaN or inf, and where all of a row are -inf.
    """
    _refuse_no_numbers(logits_NV)
    logits_NV = logits_NV.double()
    best_N1 = logits_NV.argmax(-1, keepdim=True)
    if sampling.temperature == 0:
        return torch.zeros_like(logits_NV).scatter(-1, best_N1, 1.0)
    # The maximum is taken off before the division: x / T alone overflows where T is tiny.
    scaled_NV = (logits_NV - logits_NV.gather(-1, best_N1)) / sampling.temperature
    if sampling.top_k is not None and sampling.top_k < scaled_NV.shape[-1]:
        least_N1 = scaled_NV.topk(sampling.top_k, -1).values[:, -1:]
        scaled_NV = scaled_NV.masked_fill(scaled_NV < least_N1, -torch.inf)
    if sampling.top_p is not None and sampling.top_p < 1:
        sorted_NV, order_NV = torch.sort(scaled_NV, dim=-1)
        left_out_NV = torch.softmax(sorted_NV, -1).cumsum(-1) <= 1 - sampling.top_p
        left_out_NV[:, -1] = False
        scaled_NV = scaled_NV.masked_fill(left_out_NV.scatter(-1, order_NV, left_out_NV), -torch.inf)
    return torch.softmax(scaled_NV, -1)


def _refuse_no_numbers(logits_NV: Tensor) -> None:
    """Raise Invalid for scores from which no probability can be told."""
    bad_NV = logits_NV.isnan() | (logits_NV == torch.inf)
    if bad_NV.any():
        row, token = bad_NV.nonzero()[0].tolist()
        value = str(logits_NV[row, token].item())
        fix = "the weights are damaged or too large for the precision"
        raise Invalid(Problem("logits", "are not finite", f"token {token:,}", value=value, suggestion=fix))
    if (logits_NV == -torch.inf).all(-1).any():
        raise Invalid(Problem("logits", "are all -inf, so no token can be sampled"))


def masked(logits_NV: Tensor, never: Sequence[int]) -> Tensor:
    """The scores, with those of ids that are `never` drawn at minus infinity: of a model's rows without a token."""
    scored = [token for token in never if token < logits_NV.shape[-1]]
    if not scored:
        return logits_NV
    return logits_NV.index_fill(-1, torch.tensor(scored, device=logits_NV.device), float("-inf"))


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
