"""The sheet of a search: the plans of so many devices that fit."""

from __future__ import annotations

from archcalc.report.memory import training_lines
from archcalc.report.sheet import Bytes, Cell, Fields, Sheet, Table, caveats, figures, notes, payload, words
from archcalc.shapes.fitting import Search
from archcalc.spec.catalogue import Found
from archcalc.tape.precision import Keeping
from archcalc.tape.run import Run
from archcalc.units import binary, grouped, several

MOST = 10


def plans_sheet(found: Found, run: Run, keeping: Keeping, search: Search) -> Sheet:
    """The cheapest plans that fit, or by how much the best is too large."""
    devices = f"{grouped(search.gpus)} x {search.device}"
    records = tuple(
        {**one.fields, "memory.total": one.total, "traffic.sent": one.sent, "bubble": one.bubble}
        for one in search.found
    )
    names = [name for name in (search.found[0].fields if search.found else {}) if name != "recompute"]
    rows: list[tuple[Cell, ...]] = [
        (
            one.fields["recompute"],
            *(str(n).lower() if isinstance(n := one.fields[name], bool) else n for name in names),
            Bytes(one.total),
            Bytes(one.sent),
            f"{100 * one.bubble:.1f}%",
        )
        for one in search.found[:MOST]
    ]
    heads = [("sp" if name == "sequence_parallel" else name) for name in names]
    table = Table((*words("recompute"), *figures(*heads, "peak", "sent in a step", "bubble")), tuple(rows))
    tried = several(search.tried, "plan")
    verdict = f"{grouped(len(search.found))} of {tried} of {devices} fit"
    least = search.least
    short = () if search.found or least is None else (f"the smallest peak is {binary(least)}",)
    more = len(search.found) - MOST
    return Sheet(
        title=f"{found.name}: {verdict}",
        blocks=(
            *([table] if rows else []),
            Fields(
                (
                    ("Device", (f"{binary(search.usable)} usable, less a {search.percent}% reserve", *short)),
                    *([("Rows", (f"{several(more, 'more plan')}; --format csv has all",))] if more > 0 else []),
                    (
                        "Tried",
                        (*_TRIED, f"steps of {grouped(search.sequences)} sequences, in micro-batches of one", _FIRST),
                    ),
                    ("Counted", training_lines(found.model, run, keeping, ("recompute", "accumulation"))),
                    *caveats(found),
                )
            ),
        ),
        payload=payload(
            found.name,
            gpus=search.gpus,
            sequences=search.sequences,
            device=search.device,
            usable=search.usable,
            tried=search.tried,
            least=least,
            fits=bool(search.found),
            plans=list(records),
            **notes(found),
        ),
        records=records,
    )


_TRIED = ("tp up to 8, pp, dp (and ep), sequence parallelism, ZeRO 0, 1 and 3, every recomputation",)
_FIRST = "first what computes less again, then what sends less; the bubble is the share of a step that stages wait"
