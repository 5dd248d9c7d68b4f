"""The sheet of memory under a plan: the fullest rank term by term, each sort of rank, and whether a device fits."""

from __future__ import annotations

from typing import Any

from archcalc.counts.rankwise import Rank, Ranks
from archcalc.hardware.planning import PlanFit
from archcalc.plan.description import Plan
from archcalc.plan.idle import idle
from archcalc.report.memory import memory_numbers, phase_line, training_lines, usable_line, verdict
from archcalc.report.sheet import Bytes, Fields, Sheet, Table, caveats, figures, notes, payload, words
from archcalc.spec.catalogue import Found
from archcalc.spec.model import Model
from archcalc.units import binary, grouped, several


def ranks_sheet(found: Found, counted: Ranks, fit: PlanFit | None) -> Sheet:
    """What the fullest rank holds at its peak, and the peaks of all sorts of ranks."""
    used, plan = counted.fullest.memory, counted.plan
    terms = [(term.name, term.bytes, binary(term.bytes), term.kind, term.witness) for term in used.terms]
    return Sheet(
        title=f"{found.name}: {grouped(used.total)} bytes on the fullest of {several(plan.world, 'rank')} "
        f"({binary(used.total)})",
        blocks=(
            Table(
                title=f"Memory at the peak of stage {stages_text(counted.fullest.stages)}, term by term",
                columns=(*words("term"), *figures("bytes", ""), *words("", "source")),
                rows=tuple(terms),
                total=("total", used.total, binary(used.total), None, None),
            ),
            *([_by_stage(counted)] if plan.pp > 1 else []),
            Fields(
                (
                    *([("Device", plan_fit_lines(fit, counted))] if fit else []),
                    *([("Host", _host_lines(counted))] if used.host else []),
                    ("Plan", plan_lines(plan, found.model, trains=used.purpose == "training")),
                    ("Peak", (used.peak,)),
                    ("Phases", (phase_line(used),)),
                    ("Rank", _rank_lines(counted)),
                    ("Counted", _counted(found, counted)),
                    *caveats(found),
                )
            ),
        ),
        payload=payload(
            found.name,
            **plan_payload(plan, found.model),
            ranks=[rank_numbers(rank) for rank in counted.each],
            device=fit_numbers(fit) if fit else None,
            fits=fit.fits if fit else None,
            conventions={
                "phase": counted.run.phase,
                "sequence": counted.run.sequence,
                "attention": counted.run.kernel,
                "dropout": counted.run.dropout,
                **counted.keeping._asdict(),
            },
            **notes(found),
        ),
        records=tuple(
            {"stages": stages_text(rank.stages), **term._asdict()}
            for rank in counted.each
            for term in rank.memory.terms
        ),
    )


def plan_numbers(plan: Plan) -> dict[str, Any]:
    """A plan as JSON: its fields, with the ranks of all."""
    return {**plan.model_dump(exclude={"schema_version"}), "world": plan.world}


def fit_numbers(fit: PlanFit) -> dict[str, Any]:
    """Whether it fits, as JSON."""
    return {**fit._asdict(), "remedies": [one._asdict() for one in fit.remedies]}


def plan_payload(plan: Plan, model: Model | None = None) -> dict[str, Any]:
    """A plan, and what it asks for in vain (of a model, where one is given), as a part of a sheet's JSON."""
    vain = idle(plan, model)
    return {"plan": plan_numbers(plan), **({"idle": list(vain)} if vain else {})}


def sort_numbers(stages: tuple[int, ...]) -> dict[str, Any]:
    """A sort of rank as JSON, named by the coordinates of the first that is so."""
    return {"rank": {"dp": 0, "cp": 0, "tp": 0, "pp": stages[0]}, "stages": list(stages)}


