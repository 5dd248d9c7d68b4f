"""A question attached to a spec: `gpt3-xl@n_kv_heads=4,context_length=32k`.

It changes the plain data before validation, so that what it asks for is checked as if the file said it. A relation
between two fields of the spec is kept where the question changes one of them, and the adjusted fields are listed:
heads as wide as the model (n_heads x d_head = d_model), plain multi-head (n_kv_heads = n_heads), an MLP that is a
whole multiple of the model (d_ff = 4 x d_model). A field named in the question is never adjusted.

An answer may be an array in place of a size: then it is asked about many specs at once, and what follows is an array.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from copy import deepcopy
from dataclasses import replace
from typing import Any, NamedTuple

from archcalc.blocks.base import Block, Mixer, registered
from archcalc.errors import Invalid, Problem, nearest, shown
from archcalc.spec.scalars import resolve
from archcalc.spec.source import Document, Where, dotted
from archcalc.spec.unsupported import feature, flag, other_name
from archcalc.units import grouped, parse_length

DEEPEST_FIELD = 12
LONGEST_FIELD = 50
"""Steps of a path, and characters of a step, that a question looks for; a spec has 10 and 24."""

_ALIASES = {"n_layers": "repeat"}
_DESCRIPTION = ("schema", "name", "source", "published", "misprints", "assumptions")


class Change(NamedTuple):
    """A field that a question changed; `because` says what it followed, None where the question named it.

    `rule` says what it was made of where it followed: `d_model / 64`.
    """

    path: str
    old: Any
    new: Any
    because: str | None = None
    rule: str = ""

    def __str__(self) -> str:
        change = f"{self.path} {_number(self.old)} -> {_number(self.new)}"
        return f"{change}, to keep {self.because}" if self.because else change


def _number(value: Any) -> str:
    return grouped(value) if isinstance(value, int) and not isinstance(value, bool) else str(value)


def split(text: str) -> tuple[str, str | None]:
    """A spec's name or path, and its question where there is one; a path that is there may have an @ itself."""
    places = [at for at, sign in enumerate(text) if sign == "@"]
    there = [at for at in places if os.path.exists(text[:at])]
    if not places:
        return text, None
    at = there[-1] if there else places[0]
    return text[:at], text[at + 1 :]


Answers = dict[Where, Any]


def understand(document: Document, question: str, argument: str) -> Answers:
    """The fields that a question names, and their values; `argument` is the whole of what was typed.

    Raises Invalid for a field that is not there, is there several times, or is set twice.
    """
    if not isinstance(document.data, dict):
        return {}  # validation says what is wrong
    index = fields(document)
    answers: Answers = {}
    for part in question.split(","):
        name, equals, text = (piece.strip() for piece in part.partition("="))
        if not (name and equals and text):
            raise Invalid(Problem(argument, f"{part!r} is not field=value"))
        for where in places(name, index, argument, document.data):
            if where in answers:
                raise Invalid(Problem(argument, "is set twice", dotted(where)))
            length = parse_length(text) if where[-1] == "context_length" else None
            answers[where] = resolve(text) if length is None else length
    return answers


def ask(document: Document, answers: Answers, argument: str) -> tuple[Document, tuple[Change, ...]]:
    """The document with the answers in place, and what changed."""
    if not isinstance(document.data, dict):
        return document, ()
    asked = replace(document, data=deepcopy(document.data), question=argument, asked=set())
    leaves = dict(_leaves(asked.data))
    named = [_put(asked, where, value) for where, value in answers.items()]
    changes = [change for change in named if shown(change.old) != shown(change.new)]
    changes.extend(_follow(asked, leaves, set(answers)))
    if changes and asked.data.get("published"):
        asked.data["published"] = []  # what was printed was printed of another shape
    return asked, tuple(changes)


def fields(document: Document) -> dict[str, list[Where]]:
    """Every field by each name that it answers to: its path, and each end of it.

    What lies deeper than any field of a spec, or has a longer name, is none: a file may have 50,000 values at a depth
    of 64, and all ends of their paths would take gigabytes.
    """
    index: dict[str, list[Where]] = {}
    for where, _ in _leaves(document.data):
        if len(where) > DEEPEST_FIELD or any(isinstance(step, str) and len(step) > LONGEST_FIELD for step in where):
            continue
        for start in range(len(where)):
            index.setdefault(dotted(where[start:]), []).append(where)
    return index


