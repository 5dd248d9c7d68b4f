"""The sheet of FLOPs: what is multiplied, by category, and for a training run beside the rule of 6 N D."""

from __future__ import annotations

from typing import Any

from archcalc.catalogue import Found
from archcalc.count import Parameters, params
from archcalc.report.sheet import Cell, Fields, Sheet, Table, caveats, figures, notes, payload, words
from archcalc.run import Run
from archcalc.units import grouped, scientific, share, short
from archcalc.work import CONVENTIONS, PF_DAY, Flops, Part, TrainingRun, flops, training_run

_CAUSAL = {
    "full": "every pair of positions is counted, as PyTorch's counter has it",
    "half": "half of the pairs are counted, S x S / 2",
    "exact": "a position is paired with itself and what came before, S x (S + 1) / 2",
}


def flops_sheet(found: Found, run: Run, tokens: int | None) -> Sheet:
    """FLOPs of a batch, by category, forward and backward."""
    work, counts = flops(found.model, run), params(found.model)
    training = run.phase == "training"
    whole = training_run(counts, work, run, tokens) if tokens is not None else None
    here = work.forward + work.backward
    size = f"{grouped(run.batch * run.positions)} tokens"
    verb = {"training": "to train on", "prefill": "to read", "decode": "to add"}[run.phase]
    extra = (
        {} if whole is None else {"run": {**whole._asdict(), "bridge": _terms(whole), "pf_days": whole.flops / PF_DAY}}
    )
    return Sheet(
        title=f"{found.name}: {grouped(here)} FLOPs {verb} {size} ({short(here)})",
        blocks=(
            _table(work, training=training),
            *([_run_table(whole)] if whole else []),
            Fields((*_lines(work, counts, run), *caveats(found))),
        ),
        payload=payload(found.name, **flops_payload(work, run), **extra, **notes(found)),
        records=tuple(part_record(part) for part in work.categories),
    )


def _terms(whole: TrainingRun) -> list[dict[str, Any]]:
    return [term._asdict() for term in whole.bridge]


def flops_payload(work: Flops, run: Run) -> dict[str, Any]:
    """The FLOPs as JSON."""
    return {
        "flops": {
            "forward": work.forward,
            "backward": work.backward,
            "training": work.training,
            "vector_forward": work.vector_forward,
            "categories": [part_record(part) for part in work.categories],
        },
        "conventions": {
            "phase": run.phase,
            "batch": run.batch,
            "sequence": run.positions,
            "context": run.read,
            "causal": run.causal,
            "attention": run.attention,
            "logits": run.logits,
            **CONVENTIONS,
        },
    }


def part_record(part: Part) -> dict[str, Any]:
    """A category's row."""
    return {
        "category": part.category,
        "forward": part.forward,
        "backward": part.backward,
        "training": part.forward + part.backward,
        "repeated": part.repeated,
    }


def _table(work: Flops, *, training: bool) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for part in work.categories:
        row: tuple[Cell, ...] = (part.category, part.forward, share(part.forward, work.forward))
        rows.append((*row, part.backward, part.forward + part.backward) if training else row)
    contractions: tuple[Cell, ...] = ("contractions", work.forward, None)
    pointwise: tuple[Cell, ...] = ("pointwise, modelled", work.vector_forward, None)
    if training:
        contractions, pointwise = (*contractions, work.backward, work.training), (*pointwise, None, None)
    columns = figures("forward", "share", *(("backward", "together") if training else ()))
    return Table((*words("category"), *columns), tuple(rows), contractions, more=(pointwise,))


def _run_table(whole: TrainingRun) -> Table:
    pf_days = f"{whole.flops / PF_DAY:,.4g}"
    return Table(
        title=f"Training on {grouped(whole.tokens)} tokens: {scientific(whole.flops)} FLOPs, {pf_days} PF-days",
        columns=(*words("term"), *figures("FLOPs", "")),
        rows=(
            ("6 x parameters x tokens", whole.six_nd, scientific(whole.six_nd)),
            *((term.name, f"{term.flops:+,}", scientific(term.flops)) for term in whole.bridge),
        ),
        total=("together", whole.flops, scientific(whole.flops)),
    )


def _lines(work: Flops, counts: Parameters, run: Run) -> list[tuple[str, tuple[str, ...]]]:
    tokens = run.batch * run.positions
    every = work.forward + work.vector_forward
    products = f"contractions are {share(work.forward, every)} of the operations of the forward pass"
    lines: list[tuple[str, tuple[str, ...]]] = [("Share", (products,))]
    if run.phase == "training":
        per_token = f"{short(work.training // tokens)} FLOPs for each token, beside 6 N = {short(6 * counts.stored)}"
        lines.append(("Token", (per_token,)))
        repeated = sum(part.repeated for part in work.categories)
        if repeated:
            lines.append(("Flash", (f"{grouped(repeated)} of the backward pass are scores that it computes anew",)))
    where = f"{run.phase}, {grouped(run.batch)} x {grouped(run.positions)} tokens"
    reading = f" reading {grouped(run.read)}" if run.phase == "decode" else ""
    kernel = f"{run.attention} attention, logits of {run.logits} positions"
    lines.append(("Counted", (f"{where}{reading}, {kernel}", f"causal {run.causal}: {_CAUSAL[run.causal]}")))
    return lines