def plan_lines(plan: Plan, model: Model | None = None, *, trains: bool = True) -> tuple[str, ...]:
    """A plan in words, with what it asks for in vain: of a model, where one is given."""
    tensor = f"tp {plan.tp}{' with sequence parallelism' if plan.sequence_parallel else ''}"
    pipeline = f"pp {plan.pp} ({plan.schedule}{f', {plan.chunks} chunks' if plan.chunks > 1 else ''})"
    experts = [f"ep {plan.ep} (among dp), etp {plan.expert_tp}"] if plan.ep > 1 or plan.etp else []
    degrees = [
        f"dp {plan.dp}",
        *([f"cp {plan.cp}"] if plan.cp > 1 else []),
        tensor,
        pipeline if plan.pp > 1 else "pp 1",
    ]
    shares = {0: "nothing is shared over dp", 1: "optimizer state", 2: "optimizer state and gradients"}
    zero = shares.get(plan.zero, "optimizer state, gradients and weights")
    how = f", {plan.sharding}" if plan.zero else ""
    batch = plan.dp * plan.micro_batch * plan.accumulation
    micro = f"{grouped(plan.accumulation)} micro-batch{'es' if plan.accumulation > 1 else ''}"
    said = _recipe_words(plan)
    recipe = ("; ".join(said),) if said else ()
    if model is not None and model.mtp is not None:
        recipe = (*recipe, "modules of multi-token prediction are left out: no plan divides them")
    ranks = f"{' x '.join(degrees)} = {several(plan.world, 'rank')}" + "".join(f"; {one}" for one in experts)
    if not trains:
        sequences = f"{several(plan.micro_batch, 'sequence')} on each of dp {plan.dp}"
        return (ranks, sequences, *recipe, *idle(plan, model))
    return (
        ranks,
        f"ZeRO {plan.zero} ({zero}{how})",
        f"{micro} of {several(plan.micro_batch, 'sequence')} on each rank: {several(batch, 'sequence')} a step",
        *recipe,
        *idle(plan, model),
    )


def _recipe_words(plan: Plan) -> list[str]:
    """What a plan says of how numbers are kept, and by whose habits."""
    names = ("framework", "precision", "optimizer", "recompute", "recompute_layers")
    said = [f"{name} {value}" for name in names if (value := getattr(plan, name)) is not None]
    return [*said, *(["optimizer state on the host"] if plan.offload_optimizer else [])]


def plan_fit_lines(fit: PlanFit, counted: Ranks) -> tuple[str, ...]:
    """Whether the fullest rank fits, and which single changes would make it fit."""
    grow = f"largest micro-batch {grouped(fit.largest_micro_batch)}, longest context {grouped(fit.longest_context)}"
    if not fit.largest_micro_batch and fit.longest_context:
        grow = f"not even a micro-batch of 1 at this context fits; longest context {grouped(fit.longest_context)}"
    elif not fit.largest_micro_batch:
        grow = "not even a micro-batch of 1 at this context fits, nor a context of 1 at this micro-batch"
    ranks = several(counted.plan.world, "rank")
    found = [
        f"{'fits' if one.fits else 'not enough'} with {one.change}: {binary(one.total)} ({one.cost})"
        for one in fit.remedies
    ]
    return (
        f"{fit.device}: {verdict(fit.left)} on the fullest of {ranks}; {binary(fit.usable)} usable",
        *found,
        grow,
        usable_line(fit),
    )


def _by_stage(counted: Ranks) -> Table:
    rows = []
    for rank in sorted(counted.each, key=lambda one: one.stages):
        terms = {term.name: term.bytes for term in rank.memory.terms}
        saved = sum(n for name, n in terms.items() if name in _SAVED)
        rows.append(
            (
                stages_text(rank.stages),
                rank.parameters.stored,
                Bytes(int(rank.memory.state)),
                Bytes(saved),
                Bytes(int(rank.memory.total)),
            )
        )
    return Table(
        title="One rank of each stage",
        columns=(*words("stage"), *figures("parameters", "state", "saved activations", "peak")),
        rows=tuple(rows),
    )


_SAVED = ("saved activations", "saved by the head", "activations of other micro-batches")


def stages_text(stages: tuple[int, ...]) -> str:
    """Stages as a table has them: 1-6."""
    first, last = stages[0], stages[-1]
    if list(stages) == list(range(first, last + 1)):
        return f"{first}" if first == last else f"{first}-{last}"
    return ", ".join(map(str, stages))


def _host_lines(counted: Ranks) -> tuple[str, ...]:
    """What an optimizer that steps on the host has there."""
    each = counted.fullest.memory.host
    return (f"{binary(each)} of the host's memory for the fullest rank: what is stepped, gradients, optimizer state",)


def _rank_lines(counted: Ranks) -> tuple[str, ...]:
    rank = counted.fullest
    return (f"{grouped(rank.parameters.stored)} parameters on the fullest rank",)


def _counted(found: Found, counted: Ranks) -> tuple[str, ...]:
    if counted.run.phase == "training":
        return training_lines(found.model, counted.run, counted.keeping, plan=counted.plan)
    from archcalc.report.memory import inference_lines

    return inference_lines(found.model, counted.run, counted.keeping)


def rank_numbers(rank: Rank) -> dict[str, Any]:
    """What a sort of rank holds, as JSON."""
    return {
        **sort_numbers(rank.stages),
        "parameters": rank.parameters.stored,
        "memory": memory_numbers(rank.memory),
    }
