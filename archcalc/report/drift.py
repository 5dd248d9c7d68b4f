"""One word's vector on its way through two texts, and how far the two come apart."""

from __future__ import annotations

from typing import Any, NamedTuple

from archcalc.report.cells import bar
from archcalc.report.sheet import Column, Fields, Sheet, Table, caveats, figures, notes, payload, words
from archcalc.report.tokens import Token
from archcalc.spec.catalogue import Found
from archcalc.units import four_digits


class Reading(NamedTuple):
    """A text, the place of the word's token in it, that token, and the vector's way as the reference tells it."""

    prompt: str
    tokens: int
    position: int
    token: Token
    way: list[Any]


class Drift(NamedTuple):
    """How alike two vectors are at one place, and how long they are."""

    place: str
    cosine: float
    lengths: tuple[float, float]


def drift_sheet(found: Found, word: str, readings: tuple[Reading, Reading]) -> Sheet:
    """How far the vectors of one word come apart on their way through two texts."""
    drifts = [_drift(a, b) for a, b in zip(*(reading.way for reading in readings), strict=True)]
    least = min(drifts, key=lambda drift: drift.cosine)
    first, last = drifts[0].cosine, drifts[-1].cosine
    same = all(reading.token.id == readings[0].token.id for reading in readings)
    where = [f"{letter}: {_where(reading)}" for letter, reading in zip("AB", readings, strict=True)]
    if not same:
        where.append("a different token in each text, so the vectors differ from the start")
    return Sheet(
        title=f"{found.name}: {word!r} in two texts: cosine {first:.4f} at the start, {last:.4f} at the end",
        blocks=(
            Table(
                (*words("after"), *figures("cosine"), Column(""), *figures("length in A", "length in B")),
                tuple(
                    (d.place, f"{d.cosine:.4f}", bar(max(d.cosine, 0.0)), *map(four_digits, d.lengths)) for d in drifts
                ),
            ),
            Fields(
                (
                    ("Word", tuple(where)),
                    ("Lowest", (f"{least.cosine:.4f} after {least.place}",)),
                    ("Counted", ("cosine: the dot product divided by both lengths; 1 means the same direction",)),
                    *caveats(found),
                )
            ),
        ),
        payload=payload(
            found.name,
            word=word,
            texts=[
                {"prompt": r.prompt, "position": r.position, "token_id": r.token.id, "text": r.token.text}
                for r in readings
            ],
            drift=[_flat(drift) for drift in drifts],
            **notes(found),
        ),
        records=tuple(_flat(drift) for drift in drifts),
    )


def _where(reading: Reading) -> str:
    at = f"token {reading.position + 1:,} of {reading.tokens:,}"
    return f"{at}, {reading.token.literal}, in {reading.prompt!r}"


def _drift(a: Any, b: Any) -> Drift:
    lengths = (float(a.vector_D.norm()), float(b.vector_D.norm()))
    cosine = float(a.vector_D @ b.vector_D) / (lengths[0] * lengths[1]) if all(lengths) else 0.0
    return Drift(a.place, max(-1.0, min(1.0, cosine)), lengths)


def _flat(drift: Drift) -> dict[str, Any]:
    return {"after": drift.place, "cosine": drift.cosine, "length_a": drift.lengths[0], "length_b": drift.lengths[1]}
