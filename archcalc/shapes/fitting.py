"""The plans of so many devices on which a model can be trained: those that fit, the cheapest sort first."""

from __future__ import annotations

from typing import Any, NamedTuple

from archcalc.blocks.constraints import divisors
from archcalc.hardware.devices import Device
from archcalc.hardware.fitting import RESERVE, usable
from archcalc.plan.description import Plan
from archcalc.shapes.plans import sweep_plans
from archcalc.spec.model import Model
from archcalc.tape.precision import Keeping
from archcalc.tape.run import Run

AGAIN = ("none", "selective", "full")
_MOST_TP = 8  # ranks that share heads are in one node


class Fitting(NamedTuple):
    """A plan that fits: its fields and recomputation, the peak of its fullest rank and what the busiest sends, in
    bytes.
    """

    fields: dict[str, Any]
    total: int
    sent: int


class Search(NamedTuple):
    """Plans of `gpus` devices that were tried, and those that fit in `usable` bytes, the cheapest first.

    Cheaper is what computes less again, then what sends less, then what leaves more memory. `least` is the smallest
    peak of all that were tried.
    """

    gpus: int
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
    and every recomputation. Steps have as many micro-batches of one sequence as fill every pipeline.
    """
    import numpy as np

    ways = [n for n in divisors(gpus) if n <= gpus]
    stages = [n for n in ways if int(model.n_layers) % n == 0]
    experts = any("ep" in segment.cuts for segment in model.record(run).segments)
    vary: dict[str, list[Any]] = {
        "tp": [n for n in ways if n <= _MOST_TP],
        "pp": stages,
        "dp": ways,
        **({"ep": ways} if experts else {}),
        "sequence_parallel": [False, True],
        "zero": [0, 1, 3],
        "recompute": list(AGAIN),
    }
    kept = keeping._replace(recompute="none")
    base = Plan(accumulation=max(stages))
    grid = sweep_plans(model, vary, base, run, kept, ["ranks", "memory.total", "traffic.sent"])
    room = usable(device, reserve)
    alone = (grid.fields["dp"] == 1) & (grid.fields["zero"] > 0)  # nobody to share with
    mine = np.flatnonzero((grid.counted["ranks"] == gpus) & ~alone)
    total, sent = grid.counted["memory.total"][mine], grid.counted["traffic.sent"][mine]
    again = np.array([AGAIN.index(word) for word in grid.fields["recompute"][mine]], dtype=int)
    fits = np.flatnonzero(total <= room)
    order = fits[np.lexsort((total[fits], sent[fits], again[fits]))]
    found = tuple(
        Fitting({name: _plain(column[mine[i]]) for name, column in grid.fields.items()}, int(total[i]), int(sent[i]))
        for i in order
    )
    least = int(total.min()) if len(total) else None
    return Search(gpus, device.name, room, reserve, len(mine), found, least)


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "dtype") else value
