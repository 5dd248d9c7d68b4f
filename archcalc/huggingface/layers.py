"""The layers of a config: one kind, or several in the order that a list says, as groups of a spec and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from typing import Any, NamedTuple

from archcalc.errors import written
from archcalc.huggingface.leaves import Draft, Leaf, resolve
from archcalc.huggingface.said import MOST_LAYERS, Said

FULL, SLIDING, INDEXED = "full_attention", "sliding_attention", "indexed_attention"
NAMES = {FULL: "global", SLIDING: "local"}
"""transformers' types of layers, and the names of such kinds in a spec."""
_FEATURES = {
    "linear_attention": "recurrent layers are not supported in this family",
    "mamba": "recurrent layers are not supported in this family",
    "hybrid": "recurrent layers are not supported in this family",
    "conv": "convolutions between layers are not supported in this family",
    "moe": "mixtures of experts are not supported in this family",
    INDEXED: "indexers are not supported in this family",
    "chunked_attention": "chunked attention is not supported in this family",
}


class Kinds:
    """One kind of layer: all are alike. `count` is the key that says how many there are.

    `in_groups`: a few kinds that follow each other are groups of a spec, and no pattern. `apart`: so many of the first
    layers are, whatever follows.
    """

    in_groups = False
    apart = 0

    def __init__(self, count: str = "num_hidden_layers") -> None:
        self.count = count

    def types(self, said: Said) -> list[str]:
        """The type of each layer."""
        return [""] * said.size(self.count, most=MOST_LAYERS)

    def name(self, layer: str) -> str:
        """What a type of layer is called in a spec."""
        return NAMES.get(layer, layer or "layer")

    def candidates(self, layer: Mapping[str, Any]) -> list[str]:  # noqa: ARG002  (of one there is no choice)
        """The types that a layer of a spec may have, the likeliest first."""
        return [""]

    def write(self, types: list[str], draft: Draft) -> None:
        """Say the type of each layer."""
        draft.put(self.count, len(types))


def refuse_unlike(said: Said, key: str, types: Sequence[Any], other: str, others: Sequence[Any]) -> None:
    """Raise the fault of two keys that say the type of each layer, and not the same."""
    for i, (one, two) in enumerate(zip(types, others, strict=False)):
        if one != two:
            theirs = said.config[said.spelling(key) or key]
            mine = theirs[i] if isinstance(theirs, list | str) and i < len(theirs) else one
            ours = said.config.get(other)
            found = ours[i] if isinstance(ours, list | str) and len(ours) == len(others) else two
            said.fail(other, f"contradicts {key}, which has {written(mine)} for layer {i:,}", found)
    if len(types) != len(others):
        said.fail(other, f"contradicts {key}, which has {len(types):,} layers", len(others))


class LayerTypes(Kinds):
    """A type for each layer: `layer_types`, and where that is absent what `otherwise` makes of the config.

    `listed` is a key by which other files list the same, for `otherwise`: both must say one thing.
    """

    def __init__(
        self, otherwise: Callable[[Said, int], list[str]], names: Mapping[str, str] = NAMES, listed: str = ""
    ) -> None:
        super().__init__()
        self.otherwise, self.names, self.listed = otherwise, names, listed

    def types(self, said: Said) -> list[str]:
        n = said.size(self.count, most=MOST_LAYERS)
        if said.none("layer_types"):
            said.value("layer_types", counts=False)
            return self.otherwise(said, n)
        found = said.value("layer_types", counts=False)
        if not isinstance(found, list) or len(found) != n:
            said.fail("layer_types", f"must be a list with a type for each of {n:,} layers", found)
        for layer in found:
            if not isinstance(layer, str) or layer not in self.names:
                feature = _FEATURES.get(layer) if isinstance(layer, str) else None
                said.fail("layer_types", feature or "has an unknown type of layer", layer)
        if self.listed and said.says(self.listed):
            refuse_unlike(said, "layer_types", found, self.listed, self.otherwise(said, n))
        return list(found)

    def name(self, layer: str) -> str:
        return self.names[layer]

    def candidates(self, layer: Mapping[str, Any]) -> list[str]:
        windowed = layer.get("attention", {}).get("window") is not None
        return sorted(self.names, key=lambda kind: (kind == SLIDING) != windowed)

    def write(self, types: list[str], draft: Draft) -> None:
        super().write(types, draft)
        draft.put("layer_types", types)


