"""What a safetensors file announces: the name, shape, type and place of each tensor. No number is read.

The format (github.com/huggingface/safetensors): eight bytes with the length of the header, little-endian; the header,
a JSON object that has `dtype`, `shape` and `data_offsets` by the name of each tensor, and texts under `__metadata__`;
the tensors, end to end. A header that contradicts its file or itself is refused: bytes that overlap would be counted
twice, and those in a gap not at all.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, BinaryIO, NamedTuple

from archcalc.errors import Invalid, Problem, cut, shown
from archcalc.files.regular import open_file, unreadable

LARGEST_HEADER = 100_000_000
"""Bytes of a header, as the format has it."""
LARGEST_WIDE = 2**24
"""Bytes of a header that is not ASCII alone: each of its characters may take four bytes."""
MOST_VALUES = 1_000_000
"""Commas, colons and brackets of a header: a tensor has about twelve."""
MOST_AXES = 16
LONGEST_NAME = 4_096

Shape = tuple[int, ...]

BITS = {
    **dict.fromkeys(("F64", "I64", "U64", "C64"), 64),
    **dict.fromkeys(("F32", "I32", "U32"), 32),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 16),
    **dict.fromkeys(("I8", "U8", "BOOL", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    "F4": 4,
}
"""Bits of a number, by the format's name of its type."""
_METADATA = "__metadata__"
_KEYS = {"dtype", "shape", "data_offsets"}
_POINTER = b"version https://git-lfs"


class Header(NamedTuple):
    """A tensor as its file announces it; its shape has the output first, whatever the format.

    `same_as` is the name that it is stored under where the file's metadata says that two names are one tensor, as
    safetensors' `save_model` writes it.
    """

    file: str
    name: str
    shape: Shape
    type: str
    stored_bytes: int
    same_as: str | None = None

    @property
    def stored(self) -> str:
        """The name in the file."""
        return self.same_as or self.name

    @property
    def numbers(self) -> int:
        """How many numbers it has."""
        return math.prod(self.shape)  # of ints alone: exact


class Announced(NamedTuple):
    """The tensors of a file, its texts about them, and the bytes of its header.

    `places` are where the tensors begin in the file, by their names.
    """

    headers: list[Header]
    metadata: dict[str, Any]
    header_bytes: int
    places: Mapping[str, int] = MappingProxyType({})


class _Place(NamedTuple):
    """What stands under a tensor's name, as it was read."""

    dtype: Any
    shape: Any
    offsets: Any


class _Twice(Exception):
    """A name that stands twice."""


def read_header(path: str) -> Announced:
    """The tensors that a safetensors file announces. Raises Missing without a file, Invalid for a damaged one."""
    with open_file(path) as file:
        try:
            size = os.fstat(file.fileno()).st_size
            length = _length(path, file, size)
            text = _text(path, file.read(length), length)
        except OSError as error:
            raise unreadable(path, error) from None
    found = _parsed(path, text)
    texts = found.pop(_METADATA, {})
    if not isinstance(texts, dict) or not all(isinstance(text, str) for text in texts.values()):
        raise _broken(path, f"{_METADATA} must map names to texts")
    headers = [_checked(path, name, place) for name, place in found.items()]
    _refuse_gaps(path, found, size - 8 - length)
    places = {name: 8 + length + place.offsets[0] for name, place in found.items()}
    return Announced(headers, texts, 8 + length, places)


def with_other_names(announced: Announced) -> list[Header]:
    """The tensors, those too that are one with another: the metadata has their names."""
    found = {header.name: header for header in announced.headers}
    for name, kept in announced.metadata.items():
        if kept in found and name not in found:
            found[name] = found[kept]._replace(name=name, same_as=found[kept].stored)
    return list(found.values())


def _broken(path: str, reason: str) -> Invalid:
    return Invalid(Problem(path, f"is not a complete safetensors file: {reason}"))


def _length(path: str, file: BinaryIO, size: int) -> int:
    """The bytes of the header, which is read next."""
    start = file.read(len(_POINTER))
    if not start:
        raise Invalid(Problem(path, "is empty"))
    if start == _POINTER:
        fix = "`git lfs pull` fetches them"
        raise Invalid(Problem(path, "is a Git LFS pointer, not the weights", suggestion=fix))
    length = int.from_bytes(start[:8], "little")
    if size < 8 or length > size - 8:
        raise _broken(
            path, f"its first 8 bytes announce a header of {length:,} bytes, and {max(size - 8, 0):,} follow"
        )
    if length > LARGEST_HEADER:
        raise Invalid(Problem(path, f"has a header larger than {LARGEST_HEADER:,} bytes", value=f"{length:,} bytes"))
    file.seek(8)
    return length


