"""What a spec says of itself: its name, the figures that somebody printed, and where they were read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from archcalc.checks.audit import counted
from archcalc.checks.rules import Finding, Rule
from archcalc.checks.subject import Subject
from archcalc.errors import Edit, Where
from archcalc.units import percent, to_digits

NEAR = 0.10
"""How far a name may be from the count where it is neither rounded nor cut: of the catalogue's, opt-350m and
falcon-h1-0.5b are 5.4% and 4.3% off, and phi-1.5, called 1.3B, 9.1%."""
SHARED = 0.6
"""NxM experts: of N models of M parameters all but the MLPs is one; Mixtral 8x7B has 83% of 56B."""
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "b": 10**9, "t": 10**12}
_UNITS |= {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_IN_NAME = re.compile(r"(?<![a-z0-9.])(a?)(?:(\d+)x)?(\d+(?:[._]\d+)?)([mbt])(\d*)(?![a-z0-9.])", re.IGNORECASE)
_PRINTED = re.compile(r"(?P<number>\d[\d,_ ]*(?:\.\d+)?)\s*(?P<unit>[kmbt]?|thousand|million|billion|trillion)", re.I)
_DIGIT = re.compile(r"\d")
_NOTHING = {
    "",
    "todo",
    "tbd",
    "fixme",
    "xxx",
    "unknown",
    "none",
    "na",
    "null",
    "nil",
    "no",
    "source",
    "no source",
    "tba",
}


class Amount(NamedTuple):
    """A number as printed: its value, its significant digits, and whether zeros at its end may stand for others.

    `abbreviated` says whether it has a unit, and so leaves digits out.
    """

    value: int
    digits: int
    unsure: bool
    abbreviated: bool


def printed(text: str) -> Amount | None:
    """The one number that a text is; None where it says more, or something else."""
    match = _PRINTED.fullmatch(text.strip())
    if match is None:
        return None
    whole, _, fraction = re.sub("[,_ ]", "", match["number"]).partition(".")
    unit = match["unit"].lower()
    times, shift = _UNITS[unit], 10 ** len(fraction)
    significant = (whole + fraction).lstrip("0")
    if int(whole + fraction) * times % shift or not significant:
        return None
    unsure = not fraction and significant.endswith("0")
    return Amount(int(whole + fraction) * times // shift, len(significant), unsure, bool(unit))


def names(figure: int, digits: int, counts: Iterator[int]) -> bool:
    """Whether a figure of so many digits can be the name of one of the counts: rounded, cut off, or near to it."""
    for count in counts:
        step = 10 ** max(len(str(count)) - digits, 0)
        if figure in (to_digits(count, digits), count // step * step) or abs(count - figure) <= NEAR * figure:
            return True
    return False


def _counts(subject: Subject, *, active: bool) -> Iterator[int]:
    """What a name may mean: with the token tables, without that of the input, and without both."""
    found = subject.counts.totals
    tables = found.stored - found.non_embedding
    yield from (
        (found.active, found.active_inner, found.active - tables)
        if active
        else (
            found.stored,
            found.non_embedding,
        )
    )


def _name(subject: Subject) -> Iterator[Finding]:
    """Of a model with experts a size may be what a token meets, without an A before it too (Llama 4 Scout 17B-16E)."""
    name = subject.model.name
    for match in _IN_NAME.finditer(name):
        active, times, number, unit, more = match.groups()
        if (more and not number.isdigit()) or (active and not subject.counts.totals.is_sparse):
            continue
        said = [figure for text in _readings(number, more) if (figure := printed(text + unit))]
        counts = [*_counts(subject, active=bool(active))]
        count = counts[0]
        if subject.counts.totals.is_sparse and not active:
            counts += _counts(subject, active=True)
        if times:
            figures = [figure.value * int(times) for figure in said]
            near = any(SHARED * figure <= count <= (1 + NEAR) * figure for figure in figures)
        else:
            figures = [figure.value for figure in said]
            near = any(names(figure.value, figure.digits, iter(counts)) for figure in said)
        if figures and not near:
            who = "a token meets" if active else "the model has"
            yield Finding(
                f"says {match[0]}; {who} {count:,} parameters ({percent(count - figures[0], figures[0])})",
                ("name",),
                name,
                "correct the name or the shape",
            )


def _readings(number: str, more: str) -> list[str]:
    """What a number in a name may mean: bloom-7b1 has 7.1B, and 1_6b is 1.6B, or 6B of version 1."""
    if more:
        return [f"{number}.{more}"]
    return [number.replace("_", "."), *([number.partition("_")[2]] if "_" in number else [])]


def _nominal(subject: Subject) -> Iterator[Finding]:
    for i, entry in enumerate(subject.model.published):
        if entry.status != "nominal" or entry.quantity not in ("parameters", "active"):
            continue
        amount = printed(entry.text)
        digits = entry.digits or (amount.digits if amount else len(str(entry.figure).rstrip("0")))
        active = entry.quantity == "active"
        if not names(entry.figure, digits, _counts(subject, active=active)):
            count = counted(entry, subject.counts)
            off = percent(count - entry.figure, entry.figure)
            yield Finding(
                f"is nominal, and far from the count of {count:,} ({off})",
                ("published", i, entry.quantity),
                f"{entry.figure:,}",
                "correct the figure or the shape",
            )


def _unsourced(subject: Subject) -> Iterator[Finding]:
    model = subject.model
    told: list[tuple[Where, str]] = [(("source",), model.source)]
    told += [(("published", i, "source"), entry.source) for i, entry in enumerate(model.published)]
    told += [(("misprints", i, "source"), entry.source) for i, entry in enumerate(model.misprints)]
    told += [(("allow", i, "why"), entry.why) for i, entry in enumerate(model.allow)]
    for path, text in told:
        if not _DIGIT.search(text) and re.sub(r"[^a-z ]", "", text.lower()).strip() in _NOTHING:
            what = (
                "stands for a reason that is missing" if path[-1] == "why" else "stands for a source that is missing"
            )
            yield Finding(what, path, repr(text), "name the paper, page or file where it was read")


def _digits(subject: Subject) -> Iterator[Finding]:
    """A counted figure whose text leaves digits out, and an entry that asks for more than were printed."""
    for i, entry in enumerate(subject.model.published):
        amount = printed(entry.text)
        if entry.status != "counted" or amount is None or amount.value != entry.figure or not amount.abbreviated:
            continue
        if entry.digits is not None and entry.digits <= amount.digits:
            continue
        path: Where = ("published", i, "digits")
        asked = "all digits of it" if entry.digits is None else f"{entry.digits} digits of it"
        edits = () if amount.unsure else (Edit(path, amount.digits),)
        fix = f"digits: {amount.digits}" + ", or fewer if its last zeros are rounded" * amount.unsure
        yield Finding(f"{entry.text!r} prints {amount.digits} digits, and {asked} must hold", path, None, fix, edits)


def _unlike(subject: Subject) -> Iterator[Finding]:
    for i, entry in enumerate(subject.model.published):
        amount = printed(entry.text)
        if amount is not None and amount.value != entry.figure:
            yield Finding(
                f"is not what its text says, {entry.text!r}",
                ("published", i, entry.quantity),
                f"{entry.figure:,}",
                f"{amount.value:,}",
            )


RULES = (
    Rule(
        "AC140",
        "name-far-from-count",
        "the size in the model's name is neither its count rounded nor cut off, nor within 10% of it",
        "either the shape was copied wrongly or the name is of another model; a name may leave out the token tables "
        "(Gemma 7B), and 8x7B shares all but the experts",
        "the names of the catalogue: of those that have a size all but a few are the count rounded or cut off, with "
        "the token tables or without, and the others are within 10%",
        "correct the shape or the name",
        looks=_name,
        example="name: own-7b, with 9.2 billion parameters",
    ),
    Rule(
        "AC141",
        "nominal-far-from-count",
        "a nominal figure is neither the count rounded nor cut off, nor within 10% of it",
        "a nominal figure cannot fail a check, so a shape that is wrong passes beside it",
        "the catalogue, as for AC140: GPT-2's 117M is 6% below its count, which OpenAI corrected",
        "correct the shape or the figure, or say by allow why they differ",
        looks=_nominal,
        example='{text: "7B", parameters: 7_000_000_000, status: nominal} and a model of 9.2B',
    ),
    Rule(
        "AC142",
        "source-missing",
        "a word such as TODO stands where a source or a reason belongs",
        "a shape that nobody can look up cannot be checked",
        "this project's rule: every figure has a source",
        "name the paper, page or file where it was read; of a design of your own, who decided it and where",
        looks=_unsourced,
        example="source: TODO",
    ),
    Rule(
        "AC143",
        "digits-not-stated",
        "a counted figure was printed in few digits, and more of them must hold",
        "174,600M prints four digits; without digits: 4 the count would have to be 174,600,000,000 exactly",
        "the meaning of digits: archcalc schema",
        "state the digits that are printed; check --fix does where they are certain",
        looks=_digits,
        example='{text: "6.7B", parameters: 6_700_000_000, status: counted} without digits: 2',
    ),
    Rule(
        "AC144",
        "figure-unlike-text",
        "the number of a published figure is not the one in its text",
        "one of the two was typed wrongly, and the check holds the count against the number alone",
        "arithmetic: 1.3B is 1,300,000,000",
        "correct the number or the text",
        looks=_unlike,
        example='{text: "1.3B", parameters: 1_400_000_000, status: nominal}',
    ),
)
