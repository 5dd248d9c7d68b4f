"""Bytes in use at each moment of a forward pass without a backward pass, read off the tape.

The rules are those of a model that is run call by call, as PyTorch runs it:

- A call holds what it was given until it returns, see `lifetimes`: the layer its input, the MLP the output of its norm.
- What one call made and nothing reads after is dropped.
- New keys and values are written into the cache as soon as both are there, and attention reads them there.
- Of the last layer's output the head may read one position; all of it is there until the pass ends.

What a kernel needs inside is not on the tape.
"""

from __future__ import annotations

from collections.abc import Iterator

from archcalc.tape.kernels import is_given, lifetimes, nodes
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
    until = lifetimes(run)
    made = {x.name for node in run for x in node.outputs}
    outside = {x.name: x for node in run for x in node.inputs if x.name not in made and not is_given(x)}
    alive = {x.name: entering if x.name == RESIDUAL.name else _bytes(x, segment, width) for x in outside.values()}
    cached = {x.name: i for i, node in enumerate(run) for x in node.outputs if x.role == "cache"}
    written = max(cached.values(), default=0)
    for i, node in enumerate(run):
        alive |= {x.name: _bytes(x, segment, width) for x in node.outputs}
        yield node.name, add(alive.values())
        alive = {name: n for name, n in alive.items() if i < (written if name in cached else until.get(name, i))}


def _bytes(tensor: Tensor, segment: Segment, width: Widths) -> Size:
    return volume(tensor.labels, segment.env) * width[tensor.role]
