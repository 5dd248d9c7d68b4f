"""The format of a training file: text, or tokens with or without a header. Other formats are refused by name.

A kind is taken from what was said, from a header, or from a suffix that means one thing (.u16, .u32): never guessed.

    .npy                 numpy's own header says type and shape
    llm.c's .bin         1,024 bytes of header: a magic number, a version, the count of tokens
    raw numbers          little-endian, 16 or 32 bits: .u16, .u32, or nanoGPT's .bin where that is said
"""

from __future__ import annotations

import codecs
import os
import warnings
from typing import Any, BinaryIO

import numpy as np

from archcalc.errors import Invalid, Problem
from archcalc.files.regular import open_file, unreadable
from archcalc.spec.settings import Said

Array = np.ndarray[Any, Any]

WIDTHS = {".u16": "<u2", ".u32": "<u4"}
_RAW = {"uint16": "<u2", "uint32": "<u4"}
_HEADED = {20240520: ("<u2", 1), 20240801: ("<u4", 7)}
"""llm.c's magic numbers (github.com/karpathy/llm.c, dev/data/data_common.py): the type of a token, and the version."""
_HEADER = 256 * 4  # bytes
_NUMPY = b"\x93NUMPY"
_HEAD = 512  # bytes that tell what a file is
LARGEST_READ = 64 * 2**20
"""Bytes of a text that is held in memory, where nothing that happens to the file matters; larger ones are mapped."""
_CHUNK = 2**20  # bytes of a text that are checked together

MAGICS = {
    b"\x1f\x8b": "a gzip archive",
    b"PK\x03\x04": "a zip archive (.zip, .npz, .pt or .docx)",
    b"PK\x05\x06": "a zip archive",
    b"\x28\xb5\x2f\xfd": "a zstd archive",
    b"\xfd7zXZ\x00": "an xz archive",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
    b"\x04\x22\x4d\x18": "an lz4 archive",
    b"BZh": "a bzip2 archive",
    b"PAR1": "a Parquet file",
    b"ARROW1": "an Arrow file",
    b"\xff\xff\xff\xff": "an Arrow stream",
    b"Obj\x01": "an Avro file",
    b"ORC": "an ORC file",
    b"\x89HDF": "an HDF5 file",
    b"SQLite format 3": "an SQLite file",
    b"MMIDIDX": "Megatron's index (.idx)",
    b"GGUF": "a GGUF file",
    b"%PDF": "a PDF",
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"GIF8": "a GIF image",
    b"RIFF": "a RIFF file (sound or an image)",
    b"OggS": "an Ogg file",
    b"ID3": "an MP3 file",
    b"\x7fELF": "a program",
    b"MZ\x90": "a program",
    b"\xfe\xff": "text in UTF-16, not UTF-8",
    b"\xff\xfe": "text in UTF-16 or UTF-32, not UTF-8",
    b"\x00\x00\xfe\xff": "text in UTF-32, not UTF-8",
}
"""How files begin that are neither text nor tokens."""
_TAR = (b"ustar", 257)  # and where that stands
_SAY = "set its format with --data-as: text, bytes, uint16 or uint32"


def of_tokens(file: str, said: Said | None = None) -> bool:
    """Whether a file holds tokens rather than text. Raises Invalid if it is neither, Missing if it does not exist."""
    if said is not None:
        return said in _RAW
    suffix = os.path.splitext(file)[1].lower()
    if suffix in WIDTHS:
        return True
    with open_file(file) as opened:
        head = _read(opened, file, _HEAD)
    if head.startswith(_NUMPY) or _headed(head):
        return True
    kind = next((name for magic, name in MAGICS.items() if head.startswith(magic)), None)
    if head[_TAR[1] :].startswith(_TAR[0]):
        kind = "a tar archive"
    if kind is not None:
        raise Invalid(Problem(file, f"is {kind}, not text or tokens", suggestion=_SAY))
    if suffix == ".npy":
        raise Invalid(Problem(file, "is not a numpy file: its first bytes differ"))
    if suffix == ".bin" and head:
        raise Invalid(Problem(file, "is a .bin file without a header, whose format is unknown", suggestion=_SAY))
    return False


