"""A comparison as a comment on a change: what differs, and what that does to the main counts; the rest is folded."""

from __future__ import annotations

from archcalc.errors import LONGEST_PLACE, cut
from archcalc.report.sheet import Fields, Folded, Table
from archcalc.spec.catalogue import Found

MAIN = (
    *("parameters.stored", "parameters.active", "flops.per_token"),
    *("cache.per_token", "cache.state", "memory.total"),
)
"""What a reviewer asks first."""

Labelled = tuple[tuple[str, tuple[str, ...]], ...]


def labels(found: list[Found]) -> list[str]:
    """What tells specs apart: their names, or what was typed for those whose name another one has too."""
    names = [one.name for one in found]
    return [cut(one.typed, LONGEST_PLACE) if names.count(one.name) > 1 and one.typed else one.name for one in found]


def review(
    fields: Table | None,
    main: tuple[Table | Fields, ...],
    rest: Table | None,
    counted: Labelled,
    changes: Labelled,
    found: list[Found],
) -> tuple[Table | Fields | Folded, ...]:
    """The blocks of the comment; `rest` has all quantities that differ."""
    return (
        *([fields] if fields else []),
        *main,
        Fields(counted),
        *([Folded("All quantities that differ", (rest,))] if rest else []),
        *([Folded("Changes after @", (Fields(changes),))] if changes else []),
        *_warnings(found),
    )


def _warnings(found: list[Found]) -> list[Folded]:
    """The misprints that a spec puts right: once, where several have the same."""
    said = {name: one.warnings for name, one in zip(labels(found), found, strict=True)}
    if not any(said.values()):
        return []
    rows = tuple((name, lines) for name, lines in said.items() if lines)
    if len(set(said.values())) == 1:
        rows = (("All", rows[0][1]),)
    return [Folded("Warnings", (Fields(rows),))]
