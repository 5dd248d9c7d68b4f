"""The sheet of FLOPs under a plan: what a rank of each stage computes in a step, and how long stages wait."""

from __future__ import annotations

from typing import Any

from archcalc.counts.flops import CONVENTIONS, TrainingRun, training_run
from archcalc.counts.parameters import params
from archcalc.counts.worked import Worker, Workers
from archcalc.hardware.duration import CONVENTIONS as TIMES
from archcalc.hardware.duration import Duration
from archcalc.plan.description import Plan
from archcalc.report.duration import time_lines, time_payload, utilization
from archcalc.report.flops import (
    EARLY,
    LOGITS,
    category_table,
    causal_line,
    part_record,
    run_payload,
    run_table,
)
from archcalc.report.ranks import plan_lines, plan_payload, sort_numbers, stages_text
from archcalc.report.sheet import Fields, Sheet, Table, caveats, computed_again, figures, notes, payload, words
from archcalc.spec.catalogue import Found
from archcalc.tape.precision import Recompute
from archcalc.units import elapsed, grouped, several, share, short

_BUBBLE = (
    "a share of time and no FLOPs: (pp - 1) / (chunks x micro-batches) of the time of the work, if all stages take as "
    "long (modelled; Narayanan et al. 2021, arXiv:2104.04473, section 2.2)"
)

_MFU_LEFT = "the largest MFU beside the bubble, where what is computed twice is no FLOPs of the model (modelled)"


def workers_sheet(
    found: Found, counted: Workers, recompute: Recompute, tokens: int | None = None, time: Duration | None = None
) -> Sheet:
    """The FLOPs of the rank with the most, and those of other stages.

    With `tokens` those of a whole training stand beside them, and with a `time` how long it takes.
    """
    busiest, plan, run = counted.busiest, counted.plan, counted.run
    trains = run.phase == "training"
    when = "step" if trains else f"{run.phase} pass"
    whole = None if tokens is None else training_run(found.model, params(found.model), run, tokens)
    extra: dict[str, Any] = {} if whole is None else {"run": {**run_payload(whole), "steps": _steps(counted, whole)}}
    extra |= {} if time is None else {"time": {**time_payload(time), "conventions": time_conventions()}}
    return Sheet(
        title=f"{found.name}: {grouped(busiest.hardware)} FLOPs in a {when} on the busiest of "
        f"{several(plan.world, 'rank')} ({short(busiest.hardware)})",
        blocks=(
            category_table(
                busiest.of_step, training=trains, title=f"FLOPs of a rank of stage {stages_text(busiest.stages)}"
            ),
            *([_by_stage(counted, recompute)] if plan.pp > 1 else []),
            *([run_table(whole)] if whole else []),
            Fields(
                (
                    *(time_lines(time, None, run, _SHARED) if time else ()),
                    *(_steps_lines(counted, whole) if whole else ()),
                    ("Plan", plan_lines(plan, found.model, trains=trains)),
                    ("Ranks", (together_line(counted),)),
                    *(_bubble(counted, time) if plan.pp > 1 and trains else ()),
                    *(_again(busiest, recompute, plan) if recompute != "none" else ()),
                    ("Counted", _counted(found, counted)),
                    *caveats(found),
                )
            ),
        ),
        payload=payload(
            found.name,
            **plan_payload(plan, found.model),
            step={"model": counted.model, "ranks": counted.ranks},
            bubble=bubble_numbers(counted),
            ranks=[worker_numbers(worker) for worker in counted.each],
            **extra,
            conventions={
                "phase": run.phase,
                "sequence": run.positions,
                "context": run.read,
                "causal": run.causal,
                "attention": run.kernel,
                "logits": run.logits,
                "recompute": recompute,
                "bubble": _BUBBLE,
                "most_mfu": _MFU_LEFT,
                **CONVENTIONS,
            },
            **notes(found),
        ),
        records=tuple(
            {"stages": stages_text(worker.stages), **part_record(part)}
            for worker in counted.each
            for part in worker.of_step.categories
        ),
    )


def bubble_numbers(counted: Workers) -> dict[str, float] | None:
    """How long stages wait, and the largest MFU that this leaves, as JSON; None where no step is trained."""
    if counted.bubble is None:
        return None
    return {**{name: float(n) for name, n in counted.bubble._asdict().items()}, "most_mfu": float(counted.most_mfu)}


_SHARED = "one for each rank"


