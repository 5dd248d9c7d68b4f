"""A question attached to a spec: `gpt3-xl@n_kv_heads=4,context_length=32k`.

It changes the plain data before validation, so that what it asks for is checked as if the file said it. A relation
that the spec has between two fields is kept where the question changes one of them, and what followed is told:
heads as wide as the model (n_heads x d_head = d_model), plain multi-head (n_kv_heads = n_heads), an MLP that is a
whole multiple of the model (d_ff = 4 x d_model). A field named in the question never follows.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from typing import Any, NamedTuple

from archcalc.errors import Invalid, Problem, nearest, shown
from archcalc.source import Document, Where, dotted, resolve
from archcalc.units import grouped, parse_length

_ALIASES = {"n_layers": "repeat"}
_DESCRIPTION = ("schema", "name", "source", "published", "misprints", "assumptions")


class Change(NamedTuple):
    """A field that a question changed; `because` says what it followed, None where the question named it."""

    path: str
    old: Any
    new: Any
    because: str | None = None

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


def ask(document: Document, question: str, argument: str) -> tuple[Document, tuple[Change, ...]]:
    """The document with the question's answers in place, and what changed; `argument` is the whole of what was typed.

    Raises Invalid for a field that is not there, is there several times, or is set twice.
    """
    if not isinstance(document.data, dict):
        return document, ()  # validation says what is wrong
    asked = replace(document, data=deepcopy(document.data), question=argument, asked=set())
    leaves = dict(_leaves(asked.data))
    index = _index(leaves)
    changes: list[Change] = []
    for part in question.split(","):
        name, equals, text = (piece.strip() for piece in part.partition("="))
        if not (name and equals and text):
            raise Invalid(Problem(argument, f"{part!r} is not field=value"))
        where = _find(name, index, argument)
        if where in asked.asked:
            raise Invalid(Problem(argument, "is set twice", dotted(where)))
        length = parse_length(text) if where[-1] == "context_length" else None
        change = _put(asked, where, resolve(text) if length is None else length)
        changes += [change] if shown(change.old) != shown(change.new) else []
    named = set(asked.asked)
    for where in leaves:
        if where[:1] == ("layers",) and where[2:] == ("repeat",):
            changes.extend(_follow(asked, where[:2], leaves, named))
    if changes and asked.data.get("published"):
        asked.data["published"] = []  # what was printed was printed of another shape
    return asked, tuple(changes)


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


def _index(leaves: dict[Where, Any]) -> dict[str, list[Where]]:
    """Every field by each name that it answers to: its path, and each end of it."""
    index: dict[str, list[Where]] = {}
    for where in leaves:
        for start in range(len(where)):
            index.setdefault(dotted(where[start:]), []).append(where)
    return index


def _find(name: str, index: dict[str, list[Where]], argument: str) -> Where:
    """The one field that a full path or an unambiguous short name means."""
    short = _ALIASES.get(name, name)
    found = index.get(short, [])
    found = [where for where in found if dotted(where) == short] or found
    if len(found) == 1:
        return found[0]
    if found:
        paths = ", ".join(dotted(where) for where in found[:3]) + (", ..." if len(found) > 3 else "")
        raise Invalid(Problem(argument, f"is the name of {len(found)} fields", name, suggestion=f"name one: {paths}"))
    near = nearest(name, list(index), 3)
    raise Invalid(
        Problem(argument, "is no field here", name, suggestion=f"nearest: {', '.join(near)}" if near else None)
    )


def _put(document: Document, where: Where, value: Any, because: str | None = None) -> Change:
    holder = document.data
    for step in where[:-1]:
        holder = holder[step]
    change = Change(dotted(where), holder[where[-1]], value, because)
    holder[where[-1]] = value
    document.asked.add(where)
    return change


def _follow(document: Document, group: Where, old: dict[Where, Any], named: set[Where]) -> Iterator[Change]:
    """Keep the relations of one group of layers that the question touched and did not spell out.

    A value that is no size is left for validation to tell, and nothing follows it.
    """
    width: Where = ("d_model",)
    heads, kv_heads, d_head = ((*group, "attention", name) for name in ("n_heads", "n_kv_heads", "d_head"))
    d_ff = (*group, "mlp", "d_ff")
    were: dict[Where, Any] = {where: old.get(where) for where in (width, heads, kv_heads, d_head, d_ff)}
    if not all(_is_size(n) for n in were.values()) or not all(_is_size(_get(document.data, w)) for w in were):
        return

    def was(where: Where) -> int:
        return int(were[where])

    def now(where: Where) -> int:
        return int(_get(document.data, where))

    if was(heads) * was(d_head) == was(width) and now(heads) * now(d_head) != now(width):
        because = "n_heads x d_head = d_model"
        if heads not in named and now(width) % now(d_head) == 0:
            yield _put(document, heads, now(width) // now(d_head), because)
        elif d_head not in named and now(width) % now(heads) == 0:
            yield _put(document, d_head, now(width) // now(heads), because)
    if was(kv_heads) == was(heads) != now(heads) and kv_heads not in named:
        yield _put(document, kv_heads, now(heads), "n_kv_heads = n_heads")
    if was(width) != now(width) and was(d_ff) % was(width) == 0 and d_ff not in named:
        times = was(d_ff) // was(width)
        yield _put(document, d_ff, times * now(width), f"d_ff = {times} x d_model")


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _get(data: Any, where: Where) -> Any:
    """The value at a path, which is there."""
    for step in where:
        data = data[step]
    return data
