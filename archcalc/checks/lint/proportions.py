"""Sizes that are legal together and rarely meant: heads and their width, experts and how many are chosen."""

from __future__ import annotations

from collections.abc import Iterator

from archcalc.blocks.attention import MultiHead
from archcalc.blocks.experts import Experts
from archcalc.checks.rules import Finding, Rule
from archcalc.checks.subject import Subject

NARROW, WIDE = 0.5, 4.0
"""Features of all heads for each of d_model; the catalogue's models have 0.5 (Falcon-H1) to 3.0 (MiMo-V2)."""


def _heads(subject: Subject) -> Iterator[Finding]:
    width = subject.model.d_model
    for where, part in subject.each(MultiHead):
        total = part.n_heads * part.d_head
        if not NARROW * width <= total <= WIDE * width:
            yield Finding(
                f"n_heads x d_head is {part.n_heads:,} x {part.d_head:,} = {total:,}, {total / width:.2g} times "
                f"d_model ({width:,})",
                (*where, "n_heads"),
                f"{part.n_heads:,}",
                f"d_model / d_head is {width / part.d_head:g}",
            )


def _experts(subject: Subject) -> Iterator[Finding]:
    for where, part in subject.each(Experts):
        if part.n_experts_per_token == part.n_experts and part.n_identity is None:
            yield Finding(
                "is all of n_experts: the router chooses nothing, and every token goes through every expert",
                (*where, "n_experts_per_token"),
                f"{part.n_experts_per_token:,}",
                "fewer, or an MLP in place of experts",
            )


RULES = (
    Rule(
        "AC150",
        "heads-far-from-width",
        "all heads together have less than half of d_model's features, or more than four times as many",
        "heads need not add up to d_model, and in published models they have 0.5 to 3 times as many features; beyond, "
        "a head's width or the number of heads was often copied from another model",
        "the models of the catalogue, counted",
        "compare n_heads and d_head with the source",
        looks=_heads,
        example="{n_heads: 128, d_head: 128} with d_model: 2048",
    ),
    Rule(
        "AC151",
        "all-experts-chosen",
        "every token goes through every expert",
        "the router is computed and decides nothing but weights, and nothing is sparse",
        "arithmetic: experts that are chosen are all that there are",
        "choose fewer experts for each token",
        looks=_experts,
        example="{n_experts: 8, n_experts_per_token: 8}",
    ),
)
