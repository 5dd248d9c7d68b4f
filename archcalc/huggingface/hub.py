"""A model of the Hugging Face Hub: its config.json, and the headers of its safetensors files by ranges of bytes.

`hf:ORG/NAME`, or `hf:ORG/NAME@REVISION`. Nothing else is read, and no number of a weight: of each file the length of
its header and the header. The package huggingface_hub has the address of a file and the user's token; HF_ENDPOINT
names another server, and HF_HUB_OFFLINE forbids to ask.
"""

from __future__ import annotations

import os
import re
from http.client import HTTPException
from typing import IO, NamedTuple
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, OpenerDirector, Request, build_opener

from archcalc.errors import Invalid, Missing, Problem, shown
from archcalc.huggingface.headers import LARGEST_HEADER
from archcalc.huggingface.reading import LARGEST_CONFIG
from archcalc.packages import needed

PREFIX = "hf:"
SECONDS = 20
"""How long a server may take for an answer, or for the next bytes of one."""
_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(/[A-Za-z0-9][\w.-]{0,95})?", re.ASCII)
_REVISION = re.compile(r"[\w./-]{1,100}", re.ASCII)
_OFFLINE = ("1", "ON", "YES", "TRUE")


class Repository(NamedTuple):
    """A model of the Hub at a revision; None is its main branch."""

    name: str
    revision: str | None

    def __str__(self) -> str:
        return f"{PREFIX}{self.name}" + (f"@{self.revision}" if self.revision else "")


class Piece(NamedTuple):
    """The first bytes of a file, and how many it has."""

    data: bytes
    size: int


class _NotThere(Exception):
    """The server has no such file."""


def repository(text: str) -> Repository:
    """What `hf:ORG/NAME[@REVISION]` names. Raises Invalid for what is no name of the Hub."""
    name, _, revision = text.removeprefix(PREFIX).partition("@")
    if not _NAME.fullmatch(name) or (revision and (not _REVISION.fullmatch(revision) or ".." in revision)):
        fix = "hf:ORG/NAME or hf:ORG/NAME@REVISION, such as hf:openai-community/gpt2"
        raise Invalid(Problem(text, "is not the name of a model of the Hub", value=shown(text), suggestion=fix))
    return Repository(name, revision or None)


def config_of(where: Repository) -> bytes:
    """The bytes of its config.json, up to the bound and one more. Raises Missing where it is not to be had."""
    try:
        return _get(where, "config.json", LARGEST_CONFIG + 1).data
    except _NotThere:
        raise Missing(Problem(f"{where}", "is not on the Hub, or has no config.json", suggestion=_private())) from None


def first_bytes(where: Repository, file: str, count: int) -> Piece | None:
    """The first bytes of a file; None where there is none."""
    try:
        return _get(where, file, count)
    except _NotThere:
        return None


def header(where: Repository, file: str) -> Piece | None:
    """What announces the tensors of a safetensors file: eight bytes of length, and as many as they say."""
    start = first_bytes(where, file, 8)
    if start is None:
        return None
    length = 8 + int.from_bytes(start.data, "little")
    if len(start.data) < 8 or length > min(8 + LARGEST_HEADER, start.size):
        return start  # its reader refuses it
    return first_bytes(where, file, length)


def _private() -> str:
    return "a private or gated one needs a token: `hf auth login`"


def _get(where: Repository, file: str, count: int) -> Piece:
    """The first `count` bytes of a file, by a range; a server that knows none is read so far and left."""
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in _OFFLINE:
        raise Missing(Problem(f"{where}", "is on the Hub, and HF_HUB_OFFLINE is set"))
    package = needed("huggingface_hub", f"{where}", "hub")
    endpoint = os.environ.get("HF_ENDPOINT") or package.constants.ENDPOINT
    if urlsplit(endpoint).scheme not in ("http", "https"):
        raise Invalid(Problem("HF_ENDPOINT", "must be an address of http or https", value=shown(endpoint)))
    url = package.hf_hub_url(where.name, file, revision=where.revision, endpoint=endpoint.rstrip("/"))
    # Not the package's own headers: to make them it asks the server who is calling.
    headers = {"User-Agent": "archcalc", "Range": f"bytes=0-{count - 1}"}
    if token := package.get_token():
        headers["Authorization"] = f"Bearer {token}"
    try:
        with _opener().open(Request(url, headers=headers), timeout=SECONDS) as answer:  # noqa: S310  (http alone)
            return Piece(_exactly(answer, count), _size(answer.headers, count))
    except HTTPError as error:
        if error.code == 404:
            raise _NotThere from None
        why = f"{error.code} {error.reason}"
        fix = _private() if error.code in (401, 403) else None
        raise Missing(Problem(f"{where}", f"is not given out by {endpoint}", value=why, suggestion=fix)) from None
    except (URLError, OSError, HTTPException, ValueError) as error:
        why = str(getattr(error, "reason", None) or error) or type(error).__name__
        raise Missing(Problem(f"{where}", f"cannot be read from {endpoint}", value=shown(why))) from None


def _exactly(answer: IO[bytes], count: int) -> bytes:
    """As many bytes as were asked for, or as there are."""
    pieces, left = list[bytes](), count
    while left and (piece := answer.read(min(left, 2**20))):
        pieces.append(piece)
        left -= len(piece)
    return b"".join(pieces)


def _size(headers: object, read: int) -> int:
    """How many bytes the file has, as the answer to a range, or to the whole, says."""
    get = headers.get  # type: ignore[attr-defined]
    for text in ((get("Content-Range") or "").rpartition("/")[2], get("Content-Length") or ""):
        if text.isascii() and text.isdigit() and len(text) < 20:
            return int(text)
    return read


class _SameHost(HTTPRedirectHandler):
    """Follows an answer that points elsewhere; the token stays with the server that it is for."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):  # type: ignore[no-untyped-def]
        found = super().redirect_request(req, fp, code, msg, headers, newurl)
        if found is not None and urlsplit(newurl).scheme not in ("http", "https"):
            raise URLError("it points to another address than one of http")
        if found is not None and urlsplit(newurl).netloc != urlsplit(req.full_url).netloc:
            found.remove_header("Authorization")
        return found


def _opener() -> OpenerDirector:
    return build_opener(_SameHost)
