"""FLOPs that are useful and FLOPs that are run: MFU counts the first, HFU the second."""

from __future__ import annotations

from typing import NamedTuple

from archcalc.counts.activations import RECOMPUTED
from archcalc.counts.flops import flops, of_ops
from archcalc.spec.model import Model
from archcalc.tape.kernels import as_far_as_needed, nodes
from archcalc.tape.legend import Size, add
from archcalc.tape.passes import Pass, Segment, recorded
from archcalc.tape.precision import Recompute
from archcalc.tape.run import Run


class Executed(NamedTuple):
    """FLOPs of one batch: those of the model, and all that the hardware runs.

    `model` has each contraction once forward and, in training, twice backward: what MFU counts (Chowdhery et al. 2022,
    arXiv:2204.02311, appendix B). `hardware` adds `flash`, the scores that flash attention computes again in its
    backward pass, and `recomputed`, what the backward pass runs again instead of having saved it: what HFU counts.
    """

    model: Size
    hardware: Size
    flash: Size
    recomputed: Size


def executed(model: Model | Pass, run: Run, recompute: Recompute = "none") -> Executed:
    """Count both for a pass of a batch and its backward pass. Takes ints, arrays, and letters in place of sizes.

    A recomputed span runs forward again as far as its last saved tensor, which is where PyTorch's checkpoint stops:
    a layer's last product (down projection) or that of math attention's core (mix of values) is not run again.
    """
    work = flops(model, run)
    flash = add(part.repeated for part in work.categories)
    total = work.forward + work.backward
    learns = run.phase == "training"
    segments = recorded(model, run).segments if learns else []
    again = add(_again(segment, RECOMPUTED[recompute]) for segment in segments)
    return Executed(total - flash, total + again, flash, again)


def _again(segment: Segment, span: str | None) -> Size:
    """The contractions that run a second time to give back what a span did not save."""
    inside = [node for node in nodes(segment.ops) if span in node.ops[0].spans]
    ops = [op for node in as_far_as_needed(inside) for op in node.ops] if inside else []
    return of_ops(segment, [op for op in ops if op.kind == "contraction"])
