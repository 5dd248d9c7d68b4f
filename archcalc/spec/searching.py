"""Find models of the catalogue by words of their names, families and sources."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import takewhile

from archcalc.spec.catalogue import find, names
from archcalc.spec.model import Model


def family(name: str) -> str:
    """The letters that a model's name begins with: llama of llama3.1-8b, gpt of gpt2-xl and of gpt-neo-125m."""
    return "".join(takewhile(str.isalpha, name))


def families() -> list[str]:
    """The families of the catalogue, in alphabetical order."""
    return sorted({family(name) for name in names()})


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