def places(
    name: str,
    index: Mapping[str, list[Where]],
    argument: str,
    data: Any,
    suggested: Callable[[], Iterable[str]] | None = None,
) -> list[Where]:
    """The fields that a full path or an unambiguous short name means: one, or the same of all kinds of a group.

    Layers of several kinds that alternate have most of their sizes in common: a name that means one of each, all of
    one value, means them together.

    Raises Invalid for a name of none or of several; what is near is looked for in `suggested`, else in all fields.
    """
    short = _ALIASES.get(name, name)
    found = index.get(short, [])
    found = [where for where in found if dotted(where) == short] or found
    if len(found) == 1 or (found and _are_one(found, data)):
        return found
    if found:
        paths = ", ".join(dotted(where) for where in found[:3]) + (", ..." if len(found) > 3 else "")
        raise Invalid(Problem(argument, f"is the name of {len(found)} fields", name, suggestion=f"name one: {paths}"))
    if unsupported := feature(name):
        raise Invalid(Problem(argument, unsupported, name))
    if (ours := other_name(name)) in {*index, *_ALIASES.values()}:
        called = next((short for short, field in _ALIASES.items() if field == ours), ours)
        raise Invalid(Problem(argument, "unknown field", name, suggestion=f"here it is called {called!r}"))
    if given := flag(name):
        raise Invalid(Problem(argument, "unknown field", name, suggestion=f"{given} sets it"))
    near = nearest(name, list(suggested() if suggested else [*index, *_ALIASES]), 3)
    fix = f"nearest: {', '.join(near)}" if near else None
    raise Invalid(Problem(argument, "unknown field", name, suggestion=fix))


def _are_one(found: list[Where], data: Any) -> bool:
    """Whether fields are the same field of several kinds of one group, with one value."""
    group, inner = found[0][:2], found[0][4:]
    same = all(where[:2] == group and where[2:3] == ("kinds",) and where[4:] == inner for where in found)
    return same and all(shown(_get(data, where)) == shown(_get(data, found[0])) for where in found)


def short_name(where: Where, index: Mapping[str, list[Where]]) -> str:
    """The shortest name that means a field and no other."""
    names = (dotted(where[start:]) for start in reversed(range(len(where))) if isinstance(where[start], str))
    return next(name for name in names if _is_enough(index.get(name, []), where) or name == dotted(where))


def _is_enough(found: list[Where], where: Where) -> bool:
    """Whether a name means one field, or the same one of all kinds of a group."""
    kinds = all(len(one) > 4 and one[:3] == where[:3] and one[4:] == where[4:] for one in found)
    return len(found) == 1 or (bool(found) and kinds and where[2:3] == ("kinds",))


def _leaves(data: Any, path: Where = ()) -> list[tuple[Where, Any]]:
    """Every scalar of the shape with its path; the description of a spec cannot be asked about."""
    items: list[tuple[str | int, Any]]
    if isinstance(data, dict):
        items = [(key, value) for key, value in data.items() if path or key not in _DESCRIPTION]
    elif isinstance(data, list):
        items = list(enumerate(data))
    else:
        return [(path, data)]
    return [leaf for key, value in items for leaf in _leaves(value, (*path, key))]


def _put(document: Document, where: Where, value: Any, because: str | None = None, rule: str = "") -> Change:
    holder = _get(document.data, where[:-1])
    change = Change(dotted(where), holder[where[-1]], value, because, rule)
    holder[where[-1]] = value
    document.asked.add(where)
    return change


def _follow(document: Document, old: Answers, named: set[Where]) -> Iterator[Change]:
    """Keep the relations of each block that the question touched and did not spell out.

    A value that is no size is left for validation to tell, and nothing follows it.
    """
    for place, block in _blocks(document.data):
        for relation in block.relations:
            places = {field: _field(place, field, document.data) for field in relation.fields}
            was: dict[str, Any] = {field: old.get(where) for field, where in places.items()}
            if not all(_is_size(n) for n in was.values()):
                continue
            now = {field: _get(document.data, where) for field, where in places.items()}
            if not all(_is_size(n) for n in now.values()):
                continue
            free = {field for field, where in places.items() if where not in named}
            for step in relation.steps(was, now, free):
                yield _put(document, places[step.field], step.size, step.because, step.rule)


def _field(block: Where, field: str, data: Any) -> Where:
    """The place of a field that a block's relation names: its own, or the model's."""
    return (field,) if field in data else (*block, *field.split("."))


def _blocks(data: Any, where: Where = ()) -> Iterator[tuple[Where, type[Block]]]:
    """The mixers of a spec's plain data, and where each stands; a spec is not deeper than DEEPEST_FIELD."""
    if len(where) > DEEPEST_FIELD:
        return
    if isinstance(data, dict):
        kind = data.get("kind")
        if where and isinstance(kind, str) and kind in (mixers := registered(Mixer)):
            yield where, mixers[kind]
            return
        for key, inner in data.items():
            yield from _blocks(inner, (*where, key))
    elif isinstance(data, list):
        for index, inner in enumerate(data):
            yield from _blocks(inner, (*where, index))


def _is_size(value: Any) -> bool:
    """Arrays are their maker's to check."""
    return hasattr(value, "dtype") or (isinstance(value, int) and not isinstance(value, bool) and value > 0)


def _get(data: Any, where: Where) -> Any:
    """The value at a path, which is there."""
    for step in where:
        data = data[step]
    return data
