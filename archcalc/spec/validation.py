"""Validate plain data as a model or a device, or raise problems that say where and how to fix them."""

from __future__ import annotations

from dataclasses import replace
from math import isfinite
from typing import Any, TypeVar, get_origin

from pydantic import BaseModel, ValidationError

from archcalc.blocks.base import TAG, models_in, registered
from archcalc.errors import MOST_PROBLEMS_SHOWN, Invalid, Problem, did_you_mean, refuse_too_many, written
from archcalc.spec.namerules import IN_WORDS
from archcalc.spec.source import Document, Where, is_stdin
from archcalc.spec.unsupported import feature, flag, other_name

Described = TypeVar("Described", bound=BaseModel)

_TYPES = {
    "int_type": "must be an integer",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
    "string_type": "must be text",
    "tuple_type": "must be a list",
    "model_type": "must be a mapping",
    "dict_type": "must be a mapping",
    "model_attributes_type": "must be a mapping",
    "finite_number": "must be a finite number",
}
_BOUNDS = {"greater_than_equal": "at least", "less_than_equal": "at most", "greater_than": "more than"}
_KEY = "[key]"
"""How pydantic's locations end where a key of a mapping is wrong, and not its value."""


def validate(document: Document, what: type[Described]) -> Described:
    """Build what a document describes. Raises Invalid with every problem found, in the file's order.

    A problem that the document has only since a question changed it is placed at the question. Where there are more
    than are told one by one, that is the only problem.
    """
    try:
        return what.model_validate(document.data)
    except ValidationError as error:
        refuse_too_many(document.file, error.error_count())
        told = _told(document, error)
    if document.question:
        old = _old_problems(document, what)
        told = [(one if _said(one) in old else _at_question(one, document), error) for one, error in told]
    told.sort(key=lambda found: _place(found[0]))
    shown_ = [_suggested(problem, document, what, error) for problem, error in told[:MOST_PROBLEMS_SHOWN]]
    problems = (*shown_, *(problem for problem, _ in told[MOST_PROBLEMS_SHOWN:]))
    raise Invalid(*dict.fromkeys(_by_key(problem, document) for problem in problems))


def _by_key(problem: Problem, document: Document) -> Problem:
    """A problem of a config.json by the keys that the field came from, with what the file says."""
    keys = document.origin(tuple(problem.path.split("."))) if problem.file == document.file else []
    if not keys:
        return problem
    value = problem.value
    if len(keys) == 1 and value is not None:
        found: Any = document.config
        for step in keys[0].split("."):
            found = found.get(step) if isinstance(found, dict) else None
        value = value if found is None else written(found)
    return replace(problem, path=", ".join(keys), value=value)


def _told(document: Document, error: ValidationError) -> list[tuple[Problem, dict[str, Any]]]:
    """The problems that pydantic found, and its errors that they are made from."""
    errors = _once([dict(one) for one in error.errors(include_url=False)])
    return [(_problem(document, one), one) for one in errors if not _echo(one)]


