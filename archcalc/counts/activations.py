"""What a pass keeps, read off the tape: data saved for the backward pass, cached keys and values, recurrent states."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from archcalc.counts.flops import Terms
from archcalc.spec.model import Model
from archcalc.tape.autocast import autocast
from archcalc.tape.legend import PAIRS, Env, Size, add, largest, stem, volume, where
from archcalc.tape.ops import Op, Tensor
from archcalc.tape.passes import RESIDUAL, Pass, Segment, recorded
from archcalc.tape.precision import Recompute
from archcalc.tape.roles import ROLES, Widths
from archcalc.tape.run import Run
from archcalc.tape.scopes import LAYER

# What is computed again in the backward pass instead of being saved.
RECOMPUTED = {"none": None, "selective": "attention_core", "full": LAYER}


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


def saved(model: Model | Pass, run: Run, width: Widths, recompute: Recompute = "none", *, cast: bool = False) -> Saved:
    """Bytes that autograd saves, each tensor once, weights not counted; those that autocast `cast` are.

    A recomputed span saves its inputs in place of what its ops save (Korthikanti et al. 2022, arXiv:2205.05198: their
    selective is the core of attention, their full a whole layer).
    """
    span = RECOMPUTED[recompute]
    taken = recorded(model, run)
    segments = autocast(taken).segments if cast else taken.segments
    by_name = saved_by_name(segments, width, span)
    again = [(s, _once(_dropped(s.ops, span), s.ops, width)) for s in segments]
    working = [where(s.there, Terms(s, _products(dropped, width)).each) for s, dropped in again]
    return Saved(
        total=add(by_name.values()),
        embedding=by_name.get("embedding", 0),
        layers=by_name.get("layers", 0),
        head=by_name.get("head", 0),
        working_set=largest(working),
    )


def saved_by_name(segments: list[Segment], width: Widths, span: str | None) -> dict[str, Size]:
    """Bytes that autograd saves where one span of the tapes is recomputed, by the names of segments."""
    by_name: dict[str, Size] = {}
    for segment in segments:
        here = Terms(segment, _kept_once(segment, span, width)).value
        by_name[segment.name] = by_name.get(segment.name, 0) + here
    if "embedding" in by_name:
        by_name["embedding"] = by_name["embedding"] - twice(segments, width, span)
    return by_name


def _kept_once(segment: Segment, span: str | None, width: Widths) -> Counter[tuple[str, ...]]:
    key = "kept", span, tuple(width.items())
    return segment.tape.once(key, lambda: _products(_once(kept(segment.ops, span), segment.ops, width), width))


def kept(ops: list[Op], recomputed: str | None = None) -> dict[str, Tensor]:
    """The tensors that a tape's backward pass reads again, by name, where one span of it is recomputed."""
    inside = [op for op in ops if recomputed in op.spans]
    tensors = {tensor.name: tensor for op in ops if recomputed not in op.spans for tensor in op.saves}
    return tensors | _inputs(inside)


def twice(segments: list[Segment], width: Widths, span: str | None) -> Size:
    """Bytes of what the embedding keeps and hands on, and the first layer keeps too: the residual stream."""
    segment, first = segments[0], segments[min(1, len(segments) - 1)]
    both = segment.result in kept(segment.ops) and RESIDUAL.name in kept(first.ops, span)
    if not segment.tape.handed_on or not both:
        return 0
    result = next(op.output for op in segment.ops if op.output.name == segment.result)
    return volume(result.labels, segment.env) * width[result.role]


def is_alias(op: Op, width: Widths) -> bool:
    """Whether its output is its input under another name: a conversion to the type that it has."""
    source = op.inputs[0]
    return op.converts and isinstance(source, Tensor) and width[source.role] == width[op.output.role]


def _once(tensors: dict[str, Tensor], ops: list[Op], width: Widths) -> dict[str, Tensor]:
    """The tensors without those that are another one of them under another name."""
    also = {op.output.name for op in ops if is_alias(op, width) and op.inputs[0].name in tensors}  # type: ignore[union-attr]
    return {name: tensor for name, tensor in tensors.items() if name not in also}


def _inputs(ops: list[Op]) -> dict[str, Tensor]:
    """The data that goes into a span from outside."""
    made = {op.output.name for op in ops}
    read = [
        x for op in ops for x in op.inputs if isinstance(x, Tensor) and not ROLES[x.role].given and x.role != "mask"
    ]
    return {x.name: x for x in read if x.name not in made}


