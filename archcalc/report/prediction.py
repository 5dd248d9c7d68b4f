"""The sheet of a prediction: the most likely next tokens, their logits, their probabilities as bars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any, NamedTuple

from archcalc.report.cells import bar
from archcalc.report.sheet import Cell, Column, Fields, Sheet, Table, figures, notes, payload, words
from archcalc.report.tokens import Token, begins_fields
from archcalc.spec.catalogue import Found
from archcalc.units import plain, several, share
from archcalc.words.probability import retemper


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


SETTINGS = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty")
"""Of a sampling, what bears on probabilities."""
_IDENTITIES = {"top_k": 0, "top_p": 1, "min_p": 0, "repetition_penalty": 1}
_CHOOSING = ("top_k", "top_p", "min_p")


def sampling_said(sampling: Mapping[str, float]) -> str:
    """The settings that bear on probabilities: the temperature, and others where they change something."""
    others = [
        f"{name.replace('_', ' ' if name == 'repetition_penalty' else '-')} {sampling[name]:g}"
        for name, identity in _IDENTITIES.items()
        if sampling[name] != identity
    ]
    return ", ".join([f"temperature {sampling['temperature']:g}", *others])


def prediction_sheet(
    found: Found,
    given: Any,
    likely: list[Likely],
    sampling: Mapping[str, float],
    *,
    heats: Sequence[float] = (),
    left: int = 0,
    never: int = 0,
) -> Sheet:
    """What comes next after what was given, the most likely first; so many ids have no token and are `never` drawn.

    `heats` re-temper what is shown: p^(1/T), divided by the sum over the shown tokens alone. Under the settings `left`
    tokens may be drawn.
    """
    together = sum(one.probability for one in likely)
    best = likely[0]
    shown = f"{several(len(likely), 'token')} with {share(together, 1)}"
    columns = [retemper([one.probability for one in likely], heat) for heat in heats]
    names = [f"T = {plain(heat)}" for heat in heats]
    records = tuple(
        {**one.record, **{f"probability_at_{plain(heat)}": p for heat, p in zip(heats, row, strict=True)}}
        for one, row in zip(likely, zip(*columns, strict=True) if heats else [()] * len(likely), strict=True)
    )
    rule = f"p^(1/T), divided by the sum over the {several(len(likely), 'token')} shown"
    first = f"the most likely next is {best.token.literal} ({share(best.probability, 1)})"
    penalty = sampling["repetition_penalty"] != 1
    chosen = any(sampling[name] != _IDENTITIES[name] for name in _CHOOSING)
    return Sheet(
        title=f"{found.name}: after {several(len(given.ids), 'token')} {first}",
        blocks=(
            _table(likely, names, columns),
            Fields(
                (
                    ("Prompt", (repr(given.text),)),
                    *begins_fields(given.begins),
                    ("Shown", (f"{shown} of the probability; {sampling_said(sampling)}",)),
                    *([("Left", (f"{several(left, 'token')} may be drawn",))] if chosen else []),
                    *([("Logits", ("after the penalty on the tokens of the prompt",))] if penalty else []),
                    *([("Retemper", (rule,))] if heats else []),
                    *([("No token", (f"{several(never, 'id')} without a token, never drawn",))] if never else []),
                )
            ),
        ),
        payload=payload(
            found.name,
            prompt=given.text,
            begins=[token.id for token in given.begins],
            **{name: sampling[name] for name in SETTINGS},
            **({"retempered": list(heats)} if heats else {}),
            ids_without_a_token=never,
            rows=list(records),
            **notes(found),
        ),
        records=records,
    )


def _table(likely: list[Likely], names: list[str], columns: list[list[float]]) -> Table:
    """A row for each token; what was re-tempered stands in place of the logits, with bars of the last temperature."""
    if not columns:
        rows: list[tuple[Cell, ...]] = [
            (one.token.literal, one.token.id, f"{one.logit:.4f}", share(one.probability, 1), bar(one.probability))
            for one in likely
        ]
        return Table((*words("token"), *figures("id", "logit", "probability"), Column("")), tuple(rows))
    rows = [
        (one.token.literal, one.token.id, share(one.probability, 1), *(share(p, 1) for p in row), bar(row[-1]))
        for one, row in zip(likely, zip(*columns, strict=True), strict=True)
    ]
    return Table((*words("token"), *figures("id", "probability", *names), Column("")), tuple(rows))
