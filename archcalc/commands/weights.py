"""A folder of weights: which of its checkpoints is used, and whether its weights fit the spec."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from archcalc.errors import ArchcalcError, Invalid, Problem
from archcalc.report.diff import differing_fields
from archcalc.report.output import tell
from archcalc.spec.catalogue import Found, find
from archcalc.spec.checkpoints import SPEC, weights_in
from archcalc.spec.model import LayerGroup, Model

_CONFIG = "config.json"
_MOST_NAMED = 3  # fields that differ
# What GPT2Config calls the sizes of a spec.
_GPT2 = {"n_layers": "n_layer", "d_model": "n_embd", "n_heads": "n_head", "vocab_size": "vocab_size"}
_GPT2 |= {"context_length": "n_positions", "d_ff": "n_inner"}


def weights_of(folder: str) -> str:
    """The folder itself where it has weights, else its newest intact checkpoint; skipped ones are reported.

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
    wanted, said = _sizes(found.model), _sizes_of_config(folder)
    wrong = {field: value for field, value in said.items() if field in wanted and wanted[field] != value}
    if wrong:
        what = f"has weights of another shape than {found.name}: its {_CONFIG} says {_listed(wrong)}"
        fix = f"ask for gpt2@{','.join(f'{field}={value}' for field, value in said.items())}"
        raise Invalid(Problem(folder, what, suggestion=fix))


def _differences(asked: Model, mine: Model) -> str:
    """The first fields of the shape that `mine` has otherwise than `asked`."""
    fields = differing_fields([_joined(asked), _joined(mine)])
    return _listed({field: "absent" if new is None else new for field, (_, new) in fields})


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


def _sizes(model: Model) -> dict[str, int]:
    """The sizes that a config.json of GPT-2's has too, where the layers are alike."""
    first = model.layers[0]
    if len(model.layers) > 1:
        return {}
    heads, hidden = getattr(first.attention, "n_heads", None), getattr(first.mlp, "d_ff", None)
    sizes = {"n_layers": model.n_layers, "d_model": model.d_model, "n_heads": heads, "d_ff": hidden}
    sizes |= {"vocab_size": model.vocab_size, "context_length": model.context_length}
    return {field: size for field, size in sizes.items() if isinstance(size, int)}


def _sizes_of_config(folder: str) -> dict[str, int]:
    """The sizes that a config.json of GPT-2's says; none where it is of another kind or cannot be read."""
    from archcalc_reference.files import read_object

    try:
        config = read_object(os.path.join(folder, _CONFIG))
    except ArchcalcError:
        return {}
    sizes = {field: config.get(name) for field, name in _GPT2.items()}
    if config.get("model_type") != "gpt2" or not isinstance(sizes["d_model"], int):
        return {}
    sizes["d_ff"] = sizes["d_ff"] or 4 * sizes["d_model"]
    return {field: size for field, size in sizes.items() if isinstance(size, int)}
