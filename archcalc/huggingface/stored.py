"""What a checkpoint stores, told from its headers: a file, an index with its shards, a GGUF file or a folder."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

from archcalc.errors import Invalid, Missing, Problem
from archcalc.files.regular import names_in
from archcalc.huggingface.gguf import read_gguf
from archcalc.huggingface.headers import Header
from archcalc.huggingface.packing import Weight, weights
from archcalc.huggingface.quantization import Quantization, quantization_beside
from archcalc.huggingface.shards import INDEX, WHOLE, read_files, read_folder, read_index

MOST_SPLITS = 10_000  # of a GGUF file
_PART = re.compile(r"(.*)-([0-9]{5})-of-([0-9]{5})(\.gguf|\.safetensors)")


class Stored(NamedTuple):
    """The weights of a checkpoint; `gguf` is what the keys of a GGUF file say, None for safetensors.

    `others` is how many files more a file's name says that there are, which were not read.
    """

    path: str
    weights: list[Weight]
    files: tuple[str, ...]
    header_bytes: int
    gguf: dict[str, Any] | None = None
    others: int = 0

    @property
    def folder(self) -> str:
        """Where the files beside it are."""
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
        found, others = read_files([path]), _others(path)
    elif path.endswith(".json"):
        found, others = read_index(path, may_be_absent), 0
    else:
        there, others = names_in(path), 0
        usual = bool({WHOLE, INDEX}.intersection(there))
        named = [] if usual else _under_another_name(there)
        if not (usual or named) and (gguf := _one_gguf(path, there)):
            return _gguf(os.path.join(path, gguf))
        found = read_files([os.path.join(path, one) for one in named]) if named else read_folder(path, may_be_absent)

    @cache
    def how() -> Quantization:
        return quantization_beside(os.path.dirname(found.files[0]) if found.files else "")

    return Stored(path, weights(found.headers, how), found.files, found.header_bytes, None, others)


def _others(path: str) -> int:
    match = _PART.fullmatch(os.path.basename(path))
    return max(int(match[3]) - 1, 0) if match else 0


def _under_another_name(there: list[str]) -> list[str]:
    """The one safetensors file of a folder, or all parts of one that have no index; nothing where it is not clear."""
    named = [name for name in there if name.endswith(".safetensors")]
    parts = [match for name in named if (match := _PART.fullmatch(name))]
    whole = len(parts) == len(named) and len({(part[1], part[3]) for part in parts}) == 1
    return named if len(named) == 1 or (whole and len(parts) == int(parts[0][3])) else []


def _one_gguf(folder: str, there: list[str]) -> str | None:
    """The GGUF file of a folder, or the first of its parts; Invalid where it has several."""
    named = [name for name in there if name.endswith(".gguf")]
    whole = {(match[1], match[3]) if (match := _PART.fullmatch(name)) else (name, "") for name in named}
    if len(whole) > 1:
        raise Invalid(Problem(folder, f"holds {len(whole)} GGUF models", suggestion=f"name one: {', '.join(named)}"))
    return named[0] if named else None


def _gguf(path: str) -> Stored:
    """A GGUF file, with its other parts where it is split."""
    first = read_gguf(path)
    headers: dict[str, Header] = {}
    paths, total = [path], 0
    split = first.metadata.get("split.count")
    if type(split) is int and split > 1:
        paths = _parts(path, split)
    for part in paths:
        announced = first if part == path else read_gguf(part)
        total += announced.header_bytes
        for header in announced.headers:
            if (known := headers.setdefault(header.name, header)) is not header:
                raise Invalid(Problem(header.file, f"is also in {os.path.basename(known.file)}", header.name))
    return Stored(path, weights(headers.values()), tuple(paths), total, first.metadata)


def _parts(path: str, count: int) -> list[str]:
    folder, name = os.path.split(path)
    match = _PART.fullmatch(name)
    if count > MOST_SPLITS:
        raise Invalid(Problem(path, f"has more than {MOST_SPLITS:,} parts", "split.count", value=f"{count:,}"))
    if match is None or int(match[3]) != count:
        what = f"is one of {count:,} parts; its name must end as in -00001-of-{count:05}.gguf"
        raise Invalid(Problem(path, what))
    parts = [os.path.join(folder, f"{match[1]}-{i + 1:05}-of-{count:05}.gguf") for i in range(count)]
    if gone := [part for part in parts if not os.path.exists(part)]:
        raise Missing(*(Problem(part, f"no such file, although {name} is one of {count:,} parts") for part in gone))
    return parts
