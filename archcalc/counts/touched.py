"""Parameters that a pass reads: all that is not only looked up, and of experts those that some token chooses.

Of E experts a token chooses J. Under balanced routing, each choice as likely as any other and tokens independent of
each other, an expert is passed over by one token with probability 1 - J / E and by all of n tokens with
(1 - J / E)^n; so E (1 - (1 - J / E)^n) of them are expected to be read, and never more than the smaller of E and J n.
Experts of a trained router are chosen less evenly, and fewer are read.
"""

from __future__ import annotations

from typing import NamedTuple

from archcalc.counts.weights import Use, weight_uses
from archcalc.spec.model import Model
from archcalc.tape.formula import Formula, word
from archcalc.tape.legend import Size, add, least, quotient
from archcalc.tape.passes import Pass, recorded

_BITS = 64  # of a number of tokens: a batch of 2^32 of 2^32 positions


class Touched(NamedTuple):
    """Parameters that are read: as many as `expected` under balanced routing, and at `most`."""

    expected: Size
    most: Size


def touched(model: Model | Pass, tokens: Size) -> Touched:
    """Parameters that a pass of `tokens` multiplies at least once; `tokens` of a decode step are its batch.

    Modelled where a model has experts, and exact where it has none.
    """
    expected: dict[str, list[Size]] = {}
    most: dict[str, list[Size]] = {}
    met: set[tuple[str, int | None]] = set()
    for position, segment in enumerate(recorded(model).segments):
        for use in weight_uses([segment]):
            path = use.weight.path
            key = path, position if "{i}" in path else None
            if use.op.kind == "lookup" or key in met:
                continue
            met.add(key)
            found = _of(use, tokens)
            expected.setdefault(path, []).append(found.expected)
            most.setdefault(path, []).append(found.most)
    return Touched(*(add(n for some in each.values() for n in some) for each in (expected, most)))


def _of(use: Use, tokens: Size) -> Touched:
    """Of one weight in all of its layers."""
    if not use.weight.met:
        return Touched(use.parameters, use.parameters)
    experts, chosen, most = (use.segment.env[label] for label in use.weight.met)
    one = quotient(use.parameters, experts)
    return Touched(_expected(use.parameters, experts, chosen, tokens), one * least(experts, most * tokens))


def _expected(parameters: Size, experts: Size, chosen: Size, tokens: Size) -> Size:
    """The parameters of experts that are expected to be chosen, to the nearest whole number."""
    sizes = (parameters, experts, chosen, tokens)
    if any(isinstance(size, Formula) for size in sizes):
        all_, e, j, n = map(Formula.of, sizes)
        value = _expected(*(int(size) for size in sizes))
        passed = rf"1 - \frac{{{j.latex()}}}{{{e.latex()}}}"
        inner = rf"\left(1 - \left({passed}\right)^{{{n.latex()}}}\right)"
        written = rf"\left\lfloor {all_.latex()} {inner} \right\rceil"
        return word(f"round({all_} (1 - (1 - {j} / {e})^({n})))", value, (all_, e, j, n), written)
    share = 1 - _power(1 - chosen / experts, tokens)
    found = parameters * share
    return found.round() if hasattr(found, "round") else round(found)


def _power(base: Size, exponent: Size) -> Size:
    """A power by products alone, so that one number and an array of them come to the same."""
    result: Size = 1.0
    for _ in range(_BITS):
        odd = exponent % 2
        result = result * (base * odd + (1 - odd))
        exponent = exponent // 2
        base = base * base
    return result
