"""The sheet of a prediction: the most likely next tokens, their logits, their probabilities as bars."""

from __future__ import annotations

from math import isfinite
from typing import Any, NamedTuple

from archcalc.report.cells import bar
from archcalc.report.sheet import Column, Fields, Sheet, Table, figures, notes, payload, words
from archcalc.report.tokens import Token
from archcalc.spec.catalogue import Found
from archcalc.units import several, share


class Likely(NamedTuple):
    """One of the tokens that could come next."""

    token: Token
    logit: float
    probability: float

    @property
    def record(self) -> dict[str, Any]:
        """It as JSON."""
        return {
            "token_id": self.token.id,
            "text": self.token.text,
            "logit": self.logit if isfinite(self.logit) else None,  # JSON knows no infinity
            "probability": self.probability,
        }


def prediction_sheet(
    found: Found, prompt: str, likely: list[Likely], temperature: float, tokens: int, *, never: int = 0
) -> Sheet:
    """What comes next, the most likely first; so many ids stand for no token and are `never` drawn."""
    together = sum(one.probability for one in likely)
    best = likely[0]
    shown = f"{several(len(likely), 'token')} with {share(together, 1)}"
    rows = tuple(
        (one.token.literal, one.token.id, f"{one.logit:.4f}", share(one.probability, 1), bar(one.probability))
        for one in likely
    )
    first = f"the most likely next is {best.token.literal} ({share(best.probability, 1)})"
    return Sheet(
        title=f"{found.name}: after {several(tokens, 'token')} {first}",
        blocks=(
            Table((*words("token"), *figures("id", "logit", "probability"), Column("")), rows),
            Fields(
                (
                    ("Prompt", (repr(prompt),)),
                    (
                        "Shown",
                        (f"{shown} of the probability; temperature {temperature:g}",),
                    ),
                    *([("No token", (f"{several(never, 'id')} without a token, never drawn",))] if never else []),
                )
            ),
        ),
        payload=payload(
            found.name,
            prompt=prompt,
            temperature=temperature,
            ids_without_a_token=never,
            rows=[one.record for one in likely],
            **notes(found),
        ),
        records=tuple(one.record for one in likely),
    )