DENSE = "/dense"
"""What follows the type of a layer without experts in a model that has layers with."""


class Sparse(Kinds):
    """The types of `attention`, in layers with experts and in those without: `dense` reads which, `say` writes it."""

    in_groups = True

    def __init__(
        self,
        attention: Kinds,
        dense: Callable[[Said, int], list[bool]],
        say: Callable[[list[bool], Draft], None],
    ) -> None:
        super().__init__(attention.count)
        self.attention, self.dense, self.say = attention, dense, say

    def types(self, said: Said) -> list[str]:
        types = self.attention.types(said)
        return [kind + DENSE * dense for kind, dense in zip(types, self.dense(said, len(types)), strict=True)]

    def name(self, layer: str) -> str:
        kind, dense, _ = layer.partition(DENSE)
        name = "" if kind in ("", FULL) else f"{self.attention.name(kind)}_"
        return name + ("dense" if dense else "experts")

    def candidates(self, layer: Mapping[str, Any]) -> list[str]:
        dense = layer.get("mlp", {}).get("kind") != "experts"
        return [kind + DENSE * dense for kind in self.attention.candidates(layer)]

    def write(self, types: list[str], draft: Draft) -> None:
        self.attention.write([kind.removesuffix(DENSE) for kind in types], draft)
        self.say([kind.endswith(DENSE) for kind in types], draft)


def every(period: str, said: Said, n: int) -> list[str]:
    """Windows, and each layer whose number is a multiple of `period` without: Gemma 3, Cohere 2."""
    step = said.size(period)
    return [SLIDING if (i + 1) % step else FULL for i in range(n)]


def read_layers(
    template: Mapping[str, Any] | Leaf, kinds: Kinds, said: Said, origins: dict[str, list[str]]
) -> list[dict[str, Any]]:
    """The groups of a spec: one, with a pattern where there is more than one kind.

    `origins` has the fields of all kinds under `layers.0`; `said.placed` has them where they stand.
    """
    mark = len(said.trace)
    types = kinds.types(said)
    why = said.since(mark)
    origins |= {"layers.0.repeat": why, "layers.0.pattern": why}
    layers: dict[str, dict[str, Any]] = {}
    read: dict[str, dict[str, list[str]]] = {}
    for said.layer in dict.fromkeys(types):
        mine = read[said.layer] = {}
        layers[said.layer] = even(resolve(template, said, mine, "") or {})
        for path, keys in mine.items():
            summed = origins.setdefault(f"layers.0.{path}".rstrip("."), [])
            summed += [key for key in keys if key not in summed]
    alike: dict[str, str] = {}
    for kind, layer in layers.items():
        alike[kind] = next(first for first in layers if layers[first] == layer)
    types = [alike[kind] for kind in types]
    parts = [part for part in (types[: kinds.apart], types[kinds.apart :]) if part]
    groups = [group for part in parts for group in _groups(part, kinds)]
    if any(len(group.places) == 1 for group in groups):
        origins.pop("layers.0.pattern", None)
    for i, group in enumerate(groups):
        said.placed |= dict.fromkeys((f"layers.{i}.repeat", f"layers.{i}.pattern"), why)
        for kind, place in group.places.items():
            said.placed |= {f"layers.{i}.{place}{path}".rstrip("."): keys for path, keys in read[kind].items()}
    return [group.data(layers, kinds) for group in groups]


class _Group(NamedTuple):
    """Layers that follow each other: how many, their pattern, and where in the group each kind stands."""

    repeat: int
    pattern: tuple[str, ...]
    places: dict[str, str]

    def data(self, layers: Mapping[str, dict[str, Any]], kinds: Kinds) -> dict[str, Any]:
        """The group as plain data."""
        if len(self.places) == 1:
            return {"repeat": self.repeat, **layers[self.pattern[0]]}
        named = {kinds.name(kind): layers[kind] for kind in self.places}
        return {"repeat": self.repeat, "pattern": [kinds.name(kind) for kind in self.pattern], "kinds": named}


