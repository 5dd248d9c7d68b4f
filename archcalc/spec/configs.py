"""A config.json of Hugging Face where a spec is asked for: read, and imported as the document of a spec."""

from __future__ import annotations

import json
import os
import textwrap
from codecs import BOM_UTF8
from dataclasses import replace

from archcalc.errors import Invalid, printable, shown
from archcalc.spec.revisions import Revision, read_revision, revision
from archcalc.spec.source import LARGEST_FILE, Document, display_name, read_file, too_large

CONFIG = "config.json"
INSIDE = ("spec.yaml", CONFIG)
"""The files of a folder at a revision that it stands for, the first that is there."""
GGUF = ".gguf"
"""How a file's name ends whose keys describe its model."""
HUB = "hf:"
"""Before the name of a model of the Hub: its config.json is read there."""


def is_object(data: bytes) -> bool:
    """Whether some bytes begin as an object of JSON does."""
    return data.removeprefix(BOM_UTF8).lstrip().startswith(b"{")


def is_config(data: bytes) -> bool:
    """Whether some bytes are a config.json, and no spec: an object of JSON without the fields of one."""
    if not is_object(data):
        return False
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return False
    return isinstance(found, dict) and not {"schema", "d_model"} <= found.keys()


def read_either(path: str) -> bytes:
    """The bytes of a spec or of a config.json, each up to its own bound."""
    from archcalc.huggingface.reading import LARGEST_CONFIG

    return _within(read_file(path, LARGEST_CONFIG), display_name(path))


def read_at(where: Revision) -> tuple[str, bytes]:
    """The same of a file at a revision, or of one in a folder there, below its name in messages."""
    from archcalc.huggingface.reading import LARGEST_CONFIG

    name, data = read_revision(where, LARGEST_CONFIG, INSIDE)
    return name, _within(data, name)


def _within(data: bytes, name: str) -> bytes:
    if len(data) > LARGEST_FILE and not is_object(data):
        raise too_large(name, LARGEST_FILE)
    return data


def read_config(path: str) -> Document:
    """The spec that a config.json describes, with the keys that its fields came from.

    Raises Missing where there is no such file, Invalid for one that is no config or not supported yet.
    """
    from archcalc.huggingface.reading import LARGEST_CONFIG

    return imported(read_file(path, LARGEST_CONFIG), display_name(path))


def read_hub(head: str) -> Document:
    """The spec that the config.json of a model of the Hub describes."""
    from archcalc.huggingface.hub import config_of, repository

    where = repository(head)
    return imported(config_of(where), f"{HUB}{where.name}/{CONFIG}")


def read_gguf(path: str) -> Document:
    """The spec that the keys of a GGUF file describe, with those that its fields came from.

    Raises Missing where there is no such file, Invalid for one that is damaged or of an architecture without a table.
    """
    from archcalc.huggingface.importing import import_config
    from archcalc.huggingface.metadata import config_of
    from archcalc.huggingface.stored import read_stored

    config, keys = config_of(read_stored(path, lambda _: False))
    try:
        found = import_config(config, path)
    except Invalid as error:
        raise Invalid(*(replace(one, path=keys.get(one.path, one.path)) for one in error.problems)) from None

    def theirs(origins: dict[str, list[str]]) -> dict[str, list[str]]:
        return {field: [keys.get(key, key) for key in said] for field, said in origins.items()}

    data = {**found.data, "source": f"{printable(os.path.basename(path))} (GGUF, {shown(config['model_type'])})"}
    return Document(path, data, origins=theirs(found.origins), placed=theirs(found.placed))


def text_alone(path: str) -> Document:
    """The spec of the text model alone that a config.json has inside; a folder or a model of the Hub has one too.

    What is counted of models of images that are known is their text model anyway.
    """
    from archcalc.huggingface.families.wrappers import WRAPPERS, text_part
    from archcalc.huggingface.hub import config_of, repository
    from archcalc.huggingface.reading import LARGEST_CONFIG, parse_config

    if path.startswith(HUB):
        name = f"{path}/{CONFIG}"
        data = config_of(repository(path))
    elif where := revision(path):
        name, data = read_at(where)
    else:
        path = os.path.join(path, CONFIG) if os.path.isdir(path) else path
        name, data = display_name(path), read_file(path, LARGEST_CONFIG)
    whole = parse_config(data, name)
    kind = whole.get("model_type")
    if isinstance(kind, str) and kind in WRAPPERS:
        return imported(data, name)
    document = imported(json.dumps(text_part(whole, name)).encode(), name)
    said = f"the text model of {shown(kind)} is counted by its own type, without what else that has"
    document.data["assumptions"] = [said, *document.data.get("assumptions", ())]
    return document


def imported(data: bytes, name: str) -> Document:
    """The document of a spec from the bytes of a config.json."""
    from archcalc.huggingface.importing import import_config
    from archcalc.huggingface.reading import parse_config

    config = parse_config(data, name)
    found = import_config(config, name)
    return Document(
        name,
        found.data,
        origins=found.origins,
        placed=found.placed,
        ignored=found.ignored,
        config=config,
    )


def import_text(document: Document, text: str) -> str:
    """The YAML of an imported spec, below comments that say which keys its fields came from."""
    width = max(map(len, document.origins), default=0)
    lines = [
        f"# imported from {printable(os.path.basename(document.file))}; each field and the keys that it came from:",
        *(f"#   {path:<{width}}  {', '.join(keys)}" for path, keys in document.origins.items()),
    ]
    if document.ignored:
        lines += ["# keys without a bearing on parameters, FLOPs or memory:"]
        lines += textwrap.wrap(
            printable(", ".join(document.ignored)), 100, initial_indent="#   ", subsequent_indent="#   "
        )
    return "\n".join([*lines, text])
