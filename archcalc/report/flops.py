"""The sheet of FLOPs: what is multiplied, by category, and for a training run beside the rule of 6 N D."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from archcalc.blocks.attention import Attention
from archcalc.blocks.windows import seen
from archcalc.counts.executed import Executed
from archcalc.counts.flops import CONVENTIONS, PF_DAY, Flops, Part, TrainingRun, flops, training_run
from archcalc.counts.leastread import Reading
from archcalc.counts.parameters import Parameters
from archcalc.counts.pertoken import Rule, per_token
from archcalc.counts.quantities import Asked, values
from archcalc.hardware.duration import Duration
from archcalc.report.duration import time_lines, time_payload
from archcalc.report.mtp import work_line
from archcalc.report.sheet import Cell, Fields, Sheet, Table, caveats, computed_again, figures, notes, payload, words
from archcalc.spec.catalogue import Found
from archcalc.spec.model import Model
from archcalc.tape.precision import Keeping, Recompute
from archcalc.tape.run import Run
from archcalc.units import grouped, scientific, several, share, short

CAUSAL = {
    "full": "all query-key pairs, as PyTorch's FLOP counter counts them",
    "half": "half of the query-key pairs, S x S / 2",
    "exact": "each position attends to itself and those before it, S x (S + 1) / 2",
}


def flops_sheet(
    found: Found,
    run: Run,
    tokens: int | None,
    recompute: Recompute = "none",
    executed: Executed | None = None,
    time: Duration | None = None,
    reading: Reading | None = None,
) -> Sheet:
    """FLOPs of a batch, by category, forward and backward; with a `time` also how long they take."""
    asked = Asked(found.model, run, Run(), Keeping())
    work, counts = asked.flops, asked.counts
    training = run.phase == "training"
    whole = training_run(found.model, counts, run, tokens) if tokens is not None else None
    here = work.forward + work.backward
    size = several(run.batch * run.positions, "token")
    verb = {"training": "to train on", "prefill": "to read", "decode": "to add"}[run.phase]
    rules = per_token(found.model, run.positions) if training else ()
    extra: dict[str, Any] = {"per_token": [rule._asdict() for rule in rules]}
    extra |= {} if whole is None else {"run": run_payload(whole)}
    if executed is not None and training:
        extra["hardware"] = {"recompute": recompute, **executed._asdict()}
    if time is not None:
        extra["time"] = time_payload(time, reading)
    timed = (*(time_lines(time, reading, run) if time else ()), *_hardware(executed, recompute))
    return Sheet(
        title=f"{found.name}: {grouped(here)} FLOPs {verb} {size} ({short(here)})",
        blocks=(
            category_table(work, training=training),
            *([run_table(whole)] if whole else []),
            Fields((*timed, *_lines(found.model, work, counts, run), *_more(asked, run), *caveats(found))),
            *([_rules_table(rules)] if rules else []),
        ),
        payload=payload(found.name, **flops_payload(asked), **extra, **notes(found)),
        records=tuple(part_record(part) for part in work.categories),
    )


LOGITS = {"all": "all positions", "last": "the last position"}
EARLY = (
    "as in torch.utils.checkpoint, recomputation stops at the last tensor that the backward pass needs;"
    " HFU includes it, MFU does not"
)


def _hardware(work: Executed | None, recompute: Recompute) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """What is run beyond what counts for MFU, where something is recomputed to save memory."""
    if work is None or recompute == "none":
        return ()
    run = f"{grouped(work.hardware)} FLOPs executed, {work.hardware / work.model:.4g} x the model FLOPs"
    again = f"{grouped(work.recomputed)} recompute {computed_again(recompute)}"
    flash = f", {grouped(work.flash)} the scores in flash attention" if work.flash else ""
    return (("Hardware", (f"{run}: {again}{flash}", EARLY)),)


def run_payload(whole: TrainingRun) -> dict[str, Any]:
    """A training run as JSON."""
    bridge = [{"name": term.name, "flops": term.flops} for term in whole.bridge]
    return {**whole._asdict(), "bridge": bridge, "pf_days": whole.flops / PF_DAY}


def flops_payload(asked: Asked) -> dict[str, Any]:
    """The FLOPs as JSON."""
    run = asked.work
    return {
        "flops": values(asked, ("flops",))["flops"] | work_numbers(asked.flops),
        **values(asked, ("decode",)),
        "conventions": {
            "phase": run.phase,
            "batch": run.batch,
            "sequence": run.positions,
            "context": run.read,
            "causal": run.causal,
            "attention": run.kernel,
            "logits": run.logits,
            **CONVENTIONS,
        },
    }


def work_numbers(work: Flops) -> dict[str, Any]:
    """What the quantities are made of: the categories."""
    return {"categories": [part_record(part) for part in work.categories]}


def part_record(part: Part) -> dict[str, Any]:
    """A category's row."""
    return {
        "category": part.category,
        "forward": part.forward,
        "backward": part.backward,
        "training": part.forward + part.backward,
        "repeated": part.repeated,
    }


