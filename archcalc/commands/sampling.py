"""The options of the commands that sample tokens: their help, their ranges, and the settings they make."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from archcalc.arguments import LARGEST_SIZE
from archcalc.commands.base import number
from archcalc.errors import Invalid, Problem, shown
from archcalc.units import plain

if TYPE_CHECKING:
    from archcalc_reference.model.sampling import Sampling

LARGEST_SEED = 2**63 - 1  # that PyTorch takes

Temperature = Annotated[str, typer.Option(metavar="T", help="sampling temperature; 0 takes the most likely token")]
TopK = Annotated[str, typer.Option(metavar="K", help="sample from the K most likely tokens; 0 for all")]
TopP = Annotated[
    str, typer.Option(metavar="P", help="sample from the most likely tokens whose probabilities sum to P; 1 for all")
]
MinP = Annotated[
    str,
    typer.Option(metavar="P", help="leave out tokens below P times the largest probability; 0 for none"),
]
RepetitionPenalty = Annotated[
    str,
    typer.Option(metavar="X", help="penalty on tokens already in the text; 1 for none"),
]
Seed = Annotated[str, typer.Option(metavar="N", help="seed of the random numbers")]


def settled(
    temperature: float, top_k: str, top_p: str, min_p: str, repetition_penalty: str, seed: str = "0"
) -> Sampling:
    """The sampling that the flags ask for. Raises Invalid for a value outside its range."""
    from archcalc_reference.model.sampling import Sampling

    share, least, penalty = (
        real(flag, text)
        for flag, text in (("--top-p", top_p), ("--min-p", min_p), ("--repetition-penalty", repetition_penalty))
    )
    if not 0 < share <= 1:
        raise Invalid(Problem("--top-p", "must be more than 0 and at most 1", value=shown(top_p)))
    if least > 1:
        raise Invalid(Problem("--min-p", "must be from 0 to 1", value=shown(min_p)))
    if not penalty:
        raise Invalid(Problem("--repetition-penalty", "must be more than 0", value=shown(repetition_penalty)))
    kept = number("--top-k", top_k, LARGEST_SIZE, least=0)
    return Sampling(temperature, kept, share, least, penalty, number("--seed", seed, LARGEST_SEED, least=0))


def temperatures(flag: str, asked: list[str], most: int) -> list[float]:
    """Each that was asked for, in order; one may hold several, parted by commas.

    Raises Invalid for more than `most`, for one that stands twice, and for what is no temperature.
    """
    heats = [real(flag, text.strip()) for one in asked for text in one.split(",")]
    if len(heats) > most:
        raise Invalid(Problem(flag, f"takes at most {most} numbers", value=f"{len(heats):,}"))
    names = [plain(heat) for heat in heats]
    if twice := [name for place, name in enumerate(names) if name in names[:place]]:
        raise Invalid(Problem(flag, "has a number twice", value=twice[0]))
    return heats


def real(flag: str, text: str) -> float:
    """A flag's number, 0 or more."""
    from archcalc.spec.scalars import resolve, vanishes

    found = resolve(text.strip())
    if not isinstance(found, int | float) or isinstance(found, bool) or not 0 <= found < float("inf"):
        raise Invalid(Problem(flag, "must be a number of at least 0", value=shown(text)))
    if vanishes(text, found):
        raise Invalid(Problem(flag, "is too small for a float", value=shown(text)))
    return float(found)
