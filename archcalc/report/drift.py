"""One word's vector on its way through two texts, and how far the two come apart."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from archcalc.report.cells import bar
from archcalc.report.sheet import Column, Fields, Sheet, Table, caveats, figures, notes, payload, words
from archcalc.report.tokens import Token, begins_fields
from archcalc.spec.catalogue import Found
from archcalc.units import four_digits, grouped
from archcalc.words.occurrences import Occurrence


class Reading(NamedTuple):
    """A text and its number of tokens, where the word stands and its last token there, and that vector's way.

    The way is as the reference tells it. What the text begins with is counted, and not in the prompt.
    """

    prompt: str
    tokens: int
    place: Occurrence
    token: Token
    way: list[Any]
    begins: tuple[Token, ...] = ()

    @property
    def said(self) -> str:
        """Where the word is followed, in words."""
        _, takes, times = self.place
        parts = f", the last of the word's {takes}" if takes > 1 else ""
        often = f", where the word occurs for the last of {times} times" if times > 1 else ""
        at = f"token {grouped(self.place.position + 1)} of {grouped(self.tokens)}"
        return f"{at}, {self.token.literal}{parts}, in {self.prompt!r}{often}"

    @property
    def record(self) -> dict[str, Any]:
        """It as JSON."""
        return {
            "prompt": self.prompt,
            "begins": [token.id for token in self.begins],
            "position": self.place.position,
            "token_id": self.token.id,
            "text": self.token.text,
            "word_tokens": self.place.tokens,
            "occurrences": self.place.times,
        }


class Drift(NamedTuple):
    """How alike two vectors are at one place, and how long they are."""

    place: str
    cosine: float
    lengths: tuple[float, float]


COSINE = "cosine: the dot product divided by both lengths; 1 means the same direction"
"""What is compared, in words."""


def drift_sheet(found: Found, word: str, readings: tuple[Reading, Reading]) -> Sheet:
    """How far the vectors of one word come apart on their way through two texts."""
    drifts = [_drift(a, b) for a, b in zip(*(reading.way for reading in readings), strict=True)]
    least = min(drifts, key=lambda drift: drift.cosine)
    first, last = drifts[0].cosine, drifts[-1].cosine
    where = [f"{letter}: {reading.said}" for letter, reading in zip("AB", readings, strict=True)]
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
                    ("Word", (*where, *remarks(readings, "AB"))),
                    *begins_fields(next((one.begins for one in readings if one.begins), ())),
                    ("Lowest", (f"{least.cosine:.4f} after {least.place}",)),
                    (
                        "Control",
                        (
                            "one pair proves little: texts with the same sense of the word come apart too",
                            "--group NAME=TEXT compares several texts of each sense",
                        ),
                    ),
                    ("Counted", (COSINE,)),
                    *caveats(found),
                )
            ),
        ),
        payload=payload(
            found.name,
            word=word,
            texts=[reading.record for reading in readings],
            drift=[_flat(drift) for drift in drifts],
            **notes(found),
        ),
        records=tuple(_flat(drift) for drift in drifts),
    )


def remarks(readings: Sequence[Reading], names: Sequence[str]) -> Iterator[str]:
    """What would mislead a reader: other tokens of the word, and a word that is the first token of its text."""
    if len({reading.token.id for reading in readings}) > 1:
        yield "not the same token in each text, so the vectors differ from the start"
    if at_first := [name for name, reading in zip(names, readings, strict=True) if reading.place.position == 0]:
        which = ", ".join(dict.fromkeys(at_first))
        yield f"{which}: the first token of the text, whose vector is unlike all others (an attention sink)"


def _drift(a: Any, b: Any) -> Drift:
    lengths = (float(a.vector_D.norm()), float(b.vector_D.norm()))
    cosine = float(a.vector_D @ b.vector_D) / (lengths[0] * lengths[1]) if all(lengths) else 0.0
    return Drift(a.place, max(-1.0, min(1.0, cosine)), lengths)


def _flat(drift: Drift) -> dict[str, Any]:
    return {"after": drift.place, "cosine": drift.cosine, "length_a": drift.lengths[0], "length_b": drift.lengths[1]}
