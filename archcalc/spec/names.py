"""Names of fields: a full path, or an end of one that means a single field, or the same one of all kinds of layers.

Fields that a spec states go before those that it leaves out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pydantic import BaseModel

from archcalc.errors import Invalid, Problem, nearest, shown
from archcalc.spec.model import Model
from archcalc.spec.source import Document, Where, dotted
from archcalc.spec.unstated import DESCRIPTION, Unstated, meant, unstated
from archcalc.spec.unsupported import feature, flag, other_name
from archcalc.spec.validation import validate, write_it

DEEPEST_FIELD = 12
LONGEST_FIELD = 50
"""Steps of a path, and characters of a step, that a question looks for; a spec has 10 and 24."""

ALIASES = {"n_layers": "repeat"}


def fields(document: Document) -> dict[str, list[Where]]:
    """Every field by each name that it answers to: its path, and each end of it; also by the name of its branch.

    What lies deeper than any field of a spec, or has a longer name, is none: a file may have 50,000 values at a depth
    of 64, and all ends of their paths would take gigabytes.
    """
    index: dict[str, list[Where]] = {}
    for where, _ in leaves(document.data):
        if len(where) > DEEPEST_FIELD or any(isinstance(step, str) and len(step) > LONGEST_FIELD for step in where):
            continue
        for name in dict.fromkeys((*ends(where), *ends(in_layer(where, document.data)))):
            index.setdefault(name, []).append(where)
    return index


def ends(where: Where) -> list[str]:
    """A path and each end of it, the longest first."""
    return [dotted(where[start:]) for start in range(len(where))]


def places(
    name: str,
    index: Mapping[str, list[Where]],
    argument: str,
    data: Any,
    suggested: Callable[[], Iterable[str]] | None = None,
) -> list[Where]:
    """The fields that a full path or an unambiguous short name means: one, or the same of all kinds of layers.

    Layers of several kinds, in groups or alternating, have most of their sizes in common: a name that means one of
    each, all of one value, means them together.

    Raises Invalid for a name of none or of several; what is near is looked for in `suggested`, else in all fields.
    """
    short = ALIASES.get(name, name)
    found = index.get(short, [])
    found = [where for where in found if dotted(where) == short] or found
    if are_one(found, data):
        return found
    if found:
        raise _several(name, _shorter(found, index, data), len(found), argument)
    try:
        left_out = fields_left_out(Document("", data))
    except Invalid:
        left_out = []  # it takes a question to make the spec valid
    if absent := meant(name, left_out):
        if _has_block(absent):
            inside = _listed([one for one in index if one.startswith(f"{name}.")])
            raise Invalid(Problem(argument, "is a block, and no size", name, suggestion=f"fields in it: {inside}"))
        fix = f"SPEC@{name}=... sets it"
        raise Invalid(Problem(argument, "is not stated in the spec", name, suggestion=fix))
    raise _unknown(name, index, argument, left_out, suggested)


def _listed(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def _several(name: str, names: list[str], count: int, argument: str) -> Invalid:
    fix = f"name one: {_listed(names)}"
    return Invalid(Problem(argument, f"is the name of {count} fields", name, suggestion=fix))


def _shorter(found: list[Where], index: Mapping[str, list[Where]], data: Any) -> list[str]:
    """Names that tell fields apart."""
    return list(dict.fromkeys(shortest(where, index, data) for where in found))


def shortest(where: Where, index: Mapping[str, list[Where]], data: Any) -> str:
    """The shortest end of a field's path that means it, alone or with its like of other kinds of layers."""
    paths = (in_layer(where, data), where)
    found = (end for path in paths for end in reversed(ends(path)) if not end[0].isdigit())
    return next((end for end in found if are_one(index.get(end, []), data)), dotted(where))


def _unknown(
    name: str,
    index: Mapping[str, list[Where]],
    argument: str,
    left_out: list[Unstated],
    suggested: Callable[[], Iterable[str]] | None = None,
) -> Invalid:
    """What is said of a name that no field has: what it may be meant for."""
    if inside := _in_groups(name, index, left_out):
        return Invalid(Problem(argument, "unknown field", name, suggestion=inside))
    if unsupported := feature(name):
        return Invalid(Problem(argument, unsupported, name))
    words = {str(field.where[-1]) for field in left_out if not field.absent}
    if (ours := other_name(name)) in {*index, *words, *ALIASES.values()}:
        called = next((short for short, field in ALIASES.items() if field == ours), ours)
        return Invalid(Problem(argument, "unknown field", name, suggestion=f"here it is called {called!r}"))
    if given := flag(name):
        return Invalid(Problem(argument, "unknown field", name, suggestion=f"{given} sets it"))
    near = nearest(name, list(suggested() if suggested else [*words, *ALIASES, *index]), 3)
    fix = f"nearest: {', '.join(near)}" if near else None
    return Invalid(Problem(argument, "unknown field", name, suggestion=fix))


