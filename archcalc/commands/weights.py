"""A folder of weights: which of its checkpoints is used, and whether its weights fit the spec."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from archcalc.errors import ArchcalcError, Invalid, Problem
from archcalc.report.diff import differing_fields
from archcalc.report.output import tell
from archcalc.spec.catalogue import Found, find, gguf_in
from archcalc.spec.checkpoints import SPEC, weights_in
from archcalc.spec.configs import CONFIG, GGUF
from archcalc.spec.groups import LayerGroup
from archcalc.spec.model import Model

_MOST_NAMED = 3  # fields that differ


def weights_of(folder: str) -> str:
    """The folder itself where it has weights, else its newest intact checkpoint; skipped ones are reported.

    Of a folder with a GGUF file alone it is that file; a file is given back as it is.

    Raises Invalid where all its checkpoints are damaged. A folder without weights is given back for others to refuse.
    """
    chosen = None if folder.endswith(GGUF) else weights_in(folder)
    if chosen is None:
        return gguf_in(folder) or folder
    if chosen.said:
        tell(chosen.said)
    return os.fspath(chosen.path)


def tokenizer_in(place: str) -> str:
    """Where the tokenizer is that was named: of a training's folder its newest intact checkpoint."""
    if not place:
        raise Invalid(Problem("--tokenizer", "is empty"))
    return weights_of(place) if os.path.isdir(place) else place


def has_numbers(folder: str) -> bool:
    """Whether the folder or file that stood for a spec has weights too."""
    return folder.endswith(GGUF) or gguf_in(folder) is not None or weights_in(folder) is not None


def refuse_other_spec(found: Found, named: str, folder: str) -> None:
    """Raise Invalid, with how to ask for the right one, where a folder says that its weights are another model's.

    `named` is the folder as it was typed, and `folder` the checkpoint in it.
    """
    own = Path(folder) / SPEC
    fix = f"say {named} in place of {found.typed}, without --weights"
    if own.is_file():
        mine = find(os.fspath(own)).model
        if differences := dict(_differences(found.model, mine)):
            what = f"has weights of {mine.name} with {_listed(differences)}, not of {found.name}"
            raise Invalid(Problem(folder, what, suggestion=fix))
        return
    described, says = ("", "its keys say") if folder.endswith(GGUF) else (CONFIG, f"its {CONFIG} says")
    try:
        mine = find(os.path.join(folder, described) if described else folder).model
    except ArchcalcError:
        return  # who reads the weights says what is wrong with it
    positions = mine.context_length
    if found.model.context_length > positions and not dict(_differences(_of_length(found.model, positions), mine)):
        what = f"must be at most {positions:,}, as {folder} says"
        raise Invalid(Problem(found.typed, what, "context_length", value=f"{found.model.context_length:,}"))
    if sizes := {field: size for field, size in _differences(found.model, mine) if isinstance(size, int)}:
        what = f"has weights of another shape than {found.name}: {says} {_listed(sizes)}"
        raise Invalid(Problem(folder, what, suggestion=fix))


def _of_length(model: Model, positions: int) -> Model:
    return model.model_copy(update={"context_length": positions})


def _differences(asked: Model, mine: Model) -> Iterator[tuple[str, Any]]:
    """The fields of the shape that `mine` has otherwise than `asked`, and what it has."""
    for field, (_, new) in differing_fields([_joined(asked), _joined(mine)]):
        if field == "context_length" and asked.shortens(mine):
            continue
        yield field, "absent" if new is None else new


def _joined(model: Model) -> Model:
    """Groups of layers that are alike, one after the other, are the same layers as one group."""
    groups: list[LayerGroup] = []
    for group in model.layers:
        if groups and groups[-1].model_copy(update={"repeat": group.repeat}) == group:
            groups[-1] = group.model_copy(update={"repeat": groups[-1].repeat + group.repeat})
        else:
            groups.append(group)
    return model.model_copy(update={"layers": tuple(groups)})


def _listed(fields: dict[str, Any]) -> str:
    """The first of some fields with their values; nothing where there is none."""
    more = len(fields) - _MOST_NAMED
    told = [f"{field} {value}" for field, value in list(fields.items())[:_MOST_NAMED]]
    return ", ".join(told) + (f" and {more:,} more" if more > 0 else "")
