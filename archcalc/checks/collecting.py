"""Which files a check looks at: those that are named, and what is in folders and fits patterns."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from glob import has_magic
from typing import NamedTuple

from archcalc.checks.outcome import Kind
from archcalc.checks.patterns import MOST_LOOKED_AT, matches
from archcalc.checks.project import NAME, PYPROJECT, is_configuration
from archcalc.errors import ArchcalcError, Invalid, Missing, Problem
from archcalc.files.encoding import other_encoding
from archcalc.files.reading import read_bytes
from archcalc.hardware.devices import is_device
from archcalc.plan.reading import plan_names
from archcalc.spec.catalogue import has_spec, is_path, names
from archcalc.spec.configs import CONFIG
from archcalc.spec.question import split
from archcalc.spec.source import LARGEST_FILE, is_stdin

MOST_FILES = 100_000
"""Files of one check."""
WEIGHTS = (".safetensors", ".gguf")
_YAML = (".yaml", ".yml")
_LEFT_OUT = {"node_modules", "__pycache__", "venv", "site-packages"}


class Target(NamedTuple):
    """What is checked: a path, or whatever else stands for a spec. One that was `found` need not be archcalc's."""

    path: str
    found: bool = False


def collect(paths: Sequence[str], exclude: Sequence[str] = (), *, skip_unknown: bool = False) -> list[Target]:
    """What is to be checked, each once: in the order of the paths, and in folders and patterns by name.

    With `skip_unknown` files that are named need not be archcalc's either, and those that are excluded are left out.
    Raises Missing for a pattern or a folder in which nothing is, Invalid for too many files.
    """
    found: dict[str, Target] = {}
    for path in paths:
        for target in map(_harmless, _of(path, exclude, skip_unknown=skip_unknown)):
            found.setdefault(os.path.normpath(target.path), target)
            if len(found) > MOST_FILES:
                raise Invalid(Problem(path, f"has more than {MOST_FILES:,} files", suggestion="check parts of it"))
    return list(found.values())


def _harmless(target: Target) -> Target:
    """No file's name may begin a line that the log of a CI takes for a command."""
    return target._replace(path=f"./{target.path}") if target.path.startswith(("::", "##[")) else target


def _of(path: str, exclude: Sequence[str], *, skip_unknown: bool) -> Iterator[Target]:
    if skip_unknown and os.path.isfile(path):
        if not _is_out(path, exclude):
            yield Target(path, found=True)
    elif is_stdin(path) or path in names() or os.path.isfile(path):
        yield Target(path)
    elif os.path.isdir(path) and has_spec(path):
        yield Target(path)
        beside = (file for file in _walk(path, exclude) if file.endswith(_YAML))
        yield from (Target(file, found=True) for file in beside if os.path.basename(file) != "spec.yaml")
    elif os.path.isdir(path):
        yield from _some(path, _walk(path, exclude), "has no file that archcalc reads")
    elif has_magic(path) and not os.path.exists(path) and is_path(path) and split(path)[1] is None:
        files = (one for one in matches(path) if os.path.isfile(one) and not _is_out(one, exclude))
        yield from _some(path, sorted(files), "matches no file")
    else:
        yield Target(path)


def _some(path: str, files: Iterator[str] | list[str], otherwise: str) -> Iterator[Target]:
    """The files. Raises Missing where there are none."""
    some = False
    for file in files:
        some = True
        yield Target(file, found=True)
    if not some:
        raise Missing(Problem(path, otherwise))


def _walk(folder: str, exclude: Sequence[str]) -> Iterator[str]:
    """The files below a folder whose names may be archcalc's, in order. Links to folders are not followed.

    Pipes, sockets and devices are no files; what is not there or cannot be looked at is told by its reader.
    """
    looked = 0
    for above, folders, files in os.walk(folder):
        folders[:] = sorted(one for one in folders if not one.startswith(".") and one not in _LEFT_OUT)
        looked += len(folders) + len(files)
        if looked > MOST_LOOKED_AT:
            fix = "check parts of it"
            raise Invalid(Problem(folder, f"has more than {MOST_LOOKED_AT:,} entries", suggestion=fix))
        for name in sorted(one for one in files if not one.startswith(".")):
            path = os.path.join(above, name)
            is_ours = name == CONFIG or name.endswith((*_YAML, *WEIGHTS))
            if is_ours and not _is_out(path, exclude) and (os.path.isfile(path) or not os.path.exists(path)):
                yield path


