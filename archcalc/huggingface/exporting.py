"""A spec becomes a config.json that transformers loads, by the table of the first family that can say it.

Each table is read backwards, and the check is honest: what was written is imported again, and must be the same shape.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from archcalc.errors import Invalid, Problem
from archcalc.huggingface.families import MODULES, family
from archcalc.huggingface.family import Family
from archcalc.huggingface.importing import import_config
from archcalc.huggingface.layers import each_layer
from archcalc.huggingface.leaves import Draft, Mismatch, write

_DESCRIBES = ("schema", "name", "source", "published", "misprints", "assumptions", "initialization")
_AROUND = ("vocab_size", "context_length", "d_model", "embedding", "final_norm", "unembedding")


def export_config(data: dict[str, Any]) -> dict[str, Any]:
    """What a config.json says of a spec's plain data. Raises Invalid where no family can say the architecture."""
    wanted = shape(data)
    nearest: list[str] = []
    for model_type in MODULES:
        table = family(model_type)
        try:
            config = _written(table, data)
        except Mismatch as why:
            nearest.append(f"{model_type}: {why}")
            continue
        if _read_back(config) == wanted:
            return config
    raise Invalid(Problem(str(data.get("name", "spec")), "no family of transformers can say this architecture"))


def _written(table: Family, data: Mapping[str, Any]) -> dict[str, Any]:
    """A spec in the words of a family, not checked yet."""
    draft = Draft()
    layers = each_layer(data["layers"])
    chosen = list(_types(table, layers, data["d_model"]))
    for layer_type, layer in dict(zip(chosen, layers, strict=True)).items():
        _write_layer(table, layer, draft, layer_type, data["d_model"])
    write(table.template, {name: data[name] for name in _AROUND if name in data}, draft)
    table.kinds.write(chosen, draft)
    draft.put(table.std, data.get("initialization", {}).get("std", 0.02))
    return {"architectures": [table.architectures[0]], "model_type": table.model_type, **draft, "pad_token_id": None}


def _write_layer(table: Family, layer: Mapping[str, Any], draft: Draft, layer_type: str, d_model: int) -> None:
    draft.layer, draft.d_model = layer_type, d_model
    draft.d_head = layer.get("attention", {}).get("d_head", 1)
    write(table.layer, layer, draft)


def _types(table: Family, layers: list[Mapping[str, Any]], d_model: int) -> Iterator[str]:
    """The type of each layer in a family: the first candidate whose table says it."""
    known: dict[int, str] = {}
    for layer in layers:
        if id(layer) not in known:
            known[id(layer)] = _type(table, layer, d_model)
        yield known[id(layer)]


def _type(table: Family, layer: Mapping[str, Any], d_model: int) -> str:
    why = Mismatch("layers")
    for candidate in table.kinds.candidates(layer):
        try:
            _write_layer(table, layer, Draft(), candidate, d_model)
        except Mismatch as mismatch:
            why = mismatch
        else:
            return candidate
    raise why


def _read_back(config: dict[str, Any]) -> dict[str, Any] | None:
    try:
        return shape(import_config(config, "config.json").data)
    except Invalid:
        return None


def shape(data: Mapping[str, Any]) -> dict[str, Any]:
    """What two specs of one architecture have in common: all but words, and how layers are grouped."""
    found = {name: value for name, value in data.items() if name not in (*_DESCRIBES, "layers")}
    return {**found, "layers": [dict(layer) for layer in each_layer(data["layers"])]}
