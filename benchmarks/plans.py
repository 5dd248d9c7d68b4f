"""Plans a second of a grid on one core, beside one by one.

    python benchmarks/plans.py [rounds]

Every plan of gpt3-175b in a grid of about 100,000, with memory and traffic, is held against the same figures of a
sample of them by the scalar path. CPU time of one process on one core, in paired rounds.
"""

import os
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import archcalc
from archcalc.counts.collectives import traffic
from archcalc.counts.rankwise import ranks
from archcalc.plan.description import Plan
from archcalc.shapes.plans import COLUMNS, PlanGrid, sweep_plans
from archcalc.tape.precision import Keeping
from archcalc.tape.run import Run

MODEL, RUN, KEEPING = archcalc.load("gpt3-175b"), Run(sequence=2_048), Keeping("mixed-18")
VARY = {
    "tp": [1, 2, 4, 8],
    "sequence_parallel": [False, True],
    "pp": [1, 2, 3, 4, 6, 8, 12, 16],
    "dp": [1, 2, 4, 8, 16, 32, 64, 128],
    "zero": [0, 1, 2, 3],
    "recompute": ["none", "selective", "full"],
    "micro_batch": [1, 2, 4, 8],
    "accumulation": [8, 16, 32, 64],
}
ONE_RECOMPUTATION = {
    **{name: values for name, values in VARY.items() if name != "recompute"},
    "dp": [1, 2, 3, 4, 6, 8, 16, 32, 64, 128, 256, 512],
    "accumulation": [8, 16, 24, 32, 48, 64, 96, 128],
}
"""As many plans that all recompute alike: a third of the ways in which a step differs."""
SAMPLE = 100


def seconds(work: Callable[[], Any]) -> float:
    """CPU time of one call."""
    start = time.process_time()
    work()
    return time.process_time() - start


def grid(columns: list[str], vary: dict[str, Any] = VARY) -> PlanGrid:
    """All plans."""
    return sweep_plans(MODEL, vary, Plan(), RUN, KEEPING, columns)


def one(fields: dict[str, Any]) -> tuple[int, ...]:
    """The same columns of one plan."""
    keeping = KEEPING._replace(recompute=fields["recompute"])
    plan = Plan(**{name: value for name, value in fields.items() if name != "recompute"})
    found = ranks(MODEL, plan, RUN, keeping)
    stored, state = (max(one(rank) for rank in found.each) for one in (_stored, _state))
    return plan.world, stored, state, found.fullest.memory.total, traffic(MODEL, plan, RUN, keeping).busiest.sent


def _stored(rank: Any) -> int:
    return int(rank.parameters.stored)


def _state(rank: Any) -> int:
    return int(rank.memory.state)


def main() -> None:
    """All of it, with the medians of paired rounds."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    every = grid(list(COLUMNS))
    rows = list(every.rows())[:: len(every) // SAMPLE][:SAMPLE]
    sample = [dict(zip(VARY, row, strict=False)) for row in rows]
    if [one(fields) for fields in sample] != [row[len(VARY) :] for row in rows]:
        sys.exit("the grid and the scalar path disagree")
    ways: dict[str, tuple[Callable[[], Any], int]] = {
        "with memory and traffic": (lambda: grid(list(COLUMNS)), len(every)),
        "with memory": (lambda: grid([name for name in COLUMNS if name != "traffic.sent"]), len(every)),
        "with memory and traffic, one recomputation": (
            lambda: grid(list(COLUMNS), ONE_RECOMPUTATION),
            len(grid(list(COLUMNS), ONE_RECOMPUTATION)),
        ),
        "one by one": (lambda: [one(fields) for fields in sample], SAMPLE),
    }
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, (work, plans) in ways.items():
            rates[name].append(plans / max(seconds(work), 1e-9))
    print(f"{len(every):,} plans of {MODEL.name}")
    for name, rate in rates.items():
        print(f"{name}: {statistics.median(rate):,.0f} plans/s, {max(rate):,.0f} in the best of {rounds} rounds")
    faster = statistics.median(
        a / b for a, b in zip(rates["with memory and traffic"], rates["one by one"], strict=True)
    )
    print(f"the grid is {faster:,.0f} times as fast as one by one")


if __name__ == "__main__":
    main()
