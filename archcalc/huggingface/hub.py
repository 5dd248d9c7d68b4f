"""A model of the Hugging Face Hub: the names of its files, its config.json, and the first bytes of its weights.

`hf:ORG/NAME`, `hf:ORG/NAME/FILE` for one file of weights, and either with `@REVISION`. The package huggingface_hub
has the address of a file and the user's token; HF_ENDPOINT names another server, and HF_HUB_OFFLINE forbids to ask.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from http.client import HTTPException
from importlib import import_module
from typing import IO, Any, NamedTuple
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlsplit
from urllib.request import HTTPRedirectHandler, OpenerDirector, Request, build_opener

from archcalc.errors import Invalid, Missing, Problem, shown
from archcalc.huggingface.reading import LARGEST_CONFIG, parse_config
from archcalc.packages import needed

PREFIX = "hf:"
SECONDS = 20
"""How long a server may take for an answer, or for the next bytes of one."""
MOST_FILES = 10_000
"""Names of files that a model is asked for."""
WEIGHTS = (".safetensors", ".gguf", ".safetensors.index.json")
_NAME = re.compile(r"([A-Za-z0-9][\w.-]{0,95}(?:/[A-Za-z0-9][\w.-]{0,95})?)(?:/(.+))?", re.ASCII)
_REVISION = re.compile(r"[\w./-]{1,100}", re.ASCII)
_LONGEST_FILE = 500  # characters, with its folders
_OFFLINE = ("1", "ON", "YES", "TRUE")


class Repository(NamedTuple):
    """A model of the Hub at a revision, None for its main branch; `file` is one of its files of weights, or ""."""

    name: str
    revision: str | None
    file: str = ""

    def __str__(self) -> str:
        file, revision = (f"/{self.file}" if self.file else ""), (f"@{self.revision}" if self.revision else "")
        return f"{PREFIX}{self.name}{file}{revision}"

    def of(self, file: str) -> Repository:
        """One of its files."""
        return self._replace(file=file)

    @property
    def whole(self) -> Repository:
        """The model that a file belongs to."""
        return self._replace(file="")


class Piece(NamedTuple):
    """The first bytes of a file, and how many it has."""

    data: bytes
    size: int


class _NotThere(Exception):
    """The server has no such file."""


class WeightsAlone(Missing):
    """A model that has files of weights and no config.json."""


def repository(text: str) -> Repository:
    """What `hf:ORG/NAME[/FILE][@REVISION]` names. Raises Invalid for what is no name of the Hub."""
    name, _, revision = text.removeprefix(PREFIX).partition("@")
    match = _NAME.fullmatch(name)
    file = (match and match[2]) or ""
    if match is None or (file and not is_weights(file)) or (revision and not _is_revision(revision)):
        fix = "hf:ORG/NAME, hf:ORG/NAME/FILE.gguf or hf:ORG/NAME@REVISION, such as hf:openai-community/gpt2"
        raise Invalid(Problem(text, "is not the name of a model of the Hub", value=shown(text), suggestion=fix))
    return Repository(match[1], revision or None, file)


def is_weights(file: str) -> bool:
    """Whether a path inside a model is one of a file of weights, and leads nowhere else."""
    steps = file.split("/")
    strange = any(step in ("", ".", "..") for step in steps) or not file.isprintable() or "\\" in file
    return file.endswith(WEIGHTS) and not strange and len(file) <= _LONGEST_FILE


def _is_revision(text: str) -> bool:
    return _REVISION.fullmatch(text) is not None and ".." not in text


def config_of(where: Repository) -> bytes:
    """The bytes of its config.json, up to the bound and one more. Raises Missing, or WeightsAlone, without one."""
    if where.file:
        what = "is a file of weights and not a spec; `archcalc params` counts its weights"
        raise Invalid(Problem(f"{where}", what, suggestion=f"{where.whole} is the model that it is of"))
    found = first_bytes(where, "config.json", LARGEST_CONFIG + 1)
    if found is not None:
        return found.data
    if files_of(where):
        fix = f"`archcalc params {where}` counts its weights"
        raise WeightsAlone(Problem(f"{where}", "has weights and no config.json", suggestion=fix))
    raise Missing(Problem(f"{where}", "is not on the Hub, or has no config.json", suggestion=_PRIVATE))


def files_of(where: Repository) -> list[str]:
    """The names of a model's files of weights, in alphabetical order; none where there is no such model."""
    revision = f"/revision/{quote(where.revision, safe='')}" if where.revision else ""
    try:
        data = _get(where, lambda _, endpoint: f"{endpoint}/api/models/{where.name}{revision}", 0, LARGEST_CONFIG + 1)
    except _NotThere:
        return []
    said = parse_config(data.data, f"{where}").get("siblings")
    every = said if isinstance(said, list) else []
    if len(every) > MOST_FILES:
        raise Invalid(Problem(f"{where}", f"has more than {MOST_FILES:,} files", value=f"{len(every):,}"))
    names = [one.get("rfilename") for one in every if isinstance(one, dict)]
    return sorted(name for name in names if isinstance(name, str) and is_weights(name))


def first_bytes(where: Repository, file: str, count: int, start: int = 0) -> Piece | None:
    """The first bytes of a file, or `count` from `start` on; None where there is none."""

    def address(package: Any, endpoint: str) -> str:
        url: str = package.hf_hub_url(where.name, file, revision=where.revision, endpoint=endpoint)
        return url

    try:
        return _get(where, address, start, count)
    except _NotThere:
        return None


_PRIVATE = "a private or gated one needs a token: `hf auth login`"


def _get(where: Repository, address: Callable[[Any, str], str], start: int, count: int) -> Piece:
    """`count` bytes from `start` on, by a range; a server that knows none is read so far and left."""
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in _OFFLINE:
        raise Missing(Problem(f"{where}", "is on the Hub, and HF_HUB_OFFLINE is set"))
    package = needed("huggingface_hub", f"{where}", "hub")
    endpoint = os.environ.get("HF_ENDPOINT") or import_module("huggingface_hub.constants").ENDPOINT
    if urlsplit(endpoint).scheme not in ("http", "https"):
        raise Invalid(Problem("HF_ENDPOINT", "must be an address of http or https", value=shown(endpoint)))
    # Not the package's own headers: to make them it asks the server who is calling.
    headers = {"User-Agent": "archcalc", "Range": f"bytes={start}-{start + count - 1}"}
    if token := package.get_token():
        headers["Authorization"] = f"Bearer {token}"
    try:
        request = Request(address(package, endpoint.rstrip("/")), headers=headers)  # noqa: S310  (http alone)
        with _opener().open(request, timeout=SECONDS) as answer:
            if answer.status != 206:  # the whole file, from its first byte
                _exactly(answer, start)
            return Piece(_exactly(answer, count), _size(answer.headers, count))
    except HTTPError as error:
        if error.code == 404:
            raise _NotThere from None
        why = f"{error.code} {error.reason}"
        fix = _PRIVATE if error.code in (401, 403) else None
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
