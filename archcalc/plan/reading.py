"""Find a plan by the catalogue's name or a path, and change its fields by flags."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cache
from typing import Any

from archcalc.errors import Invalid, Problem, nearest
from archcalc.plan.description import Plan
from archcalc.spec.catalogue import is_path, specs_folder
from archcalc.spec.revisions import read_source
from archcalc.spec.source import Document, display_name, is_stdin, parse
from archcalc.spec.validation import validate


@cache
def plan_names() -> tuple[str, ...]:
    """The names of the catalogue's plans, in alphabetical order."""
    return tuple(sorted(file.removesuffix(".yaml") for file in os.listdir(_folder()) if file.endswith(".yaml")))


def find_plan(name: str | None, changes: Mapping[str, Any]) -> Plan:
    """The plan of a name or a path, or one that nothing divides, with some fields changed.

    Raises Invalid for an unknown name, a malformed file and for fields that contradict each other, Missing for a path
    that leads nowhere.
    """
    if name is None:
        return validate(Document("plan", {"schema": 0, **changes}), Plan)
    document = _document(name)
    plan = validate(document, Plan)
    if not changes:
        return plan
    said = document.data if isinstance(document.data, dict) else {}
    if changes.get("recompute", "full") != "full":  # how many layers is no longer asked
        said = {field: value for field, value in said.items() if field != "recompute_layers"}
    data = {**said, **changes}
    return validate(Document(document.file, data), Plan)


def _document(name: str) -> Document:
    if name in plan_names():
        path = os.path.join(_folder(), f"{name}.yaml")
    elif is_path(name) or is_stdin(name) or os.path.isdir(name):
        path = name
    else:
        near = nearest(name, list(plan_names()), 3)
        fix = f"nearest: {', '.join(near)}" if near else "`archcalc list plans` shows all; a path names a YAML file"
        raise Invalid(Problem("--plan", f"unknown plan {name!r}", suggestion=fix))
    return parse(read_source(path), display_name(path))


def _folder() -> str:
    return os.path.join(specs_folder(), "plans")