def _in_groups(name: str, index: Mapping[str, list[Where]], left_out: list[Unstated]) -> str | None:
    """Which fields a path may be meant for that counts layers where the spec has groups, or leaves out their kind."""
    first, _, rest = name.partition(".")
    number, _, rest = rest.partition(".")
    if first != "layers" or not number.isdecimal() or not rest:
        return None
    left = [field.where for field in meant(rest, left_out) if not field.absent]
    found = [where for where in (*index.get(rest, []), *left) if where[0] == "layers"]
    mine = [where for where in found if str(where[1]) == number]
    paths = _listed([dotted(where) for where in mine or found])
    if not found:
        return None
    return f"name one: {paths}" if mine else f"groups of layers are numbered, not layers; name one: {paths}"


def are_one(found: list[Where], data: Any) -> bool:
    """Whether there is one field, or the same field of several kinds of layers, with one value."""
    return len(found) == 1 or (
        are_alike(found, data) and all(shown(value_in(data, one)) == shown(value_in(data, found[0])) for one in found)
    )


def are_alike(found: list[Where], data: Any) -> bool:
    """Whether fields are the same field of several kinds of layers."""
    first = in_layer(found[0], data) if found else ()
    return bool(first) and all(in_layer(where, data) == first for where in found)


_OF_GROUPS = ("repeat", "pattern")


def in_layer(where: Where, data: Any) -> Where:
    """A field's path in its layer, by the names of branches, whichever group or kind has the layer.

    () for what is not in a layer, as the number of layers of a group.
    """
    start = 2 if where[0] == "layers" or where[:2] == ("mtp", "layer") else 0
    start += 2 * (start and where[start : start + 1] == ("kinds",))
    rest = where[start:] if start else ()
    if rest[:1] == ("branches",) and len(rest) > 2:
        name = value_in(data, (*where[: start + 2], "name")) if rest[2] != "name" else None
        rest = (name, *rest[2 + (rest[2] == "mixer") :]) if isinstance(name, str) else ()
    return () if rest[:1] and rest[0] in _OF_GROUPS else rest


def short_name(where: Where, index: Mapping[str, list[Where]]) -> str:
    """The shortest name that means a field and no other."""
    names = (dotted(where[start:]) for start in reversed(range(len(where))) if isinstance(where[start], str))
    return next(name for name in names if _is_enough(index.get(name, []), where) or name == dotted(where))


def _is_enough(found: list[Where], where: Where) -> bool:
    """Whether a name means one field, or the same one of all kinds of a group."""
    kinds = all(len(one) > 4 and one[:3] == where[:3] and one[4:] == where[4:] for one in found)
    return len(found) == 1 or (bool(found) and kinds and where[2:3] == ("kinds",))


def leaves(data: Any, path: Where = ()) -> list[tuple[Where, Any]]:
    """Every scalar of the shape with its path; the description of a spec cannot be asked about."""
    items: list[tuple[str | int, Any]]
    if isinstance(data, dict):
        items = [(key, value) for key, value in data.items() if path or key not in DESCRIPTION]
    elif isinstance(data, list):
        items = list(enumerate(data))
    else:
        return [(path, data)]
    return [leaf for key, value in items for leaf in leaves(value, (*path, key))]


def named(name: str, index: Mapping[str, list[Where]], document: Document, argument: str) -> list[Where]:
    """The fields that a name means: of those that the spec states, else of those that it leaves out."""
    if index.get(ALIASES.get(name, name)):
        return places(name, index, argument, document.data)
    left_out = fields_left_out(document)
    found = meant(name, left_out)
    if not found:
        raise _unknown(name, index, argument, left_out)
    if absent := found[0].absent:
        what = f"{dotted(absent)} is null, and a question cannot give a block"
        raise Invalid(Problem(argument, what, name, suggestion=write_it(document)))
    wheres = [field.where for field in found]
    alike = len({repr(field.value) for field in found}) == 1
    if len(found) > 1 and not (are_alike(wheres, document.data) and (alike or _has_block(found))):
        raise _several(name, [dotted(where) for where in wheres], len(wheres), argument)
    return wheres


def _has_block(found: list[Unstated]) -> bool:
    """Whether one of the fields is a block: a question can only remove it, from all kinds of layers alike."""
    return any(isinstance(field.value, BaseModel) for field in found)


def fields_left_out(document: Document) -> list[Unstated]:
    """The fields that a valid spec does not state. Raises Invalid for a spec that is not valid."""
    return list(unstated(validate(document, Model), {where for where, _ in leaves(document.data)}))


def value_in(data: Any, where: Where) -> Any:
    """The value at a path; None where a question put a word in place of a block above it."""
    for step in where:
        data = None if data is None or isinstance(data, str | int | float) else data[step]
    return data
