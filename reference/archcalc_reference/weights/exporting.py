"""How a model's weights are written: as a family of transformers' models that can be it has them, else as ours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from archcalc.errors import Invalid
from archcalc.spec.dumping import plain
from archcalc.spec.model import Model
from archcalc_reference.weights.entries import Entry, Shape
from archcalc_reference.weights.families import BY_TYPE, OWN


class Exported(NamedTuple):
    """The tensors of a checkpoint, and the config.json that goes with them; None where they have our names.

    `constants` are numbers that stand beside them, and `zeros` the shapes of tensors that nothing reads.
    """

    config: dict[str, Any] | None
    entries: list[Entry]
    constants: dict[str, float] = {}  # noqa: RUF012  (never changed)
    zeros: dict[str, Shape] = {}  # noqa: RUF012


def exported(model: Model, parameters: Mapping[str, Shape], dtype: str) -> Exported:
    """A checkpoint of the model, whose weights are of a type that PyTorch calls `dtype`."""
    from archcalc.huggingface.exporting import export_config

    try:
        config = export_config(plain(model))
    except Invalid:
        return Exported(None, OWN.entries(model, parameters))
    family = BY_TYPE[config["model_type"]].filed
    entries = family.entries(model, parameters)
    beside = family.constants_of(model), family.spare_of(model, entries)
    return Exported({**config, "dtype": dtype}, entries, *beside)
