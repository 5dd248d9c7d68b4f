"""Positions: who tells a model the order of its tokens, and how far."""

from __future__ import annotations

from collections.abc import Iterator

from archcalc.blocks.attention import MultiHead
from archcalc.blocks.embedding import TokenEmbedding
from archcalc.blocks.latent import LatentAttention
from archcalc.blocks.recurrent import Recurrent
from archcalc.blocks.rotary import Dynamic, LongRope, Rotary, Yarn
from archcalc.checks.rules import Finding, Rule
from archcalc.checks.subject import Subject

_STEP = 16


def _beyond(subject: Subject) -> Iterator[Finding]:
    """Llama 3's and dynamic scaling name no length up to which they reach."""
    context = subject.model.context_length
    for where, part in subject.each(Yarn, LongRope):
        factor, original = part.factor, part.original_context_length
        if factor is not None and context > factor * original:
            reach = int(factor * original)
            yield Finding(
                f"context_length is {context:,}; the scaling reaches {factor:g} x {original:,} = {reach:,} positions",
                (*where, "factor"),
                f"{factor:g}",
                f"{context / original:g} reaches {context:,}",
            )


def _idle_scaling(subject: Subject) -> Iterator[Finding]:
    context = subject.model.context_length
    for where, part in subject.each(Dynamic, LongRope):
        original = part.original_context_length
        if original >= context:
            what = f"is not below context_length ({context:,}): the scaling for longer texts never applies"
            yield Finding(
                what, (*where, "original_context_length"), f"{original:,}", "remove the scaling, or correct it"
            )


def _idle_window(subject: Subject) -> Iterator[Finding]:
    context = subject.model.context_length
    for where, part in subject.each(MultiHead):
        for name in ("window", "chunk"):
            size: int | None = getattr(part, name)
            if size is not None and size >= context:
                what = f"is not below context_length ({context:,}): every query sees all positions before it"
                yield Finding(what, (*where, name), f"{size:,}", "null, or a smaller one")


def _unordered(subject: Subject) -> Iterator[Finding]:
    """Mixers that keep a state read one position after the other, and so know their order."""
    attention = [part for _, part in subject.each(MultiHead, LatentAttention)]
    told = _in_embedding(subject) or any(map(_told, attention)) or any(subject.each(Recurrent))
    if attention and not told:
        what = "no part knows the order of positions: neither learned nor sinusoidal, rotary or ALiBi ones"
        yield Finding(what, ("embedding",), None, "give the attention rotary, or embedding.positions")


def _twice(subject: Subject) -> Iterator[Finding]:
    kinds = _in_embedding(subject)
    for where, part in subject.each(MultiHead, LatentAttention):
        if kinds and _told(part):
            what = f"embedding.positions is {kinds}, and attention has positions of its own: the order is told twice"
            yield Finding(what, where, None, 'embedding.positions "none", if the source adds nothing there')
            return


def _in_embedding(subject: Subject) -> str:
    """The positions that are added to the embedding; "" where none are."""
    embedding = subject.model.embedding
    return embedding.positions if isinstance(embedding, TokenEmbedding) and embedding.positions != "none" else ""


def _told(part: MultiHead | LatentAttention) -> bool:
    return part.rotary is not None or bool(getattr(part, "alibi", False))


def _turned(subject: Subject) -> Iterator[Finding]:
    for where, part in subject.each(Rotary):
        if rest := part.d_rotary % _STEP:
            low, high = part.d_rotary - rest, part.d_rotary + _STEP - rest
            near = " or ".join(f"{n}" for n in (low, high) if n)
            what = f"is not a multiple of {_STEP}: FlashAttention's kernel with a cache refuses such a size"
            yield Finding(what, (*where, "d_rotary"), f"{part.d_rotary:,}", f"nearest: {near}")


RULES = (
    Rule(
        "AC130",
        "context-beyond-scaling",
        "the context is longer than what the scaling of rotary positions reaches",
        "YaRN stretches the original context by its factor; beyond that, positions are turned as none was in training",
        "Peng et al. 2023, arXiv:2309.00071 (the factor is the new context over the original one); Ding et al. 2024, "
        "arXiv:2402.13753. A table of learned positions has context_length rows and cannot be too short",
        "correct context_length, factor or original_context_length",
        looks=_beyond,
        example="context_length: 131072, with {kind: yarn, factor: 4, original_context_length: 16384}",
    ),
    Rule(
        "AC131",
        "scaling-without-effect",
        "a scaling for texts beyond the original context never applies",
        "it changes the angles of longer texts alone, and context_length allows none",
        "the definitions of dynamic scaling and of LongRoPE, archcalc/blocks/rotary.py",
        "remove the scaling, or correct one of the two lengths",
        looks=_idle_scaling,
        example="context_length: 4096, with {kind: dynamic, factor: 2, original_context_length: 4096}",
    ),
    Rule(
        "AC132",
        "window-without-effect",
        "a window or a chunk is as long as the context, or longer",
        "it hides nothing, and programs that choose a kernel by it take the slower one for windows",
        "arithmetic: of at most context_length positions, no one is further away than the window",
        "set it to null, or correct one of the two lengths",
        looks=_idle_window,
        example="window: 4096, with context_length: 4096",
    ),
    Rule(
        "AC133",
        "no-positions",
        "attention is the only mixer, and nothing tells the order of tokens",
        "rotary is null where a spec does not name it, so a line that was forgotten leaves no trace in the counts",
        "Vaswani et al. 2017, arXiv:1706.03762, section 3.5: without recurrence, positions must be put in; models "
        "that do without on purpose say so by allow",
        "give the attention rotary or alibi, or the embedding positions",
        looks=_unordered,
        example='embedding: {positions: "none"}, and attention without rotary or alibi',
    ),
    Rule(
        "AC134",
        "positions-twice",
        "positions are added to the embedding, and attention has its own",
        "a model has one or the other; a table of positions beside rotary ones counts parameters that are not there",
        "the catalogue: no model of it has both",
        'set embedding.positions to "none", or remove rotary or alibi',
        looks=_twice,
        example="embedding: {positions: learned}, and attention with rotary",
    ),
    Rule(
        "AC135",
        "rotary-size",
        "the features that are turned are not a multiple of 16",
        "FlashAttention's kernel for decoding with a cache refuses it, so an engine takes a slower way or a kernel of "
        "its own",
        "flash-attention, csrc/flash_attn/flash_api.cpp, mha_fwd_kvcache: rotary dimensions divisible by 16",
        "turn a multiple of 16, or all features of a head",
        looks=_turned,
        example="d_rotary: 20    # 16 or 32",
    ),
)
