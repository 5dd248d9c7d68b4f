"""Weights from a GGUF file: names and order of rows as llama.cpp's converter made them, numbers by the package `gguf`.

The file is mapped into memory and dequantized tensor by tensor. What the converter changed is undone here: it weaves
the two halves of a head's rows of queries and keys, as llama.cpp turns pairs that stand beside each other, and it adds
one to the gains of Gemma's norms.

Nothing here takes PyTorch before a tensor is read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import cache, lru_cache
from typing import Any, NamedTuple

from archcalc.errors import Invalid, Problem
from archcalc.files.regular import open_file
from archcalc.huggingface.architectures import Architecture
from archcalc.huggingface.gguf import read_gguf
from archcalc.huggingface.headers import Header
from archcalc.huggingface.metadata import ARCHITECTURE, architecture
from archcalc.huggingface.stored import read_stored
from archcalc.packages import needed
from archcalc.spec.model import Model
from archcalc_reference.weights.entries import Entry, Shape
from archcalc_reference.weights.families import BY_TYPE, Unnamed
from archcalc_reference.weights.families.family import Family, each_layer

NAMES = Family(("gguf",), "", "blk.{i}.", {"embedding.token": "token_embd", "unembedding": "output"}, {})
"""How the token table and the head are called in every GGUF file."""

_MIXED = {
    "attention.sinks": "self_attn.sinks.weight",
    "mlp.router": "mlp.gate",
    "mlp.shared_gate": "mlp.shared_expert_gate",
    **{f"mlp.experts.{part}": f"mlp.experts.{part}_proj" for part in ("gate", "up", "down")},
    **{f"mlp.shared.{part}": f"mlp.shared_expert.{part}_proj" for part in ("gate", "up", "down")},
}
"""What the converter calls a mixture's tensors, whatever the family does: each part of all experts is one tensor."""

Undo = Callable[[Any], Any]
"""What makes a tensor as a family stores it of one as the file has it."""


class Named(NamedTuple):
    """The weights of a file, the tensors that a spec has by the names of GGUF, and what is to be undone in some."""

    headers: list[Header]
    entries: list[Entry]
    undo: dict[str, Undo]


def named_in_gguf(model: Model, parameters: Mapping[str, Shape], path: str) -> Named:
    """The tensors that a GGUF file should have of a model.

    Raises Invalid for an architecture without a table, a model that it cannot be, a block format that is not read.
    """
    stored = read_stored(path, lambda _: False)
    table = architecture(stored)
    family = apart(BY_TYPE[table.model_type])
    try:
        theirs = family.entries(model, parameters)
    except Unnamed as missing:
        what = f"holds weights of {family.name}'s architecture; {model.name} has {missing}, which that has not"
        raise Invalid(Problem(path, what)) from None
    entries = upright(theirs, (stored.gguf or {})[ARCHITECTURE], model, path)
    shapes = {entry.name: entry.shape for entry in entries}
    headers = [
        one.header._replace(shape=with_ones(one.header.shape, shapes.get(one.name, one.header.shape)))
        for one in stored.weights
        if not one.buffer
    ]
    _refuse_unread(headers, path)
    undo = {
        entry.name: turned
        for entry, their in zip(entries, theirs, strict=True)
        if (turned := _undo(table, model, their)) is not None
    }
    return Named(headers, entries, undo)


def apart(family: Family) -> Family:
    """The family with the names that the converter gives a mixture before it asks for those of GGUF."""
    fused = {name: one for name, one in family.fused.items() if not _MIXED.keys() & set(one.parts)}
    inside = {ours: theirs for ours, theirs in family.inside.items() if not ours.startswith("mlp.experts.")}
    return replace(family, fused=fused, inside=inside | _MIXED, turned=False)


def with_ones(shape: Shape, wanted: Shape) -> Shape:
    """A shape with the axes of size 1 that its family has and a file may lack, or the reverse: a gate of one row."""
    alike = [size for size in wanted if size != 1] == [size for size in shape if size != 1]
    return wanted if alike else shape


def upright(entries: Iterable[Entry], said: str, model: Model, path: str) -> list[Entry]:
    """Entries by the names of GGUF, whose matrices are (out, in) in every family. `said` is the architecture."""
    needed("gguf", path, "gguf")
    names = _names(said, sum(group.repeat for group in model.layers))
    return [
        entry._replace(
            name=names.get_name(entry.name, (".weight", ".bias")) or entry.name, shape=entry.upright, transposed=False
        )
        for entry in entries
    ]


