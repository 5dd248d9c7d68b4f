"""What a GGUF file announces: the name, shape, block format and place of each tensor. No number is read.

The format (github.com/ggml-org/ggml, docs/gguf.md), little-endian: the letters GGUF, a version, how many tensors and
how many keys; the keys with their values; for each tensor its name, its sizes from the innermost, its type and its
offset; then the tensors, each from a multiple of the alignment. The header does not say how long it is, so it is read
piece by piece; what a tokenizer has there, a million texts, is passed over.

The package `gguf` has the types' names, and the numbers and bytes of their blocks. Its reader is not used: it maps the
file, makes arrays of every text and has no bounds.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Collection, Iterator
from typing import Any, BinaryIO, NamedTuple

from archcalc.errors import Invalid, Problem, cut, shown
from archcalc.files.regular import open_file, unreadable
from archcalc.files.remembered import Remembered
from archcalc.huggingface.headers import Announced, Header
from archcalc.packages import needed

LARGEST_HEADER = 100_000_000
"""Bytes of a header."""
MOST_TENSORS = 100_000
MOST_KEYS = 65_536
MOST_TEXTS = 3_000_000
"""Texts in arrays of all keys: a tokenizer of 262,000 tokens has 800,000."""
LONGEST_NAME = 65_535
MOST_AXES = 4  # GGML_MAX_DIMS

VERSIONS = (2, 3)
_PIECE = 2**20  # bytes that are read at once
_LONGEST_KEPT = 1_000  # bytes of a text that is kept; a chat template is not
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_TEXT, _ARRAY = 8, 9
_LEAST_INFO = 8 + 4 + 4 + 8
"""Bytes of what announces a tensor without a name and without axes."""
_HEADERS: Remembered[Announced] = Remembered(4)


class Length(int):
    """What is kept of an array: how many values it has."""


class Block(NamedTuple):
    """A block format: its name, and how many numbers take how many bytes."""

    name: str
    numbers: int
    stored_bytes: int


def blocks(path: str) -> dict[int, Block]:
    """The block formats by their number in a file. Raises Missing, at `path`, without the package."""
    package = needed("gguf", path, "gguf")
    return {
        int(kind): Block(kind.name, numbers, stored_bytes)
        for kind, (numbers, stored_bytes) in package.GGML_QUANT_SIZES.items()
    }


def read_gguf(path: str, whole: Collection[str] = ()) -> Announced:
    """The tensors that a GGUF file announces. Raises Missing without a file or the package, Invalid for a damaged one.

    Of the keys the numbers and short texts are kept, and of an array its length; those in `whole` are kept whole.

    A command asks for its file several times, for the spec, the tokenizer, the weights: what the last few announced is
    remembered, but for what is kept whole.
    """
    with open_file(path) as file:
        there = os.fstat(file.fileno())

        def read() -> Announced:
            try:
                return _read(_Pieces(path, file, there.st_size), whole)
            except OSError as error:
                raise unreadable(path, error) from None

        return read() if whole else _HEADERS.of(path, there, read)


def read_growing(path: str, file: BinaryIO, size: int, grow: Callable[[int], int]) -> Announced:
    """The same of a file that will have `size` bytes and has none yet.

    `grow` is told how many the header has at least, puts them there, and says how many are there then.
    """
    return _read(_Pieces(path, file, size, grow))


class _Pieces:
    """A header, read piece by piece; beyond its end or the bound is Invalid."""

    def __init__(self, path: str, file: BinaryIO, size: int, grow: Callable[[int], int] | None = None) -> None:
        self.path, self.file, self.size = path, file, size
        self._grow, self._there, self._certain = grow, 0 if grow else size, 0
        self.most = min(self.size, LARGEST_HEADER)
        self.texts = 0
        self._start, self._at, self._piece = 0, 0, b""

    @property
    def offset(self) -> int:
        """How far it is read."""
        return self._start + self._at

    def refuse(self, what: str, path: str = "", value: str | None = None) -> Invalid:
        return Invalid(Problem(self.path, what, path, value=value))

    def take(self, count: int) -> bytes:
        self.expect(count)
        if self._at + count > len(self._piece):
            self._load(count)
        self._at += count
        return self._piece[self._at - count : self._at]

    def expect(self, count: int) -> None:
        """Raise Invalid unless the header may go on for so many bytes."""
        if self.offset + count <= self.most:
            return
        if self.offset + count <= self.size:
            raise self.refuse(f"has a header larger than {LARGEST_HEADER:,} bytes")
        raise self.refuse(f"is not a complete GGUF file: its header goes on beyond its {self.size:,} bytes")

    def foresee(self, count: int) -> None:
        """Say how many bytes more a header has that is not damaged."""
        self._certain = min(self.offset + count, self.most)

    def skip(self, count: int) -> None:
        self.expect(count)
        self._at += count
        if self._at > len(self._piece):
            self._load(0)

    def number(self, letter: str) -> Any:
        (value,) = struct.unpack(f"<{letter}", self.take(struct.calcsize(f"<{letter}")))
        return value

    def text(self, longest: int, what: str) -> str:
        length = self.number("Q")
        if length > longest:
            raise self.refuse(f"has {what} longer than {longest:,} bytes", value=f"{length:,} bytes")
        try:
            return self.take(length).decode()
        except UnicodeDecodeError:
            raise self.refuse(f"has {what} that is not UTF-8") from None

    def many_texts(self, count: int, longest: int, what: str) -> list[str]:
        """The same so many times; those that are at hand are read in place, in a third of the time."""
        self.expect(8 * count)
        found = []
        piece, at = self._piece, self._at
        try:
            for _ in range(count):
                start = at + 8
                end = start + int.from_bytes(piece[at:start], "little")
                if end <= len(piece) and end - start <= longest:
                    found.append(piece[start:end].decode())
                    at = end
                else:
                    self._at = at
                    found.append(self.text(longest, what))
                    piece, at = self._piece, self._at
        except UnicodeDecodeError:
            raise self.refuse(f"has {what} that is not UTF-8") from None
        self._at = at
        return found

    def skip_texts(self, count: int) -> None:
        """Pass over texts: their lengths are read in place, a fifth of the time of reading each."""
        self.expect(8 * count)
        piece, at = self._piece, self._at
        for passed in range(count):
            if at + 8 > len(piece):
                self._at = at
                self.foresee(8 * (count - passed))
                self.expect(8)
                self._load(8)
                piece, at = self._piece, self._at
            at += 8 + int.from_bytes(piece[at : at + 8], "little")
        self._at = at
        self.expect(0)
        if at > len(piece):
            self._load(0)

    def _load(self, count: int) -> None:
        """Have the next `count` bytes at hand, and some more."""
        self._start, self._at = self.offset, 0
        if self._grow is not None and self._start + count > self._there:
            self._there = self._grow(max(self._start + count, self._certain))
        self.file.seek(self._start)
        self._piece = self.file.read(max(count, min(_PIECE, self.most - self._start)))
        if len(self._piece) < count:
            raise self.refuse("is not a complete GGUF file: it became shorter while it was read")


def _read(pieces: _Pieces, whole: Collection[str] = ()) -> Announced:
    tensors, keys = _counts(pieces)
    metadata: dict[str, Any] = {}
    for _ in range(keys):
        key = pieces.text(LONGEST_NAME, "a key")
        if key in metadata:
            raise pieces.refuse("is in the header twice", key)
        metadata[key] = _value(pieces, key, whole=key in whole)
    alignment = metadata.get("general.alignment", 32)
    if type(alignment) is not int or not 0 < alignment <= 2**20 or alignment & (alignment - 1):
        raise pieces.refuse("must be a power of two, at most 1,048,576", "general.alignment", shown(alignment))
    found: dict[str, tuple[Header, int]] = {}
    for header, offset in _infos(pieces, tensors):
        if header.name in found:
            raise pieces.refuse("is in the header twice", header.name)
        found[header.name] = header, offset
    _refuse_gaps(pieces, list(found.values()), alignment)
    begins = _padded(pieces.offset, alignment)
    places = {name: begins + offset for name, (_, offset) in found.items()}
    return Announced([header for header, _ in found.values()], metadata, pieces.offset, places)


def _counts(pieces: _Pieces) -> tuple[int, int]:
    """How many tensors and keys the file has. Raises Invalid for what is no GGUF of a version that is read."""
    if pieces.size == 0:
        raise pieces.refuse("is empty")
    start = pieces.take(min(4, pieces.size))
    if start != b"GGUF":
        raise pieces.refuse("is not a GGUF file: it does not begin with the letters GGUF", value=shown(start))
    version, tensors, keys = (pieces.number(letter) for letter in "IQQ")
    if version not in VERSIONS:
        other = int.from_bytes(version.to_bytes(4, "little"), "big")
        what = (
            "is big-endian, which is not supported" if other in VERSIONS else "is of a version that is not supported"
        )
        raise pieces.refuse(what, value=f"version {min(version, other):,}")
    for count, most, noun in ((tensors, MOST_TENSORS, "tensors"), (keys, MOST_KEYS, "keys")):
        if count > most:
            raise pieces.refuse(f"has more than {most:,} {noun}", value=f"{count:,}")
    return tensors, keys


def _value(pieces: _Pieces, key: str, *, whole: bool) -> Any:
    """A key's number or text; unless it is kept whole, of an array its length and of a long text None."""
    kind = pieces.number("I")
    if kind in _SCALARS:
        return pieces.number(_SCALARS[kind])
    if kind == _TEXT:
        length = pieces.number("Q")
        if length > _LONGEST_KEPT and not whole:
            return pieces.skip(length)
        return pieces.take(length).decode(errors="replace")
    if kind != _ARRAY:
        raise pieces.refuse("has a value of an unknown type", key, str(kind))
    kind, count = pieces.number("I"), pieces.number("Q")
    if whole:
        return _values(pieces, key, kind, count)
    if kind in _SCALARS:
        pieces.skip(count * struct.calcsize(f"<{_SCALARS[kind]}"))
    elif kind == _TEXT:
        pieces.texts += count
        if pieces.texts > MOST_TEXTS:
            raise pieces.refuse(f"has more than {MOST_TEXTS:,} texts in arrays", key)
        pieces.skip_texts(count)
    else:
        raise pieces.refuse("is an array of an unknown type", key, str(kind))
    return Length(count)