def _groups(types: list[str], kinds: Kinds) -> list[_Group]:
    """Layers that follow each other, as one group or a few."""
    runs = [(kind, len(list(same))) for kind, same in groupby(types)]
    few = kinds.in_groups and len(runs) <= _MOST_RUNS and _period(types) == len(types)
    if len(runs) == 1 or few:  # first a few without experts
        return [_Group(count, (kind,), {kind: ""}) for kind, count in runs]
    pattern = tuple(types[: _period(types)])
    return [_Group(len(types), pattern, {kind: f"kinds.{kinds.name(kind)}." for kind in dict.fromkeys(types)})]


_MOST_RUNS = 3
"""Of alike layers one after the other, that are written as groups and not as a pattern."""


def _period(types: list[str]) -> int:
    """The shortest beginning that the list repeats, the last time perhaps in part."""
    fits = [0] * len(types)  # how much of the beginning stands again before each place: Knuth, Morris and Pratt 1977
    for i in range(1, len(types)):
        at = fits[i - 1]
        while at and types[i] != types[at]:
            at = fits[at - 1]
        fits[i] = at + (types[i] == types[at])
    return len(types) - fits[-1]


def even(layer: dict[str, Any]) -> dict[str, Any]:
    """A layer with one word for biases that are all there, or all not."""
    found = dict(layer)
    for name, mixer in layer.items():
        bias = mixer.get("bias") if isinstance(mixer, Mapping) else None
        if isinstance(bias, Mapping) and len(set(bias.values())) == 1:
            found[name] = {**mixer, "bias": next(iter(bias.values()))}
    return found


def each_layer(groups: list[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The layers of a spec, one by one, in the short form where they have one."""
    found: list[dict[str, Any]] = []
    for group in groups:
        if "pattern" in group:
            pattern = group["pattern"]
            kinds = {name: even(short(layer)) for name, layer in group["kinds"].items()}
            found += [kinds[pattern[i % len(pattern)]] for i in range(group["repeat"])]
        else:
            layer = {name: value for name, value in group.items() if name != "repeat"}
            found += [even(short(layer))] * group["repeat"]
    return found


_BOTH = ("post_norm", "stream_norm", "scale")
"""What the two branches of a short layer share, beside the norm."""


def short(layer: Mapping[str, Any]) -> dict[str, Any]:
    """A layer of branches as attention and MLP, where it is no more than that."""
    branches = layer.get("branches", ())
    if [branch["name"] for branch in branches] != ["attention", "mlp"]:
        return dict(layer)
    first, second = branches
    if any({*branch} - {"name", "norm", "mixer", *_BOTH} for branch in branches):
        return dict(layer)
    alike = all(first.get(name) == second.get(name) for name in _BOTH)
    alike = alike and not any(branch.get("input_scale") for branch in branches)
    shares = second["norm"] == "shared"
    if not alike or shares > bool(layer.get("parallel")) or not (shares or second["norm"] == first["norm"]):
        return dict(layer)
    side = {"parallel": "shared" if second["norm"] == "shared" else "own"} if layer.get("parallel") else {}
    both = {name: first[name] for name in _BOTH if first.get(name) is not None}
    return {"norm": first["norm"], "attention": first["mixer"], "mlp": second["mixer"], **both, **side}


def refuse_types(said: Said) -> None:
    """A list of types in a family that reads none is taken where it says what the family does: one type for all."""
    found = said.config["layer_types"]
    windowed = said.config.get("sliding_window", said.defaults.get("sliding_window")) is not None
    does = SLIDING if windowed and "sliding_window" in said.defaults else FULL
    if found is not None and (not isinstance(found, list) or any(layer != does for layer in found)):
        said.note(said.problem("layer_types", f"is not read by this family, whose layers are all {does}", found))
