"""Weights that are told from their headers: which arguments mean them, and how they are read."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

from archcalc.errors import ArchcalcError, Invalid, Missing
from archcalc.spec.catalogue import has_spec, names
from archcalc.spec.configs import HUB

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
    """The weights at a path, or of a model of the Hub, by their headers."""
    from archcalc.huggingface.stored import read_stored

    if not path.startswith(HUB):
        return read_stored(path, _may_be_absent)
    from archcalc.huggingface.hub import repository
    from archcalc.huggingface.hubfiles import fetched

    folder = fetched(repository(path))
    try:
        return read_stored(folder, _may_be_absent)._replace(path=path)
    except ArchcalcError as error:  # the files are those of the Hub, whatever they are called here
        named = [replace(problem, file=problem.file.replace(folder, path)) for problem in error.problems]
        raise (Missing if isinstance(error, Missing) else Invalid)(*named) from None


def _may_be_absent(name: str) -> bool:
    from archcalc_reference.weights.layouts import may_be_absent

    return may_be_absent(name)
