"""A folder of weights as it was named: which of its checkpoints is used, and whether they are those of the spec."""

from __future__ import annotations

import os
from pathlib import Path

from archcalc.catalogue import Found, find
from archcalc.checkpoints import SPEC, weights_in
from archcalc.errors import ArchcalcError, Invalid, Problem
from archcalc.output import tell
from archcalc.report.difference import differing_fields
from archcalc.spec import Model

_CONFIG = "config.json"
_MOST_NAMED = 3  # fields that differ
# What GPT2Config calls the fields of a spec. Absent are those that follow from others.
_GPT2 = {"n_layers": "n_layer", "d_model": "n_embd", "n_heads": "n_head", "vocab_size": "vocab_size"}
_GPT2 |= {"context_length": "n_positions", "d_ff": "n_inner"}


def weights_of(folder: str) -> str:
    """The folder itself where it has weights, else its newest intact checkpoint; what was passed over is told.

    Raises Invalid where all its checkpoints are damaged. A folder without weights is given back for others to refuse.
    """
    chosen = weights_in(folder)
    if chosen is None:
        return folder
    if chosen.said:
        tell(chosen.said)
    return os.fspath(chosen.path)


def refuse_other_spec(found: Found, named: str, folder: str) -> None:
    """Raise Invalid, with how to ask for the right one, where a folder says that its weights are another model's.

    `named` is the folder as it was typed, and `folder` the checkpoint in it.
    """
    own = Path(folder) / SPEC
    if own.is_file():
        mine = find(os.fspath(own)).model
        if differences := _differences(found.model, mine):
            what = f"has weights of {mine.name} with {differences}, not of {found.name}"
            fix = f"say {named} in place of {found.typed}, without --weights"
            raise Invalid(Problem(folder, what, suggestion=fix))
        return
    if (asked := _of_config(folder)) and (differences := _differences(found.model, find(asked).model)):
        what = f"has weights with {differences} by its {_CONFIG}, not of {found.name}"
        raise Invalid(Problem(folder, what, suggestion=f"ask for {asked}"))


def _differences(asked: Model, mine: Model) -> str | None:
    """The first fields of the shape that `mine` has otherwise than `asked`."""
    found = [
        f"{field} {'absent' if value is None else value}" for field, (_, value) in differing_fields([asked, mine])
    ]
    more = f" and {len(found) - _MOST_NAMED:,} more" if len(found) > _MOST_NAMED else ""
    return ", ".join(found[:_MOST_NAMED]) + more if found else None


def _of_config(folder: str) -> str | None:
    """The question to `gpt2` that a config.json of GPT-2's answers; None where it is of another kind, or cannot be."""
    from archcalc_reference.files import read_object

    try:
        config = read_object(os.path.join(folder, _CONFIG))
        if config.get("model_type") != "gpt2":
            return None
        sizes = {field: config.get(name) for field, name in _GPT2.items()}
        if sizes["d_ff"] is None and isinstance(sizes["d_model"], int):
            sizes["d_ff"] = 4 * sizes["d_model"]
        given = ",".join(f"{field}={value}" for field, value in sizes.items() if isinstance(value, int))
        asked = f"gpt2@{given}"
        plain = find("gpt2").model
        return asked if _differences(plain, find(asked).model) else "gpt2"
    except ArchcalcError:
        return None
