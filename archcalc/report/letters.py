"""The letters of a formula: their values, what they mean, and where that is stated."""

from __future__ import annotations

import os
from typing import Any

from archcalc.counts.lettered import THE_RUN, Meaning
from archcalc.report.sheet import Table, figures, words
from archcalc.spec.catalogue import Found, specs_folder
from archcalc.spec.source import dotted


def letter_record(found: Found, one: Meaning) -> dict[str, Any]:
    """A letter, its value, its meaning, and the lines of the spec that state it."""
    fields = []
    for where in one.fields:
        place = found.document.problem("", where)  # in the file, or in the question that set it
        asked = where in found.document.asked
        keys = [] if asked else found.document.origin(where)
        named = {"field": dotted(where), "file": _file(place.file), "line": place.line}
        fields.append({**named, **({"keys": keys} if keys else {}), **({"asked": True} if asked else {})})
    told = {"letter": one.letter.name, "value": one.letter.value, "meaning": one.words, "fields": fields}
    return told if one.source == THE_RUN else {**told, "source": one.source}


def _file(name: str) -> str:
    """A file of the catalogue by its name alone."""
    return os.path.basename(name) if name.startswith(specs_folder()) else name


def letters_table(letters: list[dict[str, Any]]) -> Table:
    """A row for each letter."""
    rows = tuple((one["letter"], one["value"], one["meaning"], _from(one)) for one in letters)
    return Table((*words("letter"), *figures("value"), *words("meaning", "defined in")), rows, title="Letters")


def _from(letter: dict[str, Any]) -> str:
    """Where a letter's value is stated: d_model (gpt2.yaml:7)."""
    places: dict[str, list[str]] = {}
    for one in letter["fields"]:
        keys = one.get("keys", [])
        file = os.path.basename(one["file"]) if keys or not one["line"] else f"{one['file']}:{one['line']}"
        place = "asked" if "asked" in one else file
        places.setdefault(place, []).extend(keys or [one["field"].rpartition(".")[2]])
    written = [f"{', '.join(dict.fromkeys(names))} ({place})" for place, names in places.items()]
    if len(written) > _PLACES:
        written[_PLACES:] = [f"and {len(written) - _PLACES:,} more"]
    return ", ".join(written) or letter.get("source", THE_RUN)


_PLACES = 3  # of a letter that several groups of layers state together
