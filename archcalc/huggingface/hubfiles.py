"""The headers of a Hub model's weights as files here: as long as the real ones, with nothing behind their headers.

Such a file has holes where its tensors would be, and takes no room on a disk. What reads and refuses headers reads
these as any other.
"""

from __future__ import annotations

import os
from tempfile import TemporaryDirectory

from archcalc.errors import Invalid, Missing, Problem
from archcalc.huggingface.hub import Repository, config_of, first_bytes, header
from archcalc.huggingface.shards import INDEX, LARGEST_INDEX, WHOLE, shards_named

MOST_SHARDS = 1_000
MOST_HEADER_BYTES = 400_000_000
"""Of all headers together."""

_KEPT: list[TemporaryDirectory[str]] = []
"""Folders that stay until the end of the process: what was read of them is told by their names."""


def fetched(where: Repository) -> str:
    """A folder with config.json, the index and the headers. Raises Missing where there are no safetensors files."""
    kept = TemporaryDirectory(prefix="archcalc-")
    _KEPT.append(kept)
    folder = kept.name
    _write(folder, "config.json", (data := config_of(where)), len(data))
    index = first_bytes(where, INDEX, LARGEST_INDEX + 1)
    if index is None:
        names = [WHOLE]
    else:
        _write(folder, INDEX, index.data, len(index.data))
        names = shards_named(os.path.join(folder, INDEX))
        if len(names) > MOST_SHARDS:
            raise Invalid(Problem(f"{where}", f"has more than {MOST_SHARDS:,} files", INDEX, value=f"{len(names):,}"))
    total = 0
    for name in names:
        found = header(where, name)
        if found is None:
            what = f"has no {name}" + (f", although {INDEX} names it" if index else f" and no {INDEX}")
            raise Missing(Problem(f"{where}", what))
        total += len(found.data)
        if total > MOST_HEADER_BYTES:
            raise Invalid(Problem(f"{where}", f"has headers of more than {MOST_HEADER_BYTES:,} bytes together"))
        _write(folder, name, *found)
    return folder


def _write(folder: str, name: str, data: bytes, size: int) -> None:
    path = os.path.join(folder, name)
    with open(path, "wb") as file:
        file.write(data)
    try:
        os.truncate(path, max(size, len(data)))
    except OSError as error:
        raise Invalid(Problem(path, f"cannot be made {size:,} bytes long: {error.strerror}")) from None