def category_table(work: Flops, *, training: bool, title: str = "") -> Table:
    """The contractions by category."""
    rows: list[tuple[Cell, ...]] = []
    for part in work.categories:
        row: tuple[Cell, ...] = (part.category, part.forward, share(part.forward, work.forward))
        rows.append((*row, part.backward, part.forward + part.backward) if training else row)
    contractions: tuple[Cell, ...] = ("contractions", work.forward, None)
    pointwise: tuple[Cell, ...] = ("pointwise (modelled)", work.pointwise, None)
    if training:
        contractions, pointwise = (*contractions, work.backward, work.training), (*pointwise, None, None)
    columns = figures("forward", "share", *(("backward", "total") if training else ()))
    return Table((*words("category"), *columns), tuple(rows), contractions, title, more=(pointwise,))


def run_table(whole: TrainingRun) -> Table:
    """The FLOPs of a training run beside the rule of 6 N D, and what lies between."""
    pf_days = f"{whole.flops / PF_DAY:,.4g}"
    return Table(
        title=f"Training on {grouped(whole.tokens)} tokens: {scientific(whole.flops)} FLOPs, {pf_days} PF-days",
        columns=(*words("term"), *figures("FLOPs", "")),
        rows=(
            ("6 x parameters x tokens", whole.six_nd, scientific(whole.six_nd)),
            *((term.name, f"{term.flops:+,}", scientific(term.flops)) for term in whole.bridge),
        ),
        total=("total", whole.flops, scientific(whole.flops)),
    )


def _rules_table(rules: tuple[Rule, ...]) -> Table:
    """The same token by the rules that others count by, each with whose it is."""
    from textwrap import wrap

    rows: list[tuple[Cell, ...]] = []
    for rule in rules:
        first, *more = (*wrap(rule.what, _RULE), *wrap(rule.whose, _RULE))
        rows += [(rule.name, short(rule.flops), first), *((None, None, line) for line in more)]
    return Table(
        (*words("rule"), *figures("FLOPs"), *words("what it counts, and whose it is")),
        tuple(rows),
        title="Training FLOPs of one token, by the rules in use",
    )


_RULE = 50  # characters of a line of a rule, so that the table has 80 columns


def _recomputed(model: Model, work: Flops, run: Run) -> Iterator[tuple[str, tuple[str, ...]]]:
    """What kernels compute again in the backward pass: flash attention its scores, scans what they did."""
    repeated = sum(part.repeated for part in work.categories)
    scans = sum(part.repeated for part in flops(model, run._replace(attention="math")).categories) if repeated else 0
    for name, what, n in (("Flash", "attention scores", repeated - scans), ("Scans", "scans", scans)):
        if n:
            yield name, (f"{grouped(n)} FLOPs of the backward pass recompute {what}",)


