"""The plans of so many devices on which a model can be trained: those that fit, the cheapest sort first."""

from __future__ import annotations

from typing import Any, NamedTuple

from archcalc.blocks.constraints import divisors
from archcalc.counts.worked import bubble
from archcalc.hardware.devices import Device
from archcalc.hardware.fitting import RESERVE, usable
from archcalc.plan.description import Plan
from archcalc.plan.placing import GPUS_PER_NODE
from archcalc.shapes.plans import sweep_plans
from archcalc.spec.model import Model
from archcalc.tape.precision import Keeping
from archcalc.tape.run import Run

AGAIN = ("none", "selective", "full")
_EACH = 8  # sequences of a step for each device: with 8 micro-batches a stage, a pipeline waits 1/9 of a step at most


class Fitting(NamedTuple):
    """A plan that fits: its fields and recomputation, the peak of its fullest rank and what the busiest sends, in
    bytes, and the share of a step in which the stages of its pipeline wait for each other.
    """

    fields: dict[str, Any]
    total: int
    sent: int
    bubble: float


class Search(NamedTuple):
    """Plans of `gpus` devices that were tried, and those that fit in `usable` bytes, the cheapest first.

    Every plan's step has as many `sequences`. Cheaper is what computes less again, then what sends less, then what
    leaves more memory. `least` is the smallest peak of all that were tried.
    """

    gpus: int
    sequences: int
    device: str
    usable: int
    percent: int
    tried: int
    found: tuple[Fitting, ...]
    least: int | None


def plans_that_fit(
    model: Model, run: Run, keeping: Keeping, device: Device, gpus: int, reserve: int = RESERVE
) -> Search:
    """Try every tp up to 8, pp, dp and ep that make so many ranks, with ZeRO 0, 1 and 3, sequence parallelism or not,
    and every recomputation. All have the same sequences in a step, 8 for each device, in micro-batches of one.
    """
    import numpy as np

    ways = list(divisors(gpus))
    stages = [n for n in ways if int(model.n_layers) % n == 0]
    experts = any("ep" in segment.cuts for segment in model.record(run).segments)
    vary: dict[str, list[Any]] = {
        "tp": [n for n in ways if n <= GPUS_PER_NODE],
        "pp": stages,
        **({"ep": ways} if experts else {}),
        "sequence_parallel": [False, True],
        "zero": [0, 1, 3],
        "recompute": list(AGAIN),
    }
    kept = keeping._replace(recompute="none")
    sequences, room = _EACH * gpus, usable(device, reserve)
    vary |= {"dp": ways, "accumulation": [sequences // dp for dp in ways]}
    grid = sweep_plans(model, vary, Plan(), run, kept, ["ranks", "memory.total", "traffic.sent"])
    alone = (grid.fields["dp"] == 1) & (grid.fields["zero"] > 0)  # nobody to share with
    even = grid.fields["dp"] * grid.fields["accumulation"] == sequences
    every: list[Fitting] = []
    for i in np.flatnonzero((grid.counted["ranks"] == gpus) & even & ~alone):
        fields = {name: _plain(grid.fields[name][i]) for name in dict.fromkeys(("tp", "pp", "dp", *grid.fields))}
        again = {name: fields.pop(name) for name in ("accumulation", "recompute")}
        waits = bubble(Plan(pp=fields["pp"], accumulation=again["accumulation"])).of_step
        total, sent = (int(grid.counted[name][i]) for name in ("memory.total", "traffic.sent"))
        every.append(Fitting(fields | again, total, sent, float(waits)))
    found = [one for one in every if one.total <= room]
    found.sort(key=lambda one: (AGAIN.index(one.fields["recompute"]), one.sent, one.total))
    least = min((one.total for one in every), default=None)
    return Search(gpus, sequences, device.name, room, reserve, len(every), tuple(found), least)


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "dtype") else value
