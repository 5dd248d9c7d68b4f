"""A spec becomes a config.json that transformers loads, by the table of the first family that can say it.

Each table is read backwards, and the check is honest: what was written is imported again, and must be the same shape.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from archcalc.errors import Invalid, Problem
from archcalc.huggingface.families import MODULES, family
from archcalc.huggingface.family import Family, folded
from archcalc.huggingface.importing import import_config
from archcalc.huggingface.layers import each_layer
from archcalc.huggingface.leaves import Draft, Mismatch, write
from archcalc.huggingface.predicting import layer_of, write_modules

_DESCRIBES = ("schema", "name", "source", "published", "misprints", "assumptions", "allow", "initialization")
_AROUND = ("vocab_size", "context_length", "d_model", "embedding", "final_norm", "unembedding")
_MOST_NAMED = 4
_PAD = "pad_token_id"  # of small vocabularies it would be none of the tokens
_FIRST = ("gpt2", "llama", "mistral", "qwen2", "qwen3")
"""Families that are tried first, since most programs read them."""


def export_config(data: dict[str, Any]) -> dict[str, Any]:
    """What a config.json says of a spec's plain data, by the first family that can say it.

    Raises Invalid where none can, with the family that comes nearest and the fields that it cannot say.
    """
    layers = each_layer(data["layers"])
    wanted = shape(data)
    for model_type in dict.fromkeys((*_FIRST, *MODULES)):
        try:
            config = _written(family(model_type), data, layers)
        except Mismatch:
            continue
        if not _differences(wanted, config):
            return {**config, "_name_or_path": data["name"]} if "name" in data else config
    raise Invalid(_nearest(data, layers, wanted))


_EVEN_HEADS = frozenset(
    [
        "arcee",
        "cwm",
        "exaone",
        "gemma2",
        "gemma3_text",
        "hyperclovax",
        "internlm3",
        "iquestcoder",
        "jais2",
        "llama",
        "vaultgemma",
    ]
)
"""Types whose class refuses a hidden_size that is no multiple of num_attention_heads, whatever head_dim says."""


_PADS = {"step3p5": 0}
"""Types whose class takes no null for the token that pads a text."""


def _written(
    table: Family, data: Mapping[str, Any], layers: list[dict[str, Any]], draft: Draft | None = None
) -> dict[str, Any]:
    """A spec in the words of a family, not checked yet."""
    draft = Draft() if draft is None else draft
    chosen = list(_types(table, layers, data["d_model"], strict=draft.missed is None))
    for layer_type, layer in dict(zip(chosen, layers, strict=True)).items():
        _write_layer(table, layer, draft, layer_type, data["d_model"])
    write(table.template, {name: data[name] for name in _AROUND if name in data}, draft)
    write_modules(table, data, draft)
    table.kinds.write(chosen, draft)
    if table.model_type in _EVEN_HEADS and data["d_model"] % (draft.get("num_attention_heads") or 1):
        raise Mismatch("attention.n_heads")
    draft.put(table.std, data.get("initialization", {}).get("std", 0.02))
    said = folded(draft)
    pad = {_PAD: said.get(_PAD, _PADS.get(table.model_type))}
    return {"architectures": [table.architectures[0]], "model_type": table.model_type, **said, **pad}


def _write_layer(table: Family, layer: Mapping[str, Any], draft: Draft, layer_type: str, d_model: int) -> None:
    draft.layer, draft.d_model = layer_type, d_model
    branches = layer.get("branches", ())
    mixers = [branch["mixer"] for branch in branches if branch["name"].startswith("attention")]
    shared = [branch["added"]["attention"] for branch in branches if branch.get("added")]
    attention: Mapping[str, Any] = next(iter([*mixers, *shared]), layer.get("attention", {}))
    draft.d_head = attention.get("d_head", attention.get("d_rope", 1))
    write(table.layer, layer, draft)


def _types(table: Family, layers: list[dict[str, Any]], d_model: int, *, strict: bool) -> Iterator[str]:
    """The type of each layer in a family: the first candidate whose table says it; where not strict, any."""
    known: dict[int, str] = {}
    for layer in layers:
        if id(layer) not in known:
            known[id(layer)] = _type(table, layer, d_model, strict=strict)
        yield known[id(layer)]


def _type(table: Family, layer: Mapping[str, Any], d_model: int, *, strict: bool) -> str:
    candidates = table.kinds.candidates(layer)
    why = Mismatch("layers")
    for candidate in candidates:
        try:
            _write_layer(table, layer, Draft(), candidate, d_model)
        except Mismatch as mismatch:
            why = mismatch
        else:
            return candidate
    if strict:
        raise why
    return candidates[0]


def _differences(wanted: Mapping[str, Any], config: dict[str, Any]) -> list[str]:
    """The fields in which a config is read as another architecture."""
    try:
        return list(dict.fromkeys(_unlike(wanted, shape(import_config(config, "config.json").data))))
    except Invalid as error:
        return [problem.path for problem in error.problems]


def _unlike(one: Any, other: Any, path: str = "") -> Iterator[str]:
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        for name in {**one, **other}:
            yield from _unlike(one.get(name), other.get(name), f"{path}.{name}".lstrip("."))
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for mine, theirs in zip(one, other, strict=True):
            yield from _unlike(mine, theirs, "" if path == "layers" else path)
    elif one != other:
        yield path


def shape(data: Mapping[str, Any]) -> dict[str, Any]:
    """What two specs of one architecture have in common: all but words, and how layers are grouped."""
    found = {name: value for name, value in data.items() if name not in (*_DESCRIBES, "layers")}
    if found.get("mtp"):
        found["mtp"] = {**found["mtp"], "layer": layer_of(data)}
    return {**found, "layers": _numbered(each_layer(data["layers"]))}


def _numbered(layers: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The layers with numbers for the names of shared blocks, in the order in which they are first used."""
    names: dict[str, int] = {}
    found = []
    for layer in layers:
        branches = [
            {**one, "added": {**one["added"], "block": names.setdefault(one["added"]["block"], len(names))}}
            if one.get("added")
            else one
            for one in layer.get("branches", ())
        ]
        found.append({**layer, "branches": branches} if names and branches else layer)
    return found


def _nearest(data: Mapping[str, Any], layers: list[dict[str, Any]], wanted: Mapping[str, Any]) -> Problem:
    """The problem of a spec that no family can say: the one that comes nearest, and what it lacks."""
    missed: dict[str, list[str]] = {}
    for model_type in MODULES:
        draft = Draft()
        draft.missed = []
        try:
            config = _written(family(model_type), data, layers, draft)
        except (Mismatch, KeyError):
            continue
        missed[model_type] = list(dict.fromkeys(draft.missed)) or _differences(wanted, config)
    near = min(missed, key=lambda name: len(missed[name]), default=None)
    what = "no family of transformers has this architecture"
    if near is None:
        return Problem(str(data.get("name", "spec")), what)
    named, more = missed[near][:_MOST_NAMED], len(missed[near]) - _MOST_NAMED
    rest = f" and {more} more" if more > 0 else ""
    fix = f"nearest: {near}, which cannot have {', '.join(named)}{rest}"
    return Problem(str(data.get("name", "spec")), what, suggestion=fix)
