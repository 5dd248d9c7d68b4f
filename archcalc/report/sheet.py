"""A sheet: what one command shows, before it is known in which format."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from archcalc.counts.quantities import Asked
from archcalc.plan.description import Plan
from archcalc.spec.catalogue import Found
from archcalc.spec.model import SCHEMA, Model
from archcalc.tape.precision import Recompute
from archcalc.units import several


@dataclass(frozen=True)
class Bytes:
    """A figure in bytes, which shortens in binary units (1.500 GiB); a difference has its sign."""

    n: int
    signed: bool = False


Cell = int | str | tuple[int, ...] | Bytes | None
Format = Literal["table", "markdown", "json", "csv"]


class Column(NamedTuple):
    """A column's head, and whether it is set to the right, as figures are."""

    head: str
    right: bool = False


class Table(NamedTuple):
    """Rows under heads; `total` stands below a line, and `more` below it. Integers are grouped, tuples are shapes.

    The first `keys` columns tell rows apart: they stand in each part of a table that is too wide. A column without a
    head belongs to the one before it.
    """

    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    total: tuple[Cell, ...] | None = None
    title: str = ""
    more: tuple[tuple[Cell, ...], ...] = ()
    keys: int = 1


class Fields(NamedTuple):
    """Labelled paragraphs."""

    rows: tuple[tuple[str, tuple[str, ...]], ...]


class Folded(NamedTuple):
    """Blocks below a line that says what they are; Markdown shows them once a reader unfolds them."""

    title: str
    blocks: tuple[Table | Fields, ...]


@dataclass(frozen=True)
class Rows:
    """Rows of plain values under heads, made when they are written: a million dicts would take a gigabyte."""

    heads: tuple[str, ...]
    make: Callable[[], Iterator[tuple[int | float | str, ...]]]


class Sheet(NamedTuple):
    """What to show. `payload` is its JSON whole, in which Rows are lists; `records`, flat, are its CSV.

    `review` is what Markdown has in place of `blocks`, where that is to be a short comment.
    """

    title: str
    blocks: tuple[Table | Fields, ...]
    payload: dict[str, Any]
    records: tuple[dict[str, Any], ...] | Rows = ()
    review: tuple[Table | Fields | Folded, ...] = ()


def words(*heads: str) -> tuple[Column, ...]:
    """Columns of words."""
    return tuple(Column(head) for head in heads)


def figures(*heads: str) -> tuple[Column, ...]:
    """Columns of figures."""
    return tuple(Column(head, right=True) for head in heads)


def payload(spec: str, **rest: Any) -> dict[str, Any]:
    """The JSON that every command writes: its schema's number and the spec's name come first."""
    return {"schema": SCHEMA, "spec": spec, **rest}


def caveats(found: Found, *, assumed: bool = False) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """What a question changed, what the source misprints, and what counts take for granted of routing: printed with
    every result.

    What the spec assumes is printed once, by the report, and by `check`; JSON has it everywhere.
    """
    asked = tuple(str(change) for change in found.changes)
    if asked:
        asked = (
            *asked,
            "published figures and assumptions describe the unchanged spec and are left out",
        )
    assumptions = (*routing(found.model), *(found.model.assumptions if assumed else ()))
    rows = (("Changed", asked), ("Warning", found.warnings), ("Assumed", assumptions))
    return tuple((label, lines) for label, lines in rows if lines)


def routing(model: Model) -> tuple[str, ...]:
    """What the counts of a model's mixers take for granted."""
    kinds = (kind.layer for group in model.layers for kind in group.kinds_in())
    said = (branch.mixer.assumed() for layer in kinds for branch in layer.residual_branches)
    return tuple(dict.fromkeys(words for words in said if words))


def notes(found: Found) -> dict[str, Any]:
    """The same caveats for JSON."""
    changes = [
        {"path": change.path, "old": change.old, "new": change.new, "because": change.because}
        for change in found.changes
    ]
    return {
        "warnings": list(found.warnings),
        "assumptions": [*routing(found.model), *found.model.assumptions],
        **({"changes": changes} if changes else {}),
    }


def kernel_words(asked: Asked) -> str:
    """Whose attention is counted, in words."""
    return f"FLOPs with {asked.kernels['flops']} attention, memory with {asked.kernels['memory']} attention"


def kept_words(asked: Asked) -> str:
    """How numbers are kept, in words."""
    keeping = asked.keeping
    if asked.purpose == "inference":
        return f"inference, {keeping.precision}"
    return f"{keeping.precision}, {keeping.optimizer}, {recomputed(keeping.recompute)}"


def recomputed(what: Recompute, plan: Plan | None = None) -> str:
    """What is recomputed, in words; a plan may ask for some layers alone."""
    return f"{_first_layers(plan)} recomputed" if _some(what, plan) else RECOMPUTED[what]


def computed_again(what: Recompute, plan: Plan | None = None) -> str:
    """What is computed again, in words; a plan may ask for some layers alone."""
    return _first_layers(plan) if _some(what, plan) else AGAIN[what]


def _some(what: Recompute, plan: Plan | None) -> bool:
    return what == "full" and plan is not None and plan.recompute_layers is not None


def _first_layers(plan: Plan | None) -> str:
    count = (plan and plan.recompute_layers) or 0
    return f"the first {several(count, 'layer')} of each {'chunk' if plan and plan.chunks > 1 else 'stage'}"


AGAIN = {"selective": "the attention core", "full": "every layer"}
"""What is computed again, in words."""


RECOMPUTED = {"none": "no recomputation", "selective": "attention core recomputed", "full": "layers recomputed"}
"""What is recomputed, in words."""
