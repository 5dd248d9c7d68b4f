"""The tensors that a file of a spec should have, and what a GGUF file calls them and says of their sizes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from archcalc.checks.stored import Expected, expected_head
from archcalc.checks.verdict import Check
from archcalc.errors import Invalid, Problem, shown
from archcalc.huggingface.headers import Shape
from archcalc.huggingface.metadata import ARCHITECTURE
from archcalc.huggingface.packing import Weight
from archcalc.huggingface.stored import Stored
from archcalc.packages import needed
from archcalc.spec.model import Model

if TYPE_CHECKING:
    from archcalc_reference.weights.entries import Entry
    from archcalc_reference.weights.families import Family

TABLES = ("embedding.token.weight", "unembedding.weight")


class Names(NamedTuple):
    """What a file calls the parameters: the tensors that it should have, the token table and the head among them.

    `own` are its weights by the names that `expected` has for them, `others` those of no text model by the part that
    they are of, `modules` those of multi-token prediction, and `unread` those that transformers' model has not.
    `family` is whose names they are, but for a GGUF file.
    """

    expected: list[Expected]
    table: Expected
    head: Expected
    own: dict[str, Weight]
    others: Mapping[str, list[Weight]] = MappingProxyType({})
    modules: tuple[Weight, ...] = ()
    unread: tuple[Weight, ...] = ()
    family: Family | None = None


def expected_tensors(entries: list[Entry], names: list[str], shapes: list[Shape], *, tied: bool) -> list[Expected]:
    """The tensors of a checkpoint; the rows of the table and of the head may be padded."""
    found = []
    for entry, name, shape in zip(entries, names, shapes, strict=True):
        if entry.parameters[0] == TABLES[1] and not tied:
            found.append(expected_head(name, shape))
        else:
            found.append(Expected(name, shape, "vocab_size" if entry.parameters[0] in TABLES else ""))
    return found


def named_in_gguf(stored: Stored, model: Model, shapes: dict[str, Shape]) -> Names:
    """The names of GGUF, which the package has for those of transformers: of the family that has most of them."""
    from archcalc_reference.weights.families import FAMILIES, Unnamed
    from archcalc_reference.weights.ggufs import apart, upright, with_ones

    package = needed("gguf", stored.path, "gguf")
    said = (stored.gguf or {}).get(ARCHITECTURE)
    if not isinstance(said, str) or said not in package.MODEL_ARCH_NAMES.values():
        raise Invalid(Problem(stored.path, "is of an unknown architecture", ARCHITECTURE, value=shown(said)))
    further = _modules_in_gguf(stored.weights)
    own = {weight.name: weight for weight in stored.weights if weight not in further}
    best: tuple[tuple[int, int], list[Entry]] = ((-1, 0), [])
    for family in FAMILIES:
        try:
            entries = upright(apart(family).entries(model, shapes), said, model, stored.path)
        except Unnamed:
            continue
        known = len(own.keys() & {entry.name for entry in entries})
        if (known, -len(entries)) > best[0]:  # of two that know as many, the one that lacks fewer
            best = (known, -len(entries)), entries
    (known, _), entries = best
    if known < 1:
        what = f"holds weights of another architecture than {model.name}"
        raise Invalid(Problem(stored.path, what, ARCHITECTURE, value=shown(said)))
    names, sizes = [entry.name for entry in entries], [entry.shape for entry in entries]
    for name, shape in zip(names, sizes, strict=True):
        if name in own and (found := own[name].shape) is not None:
            own[name] = own[name]._replace(shape=with_ones(found, shape))
    expected = expected_tensors(entries, names, sizes, tied=model.unembedding.tied)
    table = next(one for one, entry in zip(expected, entries, strict=True) if TABLES[0] in entry.parameters)
    return Names(expected, table, expected_head("output.weight", table.shape), own, modules=further)


_BLOCK = re.compile(r"blk\.[0-9]{1,9}\.")


def _modules_in_gguf(weights: list[Weight]) -> tuple[Weight, ...]:
    """The tensors of modules of multi-token prediction: each is a block behind the model's, with norms of its own."""
    begins = tuple({found[0] for one in weights if (found := _BLOCK.match(one.name)) and "nextn." in one.name})
    return tuple(one for one in weights if begins and one.name.startswith(begins))


_SIZES = {
    "context_length": "context_length",
    "embedding_length": "d_model",
    "block_count": "n_layers",
    "feed_forward_length": "d_ff",
    "attention.head_count": "n_heads",
    "attention.head_count_kv": "n_kv_heads",
    "attention.key_length": "d_head",
}
"""Keys of GGUF below the architecture's name, and the fields that they are."""


def said_in_gguf(keys: Mapping[str, Any], model: Model) -> Iterator[Check]:
    """A comparison for each size that the keys have otherwise than the spec: shapes alone do not tell heads.

    A size that differs from layer to layer is not compared, and neither is an array. Of a mixture, the MLP's width may
    be that of layers that it has not.
    """
    kind = keys.get(ARCHITECTURE)
    mixed = {"feed_forward_length"} if keys.get(f"{kind}.expert_count") else set()
    for key, field in _SIZES.items():
        if key in mixed:
            continue
        ours, theirs = _size(model, field), keys.get(f"{kind}.{key}")
        if ours is not None and type(theirs) is int and ours != theirs:
            yield Check(f"{kind}.{key}", ours, theirs, equal=False, reason=f"DIFFERS: {field}")


def _size(model: Model, field: str) -> int | None:
    """A size of a model, or of all its layers; None where they differ, or have none."""
    if (own := getattr(model, field, None)) is not None:
        return int(own)
    layers = [kind.layer for group in model.layers for kind in group.kinds_in()]
    branches = [branch for layer in layers for branch in layer.residual_branches]
    every = [getattr(mixer, field, None) for branch in branches for mixer in branch.mixers]
    found = {size for size in every if isinstance(size, int)}
    return found.pop() if len(found) == 1 else None
