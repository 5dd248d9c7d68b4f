"""The proof of inference at full size: FLOPs of a prompt and of a token with the cache, and the bytes held."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from archcalc.checks.verdict import Check, same
from archcalc.counts.activations import cache
from archcalc.counts.flops import flops
from archcalc.counts.memory import memory, state_bytes
from archcalc.counts.parameters import params
from archcalc.spec.model import Model
from archcalc.tape.precision import Keeping
from archcalc.tape.run import AttentionKernel, Run

if TYPE_CHECKING:
    import torch

COUNTER = "FlopCounterMode, which counts all pairs of positions"
BATCH = 2
BUILT = "the reference's own parameters"
CACHE = f"the reference's own cache of {BATCH} sequences as long as the context"


def compare_inference(model: Model, reference: Any) -> Iterator[Check]:
    """A prompt as long as the context less one, and the token that fills it; the reference is on the meta device."""
    import torch

    length = model.context_length
    held = _cache(model, length, next(reference.parameters()).dtype)
    if length > 1:
        yield _flops(model, reference, "flash", held, length - 1)
    yield _flops(model, reference, "math", held, 1)
    keeping, run = Keeping("bf16"), Run("prefill", BATCH, length)
    terms = {term.name: term.bytes for term in memory(model, run, keeping).terms}
    built = sum(parameter.nbytes for parameter in reference.to(torch.bfloat16).parameters())
    yield same("weights to serve, bf16", state_bytes(params(model), run, keeping), built, BUILT)
    yield same("weights at the peak of serving, bf16", terms.get("weights"), built, BUILT)
    kept = _cache(model, length, torch.bfloat16).nbytes
    decoding = Run("decode", BATCH, context=length)
    yield same("cache, bf16", cache(model, decoding, keeping.kv_width), kept, CACHE)
    yield same("cache at the peak of serving, bf16", terms.get("key-value cache", 0), kept, CACHE)


def _cache(model: Model, length: int, kind: torch.dtype) -> Any:
    from archcalc_reference.model.transformer import Cache

    return Cache(model, BATCH, length, kind, device="meta")


def _flops(model: Model, reference: Any, kernel: AttentionKernel, held: Any, new: int) -> Check:
    """FLOPs of `new` tokens behind those that the cache holds, with the logits of the last one."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    tokens = torch.zeros((BATCH, new), dtype=torch.long, device="meta")
    if new > 1 or not held.filled:  # the first position of a text is a prompt, however short
        what, run = "FLOPs of a prompt", Run("prefill", BATCH, new, attention=kernel, logits="last")
    else:
        what, run = "FLOPs of one more token", Run("decode", BATCH, context=held.filled + 1, attention=kernel)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        reference(tokens, kernel=kernel, cache=held, last=run.logits == "last")
    return same(f"{what}, {kernel} attention", flops(model, run).forward, counter.get_total_flops(), COUNTER)
