"""Find models of the catalogue by words of their names, families and sources."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import takewhile

from archcalc.spec.catalogue import find, names
from archcalc.spec.model import Model


def family(name: str) -> str:
    """The letters that a model's name begins with: llama of llama3.1-8b, gpt of gpt2-xl and of gpt-neo-125m."""
    return "".join(takewhile(str.isalpha, name))


def families() -> list[str]:
    """The families of the catalogue, in alphabetical order."""
    return sorted({family(name) for name in names()})


_PRESENT = (
    *("window", "chunk", "rotary", "qk_norm", "softcap", "shared", "alibi"),
    *("sinks", "gate", "indexer", "shared_kv", "values_are_keys", "d_latent"),
)
"""Fields of a mixer that are features where they say something, under their own names."""


def features(model: Model) -> list[str]:
    """What a model is made of, in words that `archcalc list --feature` takes, in alphabetical order."""
    return sorted({word.replace("_", "-") for word in _features(model)})


def _features(model: Model) -> Iterator[str]:
    kinds = [kind.layer for group in model.layers for kind in group.kinds_in()]
    if len(kinds) > 1:
        yield "several_kinds_of_layers"
    branches = [branch for layer in kinds for branch in layer.residual_branches]
    if any(branch.added is not None for branch in branches):
        yield "shared_block"
    for mixer in (mixer for branch in branches for mixer in branch.mixers):
        if kind := getattr(mixer, "kind", None):
            yield kind
        yield from (name for name in _PRESENT if getattr(mixer, name, None))
        heads, shared = getattr(mixer, "n_heads", None), getattr(mixer, "n_kv_heads", None)
        if heads and shared and shared < heads:
            yield "multi_query" if shared == 1 else "grouped_query"
    if getattr(model.unembedding, "tied", False):
        yield "tied"
    if model.mtp is not None:
        yield "mtp"
    if getattr(model.embedding, "positions", None) == "learned":
        yield "learned_positions"


def search(words: Iterable[str]) -> list[Model]:
    """The models of the catalogue that match all words, in any case; all models where there are no words.

    A word is found anywhere; one that begins with a digit only where no number goes on: 7b is in Llama-2-7b, not in
    opt-6.7b.
    """
    patterns = [re.compile(r"(?<![\d.])" * word[0].isdigit() + re.escape(word), re.IGNORECASE) for word in words]
    models = (find(name).model for name in names())
    return [
        model
        for model in models
        if all(pattern.search(f"{model.name} {family(model.name)} {model.source}") for pattern in patterns)
    ]
