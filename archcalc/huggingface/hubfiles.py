"""The headers of a Hub model's weights as files here: as long as the real ones, with nothing behind their headers.

Such a file has holes where its tensors would be, and takes no room on a disk. What reads and refuses headers reads
these as any other. Of a safetensors file its first eight bytes tell how long the header is. That of GGUF is read in
pieces, each as far as it goes for certain; the piece that ends it may reach LEAST_PIECE bytes into the tensors.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from io import BytesIO
from tempfile import TemporaryDirectory
from typing import NamedTuple

from archcalc.errors import Invalid, Missing, Problem, nearest
from archcalc.huggingface.gguf import read_growing
from archcalc.huggingface.headers import LARGEST_HEADER
from archcalc.huggingface.hub import Piece, Repository, config_of, files_of, first_bytes
from archcalc.huggingface.parts import named_alone, one_gguf, parts_of
from archcalc.huggingface.reading import LARGEST_CONFIG
from archcalc.huggingface.shards import INDEX, LARGEST_INDEX, WHOLE, shards_named

MOST_SHARDS = 1_000
MOST_HEADER_BYTES = 400_000_000
"""Of all headers together."""
LEAST_PIECE = 2**18
"""Bytes of a GGUF file that are asked for at once, at least."""
_TOLD = 2**22  # bytes of a header, after which one hears of it again

Tell = Callable[[str], None]
_KEPT: list[TemporaryDirectory[str]] = []
"""Folders that stay until the end of the process: what was read of them is told by their names."""


class Fetched(NamedTuple):
    """A folder with headers and the files beside them, and what of it is read: itself, or a file in it."""

    folder: str
    path: str


def fetched(where: Repository, tell: Tell) -> Fetched:
    """The headers of a model's weights, or of one file of these, with its config.json and index.

    `tell` hears how far it is. Raises Missing where there are no weights that are read, Invalid where it is not clear
    which of several GGUF files is meant.
    """
    kept = TemporaryDirectory(prefix="archcalc-")
    _KEPT.append(kept)
    folder = kept.name
    whole = where.whole
    config = first_bytes(whole, "config.json", LARGEST_CONFIG + 1)
    if config is not None:
        _write(folder, "config.json", config.data, len(config.data))
    if where.file:
        names = _of_index(whole, where.file, folder) if where.file.endswith(INDEX) else parts_of(where.file)
        _fetch(where, names, folder, tell)
        return Fetched(folder, os.path.join(folder, where.file))
    names = _of_index(whole, "", folder) or [WHOLE]
    try:
        _fetch(where, names, folder, tell)
    except _NotThere:
        if names != [WHOLE]:
            raise
        names = _chosen(whole)
        _fetch(where, names, folder, tell)
    return Fetched(folder, os.path.join(folder, names[0]) if names[0].endswith(".gguf") else folder)


class _NotThere(Missing):
    """A file that is not on the Hub."""


def _fetch(where: Repository, names: list[str], folder: str, tell: Tell) -> None:
    """Put the headers of some files into a folder."""
    if len(names) > MOST_SHARDS:
        raise Invalid(Problem(f"{where}", f"has more than {MOST_SHARDS:,} files", value=f"{len(names):,}"))
    total = 0
    for i, name in enumerate(names):
        file = where.of(name)
        tell(f"{file}: reading its header" + f" ({i + 1:,} of {len(names):,})" * (len(names) > 1))
        found = _gguf(file, tell) if name.endswith(".gguf") else _safetensors(file)
        if found is None:
            raise _not_there(where, name)
        total += len(found.data)
        if total > MOST_HEADER_BYTES:
            raise Invalid(Problem(f"{where}", f"has headers of more than {MOST_HEADER_BYTES:,} bytes together"))
        _write(folder, name, *found)


def _of_index(whole: Repository, file: str, folder: str) -> list[str]:
    """The files that an index names, beside it; none where a model has no index."""
    index = file or INDEX
    found = first_bytes(whole, index, LARGEST_INDEX + 1)
    if found is None:
        if file:
            raise _not_there(whole.of(file), file)
        return []
    _write(folder, index, found.data, len(found.data))
    beside = index[: index.rfind("/") + 1]
    return [beside + name for name in shards_named(os.path.join(folder, index))]


def _chosen(whole: Repository) -> list[str]:
    """The files of a model without the usual ones: its safetensors file, or all parts of its one GGUF model."""
    there = files_of(whole)
    if named := named_alone([name for name in there if "/" not in name]):
        return named
    if gguf := one_gguf(f"{whole}", there, lambda name: f"{whole.of(name)}"):
        return parts_of(gguf)
    config_of(whole)  # what is not on the Hub at all has none
    raise Missing(Problem(f"{whole}", f"has no weights that are read: no {WHOLE}, no {INDEX} and no GGUF file"))


def _not_there(where: Repository, name: str) -> Missing:
    """What is said of a file that is not on the Hub: who promised it, or which are like it."""
    if name != where.file:
        what = f"{where.file} is one of its parts" if where.file else f"{INDEX} names it"
        return _NotThere(Problem(f"{where.whole}", f"has no {name}, although {what}"))
    there = files_of(where.whole)
    near = nearest(name, there, 3) or there[:3]
    fix = f"nearest: {', '.join(f'{where.of(one)}' for one in near)}" if near else None
    return _NotThere(Problem(f"{where}", "no such file on the Hub", suggestion=fix))


def _safetensors(where: Repository) -> Piece | None:
    """What announces the tensors of a safetensors file: eight bytes of length, and as many as they say."""
    start = first_bytes(where, where.file, 8)
    if start is None:
        return None
    length = 8 + int.from_bytes(start.data, "little")
    if len(start.data) < 8 or length > min(8 + LARGEST_HEADER, start.size):
        return start  # its reader refuses it
    return first_bytes(where, where.file, length)


def _gguf(where: Repository, tell: Tell) -> Piece | None:
    """The first bytes of a GGUF file, which have its header. Raises Invalid where that is damaged, or too large."""
    start = first_bytes(where, where.file, LEAST_PIECE)
    if start is None:
        return None
    size, told = start.size, 0
    with BytesIO() as file:
        file.write(start.data)

        def grow(needed: int) -> int:
            nonlocal told
            there = file.seek(0, os.SEEK_END)
            if needed > there:
                more = min(max(needed - there, LEAST_PIECE), size - there)
                piece = first_bytes(where, where.file, more, there)
                if piece is None or piece.size != size or len(piece.data) != more:
                    raise Missing(Problem(f"{where}", "became another file while it was read"))
                there += file.write(piece.data)
            if there - told >= _TOLD:
                told = there
                tell(f"{where}: {told:,} bytes of its header")
            return there

        read_growing(f"{where}", file, size, grow)
        return Piece(file.getvalue(), size)


def _write(folder: str, name: str, data: bytes, size: int) -> None:
    path = os.path.join(folder, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(data)
    try:
        os.truncate(path, max(size, len(data)))
    except OSError as error:
        raise Invalid(Problem(path, f"cannot be made {size:,} bytes long: {error.strerror}")) from None