def time_conventions() -> dict[str, str]:
    """What the time of a plan means."""
    seconds = "of all ranks together at one MFU; without an MFU that of the busiest rank at its peak"
    return {**TIMES, "seconds": seconds, "bubble": "a bound of the MFU, and no factor of the time"}


def _steps(counted: Workers, whole: TrainingRun) -> int:
    return int(-(-whole.tokens // counted.tokens))


def _steps_lines(counted: Workers, whole: TrainingRun) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """How many steps a training has."""
    rest = "" if whole.tokens % counted.tokens == 0 else ", the last one shorter"
    return (("Steps", (f"{several(_steps(counted, whole), 'step')} of {grouped(counted.tokens)} tokens{rest}",)),)


def worker_numbers(worker: Worker) -> dict[str, Any]:
    """What a sort of rank computes in a step, as JSON."""
    step, n = worker.of_step, worker.micro_batches
    return {
        **sort_numbers(worker.stages),
        "micro_batches": n,
        "flops": {
            "forward": step.forward,
            "backward": step.backward,
            "training": step.training,
            "pointwise": step.pointwise,
            "categories": [part_record(part) for part in step.categories],
        },
        "hardware": {name: n * amount for name, amount in worker.executed._asdict().items()},
    }


def _by_stage(counted: Workers, recompute: Recompute) -> Table:
    trains = counted.run.phase == "training"
    heads = ("forward", *(("backward",) if trains else ()), *(("recomputed",) if recompute != "none" else ()))
    rows = []
    for worker in sorted(counted.each, key=lambda one: one.stages):
        step, n = worker.of_step, worker.micro_batches
        again = (n * int(worker.executed.recomputed),) if recompute != "none" else ()
        back = (step.backward,) if trains else ()
        rows.append(
            (
                stages_text(worker.stages),
                step.forward,
                *back,
                *again,
                worker.hardware,
                share(worker.hardware, counted.busiest.hardware),
            )
        )
    return Table(
        title="One rank of each stage",
        columns=(*words("stage"), *figures(*heads, "executed", "load")),
        rows=tuple(rows),
    )


def together_line(counted: Workers) -> str:
    """What all ranks compute beside what one device would."""
    more = counted.ranks - counted.model
    said = f"all ranks together: {short(counted.ranks)} FLOPs, the model on one device {short(counted.model)}"
    if not more:
        return f"{said}: nothing is computed twice"
    return f"{said}; {short(more)} ({share(more, counted.model)}) is padding, or computed by several ranks alike"


def bubble_line(counted: Workers) -> str:
    """How long stages wait for each other."""
    work, step = counted.bubble or (0, 0)
    return f"stages wait {float(work):.4g} of the time that the work takes, {float(step):.2%} of a step"


def _bubble(counted: Workers, time: Duration | None) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """The bubble, and what it leaves of a peak."""
    return (("Bubble", (bubble_line(counted), *([_bound(counted, time)] if time else []), _BUBBLE)),)


def _bound(counted: Workers, time: Duration) -> str:
    """The MFU that the bubble leaves, or the time with it."""
    most, mfu = utilization(float(counted.most_mfu)), utilization(time.mfu)
    if time.lower_bound:
        waiting = time.seconds * float(counted.bubble.of_work if counted.bubble else 0)
        return f"the time leaves it out: with it at least {elapsed(time.seconds + waiting)} (modelled)"
    if time.mfu > counted.most_mfu:
        return f"{mfu} MFU is more than it leaves: at most {most} (modelled)"
    return f"it leaves at most {most} MFU (modelled); {mfu} MFU counts the wait already"


def _again(worker: Worker, recompute: Recompute, plan: Plan) -> tuple[tuple[str, tuple[str, ...]], ...]:
    n = worker.micro_batches * int(worker.executed.recomputed)
    return (
        ("Hardware", (f"{grouped(n)} FLOPs of the busiest rank recompute {computed_again(recompute, plan)}", EARLY)),
    )


def _counted(found: Found, counted: Workers) -> tuple[str, ...]:
    run = counted.run
    size = f"{grouped(run.batch)} x {several(run.positions, 'token')}"
    reading = f" with {grouped(run.read)} in context" if run.phase == "decode" else ""
    what = "micro-batches of" if run.phase == "training" else f"{run.phase} pass of"
    return (
        f"{what} {size} on a rank{reading}, {run.kernel} attention, logits of {LOGITS[run.logits]}",
        causal_line(found.model, run),
    )
