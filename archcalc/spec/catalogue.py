"""Find a spec by a catalogue name, a path or `-`, with or without a question attached."""

from __future__ import annotations

import os
import re
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from archcalc.errors import Invalid, Problem, nearest, shown
from archcalc.spec.configs import (
    CONFIG,
    GGUF,
    HUB,
    INSIDE,
    imported,
    is_config,
    is_object,
    read_at,
    read_config,
    read_either,
    read_gguf,
    read_hub,
    text_alone,
)
from archcalc.spec.model import Model
from archcalc.spec.question import PART, Answers, Change, ask, split, understand, without_part
from archcalc.spec.revisions import Revision, is_known, is_there, revision
from archcalc.spec.revisions import parted as parted_at_revision
from archcalc.spec.source import Document, display_name, is_stdin, parse
from archcalc.spec.unsupported import SPEC, config, family, format_of
from archcalc.spec.validation import validate

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_SUFFIX = re.compile(r"\.[A-Za-z]\w*$")


class Found(NamedTuple):
    """A spec, where it was read from, and what a question changed in it.

    `read` is the document before the question, and `answers` what the question put in; `typed` is what was asked for.
    `folder` is the folder or the GGUF file that stood for its spec, and has its weights; "" where a file was named.
    """

    model: Model
    document: Document
    read: Document
    answers: Answers
    changes: tuple[Change, ...] = ()
    question: str = ""
    typed: str = ""
    folder: str = ""

    @property
    def name(self) -> str:
        """The spec's name, with the question where one was asked."""
        return f"{self.model.name}@{self.question}" if self.question else self.model.name

    @property
    def warnings(self) -> tuple[str, ...]:
        """One for each misprint that the spec puts right, unless the question changed the field itself."""
        changed = {change.path.rpartition(".")[2] for change in self.changes}
        return tuple(str(misprint) for misprint in self.model.misprints if misprint.field not in changed)


@cache
def specs_folder() -> str:
    """The folder of specs: inside the package in a wheel, beside it in a checkout."""
    folders = (os.path.join(_PACKAGE, "specs"), os.path.join(os.path.dirname(_PACKAGE), "specs"))
    return next((folder for folder in folders if os.path.isdir(folder)), folders[0])


@cache
def names() -> tuple[str, ...]:
    """The names of the catalogue, in alphabetical order."""
    models = os.path.join(specs_folder(), "models")
    return tuple(sorted(file.removesuffix(".yaml") for file in os.listdir(models) if file.endswith(".yaml")))


def find(spec: str) -> Found:
    """Read the spec that `spec` means.

    Raises Invalid for an unknown name, a malformed spec or a question it does not understand, Missing for a path
    that leads nowhere.
    """
    head, question = (spec, None) if os.path.exists(spec) else parted(spec)
    inside = _inside(head) or gguf_in(head)
    folder, head = (head, inside) if inside else (head if head.endswith(GGUF) else "", head)
    question, alone = without_part(question)
    read = _text_alone(head, spec) if alone else _read(head)
    if question is None:
        return Found(validate(read, Model), read, read, {}, typed=spec, folder=folder)
    answers = understand(read, question, spec)
    document, changes = ask(read, answers, spec)
    question = ",".join(part.strip() for part in question.split(","))
    return Found(validate(document, Model), document, read, answers, changes, question, spec, folder)


def read_spec(data: bytes, path: str) -> Found:
    """The spec of a file whose bytes were read. Raises Invalid for a malformed one."""
    document = _understood(data, path)
    return Found(validate(document, Model), document, document, {}, typed=path)


def parted(spec: str) -> tuple[str, str | None]:
    """A spec and its question; of a model of the Hub what follows its name and sets nothing is a revision."""
    if where := revision(spec):
        return parted_at_revision(where)
    if not spec.startswith(HUB) or "@" not in spec:
        return split(spec)
    head, _, last = spec.rpartition("@")
    return (head, last) if "=" in last else (spec, None)


def _inside(head: str) -> str | None:
    """The spec that a folder stands for: its own, or that of its newest checkpoint; None where there is none."""
    if head in names() or not os.path.isdir(head):
        return None
    from archcalc.spec.checkpoints import SPEC, is_checkpoint, newest, spec_of

    folder = Path(head)
    if is_checkpoint(folder):
        return os.fspath(spec_of(folder))
    if os.path.isfile(folder / SPEC):
        return os.fspath(folder / SPEC)
    chosen = newest(folder, spec_of)
    if chosen is not None:
        return os.fspath(chosen.path / SPEC)
    return os.fspath(folder / CONFIG) if os.path.lexists(folder / CONFIG) else None