def _dropped(ops: list[Op], recomputed: str | None) -> dict[str, Tensor]:
    """What a recomputed span holds again while its backward pass runs, beyond what was kept."""
    again = {tensor.name: tensor for op in ops if recomputed in op.spans for tensor in op.saves}
    saved_anyway = kept(ops, recomputed)
    return {name: tensor for name, tensor in again.items() if name not in saved_anyway}


def _products(tensors: dict[str, Tensor], width: Widths) -> Counter[tuple[str, ...]]:
    products: Counter[tuple[str, ...]] = Counter()
    for tensor in tensors.values():
        products[tuple(sorted(tensor.labels))] += width[tensor.role]
    return products


def cache(model: Model | Pass, run: Run, width: int, *, paged: bool = False, block: Size = 1) -> Size:
    """Bytes of keys and values of `run.batch` sequences of `run.read` positions: tensors as a decode pass reads them.

    A layer with a window, or with chunks, keeps no more positions than that. An engine that has `paged` the cache of
    all layers alike keeps every position in each; one that hands out blocks of positions keeps whole ones.
    """
    decoding = Run("decode", run.batch, context=run.read)
    return add(
        (
            _in_blocks(_read(tensor), segment.stated, block)
            if paged
            else _in_blocks(as_kept(tensor, segment.env), segment.env, block)
        )
        * (width * segment.repeat)
        for segment in recorded(model, decoding).segments
        for tensor in _cached(segment.ops)
    )


def _in_blocks(labels: tuple[str, ...], env: Env, block: Size) -> Size:
    """Numbers of a cache of whole blocks of positions."""
    if isinstance(block, int) and block == 1:
        return volume(labels, env)
    kept = {label: -(-env[label] // block) * block for label in labels if stem(label) in PAIRS or label[:4] == "kept"}
    return volume(labels, {**env, **kept})


def cache_read(model: Model | Pass, run: Run, width: int) -> Size:
    """Bytes of the cache that a decode pass reads: all of it, but where an indexer chooses, the chosen positions."""
    decoding = Run("decode", run.batch, context=run.read)
    return add(
        volume(_read_of(tensor, segment), segment.env) * (width * segment.repeat)
        for segment in recorded(model, decoding).segments
        for tensor in _cached(segment.ops)
    )


def _read_of(tensor: Tensor, segment: Segment) -> tuple[str, ...]:
    """The labels of what is read of keys or values."""
    readers = [op for op in segment.ops if any(isinstance(x, Tensor) and x.name == tensor.name for x in op.inputs)]
    if all(op.kind == "lookup" for op in readers):
        return readers[0].output.labels
    return as_kept(tensor, segment.env)


def recurrent_state(model: Model | Pass, run: Run, width: Widths) -> Size:
    """Bytes that recurrent mixers keep of `run.batch` sequences, however long: what a decode pass finds there."""
    decoding = Run("decode", run.batch, context=run.read)
    return add(
        volume(tensor.labels, segment.env) * (width[tensor.role] * segment.repeat)
        for segment in recorded(model, decoding).segments
        for tensor in remembered(segment.ops)
    )


def remembered(ops: list[Op]) -> list[Tensor]:
    """What a pass finds of all positions before, in a state of one size."""
    read = [x for op in ops for x in op.inputs if isinstance(x, Tensor) and x.role in ("state", "recent")]
    return list({x.name: x for x in read}.values())


def _read(tensor: Tensor) -> tuple[str, ...]:
    """The labels of keys or values of all positions that a pass reads, whatever a window leaves of them."""
    return tuple("T" if stem(label) in PAIRS else label for label in tensor.labels)


def as_kept(tensor: Tensor, env: Env) -> tuple[str, ...]:
    """The labels of keys or values as a cache keeps them, which may be fewer positions than are read at once."""
    return tuple(
        f"kept{label[1:]}" if stem(label) == "T" and f"kept{label[1:]}" in env else label for label in tensor.labels
    )


def _cached(ops: list[Op]) -> list[Tensor]:
    """What was kept for later tokens, as it is read."""
    read = [x for op in ops for x in op.inputs if isinstance(x, Tensor) and x.role == "cache"]
    return list({x.name: x for x in read if any(stem(label) in PAIRS for label in x.labels)}.values())
