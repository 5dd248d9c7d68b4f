"""Adapters of a block that layers share: what each layer adds to projections of its own, by two thin matrices.

Hu et al. 2021, arXiv:2106.09685, call such a product LoRA; here it is a part of the model from the start.
"""

from archcalc.tape.ops import Tensor
from archcalc.tape.recording import Tape

PART = "adapters"


def narrowed(tape: Tape, name: str, x: Tensor, features: str) -> Tensor:
    """The first matrix of an adapter: a few features of x."""
    with tape.apart(), tape.scope(name):
        return tape.linear("down", f"B S {features}", x, f"{features} {x.labels[-1]}", part=PART, bias=False)


def widened(tape: Tape, name: str, y: Tensor, low: Tensor, out: str, to: str = "up") -> Tensor:
    """What a shared projection made, and what the second matrix of an adapter makes of its features, under `out`."""
    features = low.labels[-1]
    with tape.apart(), tape.span(f"with_{name}" if to == "up" else f"with_{name}_{to}"):
        with tape.scope(name):
            more = tape.linear(to, f"B S {out}", low, f"({out}) {features}", part=PART, bias=False)
        return tape.sum("sum", y, more)
