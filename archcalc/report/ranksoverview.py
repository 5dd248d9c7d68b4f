"""The report of a model under a plan: what a rank has, computes, holds and sends, on one screen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any, cast

from archcalc.counts.flops import CONVENTIONS as WORK
from archcalc.counts.overall import Overall, overall
from archcalc.counts.parameters import CONVENTIONS as STORED
from archcalc.counts.parameters import Parameters, params
from archcalc.counts.quantities import one_pass, values
from archcalc.counts.rankwise import Ranks
from archcalc.hardware.devices import find_device
from archcalc.hardware.fitting import RESERVE, usable
from archcalc.plan.description import Plan
from archcalc.plan.local import RankModel
from archcalc.report.memory import SHOWN, memory_numbers, verdict
from archcalc.report.overview import MOST_KINDS, SHAPE, shape_lines
from archcalc.report.parameters import active_line, bridge_line, counted_numbers, published_lines, tally_table
from archcalc.report.ranks import plan_lines, plan_payload, rank_numbers, sort_numbers, stages_text
from archcalc.report.sheet import (
    Bytes,
    Cell,
    Fields,
    Sheet,
    Table,
    caveats,
    computed_again,
    figures,
    notes,
    payload,
    words,
)
from archcalc.report.traffic import CONVENTIONS as SENT
from archcalc.report.traffic import alike, collective_record, nodes_line, sender_numbers, waits_lines
from archcalc.report.worked import bubble_line, bubble_numbers, together_line, worker_numbers
from archcalc.spec.catalogue import Found
from archcalc.spec.model import Model
from archcalc.units import binary, grouped, listed, several, short

_SERVED = {"weights": "weights", "key-value cache": "cache of the context", "recurrent state": "recurrent state"}
_LARGEST = 3  # sorts of collectives that a line names
_MOST_STAGES, _FIRST, _LAST = 12, 6, 5
"""Sorts of stages in the table: of more the first and the last; JSON and CSV have all."""


def ranks_report_sheet(found: Found, plan: Plan, where: str = "plan") -> Sheet:
    """The report, with what the rank has that has the most of each."""
    model = found.model
    counted = overall(model, plan, where)
    whole, most = params(model), counted.most
    mine = most.parameters
    return Sheet(
        title=f"{found.name}: {grouped(mine.stored)} parameters on the fullest of {several(plan.world, 'rank')} "
        f"({short(mine.stored)})",
        blocks=(
            Fields(
                (
                    ("Shape", shape_lines(model)),
                    ("Source", (model.source,)),
                    ("Plan", plan_lines(plan, model, trains=counted.trains)),
                )
            ),
            tally_table(mine, most=MOST_KINDS)._replace(title=f"Weights of a rank{_of(counted, most.stages)}"),
            *([_by_stage(counted)] if plan.pp > 1 else []),
            Fields(
                (
                    ("Stored", (bridge_line(mine), f"the model has {grouped(whole.stored)} ({short(whole.stored)})")),
                    *(active_line(mine) if plan.ep == 1 else ()),
                    *published_lines(model, whole),
                    ("FLOPs", _work_lines(counted)),
                    *([("Bubble", (bubble_line(counted.work),))] if plan.pp > 1 and counted.trains else []),
                    ("Memory", tuple(_memory_lines(counted))),
                    ("Devices", _device_lines(counted)),
                    *([("Traffic", tuple(_traffic_lines(counted)))] if counted.sent.busiest.sent else []),
                    *caveats(found, assumed=True),
                )
            ),
        ),
        payload=payload(found.name, **_payload(found, counted, whole)),
        records=tuple(_records(counted)),
    )


def _of(counted: Overall, stages: tuple[int, ...]) -> str:
    """Whose number it is, where there are several stages."""
    return f" of stage {stages_text(stages)}" if counted.plan.pp > 1 else ""


def _step(counted: Overall) -> str:
    return "step" if counted.trains else "prefill pass"


def _by_stage(counted: Overall) -> Table:
    rows: list[tuple[Cell, ...]] = [
        (
            record["stages"],
            record["parameters.stored"],
            record["flops.executed"],
            Bytes(record["memory.state"]),
            Bytes(record["memory.total"]),
            Bytes(record["traffic.sent"]),
        )
        for record in sorted(_records(counted), key=lambda record: int(record["stages"].partition("-")[0]))
    ]
    if (more := len(rows) - _MOST_STAGES) > 0:
        rows[_FIRST:-_LAST] = [(f"{more + 1:,} more", *[None] * 5)]
    return Table(
        title=f"One rank of each stage, in a {_step(counted)}",
        columns=(*words("stage"), *figures("parameters", "FLOPs", "state", "peak", "sent")),
        rows=tuple(rows),
    )


def _records(counted: Overall) -> Iterator[dict[str, Any]]:
    """A row for each sort of rank, the one that holds the most first."""
    for rank in counted.held.each:
        stage = rank.stages[0]
        work = next(one for one in counted.work.each if stage in one.stages)
        sender = next(one for one in counted.sent.each if stage in one.stages)
        yield {
            "stages": stages_text(rank.stages),
            "parameters.stored": rank.parameters.stored,
            "flops.executed": work.hardware,
            "memory.state": int(rank.memory.state),
            "memory.total": int(rank.memory.total),
            "traffic.sent": int(sender.sent),
        }


def _work_lines(counted: Overall) -> tuple[str, ...]:
    work = counted.work
    busiest, size = work.busiest, f"{several(work.tokens, 'token')} of all ranks"
    step = busiest.of_step
    back = f", {grouped(step.backward)} backward" if counted.trains else ""
    which = f"busiest rank{_of(counted, busiest.stages)}"
    recompute = counted.held.keeping.recompute
    more = busiest.micro_batches * int(busiest.executed.recomputed)
    back += f", {grouped(more)} recomputing {computed_again(recompute, counted.plan)}" if more else ""
    return (f"{which}: {grouped(step.forward)} forward{back} in a {_step(counted)} of {size}", together_line(work))


def _memory_lines(counted: Overall) -> Iterator[str]:
    if counted.trains:
        kept = counted.held.keeping
        yield f"training peak {_peak(counted, counted.held)} ({kept.precision}, {counted.held.run.kernel})"
        if host := counted.held.fullest.memory.host:
            yield f"{binary(host)} of the host's memory beside it: what is stepped, gradients, optimizer state"
    if counted.served is None:
        fields = counted.only_trains
        yield f"no inference under this plan: {listed(fields)} {'is' if len(fields) == 1 else 'are'} of training alone"
        return
    terms = {term.name: term.bytes for term in counted.served.fullest.memory.terms}
    parts = [f"{words} {binary(terms[name])}" for name, words in _SERVED.items() if name in terms]
    peak = _peak(counted, counted.served).partition(",")[0]
    yield f"inference {peak} ({counted.served.keeping.precision}), {', '.join(parts)}"


def _peak(counted: Overall, held: Ranks) -> str:
    used = held.fullest.memory
    which = f" on the fullest rank{_of(counted, held.fullest.stages)}"
    return f"{binary(used.total)}{which}, of which state {binary(used.state)}"


def _device_lines(counted: Overall) -> tuple[str, ...]:
    """Whether each rank fits the devices that a report measures by."""
    every = {"training": counted.held} if counted.trains else {}
    every |= {"inference": counted.served} if counted.served else {}
    lines = []
    for name in SHOWN:
        room = usable(find_device(name), RESERVE)
        said = [f"{what} {verdict(room - int(held.fullest.memory.total))}" for what, held in every.items()]
        lines.append(f"{name}: {'; '.join(said)}")
    return (*lines, f"of the fullest rank, with {RESERVE}% of the device set aside")


def _traffic_lines(counted: Overall) -> Iterator[str]:
    """The largest collectives, and the bytes by axis."""
    sender = counted.sent.busiest
    axes: Counter[str] = Counter()
    sorts: Counter[str] = Counter()
    for kind, amount in alike(sender).items():
        axes[kind.axis] += amount.sent
        sorts[f"{kind.axis} {kind.operation} ({kind.phase})"] += amount.sent
    by = ", ".join(f"{axis} {binary(sent)}" for axis, sent in axes.most_common())
    yield f"busiest rank{_of(counted, sender.stages)}: {binary(sender.sent)} sent in a {_step(counted)}: {by}"
    largest = ", ".join(f"{name} {binary(sent)}" for name, sent in sorts.most_common(_LARGEST))
    yield f"largest: {largest}"
    yield nodes_line(counted.sent)
    yield waits_lines(sender)[0]


def _payload(found: Found, counted: Overall, whole: Parameters) -> dict[str, Any]:
    """The report as JSON: the sections of a report without a plan are those of the rank that has the most of each."""
    model, most, work = found.model, counted.most, counted.work
    rank = cast("Model", RankModel(model, counted.plan, most.stages[0]))
    run, keeping = counted.held.run, counted.held.keeping
    return {
        "shape": model.model_dump(mode="json", include=set(SHAPE)),
        **plan_payload(counted.plan, model),
        "model": {"parameters": whole.stored},
        **values(one_pass(rank, run.batch, run.sequence), ("parameters", "matrices")),
        **counted_numbers(most.parameters),
        "flops": worker_numbers(work.busiest)["flops"],
        "step": {"tokens": work.tokens, "model": work.model, "ranks": work.ranks},
        "bubble": bubble_numbers(work),
        "memory": memory_numbers(counted.held.fullest.memory),
        "inference": None if counted.served is None else memory_numbers(counted.served.fullest.memory),
        "collectives": [collective_record(one) for one in counted.sent.busiest.collectives],
        "ranks": list(_ranks(counted)),
        "gpus_per_node": counted.sent.gpus_per_node,
        "conventions": {
            "phase": run.phase,
            "sequence": run.sequence,
            "attention": {"flops": work.run.kernel, "memory": run.kernel},
            "flops_of": f"a {_step(counted)} of all micro-batches",
            **keeping._asdict(),
            **STORED,
            **WORK,
            **SENT,
        },
        **notes(found),
    }


def _ranks(counted: Overall) -> Iterator[dict[str, Any]]:
    """Each sort of rank with what every command says of it; the collectives are in `traffic`."""
    for rank in counted.held.each:
        stage = rank.stages[0]
        work = next(one for one in counted.work.each if stage in one.stages)
        sender = next(one for one in counted.sent.each if stage in one.stages)
        sent = {name: n for name, n in sender_numbers(sender).items() if name != "collectives"}
        yield {**worker_numbers(work), **sent, **rank_numbers(rank), **sort_numbers(rank.stages)}
