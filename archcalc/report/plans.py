"""The sheets of plans: one in words and by stage, those of the catalogue, and the rules that bind them."""

from __future__ import annotations

from typing import Any

from archcalc.counts.rankwise import Ranked
from archcalc.plan.description import Plan
from archcalc.plan.rules import RULES
from archcalc.plan.stages import in_flight, layers_of
from archcalc.report.ranks import plan_lines, plan_numbers, plan_payload
from archcalc.report.sheet import Fields, Sheet, Table, caveats, figures, notes, payload, words
from archcalc.spec.catalogue import Found
from archcalc.spec.model import SCHEMA
from archcalc.units import grouped, several, short


def plan_sheet(plan: Plan) -> Sheet:
    """A plan in words."""
    return Sheet(
        title=f"{plan.name}: {several(plan.world, 'rank')}",
        blocks=(Fields((("Plan", plan_lines(plan)), *([("Source", (plan.source,))] if plan.source else []))),),
        payload={"schema": SCHEMA, **plan_payload(plan)},
        records=(_record(plan),),
    )


def stages_sheet(found: Found, plan: Plan, ranked: list[Ranked]) -> Sheet:
    """What each stage of a plan has of a model: its layers, micro-batches in flight, and the parameters of a rank."""
    every = layers_of(plan, int(found.model.n_layers))
    rows = []
    for rank in ranked:
        for stage in rank.stages:
            layers = [every[chunk * plan.pp + stage] for chunk in range(plan.chunks)]
            held = in_flight(plan, stage) if plan.pp > 1 else [1]
            text = ", ".join(f"{one.start}-{one.stop - 1}" if one else "none" for one in layers)
            rows.append((stage, text, sum(map(len, layers)), sum(held), rank.parameters.stored, rank.held))
    rows.sort()
    heads = ("stage", "layers", "n_layers", "in_flight", "parameters", "held")
    most = max(ranked, key=lambda rank: int(rank.parameters.stored))
    return Sheet(
        title=f"{found.name}: {grouped(most.parameters.stored)} parameters on the fullest of "
        f"{several(plan.world, 'rank')} ({short(most.parameters.stored)})",
        blocks=(
            Table(
                title="One rank of each stage",
                columns=(*words("stage", "layers"), *figures("n", "in flight", "parameters", "kept (ZeRO)")),
                rows=tuple((str(stage), *rest) for stage, *rest in rows),
            ),
            Fields(
                (
                    ("Plan", plan_lines(plan, found.model)),
                    ("Columns", _COLUMNS),
                    *caveats(found),
                )
            ),
        ),
        payload=payload(
            found.name,
            **plan_payload(plan, found.model),
            rank={"parameters": most.parameters.stored, "bytes": 2 * most.held},
            stages=[dict(zip(heads, row, strict=True)) for row in rows],
            **notes(found),
        ),
        records=tuple(dict(zip(heads, row, strict=True)) for row in rows),
    )


_COLUMNS = (
    "in flight: micro-batches (chunks of them, interleaved) whose activations the stage holds at once",
    "parameters: those that a rank computes with; kept: its share of them where ZeRO 3 shares weights",
)


def rules_sheet() -> Sheet:
    """The rules that make a plan infeasible."""
    return Sheet(
        title=f"{len(RULES)} rules of plans",
        blocks=(Fields(tuple((rule.name, (rule.text,)) for rule in RULES)),),
        payload={"schema": SCHEMA, "rules": [{"name": rule.name, "text": rule.text} for rule in RULES]},
        records=tuple({"name": rule.name, "text": rule.text} for rule in RULES),
    )


def plans_sheet(plans: list[Plan]) -> Sheet:
    """A row for each plan of the catalogue."""
    heads = ("dp", "tp", "cp", "pp", "ep", "zero")
    rows = tuple((plan.name, plan.world, *(getattr(plan, head) for head in heads)) for plan in plans)
    records = tuple(map(_record, plans))
    return Sheet(
        title=f"{len(plans)} plans",
        blocks=(
            Table((*words("name"), *figures("ranks", *heads)), rows),
            Fields((("Use", ("archcalc memory gpt3-175b --plan gpt3-175b-korthikanti; flags change a plan",)),)),
        ),
        payload={"schema": SCHEMA, "plans": list(records)},
        records=records,
    )


def _record(plan: Plan) -> dict[str, Any]:
    numbers = plan_numbers(plan)
    layers = numbers.pop("stage_layers")
    return {**numbers, "stage_layers": " ".join(map(str, layers or ()))}
