"""The sheets of vectors: what is near a sum of words, and how far along a direction words are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from archcalc.report.sheet import Fields, Sheet, Table, figures, words
from archcalc.spec.model import SCHEMA
from archcalc.units import four_digits, grouped, several
from archcalc.words.vectors import Measured, Neighbour, Sum, Vectors


def neighbours_sheet(vectors: Vectors, target: Sum, found: Sequence[Neighbour], *, unit: bool = False) -> Sheet:
    """A row for each neighbour, the nearest first; words that were put in have a rank among all alone."""
    heads = ("word", "rank", "rank_with_inputs", "cosine", "dot")
    records = tuple({head: getattr(neighbour, head) for head in heads} for neighbour in found)
    rows = tuple(
        (n.rank, n.rank_with_inputs, quoted(n.word), _or_nothing(n.cosine), four_digits(n.dot)) for n in found
    )
    inputs = list(dict.fromkeys(vectors.label(row) for row in target.rows))
    lines = (
        ("Inputs", (f"{', '.join(map(quoted, inputs))}: excluded from the rank, included in the rank with inputs",)),
        ("Length", (f"{four_digits(target.length)} (of the resulting vector)",)),
        *_said(vectors, (target,), unit=unit),
    )
    return Sheet(
        title=f"{target.text}: nearest neighbours among {_size(vectors)}",
        blocks=(
            Table((*figures("rank", "with inputs"), *words("word"), *figures("cosine", "dot product")), rows),
            Fields(lines),
        ),
        payload={
            **_about(vectors, (target,), unit=unit),
            "expression": target.text,
            "inputs": inputs,
            "length": target.length,
            "rows": list(records),
        },
        records=records,
    )


def along_sheet(
    vectors: Vectors, direction: Sum, asked: Sequence[Sum], found: Sequence[Measured], *, unit: bool = False
) -> Sheet:
    """A row for each word in the order asked, and the words in the order that the direction gives them."""
    records = tuple(measured._asdict() for measured in found)
    rows = tuple((m.word, four_digits(m.dot), _or_nothing(m.cosine)) for m in found)
    order = [measured.word for measured in sorted(found, key=lambda measured: measured.dot)]
    lines = (
        ("Order", (" < ".join(order),)),
        ("Length", (f"{four_digits(direction.length)} (of the direction; dot products are proportional to it)",)),
        *_said(vectors, (direction, *asked), unit=unit),
    )
    return Sheet(
        title=f"{several(len(found), 'word')} along {direction.text}, among {_size(vectors)}",
        blocks=(Table((*words("word"), *figures("dot product", "cosine")), rows), Fields(lines)),
        payload={
            **_about(vectors, (direction, *asked), unit=unit),
            "along": direction.text,
            "length": direction.length,
            "rows": list(records),
        },
        records=records,
    )


def quoted(word: str) -> str:
    """A word as it is; in quotes where a blank begins or ends it, which no eye sees."""
    return word if word.strip() == word and word else repr(word)


def _or_nothing(cosine: float | None) -> str:
    return "-" if cosine is None else four_digits(cosine)


def _size(vectors: Vectors) -> str:
    return f"{grouped(len(vectors))} vectors of {several(vectors.dimensions, 'number')} in {vectors.name}"


def _notes(sums: Sequence[Sum]) -> list[str]:
    return list(dict.fromkeys(note for one in sums for note in one.notes))


def _said(vectors: Vectors, sums: Sequence[Sum], *, unit: bool) -> tuple[tuple[str, tuple[str, ...]], ...]:
    made = "made unit length first, as in gensim" if unit else "as stored, not made unit length first (as --unit does)"
    rows = (("Vectors", (made,)), ("Tokens", tuple(_notes(sums))), ("Warning", vectors.warnings))
    return tuple((label, lines) for label, lines in rows if lines)


def _about(vectors: Vectors, sums: Sequence[Sum], *, unit: bool) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "source": vectors.name,
        "vectors": len(vectors),
        "dimensions": vectors.dimensions,
        "unit": unit,
        "tokens": _notes(sums),
        "warnings": list(vectors.warnings),
    }
