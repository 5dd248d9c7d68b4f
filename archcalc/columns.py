"""What a sweep can show of each shape: one table of columns, each a function that also counts one model.

A quantity that is new needs one line in COLUMNS.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import NamedTuple

from archcalc.activations import Recompute, cache, saved, widths
from archcalc.count import Parameters, params
from archcalc.legend import Size
from archcalc.run import Run
from archcalc.spec import Model
from archcalc.work import Flops, flops

ACTIVATION_BYTES = 2  # bf16
STATE_BYTES = 16  # of a parameter: weight and gradient in bf16, and in fp32 the weight and Adam's two moments


class Shapes:
    """Shapes to be counted, one by ints or many by arrays. What several columns read is counted once."""

    def __init__(self, model: Model, run: Run, recompute: Recompute) -> None:
        self.model = model
        self.run = run
        self.recompute = recompute

    @cached_property
    def counts(self) -> Parameters:
        return params(self.model)

    @cached_property
    def work(self) -> Flops:
        return flops(self.model, self.run)

    @property
    def saved(self) -> Size:
        return saved(self.model, self.run, widths(ACTIVATION_BYTES), self.recompute).total

    @property
    def cache_per_token(self) -> Size:
        return cache(self.model, Run("prefill"), ACTIVATION_BYTES)  # a run of one sequence of one position


class Column(NamedTuple):
    """A column: how it is read, what it counts, what is meant."""

    of: Callable[[Shapes], Size]
    unit: str
    meaning: str


COLUMNS = {
    "parameters": Column(
        lambda shapes: shapes.counts.stored, "parameters", "distinct weights of a checkpoint, a tied table once"
    ),
    "forward_flops": Column(lambda shapes: shapes.work.forward, "FLOPs", "contractions of the forward pass"),
    "training_flops": Column(
        lambda shapes: shapes.work.training, "FLOPs", "forward and backward, nothing that is recomputed to save memory"
    ),
    "saved_bytes": Column(
        lambda shapes: shapes.saved, "bytes", "kept from the forward pass for the backward pass, bf16, no dropout"
    ),
    "cache_bytes_per_token": Column(
        lambda shapes: shapes.cache_per_token, "bytes", "keys and values of a position in all layers, bf16"
    ),
    "state_bytes": Column(
        lambda shapes: shapes.counts.stored * STATE_BYTES,
        "bytes",
        f"{STATE_BYTES} a parameter: weights and gradients in bf16, weights and Adam's moments in fp32",
    ),
}
