"""Weights that are told from their headers: which arguments mean them, and how they are read."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

from archcalc.errors import ArchcalcError, Invalid, Missing
from archcalc.spec.catalogue import Found, find, has_spec, names, parted
from archcalc.spec.configs import HUB

if TYPE_CHECKING:
    from archcalc.huggingface.hub import Repository
    from archcalc.huggingface.stored import Stored

SUFFIXES = (".safetensors", ".gguf", ".safetensors.index.json")


def stands_for_weights(spec: str) -> bool:
    """Whether SPEC is weights without a spec: a file by its suffix, or a folder that has weights and no spec."""
    if spec.startswith(HUB):
        head, question = parted(spec)
        return question is None and bool(_repository(head).file)
    if spec.endswith(SUFFIXES):
        return True
    if spec in names() or not os.path.isdir(spec) or has_spec(spec):
        return False
    from archcalc.huggingface.stored import has_weights

    return has_weights(spec)


def either(spec: str) -> Found | Stored:
    """A spec, or weights that stand for none."""
    if stands_for_weights(spec):
        return announced(spec)
    try:
        return find(spec)
    except Missing as error:
        from archcalc.huggingface.hub import WeightsAlone

        if "=" in spec or not isinstance(error, WeightsAlone):
            raise
        return announced(spec)


def announced(path: str) -> Stored:
    """The weights at a path, or of a model of the Hub, by their headers."""
    from archcalc.huggingface.stored import read_stored

    if not path.startswith(HUB):
        return read_stored(path, _may_be_absent)
    from archcalc.huggingface.hubfiles import fetched

    where = _repository(path)
    folder, inside = fetched(where, _tell)

    def named(file: str) -> str:
        """A file by its name on the Hub, whatever it is called here."""
        own = file.removeprefix(folder).lstrip(os.sep).replace(os.sep, "/")
        return f"{where.of(own)}" if file.startswith(folder) else file

    try:
        found = read_stored(inside, _may_be_absent)
    except ArchcalcError as error:
        told = [replace(problem, file=named(problem.file)) for problem in error.problems]
        raise (Missing if isinstance(error, Missing) else Invalid)(*told) from None
    weights = [one._replace(header=one.header._replace(file=named(one.header.file))) for one in found.weights]
    files = tuple(map(named, found.files))
    return found._replace(path=path, weights=weights, files=files, beside=folder)


def _repository(head: str) -> Repository:
    from archcalc.huggingface.hub import repository

    return repository(head)


def _tell(text: str) -> None:
    """How far the headers are, on a terminal."""
    from archcalc.report.output import tell

    if sys.stderr is not None and sys.stderr.isatty():
        tell(text)


def _may_be_absent(name: str) -> bool:
    from archcalc_reference.weights.layouts import may_be_absent

    return may_be_absent(name)
