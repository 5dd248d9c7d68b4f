"""Modules of multi-token prediction in a config.json: how many, and of which type of layer each is made.

A config says little more than their number. What they are made of is known from published checkpoints and from
transformers' own MtpModel; a family whose modules are of another kind, or unknown, has no table here, and its modules
are left out with a word.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from archcalc.huggingface.layers import DENSE, even, short
from archcalc.huggingface.leaves import Draft, Leaf, Mismatch, resolve
from archcalc.huggingface.said import Fault, Said
from archcalc.spec.mtp import MOST_MODULES

if TYPE_CHECKING:
    from archcalc.huggingface.family import Family

NEXTN = ("num_nextn_predict_layers", "num_mtp_layers")
TYPES = ("mtp_layer_types", "mtp_mlp_layer_types")
"""Lists with the type of each module's attention, and whether it has experts."""
_NUMBERS = (*NEXTN, "mtp_num_hidden_layers", "num_mtp_modules")
"""Keys that say how many modules there are."""


def with_experts(_said: Said, types: list[str], _n: int) -> list[str]:
    """DeepSeek-V3's: a layer like the last, with experts."""
    return [types[-1].removesuffix(DENSE)]


def _nothing(_layer: Mapping[str, Any], _n: int, _draft: Draft) -> None:
    """Say nothing of the layer: it is always the same."""


@dataclass(frozen=True)
class Modules:
    """The modules of a family.

    `keys` say how many, the first of them in what is written, and `reads` of what. `made_of` is the type of each module's layer, or the
    types of several that follow each other; empty where the modules are of another kind. `say` writes the types of
    a spec's layer, where a config says them.
    """

    keys: tuple[str, ...] = NEXTN
    made_of: Callable[[Said, list[str], int], list[str]] = with_experts
    reads: tuple[str, ...] = ()
    say: Callable[[Mapping[str, Any], int, Draft], None] = _nothing


def read_modules(
    family: Family, said: Said, origins: dict[str, list[str]], groups: list[dict[str, Any]]
) -> dict[str, Any]:
    """The field `mtp` of a spec; nothing where there are no modules, or none that can be had."""
    modules = family.modules
    try:
        n = _count(said, modules.keys if modules else _NUMBERS)
        if not n or not groups:
            return {}
        types = modules.made_of(said, family.kinds.types(said), n) if modules else []
    except Fault as fault:
        said.note(fault.problem)
        return {}
    if not types:
        some = "1 module" if n == 1 else f"{n:,} modules"
        said.assume(f"{some} of multi-token prediction left out, as transformers leaves it out")
        return {}
    assert modules is not None  # noqa: S101  (else there are no types)
    origins["mtp.n_modules"] = [said.inside + key for key in modules.keys if said.config.get(key)]
    if why := [said.inside + key for key in modules.reads if key in said.config]:
        origins["mtp.layer"] = why
    layer = _joined(family.layer, types, said)
    return {"mtp": {"n_modules": n, **({} if layer == last_of(groups[-1]) else {"layer": layer})}}


def _count(said: Said, keys: tuple[str, ...]) -> int:
    """How many modules the file says, by one key or by several that agree."""
    there = [key for key in keys if said.config.get(key) is not None]
    for key in there:
        value = said.config[key]
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MOST_MODULES:
            said.fail(key, f"must be an integer from 0 to {MOST_MODULES}", value)
        if value != said.config[there[0]]:
            said.fail(key, f"contradicts {there[0]}, which is {said.config[there[0]]}", value)
    return said.config[there[0]] if there else 0


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
