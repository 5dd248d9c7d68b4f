"""The sheet of a plan's collectives: what a rank sends in a step, by axis and operation, and what it may hide."""

from __future__ import annotations

from typing import Any, NamedTuple

from archcalc.counts.collectives import Sender, Traffic
from archcalc.counts.exchanged import Collective
from archcalc.report.ranks import plan_lines, plan_payload, sort_numbers, stages_text
from archcalc.report.sheet import (
    Bytes,
    Cell,
    Fields,
    Sheet,
    Table,
    caveats,
    figures,
    notes,
    payload,
    recomputed,
    words,
)
from archcalc.spec.catalogue import Found
from archcalc.tape.precision import BITS
from archcalc.units import binary, grouped, several, share

CONVENTIONS = {
    "bytes": "of one: the tensor whole, before a scatter or after a gather; of an all-to-all what a rank has",
    "sent": "of one, by a rank, in a ring: (n - 1) / n of the bytes, in an all-reduce twice that; in a send all",
    "count": "in a step of all micro-batches; gradients of each tensor apart, though frameworks send several in one",
    "scope": "ranks are numbered tp, cp, dp, pp, as Megatron-LM's default order; across: some group is in two nodes",
    "overlaps": "what may hide it, by the habits of Megatron-LM and FSDP2; null: what follows waits for it (modelled)",
}
_ORDER = ("tp", "cp", "ep", "dp", "dp+cp", "edp", "pp")


class Kind(NamedTuple):
    """What collectives of several tensors have in common."""

    axis: str
    ranks: int
    operation: str
    phase: str
    scope: str


class Amount(NamedTuple):
    """Like collectives of all tensors, added up."""

    times: int
    bytes: int
    sent: int


def traffic_sheet(found: Found, counted: Traffic) -> Sheet:
    """What the rank that sends the most exchanges, and what those of other stages do."""
    busiest, plan = counted.busiest, counted.plan
    trains = counted.run.phase == "training"
    when = "step" if trains else f"{counted.run.phase} pass"
    return Sheet(
        title=f"{found.name}: {grouped(busiest.sent)} bytes sent in a {when} by the busiest of "
        f"{several(plan.world, 'rank')} ({binary(busiest.sent)})",
        blocks=(
            *([_by_axis(busiest)] if busiest.collectives else []),
            *([_by_stage(counted)] if plan.pp > 1 else []),
            Fields(
                (
                    ("Plan", plan_lines(plan, found.model, trains=trains)),
                    ("Nodes", (nodes_line(counted),)),
                    *([("Waits", waits_lines(busiest))] if busiest.sent else []),
                    ("Bytes", (CONVENTIONS["bytes"], f"sent: {CONVENTIONS['sent']}")),
                    ("Counted", _counted(counted)),
                    *caveats(found),
                )
            ),
        ),
        payload=payload(
            found.name,
            **plan_payload(plan, found.model),
            gpus_per_node=counted.gpus_per_node,
            collectives=[collective_record(one) for one in busiest.collectives],
            ranks=[sender_numbers(sender) for sender in counted.each],
            conventions={
                "phase": counted.run.phase,
                "sequence": counted.run.positions,
                "precision": counted.keeping.precision,
                "recompute": counted.keeping.recompute,
                **CONVENTIONS,
            },
            **notes(found),
        ),
        records=tuple(
            {"stages": stages_text(sender.stages), **collective_record(one)}
            for sender in counted.each
            for one in sender.collectives
        ),
    )


def collective_record(one: Collective) -> dict[str, Any]:
    """A collective as JSON."""
    return {
        "operation": one.operation,
        "axis": one.axis,
        "ranks": one.ranks,
        "tensor": one.tensor,
        "phase": one.phase,
        "count": one.count,
        "bytes": one.bytes,
        "sent": one.sent,
        "scope": one.scope,
        "overlaps": one.overlaps,
    }


def sender_numbers(sender: Sender) -> dict[str, Any]:
    """What a sort of rank sends, as JSON."""
    return {
        **sort_numbers(sender.stages),
        "bytes": sender.bytes,
        "sent": sender.sent,
        "collectives": [collective_record(one) for one in sender.collectives],
    }


