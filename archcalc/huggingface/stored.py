"""What a checkpoint stores, told from its headers: a file, an index with its shards, a GGUF file or a folder."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

from archcalc.errors import Invalid, Missing, Problem, shown
from archcalc.files.regular import names_in
from archcalc.huggingface.gguf import read_gguf
from archcalc.huggingface.headers import Header
from archcalc.huggingface.packing import Weight, weights
from archcalc.huggingface.parts import named_alone, one_gguf, part_of, parts_of
from archcalc.huggingface.quantization import Quantization, quantization_beside
from archcalc.huggingface.shards import INDEX, WHOLE, read_files, read_folder, read_index

MOST_SPLITS = 10_000  # of a GGUF file


class Stored(NamedTuple):
    """The weights of a checkpoint; `gguf` is what the keys of a GGUF file say, None for safetensors.

    `others` is how many files more a file's name says that there are, and not read; `beside` the folder with what
    stands beside them, where that is another than theirs.
    """

    path: str
    weights: list[Weight]
    files: tuple[str, ...]
    header_bytes: int
    gguf: dict[str, Any] | None = None
    others: int = 0
    beside: str = ""

    @property
    def folder(self) -> str:
        """Where the files beside it are."""
        if self.beside:
            return self.beside
        return os.path.dirname(self.files[0]) if self.files else os.path.dirname(self.path)


def has_weights(folder: str) -> bool:
    """Whether weights that are read are in a folder."""
    return any(name == INDEX or name.endswith((".safetensors", ".gguf")) for name in names_in(folder))


def read_stored(path: str, may_be_absent: Callable[[str], bool]) -> Stored:
    """The weights of a checkpoint. Raises Missing for what is not there, Invalid for what contradicts itself.

    `may_be_absent` says which names an index may promise that no shard has.
    """
    if path.endswith(".gguf"):
        return _gguf(path)
    if path.endswith(".safetensors"):
        found, others = read_files([path]), part_of(os.path.basename(path)) - 1
    elif path.endswith(".json"):
        found, others = read_index(path, may_be_absent), 0
    else:
        there, others = names_in(path), 0
        usual = bool({WHOLE, INDEX}.intersection(there))
        named = [] if usual else named_alone(there)
        if not (usual or named) and (gguf := one_gguf(path, there)):
            return _gguf(os.path.join(path, gguf))
        found = read_files([os.path.join(path, one) for one in named]) if named else read_folder(path, may_be_absent)

    @cache
    def how() -> Quantization:
        return quantization_beside(os.path.dirname(found.files[0]) if found.files else "")

    return Stored(path, weights(found.headers, how), found.files, found.header_bytes, None, others)


def _gguf(path: str) -> Stored:
    """A GGUF file, with its other parts where it is split. The first part has the keys of them all."""
    named = read_gguf(path)
    said = named.metadata.get("split.count")
    paths = _parts(path, max(said if type(said) is int else 1, part_of(os.path.basename(path))))
    first = named if paths[0] == path else read_gguf(paths[0])
    headers: dict[str, Header] = {}
    total = 0
    for number, part in enumerate(paths):
        announced = {path: named, paths[0]: first}.get(part) or read_gguf(part)
        if len(paths) > 1:
            _refuse_other_part(part, announced.metadata, number, len(paths))
        total += announced.header_bytes
        for header in announced.headers:
            if (known := headers.setdefault(header.name, header)) is not header:
                raise Invalid(Problem(header.file, f"is also in {os.path.basename(known.file)}", header.name))
    promised = first.metadata.get(_TENSORS)
    if len(paths) > 1 and type(promised) is int and promised != len(headers):
        raise Invalid(Problem(path, f"has {len(headers):,} tensors in all parts", _TENSORS, value=f"{promised:,}"))
    return Stored(path, weights(headers.values()), tuple(paths), total, first.metadata)


_TENSORS = "split.tensors.count"


def _refuse_other_part(path: str, keys: dict[str, Any], number: int, count: int) -> None:
    """Raise Invalid where a part says that it is another one, from 0, or one of more or fewer than its name says."""
    for key, right in (("split.count", count), ("split.no", number)):
        said = keys.get(key)
        if said is not None and (type(said) is not int or said != right):
            raise Invalid(Problem(path, f"must be {right:,}, as its name says", key, value=shown(said)))


def _parts(path: str, count: int) -> list[str]:
    """The paths of all parts of a file. Raises Missing where one is not there."""
    if count == 1:
        return [path]
    folder, name = os.path.split(path)
    if count > MOST_SPLITS:
        raise Invalid(Problem(path, f"has more than {MOST_SPLITS:,} parts", "split.count", value=f"{count:,}"))
    if part_of(name) != count:
        what = f"is one of {count:,} parts; its name must end as in -00001-of-{count:05}.gguf"
        raise Invalid(Problem(path, what))
    parts = [os.path.join(folder, part) for part in parts_of(name)]
    if gone := [part for part in parts if not os.path.exists(part)]:
        raise Missing(*(Problem(part, f"no such file, although {name} is one of {count:,} parts") for part in gone))
    return parts
