"""Bytes that a pass reads from a device's memory, at the least."""

from __future__ import annotations

from typing import NamedTuple

from archcalc.counts.activations import cache_read, recurrent_state
from archcalc.counts.touched import touched
from archcalc.spec.model import Model
from archcalc.tape.legend import Size
from archcalc.tape.roles import widths
from archcalc.tape.run import Run


class Reading(NamedTuple):
    """Bytes read at the least, and the seconds that they take at the bandwidth of all devices together.

    Of experts `weights` has those that are expected to be chosen, and `most_weights` as many as may be.
    """

    weights: Size
    most_weights: Size
    cache: Size
    bandwidth: int
    seconds: float

    @property
    def total(self) -> Size:
        return self.weights + self.cache


def least_read(model: Model, run: Run, bits: int, bandwidth: int, devices: int = 1) -> Reading:
    """What a forward pass cannot do without: every weight once, of experts those that are expected to be chosen under
    balanced routing (see counts.touched), and in decode keys, values and states that are there; where an indexer
    chooses, those of the positions that it chose.

    Tables that are only looked up are left out. Modelled: a chip that keeps weights from pass to pass reads fewer. On
    `devices` the bytes are split evenly; `bandwidth` is of one, in bytes per second.
    """
    read = touched(model, run.batch * run.positions)
    weights, most = (parameters * bits // 8 for parameters in read)
    decodes = run.phase == "decode"
    kept = (
        cache_read(model, run, bits) // 8 + recurrent_state(model, run, widths(max(bits, 16) // 8)) if decodes else 0
    )
    return Reading(weights, most, kept, bandwidth, (weights + kept) / (bandwidth * devices))
