"""Bytes in use at each moment of a forward pass without a backward pass, read off the tape.

The rules are those of a model that is run call by call, as PyTorch runs it:

- A call holds what it was given until it returns, see `lifetimes`: the layer its input, the MLP what its norm made.
- What one call made and nothing reads after is dropped.
- New keys and values are written into the cache as soon as both are there, and attention reads them there; where a
  window keeps fewer than there are, it reads the new ones.
- Of the last layer's output the head may read one position; all of it is there until the pass ends.

What a kernel needs inside is not on the tape.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from archcalc.counts.activations import as_kept
from archcalc.tape.kernels import Node, is_given, lifetimes, nodes
from archcalc.tape.legend import Mask, Size, add, choose, volume, where
from archcalc.tape.ops import Tensor
from archcalc.tape.passes import RESIDUAL, Segment
from archcalc.tape.roles import Widths


def moments(segments: list[Segment], width: Widths) -> Iterator[tuple[str, Size]]:
    """Each op of the pass with the bytes in use while it runs, apart from weights, cache, constants and tokens."""
    entering: Size = 0  # bytes of the residual stream as the segment before left it
    held: Size = 0  # and of what it handed on to all
    reads: Mask = False
    for segment in segments:
        reads = reads | (reads_tokens(segment) & segment.there)
    again = choose(reads, _bytes(RESIDUAL, segments[0], width), 0)  # of the tokens' own vectors, which stay
    shared = {_sharing(segment) for segment in segments if "shared_keys" in _named(segment)}
    for i, segment in enumerate(segments):
        tokens = choose(i == 1 and segment.repeat == 1, 0, again) if i else 0  # of the first layer they are its input
        for op, n in _segment(segment, width, entering):
            yield op, where(segment.there, n + held + tokens)
        held = held + add(_bytes(x, segment, width) for x in segment.tape.handed_on)
        if (key := _sharing(segment)) in shared and "shared_keys" not in _named(segment):
            shared.remove(key)
            held = held + add(_unkept(x, segment, width) for x in _named(segment).values() if x.role == "cache")
        entering = _bytes(RESIDUAL, segment, width)


def reads_tokens(segment: Segment) -> bool:
    """Whether a layer reads the vectors that entered the first one."""
    return any(x.role == "token" for x in _named(segment).values())


def _named(segment: Segment) -> dict[str, Tensor]:
    """What the ops of a segment read, by name."""
    return {x.name: x for op in segment.ops for x in op.inputs if isinstance(x, Tensor)}


def _sharing(segment: Segment) -> tuple[Size, ...]:
    """The sizes by which a layer's keys and values are those that another reads."""
    sizes: Iterator[Any] = (segment.env.get(label) for label in ("G", "K", "W", "window", "chunk"))
    return tuple(n.tobytes() if hasattr(n, "dtype") else n for n in sizes)


def _segment(segment: Segment, width: Widths, entering: Size) -> Iterator[tuple[str, Size]]:
    run = nodes(segment.ops)
    until = lifetimes(run, segment.stays)
    made = {x.name for node in run for x in node.outputs}
    outside = {x.name: x for node in run for x in node.inputs if x.name not in made and not is_given(x)}
    positions = {name: x for name, x in outside.items() if x.role == "index"}  # made where they are read
    outside = {name: x for name, x in outside.items() if name not in positions}
    alive = {x.name: entering if x.name == RESIDUAL.name else _bytes(x, segment, width) for x in outside.values()}
    written = _written(run)
    read = {x.name: _unkept(x, segment, width) for node in run for x in node.inputs if x.name in written}
    for i, node in enumerate(run):
        new = (*node.outputs, *(positions.pop(x.name) for x in node.inputs if x.name in positions))
        alive |= {x.name: _bytes(x, segment, width) for x in new}
        yield node.name, add(alive.values())
        alive = {name: n for name, n in alive.items() if i < until.get(name, i)}
        alive |= {name: n for name, n in read.items() if name in alive and i >= written[name]}


def _written(run: list[Node]) -> dict[str, int]:
    """The kernel after which keys and values are written into the cache: when both of a mixer are there."""
    mixers = {x.name: node.ops[0].spans[:2] for node in run for x in node.outputs if x.role == "cache"}
    last = {mixers[x.name]: i for i, node in enumerate(run) for x in node.outputs if x.name in mixers}
    return {name: last[mixer] for name, mixer in mixers.items()}


def _unkept(tensor: Tensor, segment: Segment, width: Widths) -> Size:
    """Bytes of keys or values that are read as they were made, since not all of them are kept."""
    size, kept = _bytes(tensor, segment, width), volume(as_kept(tensor, segment.env), segment.env) * width[tensor.role]
    return choose(size > kept, size, 0)


def _bytes(tensor: Tensor, segment: Segment, width: Widths) -> Size:
    return volume(tensor.labels, segment.env) * width[tensor.role]
