"""What a sweep can show of each shape: one table of columns, each a function that also counts one model.

A quantity that is new needs one line in COLUMNS.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import NamedTuple

from archcalc.activations import cache, saved, widths
from archcalc.count import Parameters, params
from archcalc.footprint import peak_bytes, state_bytes
from archcalc.legend import Size
from archcalc.precision import Keeping
from archcalc.run import Run
from archcalc.spec import Model
from archcalc.work import Flops, flops


class Shapes:
    """Shapes to be counted, one by ints or many by arrays. What several columns read is counted once."""

    def __init__(self, model: Model, run: Run, keeping: Keeping) -> None:
        self.model = model
        self.run = run
        self.keeping = keeping

    @cached_property
    def counts(self) -> Parameters:
        return params(self.model)

    @cached_property
    def work(self) -> Flops:
        return flops(self.model, self.run)

    @property
    def saved(self) -> Size:
        recipe = self.keeping.recipe
        return saved(self.model, self.run, widths(recipe.compute), self.keeping.recompute, cast=recipe.autocast).total

    @property
    def cache_per_token(self) -> Size:
        return cache(self.model, Run("prefill"), self.keeping.recipe.compute)  # of one sequence of one position


class Column(NamedTuple):
    """A column: how it is read, what it counts, what is meant."""

    of: Callable[[Shapes], Size]
    unit: str
    meaning: str


COLUMNS: dict[str, Column] = {
    "parameters": Column(
        lambda shapes: shapes.counts.stored, "parameters", "distinct weights of a checkpoint, a tied table once"
    ),
    "forward_flops": Column(lambda shapes: shapes.work.forward, "FLOPs", "contractions of the forward pass"),
    "training_flops": Column(
        lambda shapes: shapes.work.training, "FLOPs", "forward and backward, nothing that is recomputed to save memory"
    ),
    "saved_bytes": Column(
        lambda shapes: shapes.saved, "bytes", "kept from the forward pass for the backward pass, no dropout"
    ),
    "cache_bytes_per_token": Column(
        lambda shapes: shapes.cache_per_token, "bytes", "keys and values of a position in all layers"
    ),
    "state_bytes": Column(
        lambda shapes: state_bytes(shapes.counts, shapes.run, shapes.keeping),
        "bytes",
        "weights, gradients and the optimizer's state: what stays from step to step",
    ),
    "memory_bytes": Column(
        lambda shapes: peak_bytes(shapes.model, shapes.run, shapes.keeping), "bytes", "the peak of a training step"
    ),
}

DEFAULTS = tuple(name for name in COLUMNS if name != "memory_bytes")  # which takes ten times as long as the others