def _text(path: str, data: bytes, length: int) -> str:
    """The header as text. Raises Invalid where that would take more memory than a header is worth."""
    if len(data) < length:
        raise _broken(path, "it became shorter while it was read")
    if sum(map(data.count, (b",", b":", b"[", b"{"))) > MOST_VALUES:
        raise Invalid(Problem(path, f"has a header of more than {MOST_VALUES:,} values"))
    if not data.isascii() and len(data) > LARGEST_WIDE:
        raise Invalid(Problem(path, f"has a header larger than {LARGEST_WIDE:,} bytes that is not ASCII alone"))
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise _broken(path, f"its header is not UTF-8, at byte {8 + error.start:,}") from None


def _parsed(path: str, text: str) -> dict[str, Any]:
    try:
        found = json.loads(text, object_pairs_hook=_object)
    except json.JSONDecodeError as error:
        raise _broken(path, f"its header is not JSON: {error.msg} at character {error.pos + 1:,}") from None
    except _Twice as error:
        raise Invalid(Problem(path, "is in the header twice", cut(str(error), 200))) from None
    except (RecursionError, ValueError):  # brackets without end, a number without end
        raise _broken(path, "its header is nested too deeply, or a number in it is too long") from None
    if not isinstance(found, dict):
        raise _broken(path, f"its header is not a JSON object, but {type(found).__name__}")
    return found


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any] | _Place:
    """An object of the header; what stands under a tensor takes a fifth of the memory of a dict."""
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        raise _Twice(next(key for key, _ in pairs if key in seen or seen.add(key)))  # type: ignore[func-returns-value]
    if found.keys() == _KEYS:
        dtype, shape, offsets = found["dtype"], found["shape"], found["data_offsets"]
        return _Place(
            _NAMES.get(dtype, dtype) if isinstance(dtype, str) else dtype,
            tuple(shape) if isinstance(shape, list) else shape,
            tuple(offsets) if isinstance(offsets, list) else offsets,
        )
    return found


_NAMES = {name: name for name in BITS}  # one string for a type, not one a tensor


def _checked(path: str, name: str, place: Any) -> Header:
    """A tensor whose type, shape and offsets agree."""
    if not isinstance(place, _Place):
        raise Invalid(
            Problem(path, f"must have {', '.join(sorted(_KEYS))} and nothing else", name, value=shown(place))
        )
    if len(name) > LONGEST_NAME:
        raise Invalid(Problem(path, f"has a name longer than {LONGEST_NAME:,} characters", name))
    dtype, shape, offsets = place
    if not isinstance(dtype, str) or dtype not in BITS:
        raise Invalid(Problem(path, "has an unknown type", name, value=shown(dtype)))
    if not _sizes(shape) or len(shape) > MOST_AXES:
        what = f"must have a shape of at most {MOST_AXES} sizes, none below 0"
        raise Invalid(Problem(path, what, name, value=shown(_listed(shape))))
    if not _sizes(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        what = "must have two offsets, the second not below the first"
        raise Invalid(Problem(path, what, name, value=shown(_listed(offsets))))
    header = Header(path, name, shape, dtype, offsets[1] - offsets[0])
    bits = header.numbers * BITS[dtype]
    if bits != 8 * header.stored_bytes:
        needed = f"{bits // 8:,} bytes" if bits % 8 == 0 else f"{bits:,} bits"
        sizes = " x ".join(map(str, shape)) or "one number"
        what = f"needs {needed} for {sizes} of {dtype}, and has {header.stored_bytes:,}"
        raise Invalid(Problem(path, what, name))
    return header


def _sizes(value: Any) -> bool:
    return isinstance(value, tuple) and all(type(size) is int and 0 <= size < 2**63 for size in value)


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _refuse_gaps(path: str, places: dict[str, _Place], size: int) -> None:
    """Raise Invalid unless the tensors stand end to end, from the first byte after the header to the last."""
    end, last = 0, ""
    for name, place in sorted(places.items(), key=lambda item: item[1].offsets):
        start, stop = place.offsets
        if start < end:
            raise Invalid(Problem(path, f"begins before {cut(last, 100)} ends", name, value=f"{start:,}"))
        if start > end:
            after = cut(last, 100) if last else "the header"
            raise Invalid(Problem(path, f"leaves a gap of {start - end:,} bytes after {after}", name))
        end, last = stop, name
    if end != size:
        raise _broken(path, f"its tensors take {end:,} bytes, and {size:,} follow the header")
