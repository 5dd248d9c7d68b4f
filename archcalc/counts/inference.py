"""Bytes in use at each moment of a forward pass without a backward pass, read off the tape.

The rules are those of a model that is run call by call, as PyTorch runs it:

- A module, or a function, holds what it was called with until it returns: the layer its input, the MLP the output of
  its norm.
- What one call made and nothing reads after is dropped.
- New keys and values are written into the cache as soon as both are there, and attention reads them there.
- Of the last layer's output the head may read one position; all of it is there until the pass ends.

What a kernel needs inside is not on the tape.
"""

from __future__ import annotations

from collections.abc import Iterator

from archcalc.tape.kernels import Node, is_given, nodes
from archcalc.tape.legend import Size, add, volume
from archcalc.tape.passes import RESIDUAL, Segment
from archcalc.tape.recording import Tensor
from archcalc.tape.roles import Widths


def moments(segments: list[Segment], width: Widths) -> Iterator[tuple[str, Size]]:
    """Each op of the pass with the bytes in use while it runs, apart from weights, cache, constants and tokens."""
    entering: Size = 0  # bytes of the residual stream as the segment before left it
    for segment in segments:
        yield from _segment(segment, width, entering)
        entering = _bytes(RESIDUAL, segment, width)


def _segment(segment: Segment, width: Widths, entering: Size) -> Iterator[tuple[str, Size]]:
    run = nodes(segment.ops)
    until = _until(run)
    made = {x.name for node in run for x in node.outputs}
    outside = {x.name: x for node in run for x in node.inputs if x.name not in made and not is_given(x)}
    alive = {x.name: entering if x.name == RESIDUAL.name else _bytes(x, segment, width) for x in outside.values()}
    cached = {x.name: i for i, node in enumerate(run) for x in node.outputs if x.role == "cache"}
    written = max(cached.values(), default=0)
    for i, node in enumerate(run):
        alive |= {x.name: _bytes(x, segment, width) for x in node.outputs}
        yield node.name, add(alive.values())
        alive = {name: n for name, n in alive.items() if i < (written if name in cached else until.get(name, i))}


def _until(run: list[Node]) -> dict[str, int]:
    """The kernel after which each tensor is dropped: the end of the longest call that was given it.

    A call is a span of ops; a tensor was given to those that read it and did not make it.
    """
    ends = {node.ops[0].spans[:depth]: i for i, node in enumerate(run) for depth in range(len(node.ops[0].spans) + 1)}
    maker = {x.name: node.ops[0].spans for node in run for x in node.outputs}
    until: dict[str, int] = {run[-1].outputs[-1].name: len(run)}  # the next segment's
    for i, node in enumerate(run):
        spans = node.ops[0].spans
        for x in node.inputs:
            if x.name not in maker:  # it came from outside
                until[x.name] = len(run) - 1
                continue
            own = [a == b for a, b in zip(spans, maker[x.name], strict=False)]
            shared = [*own, False].index(False)
            until[x.name] = max(until.get(x.name, 0), i if shared == len(spans) else ends[spans[: shared + 1]])
    return until


def _bytes(tensor: Tensor, segment: Segment, width: Widths) -> Size:
    return volume(tensor.labels, segment.env) * width[tensor.role]
