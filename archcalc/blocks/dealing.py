"""How vectors get to the experts that were chosen for them, and what these make gets back.

The vectors are sorted by their experts, each as often as it has some; each stretch of them goes through the matrices
of one expert, and what comes out is weighted and added up. Where ranks of a parallel plan hold different experts, the
rows that tokens send are not the rows that experts compute: between the two stands a view.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

from archcalc.tape.ops import Tensor
from archcalc.tape.recording import Tape

Compute = Callable[[Tape, Tensor, str], Tensor]
"""What experts do with rows of vectors of some features."""


class Dealt(NamedTuple):
    """What is dealt out: vectors of `features`, how much each of their experts counts, and which they are, B N J.

    The weights multiply what an expert makes, or what it gets.
    """

    x: Tensor
    weights: Tensor
    chosen: Tensor
    features: str
    weighs: Literal["output", "input"]


def to_all(tape: Tape, given: Dealt, compute: Compute) -> Tensor:
    """All chosen experts compute: as many rows as there are choices."""
    features, weights = given.features, given.weights
    order = tape.pointwise("order", tape.regroup(given.chosen, "sent"), role="choice")
    tokens = tape.pointwise("tokens", order, role="choice")
    dealt = tape.lookup("dealt", f"sent {features}", tokens, given.x)
    if given.weighs == "input":
        dealt = _weighted(tape, dealt, tape.lookup("dealt_weights", "sent", order, tape.regroup(weights, "sent")))
    made = _computed(tape, dealt, compute, features)
    places = tape.pointwise("places", order, role="choice")
    made = tape.lookup("returned", f"sent {features}", places, made)
    made = tape.regroup(made, f"B N J {features}")
    if given.weighs == "output":
        made = _weighted(tape, made, weights)
    return tape.reduce("sum", made, "J", passes=True)


def beside_identity(tape: Tape, given: Dealt, compute: Compute) -> Tensor:
    """Some of the chosen experts hand on what they get: a vector is multiplied by the sum of their weights at once."""
    features, weights = given.features, given.weights
    order = tape.pointwise("order", given.chosen, role="choice")
    busy = tape.choose("busy", order, "sent")
    tokens = tape.pointwise("tokens", busy, role="choice")
    beside = tape.lookup("dealt_weights", "sent", busy, weights)
    dealt = tape.lookup("dealt", f"sent {features}", tokens, given.x)
    dealt = _weighted(tape, dealt, beside) if given.weighs == "input" else dealt
    made = _computed(tape, dealt, compute, features)
    made = _weighted(tape, made, beside) if given.weighs == "output" else made
    y = tape.put("returned", f"B N {features}", tokens, made)
    hidden = tape.pointwise("computes", given.chosen, role="mask")
    idle = tape.pointwise("idle_weights", weights, hidden, saves=(hidden,))
    share = tape.reduce("idle_share", idle, "J", passes=True)
    return tape.sum("all", y, tape.pointwise("handed_on", given.x, share, saves=(given.x, share), scratch=1))


def _computed(tape: Tape, dealt: Tensor, compute: Compute, features: str) -> Tensor:
    """What experts make of the rows that they get, as tokens get it back."""
    with tape.span("each"):
        made = compute(tape, tape.view(dealt, sent="M"), features)
    return tape.view(made, M="sent")


def within_capacity(tape: Tape, given: Dealt, compute: Compute) -> Tensor:
    """Each expert computes as many slots: those of its vectors that it weighs the most, and else empty ones.

    An empty slot has some vector that did not choose the expert, and the weight 0.
    """
    features = given.features
    gates = tape.put("gates", "B N scored", given.chosen, given.weights)
    slots = tape.choose("slots", gates, "sent")
    weights = tape.lookup("slot_weights", "sent", slots, gates, saves=(gates,))
    dealt = tape.lookup("dealt", f"sent {features}", slots, given.x)
    made = _computed(tape, dealt, compute, features)
    return tape.put("returned", f"B N {features}", slots, _weighted(tape, made, weights))


def _weighted(tape: Tape, rows: Tensor, weights: Tensor) -> Tensor:
    return tape.pointwise("weighted", rows, weights, saves=(rows, weights), scratch=1)
