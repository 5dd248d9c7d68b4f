"""A config.json becomes the plain data of a spec, with where each field came from."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from archcalc.errors import Invalid, Problem, cut, printable
from archcalc.huggingface import ignored
from archcalc.huggingface.families import find
from archcalc.huggingface.family import Family, flattened
from archcalc.huggingface.layers import read_layers, refuse_types
from archcalc.huggingface.leaves import resolve
from archcalc.huggingface.predicting import read_modules
from archcalc.huggingface.said import Fault, Said

_SUFFIX = re.compile(r"\.[A-Za-z]\w*$")
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9._-]+")


class Imported(NamedTuple):
    """What a config.json became.

    `data` is a spec as plain data, not validated yet. `origins` has the keys that each of its fields came from, by the
    field's path; of layers of several kinds together, under `layers.0`, and in `placed` by itself. `defaults` are the
    keys that were absent and bear on a count, with what was taken; `ignored` the keys that do not matter.
    """

    data: dict[str, Any]
    origins: dict[str, list[str]]
    placed: dict[str, list[str]]
    defaults: list[tuple[str, Any]]
    ignored: list[str]


def import_config(config: dict[str, Any], file: str, name: str | None = None) -> Imported:
    """Read a config.json, as json gives it, by the table of its family. `file` is where problems are placed.

    Raises Invalid with a problem for each key that is wrong, unknown, or says what is not supported yet.
    """
    try:
        return _imported(config, file, name)
    except RecursionError:
        raise Invalid(Problem(file, "is nested too deeply")) from None


def _imported(config: dict[str, Any], file: str, name: str | None) -> Imported:
    found = find(config, file)
    flat = flattened(found.config, found.family.nested)
    said = Said(flat, file, found.family.defaults, found.family.aliases, found.inside)
    origins: dict[str, list[str]] = {}
    skipped = _unread(said, found.family)
    data = {"schema": 0, "name": name or _name(config, file), "source": _source(file, found.family)}
    data |= resolve(found.family.template, said, origins)
    layers = _layers(found.family, said, origins)
    data = {**data, "layers": layers, **_initialization(found.family, said, origins)}
    data |= read_modules(found.family, said, origins, layers)
    for check in found.family.checks:
        try:
            check(said)
        except Fault as fault:
            said.note(fault.problem)
    said.raise_problems()
    skipped += _overruled(said, origins, skipped)
    defaults = list(said.defaulted.items())
    notes = (*found.notes, *_another_class(config, found.family, found.inside))
    assumptions = [*notes, *_assumed(defaults, found.family), *said.noted, *_quantized(config)]
    if assumptions:
        data["assumptions"] = assumptions
    sorted_by_place = sorted(origins.items(), key=lambda item: _ORDER.index(item[0].partition(".")[0]))
    placed = {path: keys for path, keys in origins.items() if not path.startswith("layers.")} | said.placed
    return Imported(_ordered(data), dict(sorted_by_place), placed, defaults, [*found.ignored, *skipped])


def _layers(family: Family, said: Said, origins: dict[str, list[str]]) -> list[dict[str, Any]]:
    try:
        return read_layers(family.layer, family.kinds, said, origins)
    except Fault as fault:
        said.note(fault.problem)
        return []


def _initialization(family: Family, said: Said, origins: dict[str, list[str]]) -> dict[str, Any]:
    """How training starts, where that is not as a spec has it by default."""
    std = said.config.get(family.std, family.defaults.get(family.std))
    if std is None and family.drawn is not None:
        std = _drawn(family.drawn, said)
    if isinstance(std, int | float) and not isinstance(std, bool) and 0 < std <= 10:
        std = float(std)
        origins["initialization.std"] = [family.std] * (family.std in said.config)
    else:
        std = _STD
    if family.residual == "scaled":
        return {} if std == _STD else {"initialization": {"std": std}}
    return {"initialization": {"std": std, "residual": family.residual}}


def _drawn(formula: Callable[[Said], float], said: Said) -> float | None:
    """What a formula of the class gives; None where a size that it takes is wrong, which is told elsewhere."""
    try:
        return formula(said)
    except Fault:
        return None


_STD = 0.02
_ORDER = (
    *("schema", "name", "source", "vocab_size", "context_length", "d_model", "embedding", "layers", "final_norm"),
    *("unembedding", "mtp", "initialization", "assumptions"),
)


def _ordered(data: dict[str, Any]) -> dict[str, Any]:
    return {name: data[name] for name in _ORDER if name in data}


_GUESSES = 20
"""Of unknown keys so many are compared with those that are known: a slip is one of few."""


def _unread(said: Said, family: Family) -> list[str]:
    """The keys that do not matter; those that are not known, or must not be as they are, are noted as problems."""
    skipped = []
    known = family.known
    mixes = any(name.startswith(ignored.EXPERTS) for name in known)
    for key, value in said.config.items():
        if key in family.only:
            fine, what = family.only[key]
            if not any(value is one or (value == one and type(value) is type(one)) for one in fine):
                said.note(said.problem(key, what, value))
            else:
                skipped.append(key)
        elif key in known:
            continue
        elif key == "layer_types":
            refuse_types(said)
            skipped.append(key)
        elif ignored.matters_not(key.rpartition(".")[2]) or key in family.ignored or ignored.is_off(key, value):
            skipped.append(key)
        else:
            feature = ignored.feature_of(key, mixes=mixes)
            guesses = feature is None and len(said.problems) < _GUESSES
            slip = ignored.near(key, known - {*said.config}) if guesses else None
            said.note(said.problem(key, feature or "unknown key; it may bear on the counts", value, slip))
    return skipped


def _overruled(said: Said, origins: Mapping[str, list[str]], skipped: list[str]) -> list[str]:
    """The keys that the family knows and no field came from: others rule over them, or they say the same."""
    told = {*skipped, *(key for keys in origins.values() for key in keys)}
    return [key for key in said.config if key not in told and said.inside + key not in told]


def _assumed(defaults: list[tuple[str, Any]], family: Family) -> list[str]:
    """One sentence for the defaults that were taken."""
    if not defaults:
        return []
    listed = ", ".join(f"{key} {_json(value)}" for key, value in defaults)
    return [f"not in config.json, and taken from transformers' {family.config_class}: {listed}"]


def _json(value: Any) -> str:
    return (
        {None: "null", True: "true", False: "false"}[value] if value is None or isinstance(value, bool) else str(value)
    )


def _another_class(config: Mapping[str, Any], family: Family, inside: str) -> list[str]:
    """A sentence where the file is of a class with another head, or of code of its own."""
    said = config.get("architectures")
    names = [name for name in said if isinstance(name, str)] if isinstance(said, list) else []
    ours = {name for name in family.architectures if name.endswith(("ForCausalLM", "LMHeadModel"))}
    if inside or not names or not ours or ours & {*names}:
        return []
    return [f"config.json names {cut(names[0], 60)}; what is counted is {family.architectures[0]}"]


def _quantized(config: Mapping[str, Any]) -> list[str]:
    said = config.get("quantization_config") or config.get("compression_config") or config.get("quantization")
    if not said:
        return []
    inside = said if isinstance(said, dict) else {}
    method = next(
        (inside[key] for key in ("quant_method", "quant_algo", "fmt") if isinstance(inside.get(key), str)), ""
    )
    how = f" ({cut(method, 40)})" if method else ""
    return [f"weights are stored quantized{how}: that changes their bytes, and no count of parameters"]


def _source(file: str, family: Family) -> str:
    return f"{printable(os.path.basename(file)) or 'config.json'} ({family.model_type}, transformers config)"


def _name(config: Mapping[str, Any], file: str) -> str:
    """The model's name: the last part of `_name_or_path`, else the folder of the file, else the file."""
    said = config.get("_name_or_path") or config.get("name_or_path")
    folder = os.path.basename(os.path.dirname(os.path.abspath(file)))
    base = os.path.basename(file)
    stem = (base if base.endswith(".json") else _SUFFIX.sub("", base)).removesuffix(".json")
    stem = stem.removesuffix("_config").removesuffix(".config")
    options = [said.rstrip("/").split("/")[-1] if isinstance(said, str) else "", folder if stem == "config" else stem]
    for option in options:
        clean = _NOT_IN_NAMES.sub("-", option[:200]).strip("-._")[:100]
        if clean and clean not in ("config", "model"):
            return clean
    return f"{config['model_type']}-model" if isinstance(config.get("model_type"), str) else "model"
