"""What is made once for a pass, and read in all layers: masks, angles, and vectors of which each layer has a part."""

from __future__ import annotations

from archcalc.tape.legend import Mask, Size, add, volume, where
from archcalc.tape.ops import Tensor
from archcalc.tape.passes import Segment
from archcalc.tape.roles import Role, Widths

GIVEN: tuple[Role, ...] = ("constant", "table")


def given(segments: list[Segment], width: Widths, role: Role, *, saved: bool = False) -> list[Size]:
    """What is made once for a pass and read in all layers, of each segment and those before it together: masks of math
    attention, and angles of rotary positions. With `saved` what a backward pass reads again.
    """
    found: dict[str, list[tuple[tuple[Size, ...], Mask]]] = {}
    met: set[object] = set()
    totals: list[Size] = []
    total: Size = 0
    for segment in segments:
        there = segment.there
        ops = [op for op in segment.ops if op.learns or not saved]
        for x in [x for op in ops for x in op.inputs if isinstance(x, Tensor) and x.role == role]:
            sizes = tuple(segment.env[label] for label in x.by)
            one = tuple(id(n) if hasattr(n, "dtype") else n for n in sizes)
            key = x.name, one, None if there is True else id(segment)
            if key in met:
                continue
            met.add(key)
            new = _is_new(sizes, there, found.setdefault(x.name, []))
            found[x.name].append((sizes, there))
            total = total + where(new, volume(x.labels, segment.env) * width[role])
        totals.append(total)
    return totals


def _is_new(sizes: tuple[Size, ...], there: Mask, known: list[tuple[tuple[Size, ...], Mask]]) -> Mask:
    """Whether something is there that none of the known is, by the sizes that tell them apart; of arrays by row."""
    new = there
    for others, others_there in known:
        same = others_there
        for n, other in zip(sizes, others, strict=True):
            same = same & (n == other)
        new = new & (same ^ True)
    return new


def handed_on(segment: Segment, width: Widths) -> Size:
    """Bytes of what a segment makes for all layers behind it."""
    return add(volume(x.labels, segment.env) * width[x.role] for x in segment.tape.handed_on)
