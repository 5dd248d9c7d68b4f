"""The proof that the reference is the model: its numbers, on a miniature, beside those of transformers and its own.

All in fp64, where two ways to compute the same number agree to 14 digits and any other architecture does not.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from archcalc.blocks.attention import Attention
from archcalc.blocks.rotary import Dynamic, LongRope
from archcalc.checks.verdict import Check, ran, same
from archcalc.counts.activations import remembered
from archcalc.counts.flops import flops
from archcalc.proof.counterpart import Counterpart, counterpart
from archcalc.proof.miniature import one_layer, without_capacity, without_factors
from archcalc.spec.model import Model
from archcalc.tape.legend import stem
from archcalc.tape.ops import Tensor as Taped
from archcalc.tape.passes import Segment
from archcalc.tape.run import AttentionKernel, Causal, Run

if TYPE_CHECKING:
    from torch import Tensor

KERNELS: tuple[AttentionKernel, ...] = ("math", "flash")
TOLERANCE = 1e-9
LOGITS_TOLERANCE = 1e-7  # of the largest; transformers rounds some constants to fp32, such as slopes of ALiBi
LOSS_TOLERANCE = 1e-5  # the reference's loss is worked out in fp32
BATCH = 2
_ROUNDED = 1e-13


def compare_numbers(model: Model) -> tuple[list[Check], tuple[str, ...]]:
    """All comparisons of a small model's numbers, and what could not be compared and why."""
    import torch

    not_compared: tuple[str, ...]
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        reference = _with_a_say(model)
        tokens = torch.randint(reference.spec.n_logits, (BATCH, reference.spec.context_length))
        theirs = counterpart(reference)
        if isinstance(theirs, Counterpart):
            checks, not_compared = list(ran("logits", _logits(reference, tokens, theirs))), ()
        else:
            checks, not_compared = [], (f"logits with another implementation's: {theirs}",)
        checks += ran("loss", _loss(reference, tokens))
        dropless = without_capacity(model)
        if dropless != model:
            not_compared = (*not_compared, "logits with the cache where vectors are dropped: by what is read at once")
        if why := _angles_follow_length(model):
            not_compared = (*not_compared, f"logits with the cache: {why}")
        else:
            kept = reference if dropless == model else _with_a_say(dropless)
            checks += ran("logits with the cache", _decoding(kept, tokens))
        checks += ran("pairs that change a logit", _causality(reference.spec, tokens))
    checks += ran("gradients, layers recomputed", _recomputation(reference, tokens))
    return checks, not_compared


def _angles_follow_length(model: Model) -> str | None:
    """Why keys that are kept differ from those of one pass over the whole text; None where they do not."""
    for group in model.layers:
        branches = [branch for kind in group.kinds_in() for branch in kind.layer.residual_branches]
        for mixer in (mixer for branch in branches for mixer in branch.mixers):
            scaling = getattr(getattr(mixer, "rotary", None), "scaling", None)
            if isinstance(scaling, Dynamic | LongRope) and scaling.original_context_length < model.context_length:
                return f"with {scaling.summary()} scaling angles follow from the length of the text, and keys are kept"
    return None


def _with_a_say(model: Model) -> Any:
    """A reference in fp64 whose every weight shows in the logits: gains that are not 1, biases that are not 0."""
    import torch

    from archcalc_reference import Transformer

    reference = Transformer(model).double().eval()
    for parameter in reference.parameters():
        parameter.add_(torch.randn_like(parameter) * 0.3)
    return reference


def _agree(what: str, expected: Tensor, found: Tensor, source: str, tolerance: float | None = None) -> Check:
    """How many numbers are the same, within a tolerance: by default one for fp64, of the largest; NaN never is."""
    if expected.shape != found.shape:
        return Check(what, list(expected.shape), list(found.shape), equal=False, reason="ANOTHER SHAPE", source=source)
    off = (expected - found).abs()
    within = TOLERANCE * max(1.0, float(expected.abs().max())) if tolerance is None else tolerance
    close = int((off <= within).sum())
    equal = close == expected.numel()
    return Check(what, expected.numel(), close, equal, None if equal else f"DIFFERS by up to {off.max():.2g}", source)


def _logits(reference: Any, tokens: Tensor, theirs: Counterpart) -> Iterator[Check]:
    """The logits of a full pass beside those of transformers."""
    expected = theirs.logits(tokens)
    close = LOGITS_TOLERANCE * float(expected.abs().max())
    for kernel in KERNELS:
        found = reference(tokens, kernel=kernel).logits
        yield _agree(f"logits, {kernel} attention", expected, found, theirs.name, close)


