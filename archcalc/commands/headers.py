"""Weights that are told from their headers: which arguments mean them, and how they are read."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from archcalc.spec.catalogue import has_spec, names

if TYPE_CHECKING:
    from archcalc.huggingface.stored import Stored

_SUFFIXES = (".safetensors", ".gguf", ".safetensors.index.json")


def stands_for_weights(spec: str) -> bool:
    """Whether SPEC is weights without a spec: a file by its suffix, or a folder that has weights and no spec."""
    if spec.endswith(_SUFFIXES):
        return True
    if spec in names() or not os.path.isdir(spec) or has_spec(spec):
        return False
    from archcalc.huggingface.stored import has_weights

    return has_weights(spec)


def announced(path: str) -> Stored:
    """The weights at a path, by their headers."""
    from archcalc.huggingface.stored import read_stored

    return read_stored(path, _may_be_absent)


def _may_be_absent(name: str) -> bool:
    from archcalc_reference.weights.layouts import may_be_absent

    return may_be_absent(name)
