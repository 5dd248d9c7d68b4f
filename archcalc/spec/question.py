"""A question attached to a spec: `gpt3-xl@n_kv_heads=4,context_length=32k`.

It changes the plain data before validation, so that what it asks for is checked as if the file said it. A relation
between two fields of the spec is kept where the question changes one of them, and the adjusted fields are listed:
heads as wide as the model (n_heads x d_head = d_model), plain multi-head (n_kv_heads = n_heads), an MLP that is a
whole multiple of the model (d_ff = 4 x d_model). A field named in the question is never adjusted.

An answer may be an array in place of a size: then it is asked about many specs at once, and what follows is an array.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from typing import Any, NamedTuple

from archcalc.blocks.base import Block, Mixer, registered
from archcalc.errors import Invalid, Problem, shown, written
from archcalc.spec.lengthening import lengthened
from archcalc.spec.names import DEEPEST_FIELD, fields, fields_left_out, leaves, named, value_in
from archcalc.spec.scalars import resolve
from archcalc.spec.source import Document, Where, dotted
from archcalc.units import grouped, parse_length, several


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
    if isinstance(value, dict | list):
        return "a block" if isinstance(value, dict) else several(len(value), "item")
    if value is None or isinstance(value, bool):
        return written(value)
    return grouped(value) if isinstance(value, int) else str(value)


PATH_LIMIT = 4_096
"""Characters that a path may have on Linux; beyond them no end of a path is looked for on the disk."""


def split(text: str) -> tuple[str, str | None]:
    """A spec's name or path, and its question where there is one; a path that is there may have an @ itself."""
    places = [at for at, sign in enumerate(text) if sign == "@"]
    there = [at for at in places if at <= PATH_LIMIT and os.path.exists(text[:at])]
    if not places:
        return text, None
    at = there[-1] if there else places[0]
    return text[:at], text[at + 1 :]


PART = "part=text"
"""In a question: what is asked about is the text model of a config.json alone."""


def without_part(question: str | None) -> tuple[str | None, bool]:
    """A question without what says that the text model alone is read, None where none is left; and whether it did."""
    asked = [] if question is None else question.split(",")
    fields = [one for one in asked if "".join(one.split()) != PART]
    return (",".join(fields) or None, True) if len(fields) < len(asked) else (question, False)


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
            fix = f"give a value: {name or 'FIELD'}=VALUE" if name or text else "leave out what is empty"
            raise Invalid(Problem(argument, f"{part!r} is not field=value", suggestion=fix))
        for where in named(name, index, document, argument):
            if where in answers:
                raise Invalid(Problem(argument, "is set twice", dotted(where)))
            if near := [one for one in answers if where[: len(one)] == one or one[: len(where)] == where]:
                outer, inner = sorted((where, near[0]), key=len)
                raise Invalid(Problem(argument, f"is a part of {dotted(outer)}, which is set too", dotted(inner)))
            length = parse_length(text) if where[-1] == "context_length" else None
            answers[where] = resolve(text) if length is None else length
    return answers


def ask(document: Document, answers: Answers, argument: str) -> tuple[Document, tuple[Change, ...]]:
    """The document with the answers in place, and what changed."""
    if not isinstance(document.data, dict):
        return document, ()
    asked = replace(document, data=deepcopy(document.data), question=argument, asked=set(), before=document.data)
    old = dict(leaves(asked.data))
    answered = [_put(asked, where, value) for where, value in answers.items()]
    if not answers.keys() <= old.keys():
        default = {dotted(field.where): field.value for field in fields_left_out(document) if not field.absent}
        answered = [one._replace(old=default.get(one.path)) if one.old is None else one for one in answered]
    changes = [change for change in answered if shown(change.old) != shown(change.new)]
    changes.extend(_follow(asked, old, set(answers)))
    changes.extend(_lengthen(asked, old, answers))
    if changes and asked.data.get("published"):
        asked.data["published"] = []  # what was printed was printed of another shape
    return asked, tuple(changes)


def _put(document: Document, where: Where, value: Any, because: str | None = None, rule: str = "") -> Change:
    holder = document.data
    for step in where[:-1]:
        holder = holder.setdefault(step, {}) if isinstance(holder, dict) else holder[step]
    old = holder.get(where[-1]) if isinstance(holder, dict) else holder[where[-1]]
    change = Change(dotted(where), old, value, because, rule)
    holder[where[-1]] = value
    document.asked.add(where)
    return change


def _follow(document: Document, old: Answers, asked: set[Where]) -> Iterator[Change]:
    """Keep the relations of each block that the question touched and did not spell out.

    A value that is no size is left for validation to tell, and nothing follows it.
    """
    for place, block in _blocks(document.data):
        for relation in block.relations:
            places = {field: _field(place, field, document.data) for field in relation.fields}
            was: dict[str, Any] = {field: old.get(where) for field, where in places.items()}
            if not all(_is_size(n) for n in was.values()):
                continue
            now = {field: value_in(document.data, where) for field, where in places.items()}
            if not all(_is_size(n) for n in now.values()):
                continue
            free = {field for field, where in places.items() if where not in asked}
            for step in relation.steps(was, now, free):
                yield _put(document, places[step.field], step.size, step.because, step.rule)


def _lengthen(document: Document, old: Answers, answers: Answers) -> Iterator[Change]:
    """Keep what comes first in a pattern where the question asks for more layers than that has."""
    longer = [where for where in answers if where[:1] == ("layers",) and where[2:] == ("repeat",)]
    was = {int(where[1]): old[where] for where in longer if _is_size(old.get(where))}
    for one in lengthened(document.data["layers"], was) if was else ():
        yield _put(document, ("layers", one.group, "pattern"), one.pattern, one.because)


def _field(block: Where, field: str, data: Any) -> Where:
    """The place of a field that a block's relation names: its own, or the model's."""
    steps = field.split(".")
    return tuple(steps) if steps[0] in data else (*block, *steps)


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