def _is_out(path: str, exclude: Sequence[str]) -> bool:
    words = os.path.normpath(path).replace(os.sep, "/")
    return any(fnmatchcase(words, pattern) or fnmatchcase(words, f"*/{pattern}") for pattern in exclude)


_LINE = re.compile(rb"#[^\n]{0,200}\$schema=[^\n]{0,200}?\b(model|plan|device|budgets)(?:[.-][\w.-]{1,30})?\.json")
_OF_A_SCHEMA: dict[bytes, Kind] = {
    b"model": "model",
    b"plan": "plan",
    b"device": "device",
    b"budgets": "configuration",
}
_OF_A_CONFIG = re.compile(rb'"(?:model_type|architectures)"')
_NAME_OF = rb"[\"']?([a-z_]{1,40})[\"']?[ \t]{0,8}:"
_IN_FLOW = re.compile(rb"[{,]\s{0,80}" + _NAME_OF)
_FIRST = re.compile(rb"^([ \t]{0,40})(?!#|---|%)(\S)", re.MULTILINE)
_TELLING: tuple[tuple[Kind, frozenset[bytes]], ...] = (
    ("model", frozenset((b"layers", b"vocab_size", b"d_model", b"unembedding"))),
    ("configuration", frozenset((b"budgets", b"lint", b"baseline", b"specs"))),
    ("device", frozenset((b"capacity", b"dense_peak", b"bandwidth"))),
    (
        "plan",
        frozenset((b"dp", b"tp", b"pp", b"cp", b"ep", b"zero", b"micro_batch", b"accumulation", b"framework")),
    ),
)


def _plain(data: bytes) -> bytes:
    """What a file says whatever its encoding and its ends of lines: its reader tells what is wrong with them."""
    if codec := other_encoding(data):
        data = data.decode(codec, "ignore").encode()
    return data.removeprefix(b"\xef\xbb\xbf").replace(b"\r", b"\n")


def _fields(data: bytes) -> set[bytes]:
    """The names at the margin, which is where the first one stands; all of them in a mapping in braces."""
    first = _FIRST.search(data)
    if first is None:
        return set()
    if first[2] == b"{":
        return set(_IN_FLOW.findall(data))
    return set(re.findall(b"^" + re.escape(first[1]) + _NAME_OF, data, re.MULTILINE))


def _in_a_catalogue(path: str) -> Kind | None:
    """What a name means that is no path: a spec, a plan or a device; None where it means nothing that is known."""
    if path in names():
        return "model"
    if is_path(path) or is_stdin(path) or os.path.exists(path) or split(path)[1] is not None:
        return None
    return "plan" if path in plan_names() else "device" if is_device(path) else None


def _is_ours(path: str) -> bool:
    """Whether a file of a configuration's name is one; its reader says what is wrong with it."""
    try:
        return is_configuration(path)
    except ArchcalcError:
        return True


def kind_of(target: Target) -> Kind:
    """What a target is, told by its name and by the fields at its margin, before it is read for good."""
    return sorted_out(target)[0]


def sorted_out(target: Target) -> tuple[Kind, bytes | None]:
    """What a target is, and the bytes of a YAML file that was read to tell; None where they are not known whole.

    A file that was found and has no field of ours is "unknown"; one that was named is a spec until proven otherwise.
    """
    path = target.path
    if not target.found and (kind := _in_a_catalogue(path)):
        return kind, None
    if path.endswith(WEIGHTS):
        return "weights", None
    if os.path.basename(path) in (NAME, PYPROJECT):
        return "configuration" if not target.found or _is_ours(path) else "unknown", None
    is_json = path.endswith(".json")
    if not path.endswith(_YAML) and not (is_json and target.found):
        return "config" if is_json else "unknown" if target.found else "model", None
    if not os.path.isfile(path):  # what is read from a pipe is gone
        return "model", None
    try:
        data = read_bytes(path, LARGEST_FILE)
    except (OSError, ValueError):
        return "model", None  # whose reader says what is wrong
    if is_json:
        return "config" if _OF_A_CONFIG.search(_plain(data)) else "unknown", None
    return _kind_of_yaml(data, target), data if len(data) <= LARGEST_FILE else None


def _kind_of_yaml(data: bytes, target: Target) -> Kind:
    data = _plain(data)
    if line := _LINE.search(data, 0, 4096):
        return _OF_A_SCHEMA[line[1]]
    fields = _fields(data)
    told, telling = next((one for one in _TELLING if fields & one[1]), (None, frozenset()))
    if told and (not target.found or b"schema" in fields or len(fields & telling) > 1):
        return told
    return "unknown" if target.found else "model"
