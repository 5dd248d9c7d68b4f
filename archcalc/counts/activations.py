"""What a pass keeps, read off the tape: data saved for the backward pass, and the cache of keys and values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

from archcalc.counts.flops import Terms
from archcalc.spec.model import Model, Segment
from archcalc.tape.autocast import autocast
from archcalc.tape.legend import Size, add, largest
from archcalc.tape.precision import Recompute
from archcalc.tape.recording import Op, Role, Tensor
from archcalc.tape.run import Run

Widths = Mapping[Role, int]

# What is computed again in the backward pass instead of being saved.
RECOMPUTED = {"none": None, "selective": "attention_core", "full": "layers.{i}"}


def widths(activation: int, statistic: int = 4, constant: int | None = None) -> Widths:
    """Bytes of a number by its role: activations as asked, statistics of norms and what is `float` in fp32.

    A `constant` is as wide as an activation if not given.
    """
    return {
        "activation": activation,
        "cache": activation,
        "statistic": statistic,
        "float": 4,
        "mask": 1,
        "index": 8,
        "constant": activation if constant is None else constant,
    }


class Saved(NamedTuple):
    """Bytes kept from the forward pass for the backward pass.

    `layers` are those of the layers, `head` those of final norm, unembedding and loss, `embedding` the rest;
    `working_set` is what one recomputed layer holds at a time, beside `total`.
    """

    total: Size
    embedding: Size
    layers: Size
    head: Size
    working_set: Size


def saved(model: Model, run: Run, width: Widths, recompute: Recompute = "none", *, cast: bool = False) -> Saved:
    """Bytes that autograd saves, each tensor once, weights not counted; those that autocast `cast` are.

    A recomputed span saves its inputs in place of what its ops save (Korthikanti et al. 2022, arXiv:2205.05198: their
    selective is the core of attention, their full a whole layer).
    """
    span = RECOMPUTED[recompute]
    segments = autocast(model.segments(run)) if cast else model.segments(run)
    by_name: dict[str, Size] = {}
    for segment in segments:
        here = _terms(segment, kept(segment.tape.ops, span), width).value
        by_name[segment.name] = by_name.get(segment.name, 0) + here
    working = [_terms(s._replace(repeat=1), _dropped(s.tape.ops, span), width).value for s in segments]
    return Saved(
        total=add(by_name.values()),
        embedding=by_name["embedding"],
        layers=by_name["layers"],
        head=by_name["head"],
        working_set=largest(working),
    )


def kept(ops: list[Op], recomputed: str | None = None) -> dict[str, Tensor]:
    """The tensors that a tape's backward pass reads again, by name, where one span of it is recomputed."""
    inside = [op for op in ops if recomputed in op.spans]
    tensors = {tensor.name: tensor for op in ops if recomputed not in op.spans for tensor in op.saves}
    return tensors | _inputs(inside)


def _inputs(ops: list[Op]) -> dict[str, Tensor]:
    """The data that goes into a span from outside."""
    made = {op.output.name for op in ops}
    read = [x for op in ops for x in op.inputs if isinstance(x, Tensor) and x.role not in ("constant", "mask")]
    return {x.name: x for x in read if x.name not in made}


def _dropped(ops: list[Op], recomputed: str | None) -> dict[str, Tensor]:
    """What a recomputed span holds again while its backward pass runs, beyond what was kept."""
    again = {tensor.name: tensor for op in ops if recomputed in op.spans for tensor in op.saves}
    saved_anyway = kept(ops, recomputed)
    return {name: tensor for name, tensor in again.items() if name not in saved_anyway}


def _terms(segment: Segment, tensors: dict[str, Tensor], width: Widths) -> Terms:
    products: Counter[tuple[str, ...]] = Counter()
    for tensor in tensors.values():
        products[tuple(sorted(tensor.labels))] += width[tensor.role]
    return Terms(segment, products)


def cache(model: Model, run: Run, width: int) -> Size:
    """Bytes of keys and values of `run.batch` sequences of `run.read` positions: tensors as they are read, at T."""
    return add(_terms(segment, _cached(segment.tape.ops), {"cache": width}).value for segment in model.segments(run))


def _cached(ops: list[Op]) -> dict[str, Tensor]:
    """What was kept for later tokens, as it is read."""
    read = [x for op in ops for x in op.inputs if isinstance(x, Tensor)]
    return {x.name: x for x in read if x.role == "cache" and "T" in x.labels}
