"""The safetensors files of a model: one, or the shards that model.safetensors.index.json names, by their headers."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, NamedTuple

from archcalc.errors import Invalid, Missing, Problem, shown
from archcalc.files.regular import names_in, read_regular
from archcalc.huggingface.headers import Header, read_header, with_other_names
from archcalc.huggingface.reading import parse_object

WHOLE, INDEX = "model.safetensors", "model.safetensors.index.json"
LARGEST_INDEX = 2**25
"""Bytes of an index: 100,000 tensors take 10 MB."""
MOST_VALUES = 1_000_000
"""Commas, colons and brackets of an index: a tensor has two."""
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_FORMATS = {
    ".gguf": "GGUF",
    ".onnx": "ONNX",
    ".npz": "arrays of MLX or NumPy",
    ".h5": "TensorFlow's HDF5",
    ".msgpack": "Flax's msgpack",
    ".ckpt.index": "a TensorFlow checkpoint",
    ".tflite": "TensorFlow Lite",
    ".ot": "rust-bert's archive",
    ".nemo": "a NeMo archive",
}
"""Other files of weights, by how their names end."""


class Files(NamedTuple):
    """The headers of some files: their tensors by name, the files' texts, and the bytes of all headers and files."""

    headers: list[Header]
    metadata: dict[str, dict[str, Any]]
    header_bytes: int
    file_bytes: int

    @property
    def files(self) -> tuple[str, ...]:
        return tuple(self.metadata)


def read_folder(folder: str, may_be_absent: Callable[[str], bool]) -> Files:
    """Every tensor that a folder's weights announce; where they are whole and sharded too, whole.

    `may_be_absent` says which names an index may promise that no shard has.
    """
    there = names_in(folder)
    if WHOLE in there:
        return read_files([os.path.join(folder, WHOLE)])
    if INDEX in there:
        return read_index(os.path.join(folder, INDEX), may_be_absent)
    raise nothing_in(folder, there)


def read_files(paths: list[str]) -> Files:
    """The tensors of some files together. Raises Invalid where one name is in two of them."""
    found: dict[str, Header] = {}
    metadata: dict[str, dict[str, Any]] = {}
    problems = []
    header_bytes = file_bytes = 0
    for path in paths:
        announced = read_header(path)
        metadata[path] = announced.metadata
        header_bytes += announced.header_bytes
        file_bytes += announced.header_bytes + sum(header.stored_bytes for header in announced.headers)
        for header in with_other_names(announced):
            first = found.setdefault(header.name, header)
            if first is not header:
                problems.append(Problem(header.file, f"is also in {os.path.basename(first.file)}", header.name))
    if problems:
        raise Twice(found, *problems)
    return Files(list(found.values()), metadata, header_bytes, file_bytes)


class Twice(Invalid):
    """Names that are in two files, and what was found."""

    def __init__(self, found: dict[str, Header], *problems: Problem) -> None:
        super().__init__(*problems)
        self.found = found


def read_index(index: str, may_be_absent: Callable[[str], bool]) -> Files:
    """The tensors of the shards that an index names, each of which must hold what is promised of it."""
    folder = os.path.dirname(index)
    promised = _promises(index)
    shards = sorted(set(promised.values()))
    there = set(names_in(folder or "."))
    if gone := [shard for shard in shards if shard not in there]:
        raise Missing(
            *(Problem(os.path.join(folder, shard), f"no such file, although {INDEX} names it") for shard in gone)
        )
    files, problems = None, list[Problem]()
    try:
        files = read_files([os.path.join(folder, shard) for shard in shards])
        found = {header.name: header for header in files.headers}
    except Twice as error:
        found, problems = error.found, list(error.problems)
    for name, shard in promised.items():
        if name not in found and not may_be_absent(name):
            problems.append(Problem(os.path.join(folder, shard), f"is missing, although {INDEX} places it here", name))
    if problems or files is None:
        raise Invalid(*problems)
    return files


def nothing_in(folder: str, there: list[str]) -> Invalid | Missing:
    """What is said of a folder without weights that are read."""
    pickles = [name for name in there if name.endswith(PICKLES)]
    if pickles:
        fix = "if you trust it, with transformers: AutoModelForCausalLM.from_pretrained(DIR).save_pretrained(NEW)"
        message = f"holds {pickles[0]} and no {WHOLE}; pickles are not read, since they can run code"
        return Invalid(Problem(folder, message, suggestion=f"convert it {fix}"))
    for ending, form in _FORMATS.items():
        if named := [name for name in there if name.endswith(ending)]:
            what = f"holds {named[0]}: {form} is not supported"
            return Invalid(Problem(folder, what, suggestion=f"weights are read from {WHOLE}"))
    if "snapshots" in there and "refs" in there:
        what = "is a model's folder in the cache of the Hugging Face Hub, whose files are in its snapshots"
        return Missing(Problem(folder, what, suggestion=f"name one: {os.path.join(folder, 'snapshots', 'COMMIT')}"))
    others = [name for name in there if name.endswith(".safetensors")]
    if others:
        return Missing(Problem(folder, f"has neither {WHOLE} nor {INDEX}", value=shown(others[0])))
    return Missing(Problem(folder, f"has no weights: neither {WHOLE} nor {INDEX}"))


def shards_named(index: str) -> list[str]:
    """The files that an index names, in alphabetical order."""
    return sorted(set(_promises(index).values()))


def _promises(index: str) -> dict[str, str]:
    """Which shard has which tensor, as the index says."""
    data = read_regular(index, LARGEST_INDEX)
    if not data.strip():
        raise Invalid(Problem(index, "is empty"))
    promised = parse_object(data, index, LARGEST_INDEX, MOST_VALUES).get("weight_map")
    if not isinstance(promised, dict) or not promised:
        raise Invalid(Problem(index, "must map each tensor to a file", "weight_map"))
    for name, shard in promised.items():
        if not isinstance(shard, str) or not shard.endswith(".safetensors") or os.path.basename(shard) != shard:
            raise Invalid(Problem(index, "must name a .safetensors file beside it", name, value=shown(shard)))
    return promised