def map_tokens(file: str, said: Said | None = None) -> Array:
    """A file of tokens, mapped and not read. Raises Invalid for one that is not whole, or has another type."""
    with open_file(file) as opened:
        head, size = _read(opened, file, _HEAD), os.fstat(opened.fileno()).st_size
    if not size:
        raise Invalid(Problem(file, "is empty"))
    if head.startswith(_NUMPY):
        tokens = _from_numpy(file)
    elif (header := _headed(head)) is not None:
        tokens = _from_header(file, header, size)
    else:
        width = np.dtype(_RAW[said] if said in _RAW else WIDTHS[os.path.splitext(file)[1].lower()])
        if size % width.itemsize:
            what = f"is not a whole number of {width.itemsize}-byte tokens"
            raise Invalid(Problem(file, what, value=f"{size:,} bytes"))
        return np.memmap(file, width, "r")
    if said is not None and tokens.dtype.itemsize != np.dtype(_RAW[said]).itemsize:
        raise Invalid(Problem(file, f"its header says {tokens.dtype.name}", suggestion="omit --data-as"))
    return tokens


def open_text(file: str, *, tokenizer: bool, any_bytes: bool) -> Array:
    """A text's bytes; mapped and not read where there are very many.

    `tokenizer` says whether one is to cut it, which takes UTF-8. Raises Invalid where it is no text, unless any bytes
    will do.
    """
    with open_file(file) as opened:
        if not os.fstat(opened.fileno()).st_size:  # as files of /proc say, whatever they hold
            raise Invalid(Problem(file, "is empty"))
        if not any_bytes:
            _refuse_what_is_no_text(file, opened, tokenizer=tokenizer)
            opened.seek(0)
        data = np.frombuffer(_read(opened, file, LARGEST_READ + 1), np.uint8)
    return data if data.size <= LARGEST_READ else np.memmap(file, np.uint8, "r")


def _refuse_what_is_no_text(file: str, opened: BinaryIO, *, tokenizer: bool) -> None:
    decoder, fix = codecs.getincrementaldecoder("utf-8")(), None if tokenizer else _SAY
    chunk = b"x"
    while chunk:
        chunk = _read(opened, file, _CHUNK)
        if b"\0" in chunk:
            raise Invalid(Problem(file, "is not text: it has NUL bytes", suggestion=fix))
        try:
            decoder.decode(chunk, final=not chunk)
        except UnicodeDecodeError as error:
            why = ", which its tokenizer needs" if tokenizer else ""
            value = f"byte {error.object[error.start]:#04x}"
            raise Invalid(Problem(file, f"is not UTF-8{why}", value=value, suggestion=fix)) from None


def _read(opened: BinaryIO, file: str, size: int) -> bytes:
    try:
        return opened.read(size)
    except OSError as error:
        raise unreadable(file, error) from None


def _headed(head: bytes) -> tuple[int, int, int] | None:
    """The magic number, the version and the count of tokens of llm.c's header."""
    if len(head) < 12:
        return None
    magic, version, count = (int(n) for n in np.frombuffer(head[:12], "<i4"))
    return (magic, version, count) if magic in _HEADED else None


def _from_header(file: str, header: tuple[int, int, int], size: int) -> Array:
    magic, version, count = header
    width, known = _HEADED[magic]
    if version != known:
        raise Invalid(Problem(file, f"version {version} of llm.c's header is not supported yet"))
    if count <= 0 or size != _HEADER + count * np.dtype(width).itemsize:
        what = f"its size does not match the {count:,} tokens of its header"
        raise Invalid(Problem(file, what, value=f"{size:,} bytes"))
    return np.memmap(file, width, "r", _HEADER)


def _from_numpy(file: str) -> Array:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that a header was written by Python 2
            tokens = np.load(file, mmap_mode="r", allow_pickle=False)
    except (
        ValueError,
        SyntaxError,
        TypeError,
        OverflowError,
        RecursionError,
        MemoryError,
        EOFError,
        OSError,
    ) as error:
        raise Invalid(Problem(file, f"is not a complete numpy file: {str(error)[:100]}")) from None
    if tokens.dtype.kind not in "iu" or tokens.ndim != 1:
        value = f"{tokens.dtype} of {list(tokens.shape)}"
        raise Invalid(Problem(file, "must be a one-dimensional array of integers", value=value))
    if os.path.getsize(file) != tokens.offset + tokens.nbytes:
        raise Invalid(Problem(file, "has more data after its array"))
    if not tokens.size:
        raise Invalid(Problem(file, "is empty"))
    return tokens