def _once(errors: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The errors, with one for a name that is wrong, which its group of layers may have in many places."""
    told: set[tuple[Any, str]] = set()
    found = []
    for error in sorted(errors, key=lambda error: error["loc"][-1:] != (_KEY,)):  # first where it is given
        if error["type"] == "string_pattern_mismatch":
            name = (error["loc"][:2], error["input"])
            if name in told:
                continue
            told.add(name)
        found.append(error)
    return found


def _old_problems(document: Document, what: type[BaseModel]) -> set[tuple[str, ...]]:
    """What was wrong before the question."""
    before = replace(document, data=document.before, question="", asked=set())
    try:
        what.model_validate(before.data)
    except ValidationError as error:
        return {_said(problem) for problem, _ in _told(before, error)}
    return set()


def _said(problem: Problem) -> tuple[str, ...]:
    return problem.path, problem.message, problem.value or ""


def _at_question(problem: Problem, document: Document) -> Problem:
    return replace(problem, file=document.question, line=None, column=None)


def write_it(document: Document) -> str:
    """Where a block can be given, since a question has words and numbers only."""
    if document.origins:
        return f"write it in the spec that `archcalc import {document.file}` makes"
    return f"write it in {'the spec' if is_stdin(document.file) else f'a copy of {document.file}'}"


def _place(problem: Problem) -> tuple[int, int]:
    return problem.line or 0, problem.column or 0


def _suggested(problem: Problem, document: Document, what: type[BaseModel], error: dict[str, Any]) -> Problem:
    """A problem with what would be right, which takes a thousand times as long to find as the problem."""
    where = _where(document.data, error["loc"])
    suggestion = None
    if error["type"] == "extra_forbidden":
        suggestion = _field_meant(where[-1], error["input"], _fields(what, where[:-1]))
    elif error["type"] == "union_tag_invalid":
        suggestion = _choice_meant(error["input"]["kind"], _kinds(error))
    elif error["type"] == "literal_error":
        suggestion = _choice_meant(error["input"], _literals(error["ctx"]["expected"]))
    elif error["type"] == "constraint":
        suggestion = error["ctx"]["fix"]
    elif where in document.asked and _is_block(error):
        problem = replace(problem, message="takes a block, which a question cannot give")
        suggestion = write_it(document)
    return problem if suggestion is None else replace(problem, suggestion=suggestion)


def _is_block(error: dict[str, Any]) -> bool:
    """Whether a mapping of fields is what a value should have been."""
    return error["type"] in ("model_type", "dict_type", "model_attributes_type")


def _field_meant(field: object, value: object, fields: list[str]) -> str | None:
    """What an unknown field may be meant for: another program's name, a flag, a slip of a few letters."""
    if unsupported := feature(field):
        return f"leave it out: {unsupported}" if value is None or value is False else None
    ours = other_name(field)
    if ours in fields:
        return f"here it is called {ours!r}"
    if given := flag(field):
        return f"{given} sets it on the command line"
    if field in fields:
        return "another kind or form of this has it"
    near = did_you_mean(field, fields)
    return near or (f"here it is {ours!r}, in another place" if ours else None)


def _choice_meant(value: object, choices: list[str]) -> str | None:
    """What an unknown kind or word may be meant for; where it is known and not supported, what is."""
    if feature(value):
        return f"supported: {', '.join(choices)}"
    ours = other_name(value)
    return f"here it is called {ours!r}" if ours in choices else did_you_mean(value, choices)


def _kinds(error: dict[str, Any]) -> list[str]:
    return [kind.strip(f" '{TAG}") for kind in error["ctx"]["expected_tags"].split(",")]


def _echo(error: dict[str, Any]) -> bool:
    """Pydantic calls a list too short when all its items are wrong; those errors are reported already."""
    return error["type"] == "too_short" and bool(error["input"])


def _problem(document: Document, error: dict[str, Any]) -> Problem:
    where, value, kind = _where(document.data, error["loc"]), error["input"], error["type"]
    context = error.get("ctx", {})
    if kind == "missing":
        return document.problem("is missing", where)
    if kind == "extra_forbidden":
        off = value is None or value is False
        return document.problem((not off and feature(where[-1])) or "unknown field", where, at_key=True)
    if kind == "union_tag_not_found":
        return document.problem("is missing", (*where, "kind"))
    if kind == "union_tag_invalid":
        return _choice(document, (*where, "kind"), value["kind"], _kinds(error))
    if kind == "literal_error":
        return _choice(document, where, value, _literals(context["expected"]))
    if kind == "constraint":
        for step in context["field"].split("."):
            where, value = (*where, step), value.get(step)
        size = context.get("size")
        got = f"{size if isinstance(size, str) else written(size)}, the default" if value is None else written(value)
        return document.problem(error["msg"], where, value=got)
    if kind == "one_of":
        return document.problem(error["msg"], where)
    return document.problem(_message(error), where, at_key=error["loc"][-1:] == (_KEY,), value=written(value))


def _message(error: dict[str, Any]) -> str:
    """What is wrong with a value by itself."""
    value, kind, context = error["input"], error["type"], error.get("ctx", {})
    if kind in _BOUNDS:
        if isinstance(value, float) and not isfinite(value):
            return _TYPES["finite_number"]
        bound = context.get("ge", context.get("le", context.get("gt")))
        return f"must be {_BOUNDS[kind]} {int(bound):,}"
    if kind in ("too_short", "string_too_short"):
        return "must not be empty"
    if kind == "too_long":
        return f"must have at most {context['max_length']:,} items"
    if kind == "string_too_long":
        return f"must have at most {context['max_length']:,} characters"
    if kind == "string_pattern_mismatch" and context["pattern"] in IN_WORDS:
        return IN_WORDS[context["pattern"]]
    return _TYPES.get(kind) or error["msg"][0].lower() + error["msg"][1:]


def _where(data: Any, loc: tuple[str | int, ...]) -> Where:
    """Pydantic's location without the union tags that it weaves in; a field may be called as a tag is."""
    where: list[str | int] = []
    for step in loc[:-1] if loc[-1:] == (_KEY,) else loc:
        is_field = isinstance(data, dict) and step in data
        if not is_field and isinstance(data, dict) and step == data.get("kind"):
            continue
        if not is_field and isinstance(step, str) and step.startswith(TAG):
            continue
        where.append(step)
        if isinstance(data, dict):
            data = data.get(step)
        elif isinstance(data, list) and isinstance(step, int):
            data = data[step]
        else:
            data = None
    return tuple(where)


def _choice(document: Document, where: Where, value: object, choices: list[str]) -> Problem:
    message = feature(value) or f"must be {' or '.join(choices)}"
    return document.problem(message, where, value=written(value))


def _literals(expected: str) -> list[str]:
    """The choices out of pydantic's `'a', 'b' or 'c'`."""
    return [choice.strip(" '") for choice in expected.replace(" or ", ",").split(",")]


def _fields(what: type[BaseModel], where: Where) -> list[str]:
    """The names of the fields that may stand at a path, over all kinds of a slot."""
    holders: list[type[BaseModel]] = [what]
    named = False  # whether the step is a name that the spec gives: of a kind of layers
    for step in where:
        if named or isinstance(step, int):
            named = False
            continue
        known = [holder.model_fields[step] for holder in holders if step in holder.model_fields]
        named = any(get_origin(field.annotation) is dict for field in known)
        holders = [inner for holder in holders for inner in _inside(holder, step)]
    return [field.alias or name for holder in holders for name, field in holder.model_fields.items()]


def _inside(holder: type[BaseModel], step: str) -> list[type[BaseModel]]:
    """The models that a field holds: itself, in a tuple, a mapping or a union."""
    if step not in holder.model_fields:
        return []
    found = [x for x in models_in(holder.model_fields[step].annotation) if x is not holder]
    return [kind for inner in found for kind in (*registered(inner).values(),) or (inner,)]
