"""What a family's table says: how the checkpoints of its model_types name and lay out each parameter of ours."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal, NamedTuple

from archcalc.spec.layers import Layer
from archcalc.spec.model import Model
from archcalc_reference.weights.entries import Entry, Shape, by_row, plain, side_by_side, stacked
from archcalc_reference.weights.families.uses import Uses

Blocks = int | Literal["n_heads", "n_kv_heads", "n_groups", "n_experts"]
_INSIDE = re.compile(r"layers\.(\d+)\.(.+)")
_NUMBER = re.compile(r"\.\d+(?=\.|$)")


class Fused(NamedTuple):
    """Parameters that are stored in one tensor: block by block, the rows of each part.

    One block is the parts one after the other. A block for each key/value head has its queries, its key and its value,
    one for each expert its gate and its up projection. `bare`: the tensor's name is the module's. `woven`: of each
    expert a row of each part in turn. In a layer without the module that it `needs` the tensor has another name,
    `otherwise`.
    """

    parts: tuple[str, ...]
    blocks: Blocks = 1
    bare: bool = False
    woven: bool = False
    needs: str = ""
    otherwise: str = ""


QKV = ("attention.query", "attention.key", "attention.value")


@dataclass(frozen=True)
class Family:
    """The names of a family's checkpoints, as transformers' model of that family has them.

    `outside` and `inside` map our modules to theirs; a path with its `.weight` or `.bias` may stand for one tensor.
    `{h}` in a name is a head: there each row of ours is a tensor of its own. A block that layers share stands in its
    first layer, as `shared`; what another layer has for it stands there too where the name has the number of the
    `{use}`. `each` are names in files of what is one
    tensor in transformers' model: of each expert, of each convolution; `packed` are tensors of files that the model
    has several of. `own_norms` are the names in layers whose branches are side by side, each with a norm of its own.
    `transposed`: matrices of layers are stored as (in, out); `turned`: those of experts are. `lifted` are paths that
    are stored with so many axes of one before and behind, `flat` those of experts whose rows stand one after the
    other, with whether each expert's matrix is transposed.
    `prefix` may be missing from the names of a file. `older` are other spellings, as patterns and what they become.
    `buffers` are endings of tensors that a file may have and that are no parameters; `constants` are numbers that each
    layer of a checkpoint has beside its parameters, and that no config changes. `unread` are endings of tensors that
    published files have where transformers' model has none, and `lacked` of those that they lack: it takes zeros.
    `spare` are names in files of experts' matrices that transformers' model has for experts without weights too, and
    never reads.
    """

    types: tuple[str, ...]
    prefix: str
    layer: str
    outside: Mapping[str, str]
    inside: Mapping[str, str]
    fused: Mapping[str, Fused] = field(default_factory=dict)
    own_norms: Mapping[str, str] = field(default_factory=dict)
    each: Mapping[str, str] = field(default_factory=dict)
    packed: Mapping[str, Fused] = field(default_factory=dict)
    transposed: bool = False
    turned: bool = False
    lifted: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    flat: Mapping[str, bool] = field(default_factory=dict)
    older: tuple[tuple[str, str], ...] = ()
    buffers: tuple[str, ...] = ()
    constants: Mapping[str, float] = field(default_factory=dict)
    unread: tuple[str, ...] = ()
    lacked: tuple[str, ...] = ()
    spare: tuple[str, ...] = ()

    def but(self, *types: str, **changes: Any) -> Family:
        """A family that has the same names but for some; mappings are added to."""
        merged: dict[str, Any] = {
            name: {**getattr(self, name), **value} if isinstance(value, Mapping) and name != "fused" else value
            for name, value in changes.items()
        }
        return replace(self, types=types, **merged)

    @cached_property
    def filed(self) -> Family:
        """The same family with the names that its files have."""
        if not (self.each or self.packed):
            return self
        fused = {name: fused for name, fused in self.fused.items() if not self._parted(fused)}
        return replace(self, inside={**self.inside, **self.each}, fused={**fused, **self.packed}, each={})

    def _parted(self, fused: Fused) -> bool:
        """Whether files have the parts of a tensor of the model."""
        joined = {part for other in self.packed.values() for part in other.parts}
        return any(part in joined or f"{part}.weight" in self.each for part in fused.parts)

    @property
    def head(self) -> str:
        """The name of the head's matrix, which a file may lack where it is tied."""
        return f"{self.outside['unembedding']}.weight"

    @property
    def table(self) -> str:
        """The name of the token table."""
        return f"{self.outside['embedding.token']}.weight"

    @property
    def name(self) -> str:
        """The family's name in a message."""
        return self.types[0]

    def entries(self, model: Model, parameters: Mapping[str, Shape], further: Iterable[Layer] = ()) -> list[Entry]:
        """The tensors of a checkpoint that has these parameters. Raises Unnamed where there can be none.

        `further` are layers behind the model's last.
        """
        return list(_entries(self, [*each_layer(model), *further], parameters))

    def constants_of(self, model: Model) -> dict[str, float]:
        """The constants of a model's checkpoint, by their names in it."""
        layers = range(sum(group.repeat for group in model.layers))
        return {self.layer.format(i=i) + name: value for i in layers for name, value in self.constants.items()}

    def idle_of(self, model: Model) -> set[str]:
        """Tensors that a file may have and nothing reads: of keys and values, in layers that read those of another,
        and of experts without weights.
        """
        found = set()
        for i, layer in enumerate(each_layer(model)):
            found |= {name for name, _ in self._spare(layer, i)}
            for name in (
                branch.name for branch in layer.residual_branches if getattr(branch.mixer, "shared_kv", False)
            ):
                modules = (f"{name}.{part}" for part in ("key", "value", "key_norm", "value_norm"))
                theirs = (self.inside[module] for module in modules if module in self.inside)
                found |= {self.layer.format(i=i) + f"{one}.{leaf}" for one in theirs for leaf in ("weight", "bias")}
        return found

    def spare_of(self, model: Model, entries: Iterable[Entry]) -> dict[str, Shape]:
        """Tensors that transformers' model asks for and never reads, by their names in files."""
        shapes = {entry.name: entry.shape for entry in entries} if self.spare else {}
        names = (pair for i, layer in enumerate(each_layer(model)) for pair in self._spare(layer, i))
        return {name: shapes[first] for name, first in names}

    def _spare(self, layer: Layer, i: int) -> Iterator[tuple[str, str]]:
        """The names of a layer's matrices that nothing reads, each with that of the first expert's."""
        mixers: list[Any] = [branch.mixer for branch in layer.residual_branches] if self.spare else []
        for mixer in mixers:
            if idle := getattr(mixer, "n_identity", None):
                names = [self.layer.format(i=i) + name for name in self.spare]
                numbers = range(mixer.n_experts, mixer.n_experts + idle)
                yield from ((name.format(h=h), name.format(h=0)) for name in names for h in numbers)

    def in_equal_parts(self, model: Model, entries: Iterable[Entry]) -> dict[str, Shape]:
        """The shapes that tensors of its files have where transformers saved them: it splits one of its own evenly.

        What it joined may have had parts of other widths, and then nothing reads what it saved.
        """
        rows = {entry.name: entry.shape for entry in entries}
        found: dict[str, Shape] = {}
        for fused in self.fused.values():
            theirs = [name for part in fused.parts if (name := self.each.get(f"{part}.weight")) and "{h}" not in name]
            for i in range(model.n_layers if len(theirs) == len(fused.parts) else 0):
                names = [self.layer.format(i=i) + name for name in theirs]
                parts = [rows[name] for name in names if name in rows]
                if len(parts) == len(names):
                    whole = sum(shape[0] for shape in parts)
                    each = -(-whole // len(parts))  # as torch.chunk does
                    starts = zip(names, range(0, whole, each), strict=False)
                    found |= {name: (min(each, whole - start), *rows[name][1:]) for name, start in starts}
        return found

    def is_buffer(self, name: str) -> bool:
        """Whether a stored tensor is none of the model's parameters: a mask, or angles that are worked out anew."""
        return name.endswith(tuple(f".{buffer}" for buffer in self.buffers))

    def as_named(self, names: Iterable[str]) -> Family:
        """The family with the names of its files, where one of these is that of one expert's matrix."""
        layer = self.layer.format(i=0)
        packed = (f"{theirs}.weight" for theirs in self.packed)
        each = {layer + theirs.format(h=0) for theirs in (*self.each.values(), *packed)}
        return self.filed if any(_NUMBER.sub(".0", self.full(name)) in each for name in names) else self

    def knows(self, name: str) -> bool:
        """Whether a stored name is one that a checkpoint of the family may have."""
        path = _NUMBER.sub(".0", self.full(name))
        return path in self._paths or path.rpartition(".")[0] in self._paths

    @cached_property
    def _paths(self) -> frozenset[str]:
        bare = (f"{name}_bias" for name, fused in self.fused.items() if fused.bare)
        inside = (
            *self.inside.values(),
            *self.own_norms.values(),
            *self.fused,
            *bare,
            *self.each.values(),
            *self.packed,
        )
        layer = self.layer.format(i=0)
        named = (_NUMBER.sub(".0", layer + theirs.format(h=0, use=0)) for theirs in inside)
        return frozenset((*self.outside.values(), *named))

    def full(self, name: str) -> str:
        """A stored name as transformers has it today, with its prefix."""
        for pattern, now in self.older:
            name = re.sub(pattern, now, name)
        own = [theirs for theirs in self.outside.values() if not theirs.startswith(self.prefix)]
        if name.startswith((self.prefix, *(f"{theirs}." for theirs in own))):
            return name
        return self.prefix + name


class Unnamed(Exception):
    """A parameter that a family's checkpoints have no name for."""


def _entries(family: Family, layers: list[Layer], parameters: Mapping[str, Shape]) -> Iterator[Entry]:
    uses = Uses(layers)
    in_fused = {part: module for module, fused in family.fused.items() for part in fused.parts}
    parts: dict[tuple[int, str, str], dict[str, tuple[str, Shape]]] = {}
    others: set[tuple[int, str]] = set()  # fused tensors that have their other name
    for name, shape in parameters.items():
        match = _INSIDE.fullmatch(uses.in_layer(name))
        if match is None:
            yield plain(_stored(family.outside, name, name), name, shape)
            continue
        i, path = int(match[1]), match[2]
        module, _, leaf = path.rpartition(".")
        if module in in_fused:
            parts.setdefault((i, in_fused[module], leaf), {})[module] = name, shape
            have_not = family.fused[in_fused[module]].needs
            if have_not and f"layers.{i}.{have_not}.weight" not in parameters:
                others.add((i, in_fused[module]))
            continue
        norms = family.own_norms if _has_own_norms(layers[i]) else {}
        stored = uses.named(family.layer, i, _stored({**family.inside, **norms}, path, name))
        if "{h}" in stored:
            yield from by_row(stored, name, shape)
        else:
            turned = (family.transposed and len(shape) == 2) or (family.turned and len(shape) == 3)
            entry = plain(stored, name, shape, transposed=turned or family.flat.get(path, False))
            before, after = family.lifted.get(path, (0, 0))
            if path in family.flat:
                entry = entry._replace(shape=(entry.shape[0] * entry.shape[1], *entry.shape[2:]))
            yield entry._replace(shape=(*(1,) * before, *entry.shape, *(1,) * after))
    for (i, module, leaf), have in parts.items():
        name = family.fused[module].otherwise if (i, module) in others else module
        yield _fused(family, layers[i], uses, i, module, leaf, have, name)


def _stored(names: Mapping[str, str], path: str, name: str) -> str:
    """Their name of a path of ours, by the path or by its module."""
    if path in names:
        return names[path]
    module, _, leaf = path.rpartition(".")
    if module not in names:
        raise Unnamed(name)
    return f"{names[module]}.{leaf}"


def _fused(
    family: Family,
    layer: Layer,
    uses: Uses,
    i: int,
    module: str,
    leaf: str,
    have: Mapping[str, tuple[str, Shape]],
    named: str,
) -> Entry:
    fused = family.fused[module]
    missing = [part for part in fused.parts if part not in have]
    if missing:
        raise Unnamed(next(iter(have.values()))[0])
    blocks: Any = fused.blocks
    if blocks in ("n_heads", "n_kv_heads", "n_groups"):
        blocks = _heads(layer, fused.parts[0].partition(".")[0], blocks)
    whole = dict(have[part] for part in fused.parts)
    transposed = family.transposed and leaf == "weight"
    bare = f"{named}_bias" if leaf == "bias" else named
    name = uses.named(family.layer, i, bare if fused.bare else f"{named}.{leaf}")
    if blocks == "n_experts":
        return stacked(name, whole, transposed=family.turned, woven=fused.woven)
    try:
        return side_by_side(name, whole, blocks, transposed=transposed)
    except ValueError as error:
        raise Unnamed(have[fused.parts[0]][0]) from error


def each_layer(model: Model) -> Iterator[Layer]:
    """The layers of a model, one by one."""
    for group in model.layers:
        kinds = {offset: kind.layer for kind in group.kinds_in() for offset in kind.offsets}
        yield from (kinds[i % group.period] for i in range(group.repeat))


def _heads(layer: Layer, name: str, field: str) -> int:
    (mixer,) = (branch.mixer for branch in layer.residual_branches if branch.name == name)
    return int(getattr(mixer, field))


def _has_own_norms(layer: Layer) -> bool:
    return layer.side_by_side and all(branch.norm != "shared" for branch in layer.residual_branches)
