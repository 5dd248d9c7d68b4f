"""The sheet of words that may come next: each token of a word after those before it, and their product."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import accumulate
from operator import mul
from typing import Any, NamedTuple

from archcalc.report.cells import bar
from archcalc.report.prediction import SETTINGS, sampling_said
from archcalc.report.sheet import Cell, Column, Fields, Sheet, Table, figures, notes, payload, words
from archcalc.report.tokens import Token, begins_fields
from archcalc.spec.catalogue import Found
from archcalc.units import four_digits, several


class Form(NamedTuple):
    """A word as it may be written after a prompt; `probabilities` are those of its tokens, each after the ones before.

    `probability` is their product.
    """

    text: str
    tokens: tuple[Token, ...]
    probabilities: tuple[float, ...]
    probability: float


class Word(NamedTuple):
    """A word as it was typed, and its forms, the likeliest first."""

    typed: str
    forms: tuple[Form, ...]

    @property
    def best(self) -> Form:
        """Its likeliest form."""
        return self.forms[0]

    @property
    def record(self) -> dict[str, Any]:
        """It as JSON."""
        return {
            "word": self.typed,
            "text": self.best.text,
            "probability": self.best.probability,
            "tokens": [
                {"token_id": token.id, "text": token.text, "probability": p}
                for token, p in zip(self.best.tokens, self.best.probabilities, strict=True)
            ],
            "other_forms": [{"text": form.text, "probability": form.probability} for form in self.forms[1:]],
        }


def words_sheet(
    found: Found, given: Any, asked: list[Word], sampling: Mapping[str, float], *, never: int = 0
) -> Sheet:
    """A row for each token of each word, the likeliest word first."""
    ordered = sorted(asked, key=lambda word: -word.best.probability)
    best = ordered[0].best
    which = f"the word {best.text!r} has" if len(ordered) == 1 else f"the most likely of {len(ordered)} words is"
    percent = _percent(best.probability)
    others = tuple(
        f"{form.text!r} has {_percent(form.probability)}, {several(len(form.tokens), 'token')}"
        for word in ordered
        for form in word.forms[1:]
    )
    records = tuple(word.record for word in ordered)
    return Sheet(
        title=f"{found.name}: after {several(len(given.ids), 'token')} {which} "
        + (percent if len(ordered) == 1 else f"{best.text!r} ({percent})"),
        blocks=(
            Table(
                (*words("word", "token"), *figures("id", "probability", "together"), Column("")),
                tuple(row for word in ordered for row in _rows(word.best)),
            ),
            Fields(
                (
                    ("Prompt", (repr(given.text),)),
                    *begins_fields(given.begins),
                    ("Sampling", (sampling_said(sampling),)),
                    (
                        "Counted",
                        (
                            "together: the product of the probabilities so far, each token after those before it",
                            "as the tokenizer cuts the word; the token after it may continue the word",
                        ),
                    ),
                    *([("Also", others)] if others else []),
                    *([("No token", (f"{several(never, 'id')} without a token, never drawn",))] if never else []),
                )
            ),
        ),
        payload=payload(
            found.name,
            prompt=given.text,
            begins=[token.id for token in given.begins],
            **{name: sampling[name] for name in SETTINGS},
            ids_without_a_token=never,
            rows=list(records),
            **notes(found),
        ),
        records=tuple(
            {
                **{name: record[name] for name in ("word", "text", "probability")},
                "token_ids": " ".join(str(token["token_id"]) for token in record["tokens"]),
            }
            for record in records
        ),
    )


def _rows(form: Form) -> list[tuple[Cell, ...]]:
    together = accumulate(form.probabilities, mul)
    return [
        ("" if place else repr(form.text), token.literal, token.id, _percent(p), _percent(so_far), bar(so_far))
        for place, (token, p, so_far) in enumerate(zip(form.tokens, form.probabilities, together, strict=True))
    ]


def _percent(p: float) -> str:
    """Four digits, for a word may have a small part of a percent."""
    return f"{four_digits(100 * p)}%"
