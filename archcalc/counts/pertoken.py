"""Training FLOPs of one token as others count them: which parameters, which pairs of positions, and whose rule it is.

The rules differ by what they leave out, and the same run has another MFU by each. Of experts all count those that a
token goes through.
"""

from __future__ import annotations

from typing import NamedTuple

from archcalc.counts.flops import flops
from archcalc.counts.parameters import params
from archcalc.spec.model import Model
from archcalc.tape.legend import Size, add, quotient
from archcalc.tape.passes import Pass, recorded
from archcalc.tape.run import Run


class Rule(NamedTuple):
    """A way to count: what it takes, who counts so, and the FLOPs of one token, forward and backward."""

    name: str
    what: str
    whose: str
    flops: Size


RULES = {
    "6N": (
        "6 x parameters without token table, positions and head; no attention scores",
        "Kaplan et al. 2020, arXiv:2001.08361, section 2.1",
    ),
    "6N + scores": (
        "6 x all that a token meets, biases and norms too, + scores of all pairs",
        "Chowdhery et al. 2022, arXiv:2204.02311, appendix B (PaLM)",
    ),
    "all pairs": (
        "6 x what is multiplied, head included, + scores of all pairs, windows too",
        "PyTorch's FLOP counter; Narayanan et al. 2021, arXiv:2104.04473, less recomputation; NeMo 24.12",
    ),
    "causal half": (
        "6 x what is multiplied but routers + half of the pairs, in a window its half",
        "Megatron-Bridge (performance summary, 26.02 to 26.08)",
    ),
    "causal exact": (
        "6 x what is multiplied + pairs that are not masked, a position with itself too",
        "archcalc flops --causal exact",
    ),
}
"""What is counted, and whose rule it is, by name."""


def per_token(model: Model | Pass, sequence: Size) -> tuple[Rule, ...]:
    """The FLOPs of one token in a sequence of that length by each of the rules, rounded down."""
    run = Run(sequence=sequence, attention="math")
    taken = recorded(model, run)
    counts = params(taken)
    works = {causal: flops(taken, run._replace(causal=causal)) for causal in ("full", "half", "exact")}
    scores = add(part.forward + part.backward for part in works["full"].categories if not part.learned)
    whole = {causal: quotient(work.forward + work.backward, sequence) for causal, work in works.items()}
    routers = add(part.forward + part.backward for part in works["half"].categories if part.category == "router")
    inside = counts.active - (counts.stored - counts.non_embedding)
    found = {
        "6N": 6 * inside,
        "6N + scores": 6 * counts.active + quotient(scores, sequence),
        "all pairs": whole["full"],
        "causal half": whole["half"] - quotient(routers, sequence),
        "causal exact": whole["exact"],
    }
    active = "6 x active parameters" if counts.is_sparse else "6 x parameters"
    return tuple(
        Rule(name, what.replace("6 x parameters", active), whose, found[name]) for name, (what, whose) in RULES.items()
    )
