"""Sizes that leave tensor cores partly idle: vocabulary, heads, hidden features, the residual stream, projections."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

from archcalc.blocks.attention import MultiHead
from archcalc.blocks.base import Slot
from archcalc.blocks.embedding import TokenEmbedding
from archcalc.blocks.experts import Experts
from archcalc.blocks.latent import LatentAttention
from archcalc.blocks.mlp import DenseMLP
from archcalc.checks.lint.sizes import ALIGNED, LEAST, SOURCE, above, fits, nearest, said, used
from archcalc.checks.rules import Finding, Rule
from archcalc.checks.subject import Subject
from archcalc.errors import Where

FEW_TOKENS = 1_024
"""A vocabulary that is not padded: to 64 it would grow by 6% or more, and its head is small beside any layer."""
_FLASH, _LARGEST_FLASH = 32, 128


def _vocabulary(subject: Subject) -> Iterator[Finding]:
    """The rows of the head's matrix; a token table is looked up, and multiplies nothing."""
    rows = subject.model.n_logits
    if rows < FEW_TOKENS or fits(rows):
        return
    path: Where = ("vocab_size",) if rows == subject.model.vocab_size else ("unembedding", "rows")
    padded = above(rows)
    also = " (and of 128)" if padded % (2 * ALIGNED) == 0 else ""
    yield Finding(
        f"{said(rows)}: this is a size of the head's matrix, {used()}",
        path,
        f"{rows:,}",
        f"{padded:,} is the next multiple of {ALIGNED}{also}",
    )


def _heads(subject: Subject) -> Iterator[Finding]:
    """Features of a head are an axis of the products of scores and of what they mix, whatever projections do."""
    for where, part in subject.each(MultiHead, LatentAttention):
        keys = part.d_head if isinstance(part, MultiHead) else part.d_nope + part.d_rope
        sizes: dict[str, int | None] = {"d_head": keys, "d_value": part.d_value}
        for field, size in sizes.items():
            if size is None or fits(size, LEAST):
                continue
            run = above(size, _FLASH)
            pad = f"; FlashAttention computes with {run:,}, of which {1 - size / run:.0%} are zeros"
            joined = field == "d_head" and isinstance(part, LatentAttention)
            name = f"d_nope + d_rope ({size:,}) " if joined else ""
            yield Finding(
                f"{name}{said(size)}: scores and what they mix are products over a head's features, {used(size)}"
                + pad * (size < run <= _LARGEST_FLASH),
                where if joined else (*where, field),
                f"{size:,}",
                nearest(size, ALIGNED if size > ALIGNED else LEAST),
            )


def _hidden(subject: Subject) -> Iterator[Finding]:
    for where, part in subject.each(DenseMLP, Experts):
        if not fits(part.d_ff):
            each = "each expert's" if isinstance(part, Experts) else "the MLP's"
            yield Finding(
                f"{said(part.d_ff)}: this is a size of {each} matrices, {used()}",
                (*where, "d_ff"),
                f"{part.d_ff:,}",
                nearest(part.d_ff),
            )


def _widths(subject: Subject) -> Iterator[Finding]:
    if not fits(width := subject.model.d_model):
        what = f"this is a size of every matrix beside the residual stream, {used()}"
        yield Finding(f"{said(width)}: {what}", ("d_model",), f"{width:,}", nearest(width))
    for where, part in subject.each(TokenEmbedding):
        if part.d_embedding is not None and not fits(part.d_embedding):
            what = f"this is a size of the token table's projection, {used()}"
            path = (*where, "d_embedding")
            yield Finding(
                f"{said(part.d_embedding)}: {what}", path, f"{part.d_embedding:,}", nearest(part.d_embedding)
            )


def _projections(subject: Subject) -> Iterator[Finding]:
    """What all heads have together, which their projections make, and latents."""
    for where, part in subject.each(MultiHead):
        size = part.n_heads * (part.d_head if part.d_value is None else part.d_value)
        if not fits(size):
            what = f"n_heads x d_head ({size:,}) {said(size)}: this is a size of the projections, {used()}"
            yield Finding(what, (*where, "n_heads"), f"{part.n_heads:,}", f"{nearest(size)} features of all heads")
    for where, slot in subject.each(Slot):
        for name in _inner_widths(slot.__class__):
            width: int | None = getattr(slot, name)
            if width is not None and not fits(width):
                what = f"{said(width)}: this is a size of the projections to it and from it, {used()}"
                yield Finding(what, (*where, name), f"{width:,}", nearest(width))


@cache
def _inner_widths(kind: type[Slot]) -> tuple[str, ...]:
    """The fields of a block that are latents or inner features."""
    return tuple(name for name in ("q_rank", "kv_rank", "d_latent", "d_inner") if name in kind.model_fields)


_WHY = (
    "a product of matrices in 16 bits uses the tensor cores of an A100 in full where its sizes are multiples of 64 "
    "elements (128 bytes; on V100 of 8)"
)

RULES = (
    Rule(
        "AC110",
        "vocabulary-not-padded",
        "the head has a number of rows that is not a multiple of 64",
        f"{_WHY}, and the head is one of the largest products: nanoGPT became about 25% faster with 50,304 rows "
        "in place of 50,257, and Megatron-LM pads to multiples of 128 by default",
        "Karpathy 2023, as quoted on simonwillison.net/tags/andrej-karpathy; nanoGPT, model.py (vocab_size: 50304); "
        "Megatron-LM, --make-vocab-size-divisible-by (default 128); Anthony et al. 2024, arXiv:2401.14489, as summed "
        "up by Bekman (divisible by 64)",
        "pad the table with rows that no token uses, and leave them out of the loss; vocabularies below 1,024 are not "
        "looked at",
        looks=_vocabulary,
        example="vocab_size: 50257    # 50304 is the next multiple of 64",
    ),
    Rule(
        "AC111",
        "head-size-unaligned",
        "a head has a number of features that is not a multiple of 64 (of 8, below 64)",
        f"{_WHY}; FlashAttention rounds up to a multiple of 32, so that 80 features cost as much as 96",
        f"{SOURCE}; flash-attention, csrc/flash_attn/flash_api.cpp: head_size_rounded",
        "choose 64 or 128 features, and as many heads as the width allows",
        looks=_heads,
        example="d_head: 80    # 64 or 128",
    ),
    Rule(
        "AC112",
        "hidden-size-unaligned",
        "an MLP or an expert has a number of hidden features that is not a multiple of 64",
        f"{_WHY}; two thirds of 4 x d_model, as gated MLPs often have, is rarely one",
        SOURCE,
        "round d_ff to a multiple of 64, better of 128 or 256",
        looks=_hidden,
        example="d_ff: 10922    # 8 / 3 x 4096; 10944 and 11008 are multiples of 64",
    ),
    Rule(
        "AC113",
        "width-unaligned",
        "the residual stream or the token table has a number of features that is not a multiple of 64",
        _WHY,
        SOURCE,
        "round the width to a multiple of 64, better of 128",
        looks=_widths,
        example="d_model: 1000    # 960 or 1024",
    ),
    Rule(
        "AC114",
        "projection-unaligned",
        "all heads together, a latent or the inner features of a mixer are not a multiple of 64",
        _WHY,
        SOURCE,
        "choose heads and features whose product is a multiple of 64",
        looks=_projections,
        example="{n_heads: 9, d_head: 40}    # 360 features; 320 or 384 are multiples of 64",
    ),
)