def causal_line(model: Model, run: Run) -> str:
    """Which pairs of positions were counted."""
    if run.phase == "decode":
        reached = sorted({*_reached(model, run)})
        if not reached:
            return f"no layer attends: states and kept inputs stand for {several(run.read, 'position')}"
        parts = [f"{how}{grouped(n)}" if n < run.read else "all" for n, how in reached]
        of = " of" if reached[0][0] < run.read else ""
        by = ", by the kind of layer" if len(reached) > 1 else ""
        return (
            f"the new token attends to {' or '.join(parts)}{of} {several(run.read, 'position')}, itself included{by}"
        )
    return f"causal {run.causal}: {CAUSAL[run.causal]}"


def _reached(model: Model, run: Run) -> Iterator[tuple[int, str]]:
    """How many positions the new token sees in each kind of attention, and which: the last of a window or a chunk, or
    those that an indexer chose.
    """
    for kind in (kind for group in model.layers for kind in group.kinds_in()):
        for mixer in (mixer for branch in kind.layer.residual_branches for mixer in branch.mixers):
            limits = {name: getattr(mixer, name, None) for name in ("window", "chunk")}
            env = {name: n for name, n in limits.items() if n is not None}
            if indexer := getattr(mixer, "indexer", None):
                yield min(run.read, indexer.top_k), "the chosen "
            elif isinstance(mixer, Attention):
                yield seen({"T": run.read, **env}, run).get("T", run.read), "the last "


def training_line(model: Model, counts: Parameters, work: Flops, asked: Asked) -> str:
    """A training pass in one sentence."""
    run = asked.work
    size = several(run.batch * run.positions, "token")
    each = training_run(model, counts, run, 1)
    both = f"{grouped(work.forward)} forward, {grouped(work.backward)} backward for {size}"
    six_n = f"6 N: {short(each.six_nd)}"
    if counts.is_sparse:
        six_n += f", active {short(6 * counts.active)}"
    return f"{both}; {short(each.flops)} per token ({six_n})"


def token_line(model: Model, counts: Parameters, run: Run) -> str:
    """The work of training on one token beside 6 N, and what lies between."""
    whole = training_run(model, counts, run, 1)
    steps = [
        f"{'-' if step.flops < 0 else '+'} {short(abs(step.flops))} {step.short}"
        for step in whole.bridge
        if step.flops
    ]
    return " ".join([f"{short(whole.flops)} per token = 6 N ({short(whole.six_nd)})", *steps])


def _more(asked: Asked, run: Run) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """What some models alone have."""
    return (*_experts(asked, run), *work_line(asked.model, asked))


def _experts(asked: Asked, run: Run) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """What a decode step reads of a model with experts: its sequences go to few of them, or to nearly all."""
    if run.phase != "decode" or asked.counts.stored == asked.counts.active:
        return ()
    read = asked.touched
    of = f"{several(run.batch, 'sequence')} {'reads' if run.batch == 1 else 'read'}"
    expected = f"a step of {of} {short(read.expected)} parameters, as expected under balanced routing (modelled)"
    return (("Experts", (f"{expected}; at most {short(read.most)} of {short(asked.counts.stored)}",)),)


def _lines(model: Model, work: Flops, counts: Parameters, run: Run) -> list[tuple[str, tuple[str, ...]]]:
    every = work.forward + work.pointwise
    products = f"contractions are {share(work.forward, every)} of all operations in the forward pass"
    lines: list[tuple[str, tuple[str, ...]]] = [("Share", (products,))]
    if run.phase == "training":
        lines.append(("Token", (token_line(model, counts, run),)))
        lines.extend(_recomputed(model, work, run))
    where = f"{run.phase} pass of {grouped(run.batch)} x {several(run.positions, 'token')}"
    reading = f" with {grouped(run.read)} in context" if run.phase == "decode" else ""
    kernel = f"{run.kernel} attention, logits of {LOGITS[run.logits]}"
    lines.append(("Counted", (f"{where}{reading}, {kernel}", causal_line(model, run))))
    return lines