def alike(sender: Sender) -> dict[Kind, Amount]:
    """What a rank exchanges, like collectives of all tensors added up."""
    rows: dict[Kind, Amount] = {}
    for one in sender.collectives:
        key = Kind(one.axis, one.ranks, one.operation, one.phase, one.scope)
        times, size, sent = rows.get(key, Amount(0, 0, 0))
        rows[key] = Amount(times + one.count, size + one.count * one.bytes, sent + one.count * one.sent)
    return rows


def _by_axis(sender: Sender) -> Table:
    rows = alike(sender)
    cells: list[tuple[Cell, ...]] = [
        (axis, operation, phase, scope, ranks, row.times, Bytes(row.bytes), Bytes(row.sent))
        for (axis, ranks, operation, phase, scope), row in rows.items()
    ]
    cells.sort(key=lambda row: _ORDER.index(str(row[0])) if row[0] in _ORDER else len(_ORDER))
    return Table(
        title=f"Collectives of a rank of stage {stages_text(sender.stages)}",
        columns=(*words("axis", "operation", "phase", "scope"), *figures("ranks", "times", "bytes", "sent")),
        rows=tuple(cells),
        total=(
            "total",
            None,
            None,
            None,
            None,
            sum(row.times for row in rows.values()),
            Bytes(sender.bytes),
            Bytes(sender.sent),
        ),
        keys=3,
    )


def _by_stage(counted: Traffic) -> Table:
    return Table(
        title="One rank of each stage",
        columns=(*words("stage"), *figures("times", "bytes", "sent", "sent across nodes")),
        rows=tuple(
            (
                stages_text(sender.stages),
                sum(one.count for one in sender.collectives),
                Bytes(sender.bytes),
                Bytes(sender.sent),
                Bytes(_sent(one for one in sender.collectives if one.scope == "across")),
            )
            for sender in sorted(counted.each, key=lambda sender: sender.stages)
        ),
    )


def _sent(collectives: Any) -> int:
    return sum(one.count * one.sent for one in collectives)


def nodes_line(counted: Traffic) -> str:
    """What the busiest rank sends inside a node, and across."""
    busiest = counted.busiest
    across = _sent(one for one in busiest.collectives if one.scope == "across")
    each = f"{several(counted.gpus_per_node, 'GPU')} a node, ranks numbered tp, cp, dp, pp"
    return f"{each}: {binary(busiest.sent - across)} sent inside a node, {binary(across)} across"


def waits_lines(sender: Sender) -> tuple[str, ...]:
    """What is on the critical path, and what the rest may be hidden behind."""
    waits = _sent(one for one in sender.collectives if one.overlaps is None)
    lines = [f"{binary(waits)} sent ({share(waits, sender.sent)}) while what follows waits (modelled)"]
    for behind in dict.fromkeys(one.overlaps for one in sender.collectives if one.overlaps):
        hidden = [one for one in sender.collectives if one.overlaps == behind]
        which = dict.fromkeys(f"{one.axis} {one.operation} ({one.phase})" for one in hidden)
        lines.append(f"{binary(_sent(hidden))} may hide behind {behind}: {', '.join(which)}")
    return tuple(lines)


def _counted(counted: Traffic) -> tuple[str, ...]:
    run, keeping = counted.run, counted.keeping
    size = f"{grouped(run.batch)} x {several(run.positions, 'token')} on a rank"
    left_out = "left out: the norm of all gradients, the loss that is reported"
    if counted.plan.tp > 1 and not keeping.method.splits:
        left_out += f", what {keeping.optimizer} exchanges over ranks that cut a matrix"
    if run.phase != "training":
        wide = f"{keeping.precision} weights" if keeping.precision not in BITS else keeping.precision
        return (f"{run.phase} of {size}, {wide}; logits stay where their tokens of the vocabulary are",)
    return (
        f"training, micro-batches of {size}; {recomputed(keeping.recompute, counted.plan)}",
        f"{keeping.precision}: {keeping.recipe.meaning}",
        left_out,
    )