def gguf_in(folder: str) -> str | None:
    """The GGUF file that a folder without a spec has; None where it has other weights, or is none.

    Raises Invalid where it has several.
    """
    if folder in names() or not os.path.isdir(folder):
        return None
    from archcalc.files.regular import names_in
    from archcalc.huggingface.parts import one_gguf

    there = names_in(folder)
    if any(name.endswith((".safetensors", ".safetensors.index.json")) for name in there):
        return None
    found = one_gguf(folder, there)
    return None if found is None else os.path.join(folder, found)


def has_spec(folder: str) -> bool:
    """Whether a folder stands for a spec: it has one, a config.json or a checkpoint of a training, damaged or not."""
    try:
        return _inside(folder) is not None
    except Invalid:
        return True


def _read(head: str) -> Document:
    if head.startswith(HUB):
        return read_hub(head)
    if where := revision(head):
        return _at_revision(where)
    if head in names():
        head = os.path.join(specs_folder(), "models", f"{head}.yaml")
    elif not (is_path(head) or is_stdin(head) or os.path.isdir(head)):  # a directory is then told to be one
        raise Invalid(_unknown(head))
    if head.endswith(GGUF):
        return read_gguf(head)
    if os.path.isfile(head) and (other := format_of(head)):
        raise Invalid(Problem(head, other, suggestion=SPEC))
    if head.endswith(".json"):
        return read_config(head)
    return _understood(read_either(head), display_name(head))


def _at_revision(where: Revision) -> Document:
    """The spec or the config.json that a revision has at a path, or in a folder there."""
    if not is_path(where.path) and not is_known(where):
        raise Invalid(_unknown(f"{where}"))
    if other := format_of(where.path):
        raise Invalid(Problem(f"{where}", other, suggestion=SPEC))
    name, data = read_at(where)
    return imported(data, name) if name.endswith(".json") else _understood(data, name)


def _understood(data: bytes, name: str) -> Document:
    """The spec, or the config.json, that some bytes are."""
    if is_config(data):
        return imported(data, name)
    document = parse(data, name)
    if other := config(document.data):
        if is_object(data):  # nearly JSON: with a comma too many, say
            return imported(data, name)
        raise Invalid(Problem(document.file, other, suggestion=SPEC))
    return document


def _text_alone(head: str, spec: str) -> Document:
    """The text model of a config.json. Raises Invalid for what is a spec already."""
    if head in names() or head.endswith((".yaml", ".yml")):
        raise Invalid(Problem(spec, "is a spec, not a config.json that has a text model inside", PART))
    return text_alone(head)


def _unknown(name: str) -> Problem:
    """The problem for a name that is not in the catalogue: why it is not, or the nearest names."""
    listed = "`archcalc list` shows the catalogue"
    if os.path.isfile(name):
        return Problem(name, "is not in the catalogue", suggestion=f"the file is ./{name}")
    if why := family(name):
        return Problem(name, why, suggestion=listed)
    near = nearest(name, list(names()), 3)
    return Problem(
        name or "SPEC", "is not in the catalogue", suggestion=f"nearest: {', '.join(near)}" if near else listed
    )


def is_path(head: str) -> bool:
    """A slash or a suffix makes a path of what was typed."""
    return "/" in head or os.sep in head or bool(_SUFFIX.search(head))


def is_readable(spec: str) -> bool:
    """Whether there is a file to read, whatever is in it."""
    head = parted(spec)[0]
    if where := revision(head):
        return is_there(where, INSIDE)
    paths = (head, spec, os.path.join(head, "spec.yaml"), os.path.join(head, CONFIG))
    return is_stdin(head) or head in names() or any(map(os.path.isfile, paths))


def load(spec: str | os.PathLike[str]) -> Model:
    """Read a spec: a catalogue name, a path, `-` for standard input, or any of these with `@field=value,...`.

    Returns a Model. Raises Invalid for an unknown name, a malformed spec or a question that is not understood, and
    Missing if the file does not exist; their `problems` say where and what.
    """
    return find(typed(spec)).model


def typed(spec: Any) -> str:
    """A spec's name or path as text. Raises Invalid for what is neither."""
    text = os.fspath(spec) if isinstance(spec, str | os.PathLike) else None
    if not isinstance(text, str):
        raise Invalid(Problem("SPEC", "must be a name or a path", value=shown(spec)))
    return text