def _values(pieces: _Pieces, key: str, kind: int, count: int) -> list[Any]:
    """The values of an array."""
    if count > MOST_TEXTS:
        raise pieces.refuse(f"has more than {MOST_TEXTS:,} values", key)
    if kind == _TEXT:
        return pieces.many_texts(count, LONGEST_NAME, "a text")
    if kind not in _SCALARS:
        raise pieces.refuse("is an array of an unknown type", key, str(kind))
    form = f"<{count}{_SCALARS[kind]}"
    return [*struct.unpack(form, pieces.take(struct.calcsize(form)))]


def _infos(pieces: _Pieces, count: int) -> Iterator[tuple[Header, int]]:
    """Each tensor and its offset after the header."""
    known = blocks(pieces.path)
    for passed in range(count):
        pieces.foresee(_LEAST_INFO * (count - passed))
        name = pieces.text(LONGEST_NAME, "a tensor's name")
        axes = pieces.number("I")
        if axes > MOST_AXES:
            raise pieces.refuse(f"has more than {MOST_AXES} axes", name, f"{axes:,}")
        sizes = struct.unpack(f"<{axes}Q", pieces.take(8 * axes))
        kind, offset = pieces.number("I"), pieces.number("Q")
        block = known.get(kind)
        if block is None:
            raise pieces.refuse("has an unknown type", name, str(kind))
        header = Header(pieces.path, name, sizes[::-1], block.name, 0)
        if sizes and sizes[0] % block.numbers:
            what = f"has rows of {sizes[0]:,} numbers, and a block of {block.name} has {block.numbers}"
            raise pieces.refuse(what, name)
        yield header._replace(stored_bytes=header.numbers // block.numbers * block.stored_bytes), offset


def _refuse_gaps(pieces: _Pieces, found: list[tuple[Header, int]], alignment: int) -> None:
    """Raise Invalid unless the tensors stand one after the other, padded to the alignment alone."""
    begins = _padded(pieces.offset, alignment)
    end, last = 0, ""
    for header, offset in sorted(found, key=lambda one: (one[1], one[0].stored_bytes)):
        if offset < end:
            raise pieces.refuse(f"begins before {cut(last, 100)} ends", header.name, f"{offset:,}")
        if offset != _padded(end, alignment):
            after = cut(last, 100) if last else "the header"
            what = f"must begin at {_padded(end, alignment):,}, the next multiple of {alignment} after {after}"
            raise pieces.refuse(what, header.name, f"{offset:,}")
        end, last = offset + header.stored_bytes, header.name
    if begins + end > pieces.size and end:
        left = max(pieces.size - begins, 0)
        raise pieces.refuse(f"is not a complete GGUF file: its tensors take {end:,} bytes, and {left:,} are there")
    if _padded(begins + end, alignment) < pieces.size:
        raise pieces.refuse(f"has {pieces.size - begins - end:,} bytes beyond its last tensor")


def _padded(offset: int, alignment: int) -> int:
    return -(-offset // alignment) * alignment
