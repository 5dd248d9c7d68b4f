"""One word's vectors in groups of texts, layer by layer: how alike they are within a group and between groups."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

from archcalc.report.cells import bar
from archcalc.report.drift import COSINE, Reading, remarks
from archcalc.report.sheet import Cell, Column, Fields, Sheet, Table, caveats, figures, notes, payload, words
from archcalc.report.tokens import begins_fields
from archcalc.spec.catalogue import Found
from archcalc.units import grouped, several
from archcalc.words.senses import Likeness, by_chance, likeness

_BAR = 20  # places: a table of 80 columns has room for them
_SHOWN_TEXTS = 4
_SHOWN_PLACES = 40
_MEANS = "within, between: means over all pairs of texts; apart: their difference"


class Grouped(NamedTuple):
    """A text and the name of its group."""

    group: str
    reading: Reading


def senses_sheet(found: Found, word: str, texts: Sequence[Grouped]) -> Sheet:
    """How alike the vectors of one word are, in at least two groups of texts, at each place of their way."""
    groups = [text.group for text in texts]
    ways = zip(*(text.reading.way for text in texts), strict=True)
    places = [(along[0].place, likeness([one.vector_D for one in along], groups)) for along in ways]
    _, last = places[-1]
    shown = places if len(places) <= _SHOWN_PLACES else _whole_layers(places)
    inside = "" if last.within is None else f"{last.within:.4f} within a group, "
    what = f"{word!r} in {several(len(texts), 'text')} of {len(set(groups))} groups"
    return Sheet(
        title=f"{found.name}: {what}: cosine at the end {inside}{last.between:.4f} between groups",
        blocks=(
            _table(shown, len(texts), pairs=last.within is not None),
            Fields(
                (
                    ("Word", tuple(_followed(texts))),
                    *begins_fields(next((one.reading.begins for one in texts if one.reading.begins), ())),
                    *_control(groups),
                    *([] if last.within is None else [("Nearest", (_neighbours(groups),))]),
                    *_folded(folded=shown is not places),
                    (
                        "Counted",
                        (COSINE, _MEANS if last.within is not None else "between: the mean over all pairs of texts"),
                    ),
                    *caveats(found),
                )
            ),
        ),
        payload=payload(
            found.name,
            word=word,
            texts=[{"group": text.group, **text.reading.record} for text in texts],
            nearest_by_chance=by_chance(groups),
            senses=[{**_flat(place, alike), "within_each": alike.within_each} for place, alike in places],
            **notes(found),
        ),
        records=tuple(_flat(place, alike) for place, alike in places),
    )


def _whole_layers(places: list[tuple[str, Likeness]]) -> list[tuple[str, Likeness]]:
    """The places without those inside a layer."""
    layers = [re.sub(r"^(layers\.\d+)\..*", r"\1", place) for place, _ in places]
    last = {layer: i for i, layer in enumerate(layers)}
    return [(layers[i], places[i][1]) for i in sorted(last.values())]


def _table(places: list[tuple[str, Likeness]], texts: int, *, pairs: bool) -> Table:
    """A row for each place; `pairs`: a group has two texts, so that there is something within."""
    if not pairs:
        rows = tuple((place, f"{alike.between:.4f}") for place, alike in places)
        return Table((*words("after"), *figures("between")), rows)
    columns = (*words("after"), *figures("within", "between", "apart"), Column(""), *figures("nearest in group"))
    return Table(columns, tuple(_row(place, alike, texts) for place, alike in places))


def _row(place: str, alike: Likeness, texts: int) -> tuple[Cell, ...]:
    near = f"{_tenths(alike.nearest)} of {grouped(texts)}"
    within = alike.within or 0.0
    apart = within - alike.between
    return place, f"{within:.4f}", f"{alike.between:.4f}", f"{apart:.4f}", bar(max(apart, 0.0), _BAR), near


def _tenths(count: float) -> str:
    """A number of texts, with its tenths where it is not whole."""
    return f"{count:.1f}".removesuffix(".0")


def _followed(texts: Sequence[Grouped]) -> list[str]:
    """Which token is followed in which text, and what would mislead."""
    lines = [f"{text.group}: {text.reading.said}" for text in texts[:_SHOWN_TEXTS]]
    if len(texts) > _SHOWN_TEXTS:
        lines.append(f"and {several(len(texts) - _SHOWN_TEXTS, 'more text')}; JSON has all")
    readings = [text.reading for text in texts]
    return [*lines, *remarks(readings, [text.group for text in texts])]


def _control(groups: Sequence[str]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """What is missing to compare with, where a group has one text."""
    alone = [name for name, texts in Counter(groups).items() if texts == 1]
    if not alone:
        return ()
    have = "has" if len(alone) == 1 else "have"
    line = f"one text proves little: {', '.join(alone)} {have} no pair within; give each group several texts"
    return (("Control", (line,)),)


def _folded(*, folded: bool) -> tuple[tuple[str, tuple[str, ...]], ...]:
    return (("Places", ("after whole layers; JSON and CSV have their parts too",)),) if folded else ()


def _neighbours(groups: Sequence[str]) -> str:
    chance = f"by chance alone it is {_tenths(by_chance(groups))} of {len(groups)}"
    counted = "texts whose nearest neighbour, by cosine, is of their own group; equally near ones count in part"
    return f"{counted}, and {chance}"


def _flat(place: str, alike: Likeness) -> dict[str, Any]:
    return {"after": place, "within": alike.within, "between": alike.between, "nearest_in_group": alike.nearest}