@lru_cache(1)  # made once for all families that are tried
def _names(said: str, layers: int) -> Any:
    """The names of GGUF for those of transformers, of an architecture with so many layers."""
    import gguf

    kind = next(kind for kind, name in gguf.MODEL_ARCH_NAMES.items() if name == said)
    return gguf.get_tensor_name_map(kind, layers)


def _refuse_unread(headers: list[Header], path: str) -> None:
    """Raise Invalid for the first tensor of a block format that the package does not dequantize."""
    formats: dict[str, Header] = {}
    for header in headers:
        formats.setdefault(header.type, header)
    for name, header in formats.items():
        if not _is_read(name, path):
            what = "is of a block format that the package gguf does not dequantize"
            raise Invalid(Problem(header.file, what, header.name, value=name))


@cache
def _is_read(name: str, path: str) -> bool:
    import numpy as np

    package = needed("gguf", path, "gguf")
    kind = package.GGMLQuantizationType[name]
    _, stored_bytes = package.GGML_QUANT_SIZES[kind]
    try:
        package.quants.dequantize(np.zeros((1, stored_bytes), np.uint8), kind)
    except NotImplementedError:
        return False
    return True


def _undo(table: Architecture, model: Model, entry: Entry) -> Undo | None:
    """What undoes the converter's change of a tensor, `entry` by the family's name; None where it changed nothing."""
    if table.offset and entry.name.endswith("norm.weight"):
        return lambda gain: gain - table.offset
    _, _, module = entry.parameters[0].rpartition("attention.")
    field = {"query": "n_heads", "key": "n_kv_heads"}.get(module.partition(".")[0]) if table.permuted else None
    if field is None or module not in ("query.weight", "query.bias", "key.weight", "key.bias"):
        return None
    layer = list(each_layer(model))[int(entry.parameters[0].split(".")[1])]
    mixer: Any = next(branch.mixer for branch in layer.residual_branches if branch.name == "attention")
    heads = int(getattr(mixer, field))
    return lambda rows: _in_halves(rows, heads)


def _in_halves(rows: Any, heads: int) -> Any:
    """The rows of each head (pair, half, ...) as (half, pair, ...): `LlamaModel.permute` of the converter undone."""
    shape = rows.shape
    pairs = rows.reshape(heads, shape[0] // heads // 2, 2, *shape[1:])
    return pairs.swapaxes(1, 2).reshape(shape)


@contextmanager
def open_gguf(path: str, undo: Mapping[str, Undo]) -> Iterator[Tensors]:
    """A file's tensors, mapped into memory: what is not asked for is not read."""
    import numpy as np

    announced = read_gguf(path)
    with open_file(path) as file:  # and no path again, which may be another file by now
        mapped = np.memmap(file, np.uint8, "r").view(np.ndarray)  # each slice of the class itself costs time
    headers = {header.name: header for header in announced.headers}
    yield Tensors(mapped, headers, announced.places, undo)


class Tensors:
    """What a GGUF file stores, read as safetensors' files are."""

    def __init__(
        self, mapped: Any, headers: Mapping[str, Header], places: Mapping[str, int], undo: Mapping[str, Undo]
    ) -> None:
        self._mapped, self._headers, self._places, self._undo = mapped, headers, places, undo

    def get_slice(self, name: str) -> Any:
        """A tensor in float32, which takes its slices: (out, in), as its family has it."""
        return self.get_tensor(name)

    def rows(self, name: str, start: int, end: int) -> Any:
        """Rows of a matrix as the file has it, in numpy's float32, dequantized."""
        _refuse_unread([self._headers[name]], self._headers[name].file)
        return self._numbers(name, slice(start, end)).reshape(-1, *self._headers[name].shape[1:])

    def _numbers(self, name: str, rows: slice) -> Any:
        header, place = self._headers[name], self._places[name]
        package = needed("gguf", header.file, "gguf")
        kind = package.GGMLQuantizationType[header.type]
        width = package.quant_shape_to_byte_shape(header.shape, kind)
        data = self._mapped[place : place + header.stored_bytes].reshape(width)
        return package.quants.dequantize(data[rows], kind)

    def get_tensor(self, name: str) -> Any:
        """A tensor in float32, dequantized."""
        import numpy as np
        import torch

        numbers = self._numbers(name, slice(None)).reshape(self._headers[name].shape)
        if name in self._undo:
            numbers = self._undo[name](numbers)
        return torch.from_numpy(numbers if numbers.flags.writeable else np.array(numbers))
