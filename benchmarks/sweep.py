"""Shapes a second of a grid on one core, beside one by one, and beside closed formulas written by hand.

    python benchmarks/sweep.py [rounds]

100,000 shapes of gpt3-175b with parameters, FLOPs, saved bytes and state are held against the same figures of a sample
of them by the scalar path: each a question that is read and validated, and again with the models at hand. The floor
is a page of formulas in numpy, which has parameters and FLOPs of this one architecture and nothing else; the sweep
must agree with it. All in one process on one core, in paired rounds.
"""

import os
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import archcalc
from archcalc.counts.activations import saved
from archcalc.counts.memory import state_bytes
from archcalc.spec.catalogue import find
from archcalc.tape.roles import widths

SPEC = "gpt3-175b"
VARY = {"n_layers": "10..100:10", "d_model": "128..12800:128", "vocab_size": "50000..50990:10"}
COLUMNS = ["parameters.stored", "flops.forward", "flops.training", "activations.saved", "memory.state"]
SAMPLE = 300


def seconds(work: Callable[[], Any]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def one(model: archcalc.Model) -> tuple[Any, ...]:
    """The same columns of one model."""
    run = archcalc.Run(sequence=model.context_length)
    counts, work = archcalc.params(model), archcalc.flops(model, run)
    kept = saved(model, run.by_default("flash"), widths(2)).total
    return counts.stored, work.forward, work.training, kept, state_bytes(counts, run)


def formulas(layers: Any, d: Any, v: Any, s: int = 2_048) -> tuple[Any, ...]:
    """GPT-3's parameters, forward and training FLOPs, and state, as a spreadsheet has them."""
    stored = v * d + s * d + layers * (12 * d * d + 13 * d) + 2 * d
    forward = 2 * s * (12 * layers * d * d + v * d) + 4 * layers * s * s * d
    return stored, forward, 3 * forward, 16 * stored + 4 * (16 * layers + 4)  # and a counter a tensor


def times(ratio: float) -> str:
    """A ratio above or below 1."""
    return f"{ratio:,.0f}" if ratio > 1 else f"{ratio:.3f}"


def agreed(name: str, theirs: Any, ours: Any) -> None:
    """End where two ways to the same figures differ."""
    if not np.allclose(theirs, ours, rtol=1e-12, atol=0):
        sys.exit(f"the grid and {name} disagree")


def main() -> None:
    """All of it, with the medians of paired rounds."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    grid = archcalc.sweep(SPEC, VARY, columns=COLUMNS)
    sizes = [grid.values[name] for name in VARY]
    rows = list(grid.rows())[:: len(grid) // SAMPLE][:SAMPLE]
    questions = [f"{SPEC}@" + ",".join(f"{n}={v}" for n, v in zip(VARY, row, strict=False)) for row in rows]
    models = [find(question).model for question in questions]
    agreed("the scalar path", [one(model) for model in models], [row[len(VARY) :] for row in rows])
    by_hand = ("parameters.stored", "flops.forward", "flops.training", "memory.state")
    agreed("the formulas", formulas(*sizes), [grid.values[name] for name in by_hand])

    ways = {
        "the grid": (lambda: archcalc.sweep(SPEC, VARY, columns=COLUMNS), len(grid)),
        "one by one, each question read and validated": (
            lambda: [one(find(question).model) for question in questions],
            SAMPLE,
        ),
        "one by one, models at hand": (lambda: [one(model) for model in models], SAMPLE),
        "formulas by hand, without saved bytes": (lambda: formulas(*sizes), len(grid)),
    }
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, (work, shapes) in ways.items():
            rates[name].append(shapes / seconds(work))
    ours = rates.pop("the grid")
    print(f"the grid: {statistics.median(ours):,.0f} shapes/s")
    for name, rate in rates.items():
        ratios = sorted(a / b for a, b in zip(ours, rate, strict=True))
        low, middle, high = (
            times(ratios[rounds // 10]),
            times(statistics.median(ratios)),
            times(ratios[-1 - rounds // 10]),
        )
        print(f"{name}: {statistics.median(rate):,.0f} shapes/s")
        print(f"  the grid is {middle} times as fast (80% of {rounds} rounds from {low} to {high})")


if __name__ == "__main__":
    main()
