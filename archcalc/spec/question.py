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

from archcalc.errors import Invalid, Problem, nearest, shown
from archcalc.spec.scalars import resolve
from archcalc.spec.source import Document, Where, dotted
from archcalc.spec.unsupported import feature, flag, other_name
from archcalc.tape.legend import Size, anywhere, choose
from archcalc.units import grouped, parse_length

DEEPEST_FIELD = 8
LONGEST_FIELD = 50
"""Steps of a path, and characters of a step, that a question looks for; a spec has 4 and 14."""

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
        where = place(name, index, argument)
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
    for where in leaves:
        if where[:1] == ("layers",) and where[2:] == ("repeat",):
            changes.extend(_follow(asked, where[:2], leaves, set(answers)))
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


def place(
    name: str, index: Mapping[str, list[Where]], argument: str, suggested: Callable[[], Iterable[str]] | None = None
) -> Where:
    """The one field that a full path or an unambiguous short name means.

    Raises Invalid for a name of none or of several; what is near is looked for in `suggested`, else in all fields.
    """
    short = _ALIASES.get(name, name)
    found = index.get(short, [])
    found = [where for where in found if dotted(where) == short] or found
    if len(found) == 1:
        return found[0]
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


def short_name(where: Where, index: Mapping[str, list[Where]]) -> str:
    """The shortest name that means a field and no other."""
    names = (dotted(where[start:]) for start in reversed(range(len(where))) if isinstance(where[start], str))
    return next(name for name in names if len(index[name]) == 1 or name == dotted(where))


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


def _follow(document: Document, group: Where, old: Answers, named: set[Where]) -> Iterator[Change]:
    """Keep the relations of one group of layers that the question touched and did not spell out.

    A value that is no size is left for validation to tell, and nothing follows it.
    """
    places: dict[str, Where] = {
        "d_model": ("d_model",),
        **{name: (*group, "attention", name) for name in ("n_heads", "n_kv_heads", "d_head")},
        "d_ff": (*group, "mlp", "d_ff"),
    }
    was = {name: old.get(where) for name, where in places.items()}
    if not all(_is_size(n) for n in was.values()):
        return
    now = {name: _get(document.data, where) for name, where in places.items()}
    if not all(_is_size(n) for n in now.values()):
        return
    free = {name for name, where in places.items() if where not in named}
    for step in _kept(was, now, free):
        yield _put(document, places[step.field], step.size, step.because, step.rule)


class _Step(NamedTuple):
    """A size that follows others: what it is now, what it was made of, and what that keeps."""

    field: str
    size: Size
    rule: str
    because: str


def _kept(was: Mapping[str, Any], now: dict[str, Size], free: set[str]) -> Iterator[_Step]:
    """The steps that keep the relations between sizes, by one rule for ints and for arrays: conditions are masks.

    Sizes are at most 2^32, so that a product of two that leaves int64 comes out as none: zero or negative.
    """
    if was["n_heads"] * was["d_head"] == was["d_model"]:
        because = "n_heads x d_head = d_model"
        width, d_head, n_heads = (_term(name, now[name]) for name in ("d_model", "d_head", "n_heads"))
        torn = now["n_heads"] * now["d_head"] != now["d_model"]
        heads = torn & ("n_heads" in free) & (now["d_model"] % now["d_head"] == 0)
        rest = torn ^ heads
        features = rest & ("d_head" in free) & (now["d_model"] % now["n_heads"] == 0)
        if anywhere(heads):
            now["n_heads"] = choose(heads, now["d_model"] // now["d_head"], now["n_heads"])
            rule = f"{width} / {d_head}" + " where that is whole" * anywhere(rest)
            yield _Step("n_heads", now["n_heads"], rule, because)
        if anywhere(features):
            now["d_head"] = choose(features, now["d_model"] // now["n_heads"], now["d_head"])
            only = " only" * anywhere(heads)
            some = f" where{only} that is whole" if only or anywhere(rest ^ features) else ""
            yield _Step("d_head", now["d_head"], f"{width} / {n_heads}{some}", because)
    if was["n_kv_heads"] == was["n_heads"] and "n_kv_heads" in free and anywhere(now["n_heads"] != was["n_heads"]):
        yield _Step("n_kv_heads", now["n_heads"], "n_heads", "n_kv_heads = n_heads")
    if was["d_ff"] % was["d_model"] == 0 and "d_ff" in free and anywhere(now["d_model"] != was["d_model"]):
        times = was["d_ff"] // was["d_model"]
        yield _Step("d_ff", times * now["d_model"], f"{times} x d_model", f"d_ff = {times} x d_model")


def _term(name: str, size: Size) -> str:
    """A size in a rule: a number, or the name of what is many."""
    return grouped(size) if isinstance(size, int) else name


def _is_size(value: Any) -> bool:
    """Arrays are their maker's to check."""
    return hasattr(value, "dtype") or (isinstance(value, int) and not isinstance(value, bool) and value > 0)


def _get(data: Any, where: Where) -> Any:
    """The value at a path, which is there."""
    for step in where:
        data = data[step]
    return data
