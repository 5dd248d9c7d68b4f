"""The probability of tokens that are given, instead of drawn: each after those before it."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from archcalc_reference.model.sampling import Sampling, distribution, masked, penalized
from archcalc_reference.model.transformer import Cache, Transformer


@torch.inference_mode()  # type: ignore[untyped-decorator]
def probabilities(
    model: Transformer, prompt: list[int], tokens: list[int], sampling: Sampling, *, never: Sequence[int] = ()
) -> list[float]:
    """Of each of `tokens`, that `generate` draws it after the prompt and those before it.

    The prompt is read once, and its logits are those of the last position alone, however long it is.

    Raises ValueError for an empty prompt or no tokens, or where they do not fit the context; Invalid as `distribution`
    does.
    """
    if not prompt or not tokens:
        raise ValueError("the prompt is empty" if not prompt else "there are no tokens")
    weight = model.embedding.token.weight
    whole_1S = torch.tensor([[*prompt, *tokens]], device=weight.device)
    cache = Cache(model.spec, 1, whole_1S.shape[1] - 1, weight.dtype, weight.device)
    first = len(prompt)
    logits_NV = model(whole_1S[:, :first], kernel="flash", cache=cache, last=True).logits[:, -1]
    if len(tokens) > 1:
        more_NV = model(whole_1S[:, first:-1], kernel="flash", cache=cache).logits[0]
        logits_NV = torch.cat([logits_NV, more_NV])
    logits_NV = masked(logits_NV, never)
    found = []
    for place, token in enumerate(tokens):
        said_1S = whole_1S[:, : first + place]
        scores_1V = penalized(logits_NV[place : place + 1], said_1S, sampling.repetition_penalty)
        found.append(distribution(scores_1V, sampling)[0, token].item())
    return found