def _loss(reference: Any, tokens: Tensor) -> Iterator[Check]:
    """The loss beside the mean of -log(softmax) that is written out here."""
    found = reference(tokens[:, :-1], tokens[:, 1:])
    scores = found.logits - found.logits.max(-1, keepdim=True).values
    logs = scores - scores.exp().sum(-1, keepdim=True).log()
    expected = -logs.gather(-1, tokens[:, 1:, None]).mean()
    source = "the mean of -log(softmax(logits)) at the next tokens"
    close = LOSS_TOLERANCE * max(1.0, float(found.logits.abs().max()))  # the loss is worked out in fp32
    yield _agree("loss", expected, found.loss.double(), source, close)


def _decoding(reference: Any, tokens: Tensor) -> Iterator[Check]:
    """A prompt, a second stretch and then single tokens with the cache, beside one pass over all of them."""
    import torch

    from archcalc_reference.model.transformer import Cache

    length = tokens.shape[1]
    stretches = [length // 2, length // 4, *[1] * (length - length // 2 - length // 4)]
    for kernel in KERNELS:
        cache = Cache(reference.spec, BATCH, length, torch.float64)
        found = [reference(part, kernel=kernel, cache=cache).logits for part in tokens.split(stretches, dim=1)]
        expected = reference(tokens, kernel=kernel).logits
        source = "one pass without a cache"
        yield _agree(f"logits with the cache, {kernel} attention", expected, torch.cat(found, dim=1), source)
        last = reference(tokens, kernel=kernel, last=True).logits
        yield _agree(f"last position's logits, {kernel} attention", expected[:, -1:], last, source)
    # One prompt that is read once, for several answers that then differ.
    prompt, rest = tokens[:1, : length // 2], tokens[:, length // 2 :]
    cache = Cache(reference.spec, BATCH, length, torch.float64)
    one = cache.first()
    reference(prompt, cache=one)
    cache.spread(one)
    expected = reference(torch.cat([prompt.expand(BATCH, -1), rest], dim=1)).logits[:, length // 2 :]
    found_after = reference(rest, cache=cache).logits
    yield _agree("logits after a shared prompt", expected, found_after, "one pass without a cache")


def _causality(model: Model, tokens: Tensor) -> Iterator[Check]:
    """Which positions the logits of each position depend on, and the pairs that each convention counts.

    Of each kind of layers one by itself: through several layers a query sees farther than its window. Without factors,
    since in numbers of 64 bits a score that others drown is zero.
    """
    kinds = [(kind, group) for group in model.layers for kind in group.kinds_in()]
    for number, (kind, _) in enumerate(kinds):
        which = f", kind {number + 1} of layers" * (len(kinds) > 1)
        mixers = [mixer for branch in kind.layer.residual_branches for mixer in branch.mixers]
        attentions = [mixer for mixer in mixers if isinstance(mixer, Attention)]
        if len(attentions) > 1 and any(getattr(attention, "indexer", None) for attention in attentions):
            continue  # what they see is not told apart
        yield from _causality_of(without_factors(one_layer(model, kind.layer)), tokens, which)


def _causality_of(model: Model, tokens: Tensor, which: str) -> Iterator[Check]:
    pairs = pairs_seen(model, tokens.shape[1])
    if len(pairs) > 1:  # what attentions side by side see is not told apart
        return
    reference = _with_a_say(model)
    for kernel in KERNELS:
        reached = _reached(reference, tokens[:1], kernel)
        if kernel == "math":
            yield from _flops_of_pairs(reference, tokens, reached, which)
        what = f"pairs that change a logit, {kernel} attention{which}"
        check = same(what, next(iter(pairs)), reached, "each position's vector changed in turn")
        if has_state(model) and reached <= check.counted:
            check = check._replace(equal=True, reason="at most: a state forgets")
        yield check


def pairs_seen(model: Model, length: int) -> set[int]:
    """The pairs that the count says each attention scores; each position with itself where there is none."""
    found: set[int] = set()
    for segment in model.record(Run("prefill", 1, length, causal="exact")).segments:
        scored = {label for op in segment.ops for label in op.space if stem(label) == "Q"}
        found |= {int(segment.env[label]) for label in scored}
    for segment in model.record(Run("decode", 1, context=length)).segments:
        found |= {_remembered(segment, tensor, length) for tensor in remembered(segment.ops)}
    return found or {length}


def has_state(model: Model) -> bool:
    """Whether a mixer keeps a state of all that came before, which fades."""
    segments = model.record(Run("decode", 1, context=1)).segments
    return any(tensor.role == "state" for segment in segments for tensor in remembered(segment.ops))


def _remembered(segment: Segment, tensor: Taped, length: int) -> int:
    """Pairs through a state, which has all that came before; those of a convolution, where it is alone."""
    all_have = any(other.role == "state" for other in remembered(segment.ops))
    before = length if all_have else int(segment.env[tensor.labels[-1]])
    return sum(min(position, before) + 1 for position in range(length))


def _reached(reference: Any, tokens: Tensor, kernel: AttentionKernel) -> int:
    """Pairs of positions, the second of which changes the logits of the first.

    Each changes its own, by way of the residual stream. Where an indexer chooses, what it chose stays, and a
    position's own counts if it chose itself.
    """
    import torch

    base = reference(tokens, kernel=kernel).logits
    reached = 0
    with _as_chosen(reference, tokens, kernel) as chosen:
        for position in range(tokens.shape[1]):

            def disturb(_module: Any, _given: Any, x: Tensor, position: int = position) -> Tensor:
                x[:, position] += torch.randn_like(x[:, position])
                return x

            handle = reference.embedding.register_forward_hook(disturb)
            # What experts make of a vector is rounded by how many go with it.
            changed = ((reference(tokens, kernel=kernel).logits - base).abs() > _ROUNDED * base.abs().max()).any(-1)
            handle.remove()
            if chosen is not None:
                changed[:, position] &= (chosen[:, position] == position).any(-1)
            reached += int(changed.sum())
    return reached


@contextmanager
def _as_chosen(reference: Any, tokens: Tensor, kernel: AttentionKernel) -> Iterator[Tensor | None]:
    """What the one layer's indexer chooses for each query, and goes on to choose; None where there is none."""
    from archcalc_reference.model.indexing import Indexer

    indexer = next((module for module in reference.modules() if isinstance(module, Indexer)), None)
    if indexer is None:
        yield None
        return
    found: list[Tensor] = []
    handle = indexer.register_forward_hook(lambda _module, _given, chosen: found.append(chosen))
    reference(tokens, kernel=kernel)
    handle.remove()
    handle = indexer.register_forward_hook(lambda _module, _given, _chosen: found[0])
    yield found[0]
    handle.remove()


def _flops_of_pairs(reference: Any, tokens: Tensor, reached: int, which: str) -> Iterator[Check]:
    """The forward FLOPs of each convention: those of PyTorch's counter, attention by the share of pairs seen."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from archcalc_reference.model.dealing import balanced

    model, length = reference.spec, tokens.shape[1]
    with balanced(reference), FlopCounterMode(display=False) as counter:
        reference(tokens, kernel="math")
    total = counter.get_total_flops()
    found = counter.get_flop_counts()["Global"]
    products = found.get(torch.ops.aten.bmm, 0)  # of scores and mix; weights are mm
    scanned = found.get(torch.ops.archcalc.choose, 0)  # an indexer scores what came before, and chooses of it
    seen: dict[Causal, int] = {"full": 2 * length * length, "exact": 2 * reached, "half": 2 * reached - length}
    before: dict[Causal, int] = {"full": 2 * length**2, "exact": length * (length + 1), "half": length**2}
    meaning: dict[Causal, str] = {
        "full": "every pair, masked or not",
        "exact": "pairs that change a logit",
        "half": "those, a position's pair with itself by half",
    }
    for causal, twice in seen.items():
        run = Run("prefill", BATCH, length, causal=causal)
        counted, measured = flops(model, run).forward, total - products - scanned
        measured += (products * twice + scanned * before[causal]) // (2 * length * length)
        source = f"FlopCounterMode, attention by {meaning[causal]}"
        yield same(f"forward FLOPs, causal {causal}{which}", counted, measured, source)


def _recomputation(reference: Any, tokens: Tensor) -> Iterator[Check]:
    """The gradients of a pass whose layers are computed again, beside those of one that keeps everything."""
    import torch

    found = []
    for recompute in (False, True):
        reference.zero_grad(set_to_none=True)
        reference(tokens[:, :-1], tokens[:, 1:], recompute=recompute).loss.backward()
        found.append(torch.cat([p.grad.flatten() for p in reference.parameters() if p.grad is not None]))
    yield _agree("gradients, layers recomputed", found[0], found[1], "a pass that keeps everything")
