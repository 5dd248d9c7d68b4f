"""The quantities by name: what each counts, in which unit, and the flags that change it."""

from __future__ import annotations

from archcalc.counts.quantities import QUANTITIES
from archcalc.report.sheet import Fields, Sheet, Table, words
from archcalc.spec.model import SCHEMA

_WIDTH = 42  # of a meaning, so that the table has 80 columns


def quantities_sheet() -> Sheet:
    """A row for each quantity; each can be asked for by `explain` and is a column of `sweep` and a row of `diff`."""
    records = tuple(
        {"name": name, "unit": quantity.unit, "meaning": quantity.meaning, "flags": " ".join(quantity.flags)}
        for name, quantity in QUANTITIES.items()
    )
    rows = tuple(row for record in records for row in _folded(record))
    said = (
        "archcalc explain SPEC NAME shows the formula of a quantity",
        "columns of archcalc sweep (--columns NAME,NAME) and rows of archcalc diff use these names",
        "in JSON, a.b is key b of object a",
    )
    return Sheet(
        title=f"{len(records)} quantities",
        blocks=(Table(words("name", "unit", "meaning"), rows), Fields((("Names", said),))),
        payload={"schema": SCHEMA, "quantities": [{**r, "flags": r["flags"].split()} for r in records]},
        records=records,
    )


def _folded(record: dict[str, str]) -> list[tuple[str, str, str]]:
    """A row whose meaning goes on below it where it is long."""
    from textwrap import wrap

    first, *more = wrap(record["meaning"], _WIDTH)
    return [(record["name"], record["unit"], first), *(("", "", line) for line in more)]
