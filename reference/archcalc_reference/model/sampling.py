"""What a token is drawn from, and the draw: penalty, temperature, the choice of the likely ones, a random number.

The settings mean what they do in transformers' `generate`, are applied in its order, and their identities are its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from archcalc.errors import Invalid, Problem


class Sampling(NamedTuple):
    """How a token is drawn; the defaults change nothing.

    Attributes:
        temperature: 0 takes the most likely token; 1 is the model's own distribution; there is no upper limit.
        top_k: only so many of the most likely tokens may be drawn, and those that are as likely as the last of them;
            0 is all of them.
        top_p: only the most likely tokens that together have at least this probability (Holtzman et al. 2019,
            arXiv:1904.09751), of what top_k leaves; 1 is all of them.
        min_p: only tokens that have at least this part of the probability of the most likely one (Nguyen et al. 2024,
            arXiv:2407.01082), of what top_p leaves; 0 is all of them.
        repetition_penalty: what `penalized` divides or multiplies the logits of earlier tokens by; 1 changes none.
        seed: of the random numbers; the same one gives the same tokens on the same machine.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    seed: int = 0


def penalized(logits_NV: Tensor, said_NS: Tensor, penalty: float) -> Tensor:
    """The logits with a repetition penalty on the ids that stand in the text so far, in float64; at 1 as they are.

    A logit of at least 0 is divided by the penalty and one below 0 multiplied by it, once for each id, however often
    it was said. That is transformers' RepetitionPenaltyLogitsProcessor, which comes before its warpers and acts on
    greedy texts too; Keskar et al. 2019 (arXiv:1909.05858, section 4.1) divide negative scores as well, which makes
    them likelier. What is said includes the prompt. Ids without a logit are left out.
    """
    if penalty == 1:
        return logits_NV
    logits_NV = logits_NV.double()
    samples, rows = logits_NV.shape
    said_NV = torch.zeros(samples, rows + 1, dtype=torch.bool, device=logits_NV.device)
    said_NV = said_NV.scatter(1, said_NS.clamp(max=rows), value=True)[:, :rows]
    largest = torch.finfo(logits_NV.dtype).max
    changed_NV = torch.where(logits_NV < 0, logits_NV * penalty, logits_NV / penalty).clamp(-largest, largest)
    return torch.where(said_NV & logits_NV.isfinite(), changed_NV, logits_NV)


def distribution(logits_NV: Tensor, sampling: Sampling) -> Tensor:
    """What a token is drawn from: softmax(logits / temperature), in float64; what may not be drawn is 0.

    Temperature, top-k, top-p and min-p are transformers' TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper
    and MinPLogitsWarper, in this order. Top-k keeps all tokens that are as likely as the k-th. Top-p then leaves out
    the least likely tokens that have at most 1 - P of what is left together; which of equal tokens these are is up to
    torch.sort, as it is there. Min-p leaves out those below its part of the most likely. Temperature 1, a top-k of 0
    or of the whole vocabulary, top-p 1 and min-p 0 change no bit. At temperature 0 the first of the most likely
    tokens has all of it. The repetition penalty is not applied here: the logits are those that `penalized` gives.

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
    if 0 < sampling.top_k < scaled_NV.shape[-1]:
        least_N1 = scaled_NV.topk(sampling.top_k, -1).values[:, -1:]
        scaled_NV = scaled_NV.masked_fill(scaled_NV < least_N1, -torch.inf)
    if sampling.top_p < 1:
        sorted_NV, order_NV = torch.sort(scaled_NV, dim=-1)
        left_out_NV = torch.softmax(sorted_NV, -1).cumsum(-1) <= 1 - sampling.top_p
        left_out_NV[:, -1] = False
        scaled_NV = scaled_NV.masked_fill(left_out_NV.scatter(-1, order_NV, left_out_NV), -torch.inf)
    if sampling.min_p > 0:
        p_NV = torch.softmax(scaled_NV, -1)
        scaled_NV = scaled_NV.masked_fill(p_NV < sampling.min_p * p_NV.amax(-1, keepdim=True), -torch.inf)
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
