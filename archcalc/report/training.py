"""The sheet of a training: what was learned, at what rate, and what a step did and held beside the count."""

from __future__ import annotations

import math
import os
from typing import Any, NamedTuple

from archcalc.errors import printable
from archcalc.proof.learning import Expected
from archcalc.proof.watching import Seen
from archcalc.report.progress import Pace
from archcalc.report.sheet import Fields, Sheet, payload
from archcalc.spec.catalogue import Found
from archcalc.units import binary, grouped, percent, several, short


class Trained(NamedTuple):
    """What a training came to: each held-out loss with its step, and what the step took that was `seen`."""

    steps: int
    settings: dict[str, Any]
    kind: str
    learned: int
    loss: float | None
    held_out: tuple[tuple[int, float], ...]
    sample: str
    folder: str | None
    seen: Seen | None
    device: str


def training_sheet(found: Found, trained: Trained, counted: Expected, pace: Pace) -> Sheet:
    """The end of a training on one screen."""
    tokens, each = trained.steps * counted.tokens, trained.kind.removesuffix("s")
    last = trained.held_out[-1][1]
    peak = counted.memory.total
    promise = "" if pace.peak is None else f"; its peak is {short(pace.peak)} FLOP/s"
    heard = "" if trained.loss is None else f"; {trained.loss:.4f} in the last training step"
    flops, held = _beside(trained, counted)
    rows = (
        ("Learned", (_amount(trained, counted, tokens),)),
        ("Loss", (f"held-out {last:.4f} nats per {each}, {last / math.log(2):.4f} bits{heard}",)),
        (
            "FLOPs",
            (f"{grouped(counted.flops)} counted per step{flops}", f"{short(counted.flops * trained.steps)} in total"),
        ),
        ("Rate", (f"{pace.words(whole=True)} on {trained.device}{promise}",)),
        ("Memory", (f"{grouped(peak)} bytes ({binary(peak)}) counted at the peak of a step{held}",)),
        ("Sample", tuple(printable(line) for line in trained.sample.split("\n") if line.strip())),
        ("Saved", _kept(trained.folder)),
    )
    numbers = {
        "steps": trained.steps,
        "tokens": tokens,
        "tokens_per_parameter": tokens / counted.parameters,
        "loss": trained.loss,
        "held_out": last,
        "step_flops": counted.flops,
        "step_peak_bytes": peak,
        "step_flops_measured": trained.seen and trained.seen.flops,
        "step_peak_measured_bytes": trained.seen and trained.seen.peak_bytes,
        "seconds": pace.seconds,
        "steps_timed": pace.steps,
        "device": trained.device,
        "peak_flops_per_second": pace.peak,
        "checkpoint": trained.folder,
    }
    along = [{"step": step, "held_out": loss} for step, loss in trained.held_out]
    return Sheet(
        title=f"{found.name}: held-out loss {last:.4f} after {several(trained.steps, 'step')}",
        blocks=(Fields(rows),),
        payload=payload(
            found.name,
            training={**numbers, "along": along, "sample": trained.sample},
            conventions={**trained.settings, "loss": f"nats per {each}"},
        ),
        records=({"spec": found.name, **numbers},),
    )


def _beside(trained: Trained, counted: Expected) -> tuple[str, str]:
    """What PyTorch and the device said of the same step; nothing where no step was seen."""
    if trained.seen is None:
        return "", ""
    flops, peak = trained.seen
    said = "agrees" if flops == counted.flops else f"counts {grouped(flops)}"
    off = peak - counted.memory.total
    by = "the CPU's allocator" if trained.device == "the CPU" else f"the allocator of {trained.device}"
    record = f"records {grouped(peak)} ({off:+,}, {percent(off, counted.memory.total)})" if off else "agrees"
    return f"; PyTorch's FLOP counter {said}", f"; {by} {record}"


def _amount(trained: Trained, counted: Expected, tokens: int) -> str:
    ratio, epochs = tokens / counted.parameters, tokens / trained.learned
    which = f"{grouped(trained.learned)} training {trained.kind}"
    return f"{grouped(tokens)} tokens, {ratio:.3g} per parameter; {epochs:.3g} x the {which}"


def _kept(folder: str | None) -> tuple[str, ...]:
    """Where the weights are, and what can be done with them."""
    if folder is None:
        return ("nothing; --out DIR keeps checkpoints",)
    kept = os.path.dirname(folder)
    return (folder, f"`archcalc generate {kept} --prompt TEXT` generates text with it")
