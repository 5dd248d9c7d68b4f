"""How a question that was begun may go on: the fields of a spec by their short names, and the words that one may be.

`gpt2@n_he` goes on to `gpt2@n_heads=`, and to what it is now, `gpt2@n_heads=12`; `gpt2@tied=` to true and to false.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel

from archcalc.spec.catalogue import Found, find
from archcalc.spec.configs import HUB
from archcalc.spec.names import ALIASES, are_alike, are_one, ends, fields, fields_left_out, in_layer, leaves, shortest
from archcalc.spec.question import split
from archcalc.spec.source import Where, is_stdin


def going_on(typed: str) -> list[str]:
    """What a spec with a question that was begun may go on to, each as a whole.

    A field that is the only one stands there twice, with what it is now: so that a shell goes on behind the `=`.
    Raises Invalid for a spec that cannot be read. The Hub and standard input are not asked.
    """
    head, question = split(typed)
    if question is None or is_stdin(head) or head.startswith(HUB):
        return []
    before, _, last = question.rpartition(",")
    start = typed[: len(typed) - len(last)]
    name, equals, begun = last.partition("=")
    known = settable(find(head))
    if equals:
        return [f"{start}{name}={word}" for word in known.get(name, ()) if word.startswith(begun)]
    asked = {part.partition("=")[0].strip() for part in before.split(",")}
    found = [one for one in known if one.startswith(name) and one not in asked]
    short = [one for one in found if "." not in one or "." in name] or found
    more = known[short[0]] if len(short) == 1 else ()
    return [f"{start}{one}=" for one in short] + [f"{start}{short[0]}={word}" for word in more]


def settable(found: Found) -> dict[str, tuple[str, ...]]:
    """What each field may be that a question can set, by its shortest name and then by longer ones.

    That is its words, or the number that it is. Fields that the spec states come first.
    """
    document, model = found.read, found.model
    index = fields(document)
    stated = [where for where, _ in leaves(document.data)]
    names = {shortest(where, index, document.data): where for where in stated}
    names |= {alias: index[name][0] for alias, name in ALIASES.items() if are_one(index.get(name, []), document.data)}
    names |= {end: places[0] for end, places in index.items() if end not in names and are_one(places, document.data)}
    left = {one.where: one.value for one in fields_left_out(document) if not one.absent}
    for end, where in _left_out(left, document.data):
        names.setdefault(end, where)
    called = {name: where for name, where in names.items() if not name[0].isdigit()}
    return {name: words for name, where in called.items() if (words := _settable(model, where)) is not None}


def _left_out(left: dict[Where, Any], data: Any) -> Iterator[tuple[str, Where]]:
    """Names of fields that the spec does not state: those that mean one, or the same of all kinds of layers."""
    index: dict[str, list[Where]] = {}
    for where in left:
        for end in dict.fromkeys((*ends(where), *ends(in_layer(where, data)))):
            index.setdefault(end, []).append(where)
    for end, places in index.items():
        if len(places) == 1 or (are_alike(places, data) and len({repr(left[one]) for one in places}) == 1):
            yield end, places[0]


def _settable(model: BaseModel, where: Where) -> tuple[str, ...] | None:
    """What a field of a model may be. None for what has neither words nor a number: a list, a block of a file."""
    part: Any = model
    for step in where[:-1]:
        part = getattr(part, str(step)) if isinstance(part, BaseModel) else part[step]
    if not isinstance(part, BaseModel):
        return None if isinstance(part[where[-1]], BaseModel) else (f"{part[where[-1]]}",)  # an item of a list
    value, field = getattr(part, str(where[-1])), type(part).model_fields[str(where[-1])]
    kinds = [*_parts(field.annotation)]
    words = [word for kind in kinds for word in (("true", "false") if kind is bool else _literals(kind))]
    if isinstance(value, int | float) and not isinstance(value, bool):
        words.append(f"{value}")
    removed = NoneType in kinds and (value is not None or not all(map(_is_block, kinds)))
    return (*dict.fromkeys(words), *(["null"] if removed else [])) or None


def _is_block(kind: Any) -> bool:
    return kind is NoneType or (isinstance(kind, type) and issubclass(kind, BaseModel))


def _literals(kind: Any) -> list[str]:
    return [f"{word}" for word in get_args(kind)] if get_origin(kind) is Literal else []


def _parts(annotation: Any) -> Iterator[Any]:
    """What an annotation is a choice of."""
    if get_origin(annotation) is Annotated:
        yield from _parts(get_args(annotation)[0])
    elif get_origin(annotation) is not Literal and get_args(annotation):
        for one in get_args(annotation):
            yield from _parts(one)
    else:
        yield annotation
