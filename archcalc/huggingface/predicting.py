"""The field `mtp` of a spec, read off a config.json and written to one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from archcalc.huggingface.family import Family
from archcalc.huggingface.layers import even, short
from archcalc.huggingface.leaves import Draft, Leaf, Mismatch, resolve
from archcalc.huggingface.modules import NUMBERS
from archcalc.huggingface.said import Fault, Said

_MOST = 64
"""Modules of a config, as of a spec."""


def read_modules(
    family: Family, said: Said, origins: dict[str, list[str]], groups: list[dict[str, Any]]
) -> dict[str, Any]:
    """The field `mtp` of a spec; nothing where there are no modules, or none that can be had."""
    modules = family.modules
    try:
        n = _count(said, modules.keys if modules else NUMBERS, modules.otherwise if modules else 0)
        if not n or not groups:
            return {}
        types = modules.made_of(said, family.kinds.types(said), n) if modules else []
    except Fault as fault:
        said.note(fault.problem)
        return {}
    if not types:
        some, them = ("1 module", "it") if n == 1 else (f"{n:,} modules", "them")
        said.assume(f"{some} of multi-token prediction left out, as transformers leaves {them} out")
        return {}
    assert modules is not None  # noqa: S101  (else there are no types)
    origins["mtp.n_modules"] = [said.inside + key for key in modules.keys if said.config.get(key)]
    if why := [said.inside + key for key in modules.reads if key in said.config]:
        origins["mtp.layer"] = why
    layer = _joined(family.layer, types, said)
    return {"mtp": {"n_modules": n, **({} if layer == last_of(groups[-1]) else {"layer": layer})}}


def _count(said: Said, keys: tuple[str, ...], otherwise: int) -> int:
    """How many modules the file says, by one key or by several that agree."""
    there = [key for key in keys if said.config.get(key) is not None]
    for key in there:
        value = said.config[key]
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MOST:
            said.fail(key, f"must be an integer from 0 to {_MOST}", value)
        if value != said.config[there[0]]:
            said.fail(key, f"contradicts {there[0]}, which is {said.config[there[0]]}", value)
    if not there and otherwise:
        said.defaulted[keys[0]] = otherwise
    return said.config[there[0]] if there else otherwise


def _joined(layer: Mapping[str, Any] | Leaf, types: list[str], said: Said) -> dict[str, Any]:
    """The layer of some types: of several the branches of all, one after the other."""
    found: list[dict[str, Any]] = []
    for said.layer in types:
        found.append(even(resolve(layer, said, {})))
    return found[0] if len(found) == 1 else {"branches": [one for part in found for one in part["branches"]]}


def last_of(group: Mapping[str, Any]) -> dict[str, Any]:
    """The layer that a module has where a spec names none."""
    if "pattern" in group:
        return dict(group["kinds"][group["pattern"][-1]])
    return {name: value for name, value in group.items() if name != "repeat"}


def write_modules(family: Family, data: Mapping[str, Any], draft: Draft) -> None:
    """Say how many modules a spec has, and of what. Raises Mismatch where the family has none."""
    mtp = data.get("mtp")
    if mtp is None:
        if family.modules is not None and family.modules.otherwise:
            draft.put(family.modules.keys[0], 0)
        return
    if family.modules is None and draft.missed is None:
        raise Mismatch("mtp")
    if family.modules is None:
        draft.missed = [*(draft.missed or ()), "mtp"]
        return
    draft.put(family.modules.keys[0], mtp["n_modules"])
    family.modules.say(layer_of(data), mtp["n_modules"], draft)


def layer_of(data: Mapping[str, Any]) -> dict[str, Any]:
    """The layer of a spec's modules, whether it names one or not."""
    found: dict[str, Any] = data["mtp"].get("layer") or last_of(data["layers"][-1])
    return even(short(found))
