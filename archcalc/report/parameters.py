"""The sheets of parameters: the tally, layers and tensors, and the bridge to what is stored and was printed."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import Any, Literal

from archcalc.blocks.experts import Experts
from archcalc.checks.audit import audit
from archcalc.counts import mtp as modules
from archcalc.counts.parameters import CONVENTIONS, Parameters, Stored
from archcalc.counts.quantities import Asked, one_pass, values
from archcalc.report.mtp import modules_line
from archcalc.report.sheet import Cell, Fields, Sheet, Table, caveats, figures, notes, payload, words
from archcalc.spec.catalogue import Found
from archcalc.spec.model import Model
from archcalc.units import grouped, percent, share, short

By = Literal["category", "layer", "tensor"]


def params_sheet(found: Found, by: By) -> Sheet:
    """The parameters of a model, by category, layer or tensor."""
    model, asked = found.model, one_pass(found.model)
    counts = asked.counts
    tables = {"category": tally_table, "layer": _layer_table, "tensor": _tensor_table}
    rows = {"category": category_records, "layer": layer_records, "tensor": tensor_records}
    records = tuple(rows[by](counts))
    extra: dict[str, Any] = {}
    if by == "layer":
        extra["layers"] = list(records)
    if by == "tensor":
        extra["tensors"] = [
            {**record, "shape": list(t.shape)} for record, t in zip(records, counts.tensors, strict=True)
        ]
    shares = _shares(counts) if by == "category" else ()
    fields = (
        *shares,
        *printed(model, counts),
        *counted(counts),
        *_routed(model, counts),
        *modules_line(model, asked),
        *caveats(found),
    )
    return Sheet(
        title=f"{found.name}: {grouped(counts.stored)} parameters stored ({short(counts.stored)})",
        blocks=(tables[by](counts), _bridge_table(counts), Fields(fields)),
        payload=payload(found.name, **counts_payload(found, asked), **extra),
        records=records,
    )


def counts_payload(found: Found, asked: Asked) -> dict[str, Any]:
    """The counts as JSON."""
    counts = asked.counts
    return {
        **values(asked, ("parameters", "matrices")),
        **counted_numbers(counts),
        "printed": [check._asdict() for check in audit(found.model, counts).checks],
        "conventions": {**CONVENTIONS, **modules.CONVENTIONS},
        **notes(found),
    }


def counted_numbers(counts: Parameters) -> dict[str, Any]:
    """What the quantities are made of: the tally and the bridge."""
    return {
        "tally": {
            "categories": [
                {
                    "category": category.category,
                    # A category whose matrices differ from layer to layer has no one shape: see `shapes`.
                    "rows": category.shapes[0].rows if len(category.shapes) == 1 else None,
                    "columns": category.shapes[0].columns if len(category.shapes) == 1 else None,
                    "matrices": category.matrices,
                    "parameters": category.parameters,
                    "shapes": [matrices._asdict() for matrices in category.shapes],
                }
                for category in counts.tally.categories
            ],
        },
        "bridge": [{"term": term.name, "parameters": term.parameters} for term in counts.bridge],
    }


def tally_table(counts: Parameters, most: int | None = None) -> Table:
    """The eight categories with the shape of one matrix and a running total.

    A category of more than `most` shapes stands in one row, with their number.
    """
    rows: list[tuple[Cell, ...]] = []
    running = 0
    for category in counts.tally.categories:
        name = category.category
        if most is not None and len(category.shapes) > most:
            running += category.parameters
            rows.append((name, f"{len(category.shapes):,} shapes", category.matrices, category.parameters, running))
            continue
        for one in category.shapes:
            running += one.parameters
            rows.append((name, (one.rows, one.columns), one.matrices, one.parameters, running))
            name = ""
    return Table(
        columns=(*words("category"), *figures("matrix shape", "matrices", "parameters", "running total")),
        rows=tuple(rows),
        total=("total", None, counts.tally.matrices, counts.tally.total, None),
    )


def _shares(counts: Parameters) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """The share of each category in the tally, the largest first."""
    largest = sorted(counts.tally.categories, key=lambda category: -category.parameters)
    parts = [f"{category.category} {share(category.parameters, counts.tally.total)}" for category in largest]
    return (("Shares", (f"of the tally: {', '.join(parts)}",)),)


def category_records(counts: Parameters) -> Iterator[dict[str, Any]]:
    running = 0
    for category in counts.tally.categories:
        for one in category.shapes:
            running += one.parameters
            yield {"category": category.category, **one._asdict(), "running_total": running}


def _bridge_table(counts: Parameters) -> Table:
    """From the tally to what a checkpoint stores, term by term."""
    return Table(
        title="From the tally to the checkpoint",
        columns=(*words("term"), *figures("parameters")),
        rows=(
            ("tally of eight categories", counts.tally.total),
            *((term.name, f"{term.parameters:+,}") for term in counts.bridge),
        ),
        total=("stored in a checkpoint", counts.stored),
    )


def bridge_line(counts: Parameters) -> str:
    """The bridge in one sentence."""
    steps = [f"{'-' if t.parameters < 0 else '+'} {grouped(abs(t.parameters))} {t.name}" for t in counts.bridge]
    return " ".join([f"{grouped(counts.tally.total)} tally", *steps, f"= {grouped(counts.stored)}"])


def active_line(counts: Parameters) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """What one token meets of a model with experts, in one sentence; nothing of another."""
    if not counts.is_sparse:
        return ()
    part = f"{short(counts.active)}, {share(counts.active, counts.stored)} of stored"
    return (("Active", (f"{grouped(counts.active)} parameters per token ({part})",)),)


def printed(model: Model, counts: Parameters) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Each printed figure, whether it holds, and where it was printed."""
    lines = tuple(
        f"{check.what.removeprefix('parameters ')}: {check.reason} ({check.source})"
        + (f"; {entry.note}" if entry.note else "")
        for entry, check in zip(model.published, audit(model, counts).checks, strict=True)
    )
    return (("Published", lines),) if lines else ()


def published_lines(model: Model, counts: Parameters) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """How many of the published figures match, and by how much the others are off, in one sentence."""
    checks = audit(model, counts).checks
    if not checks:
        return ()
    off = [
        f"{entry.text} is {'nominal' if entry.status == 'nominal' else 'NOT MATCHED'}, counted"
        f" {percent(check.counted - check.measured, check.measured)}"
        for entry, check in zip(model.published, checks, strict=True)
        if not check.equal
    ]
    first = f"{len(checks) - len(off)} of {len(checks)} match"
    listed = "; ".join([first, *off[:_SHOWN], *([f"and {len(off) - _SHOWN:,} more"] if len(off) > _SHOWN else [])])
    return (("Published", (f"{listed} (see archcalc check)",)),)


_SHOWN = 3  # of the figures that do not match


def counted(counts: Parameters) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """What the figures mean, with those that stand in no table."""
    stored = "a tied table counts once among stored parameters, twice in the tally"
    inner = f"{grouped(counts.non_embedding)} non-embedding: without token table, positions and untied unembedding"
    lines = [stored, inner]
    if counts.is_sparse:
        without = f"{grouped(counts.active_inner)} without the input embedding"
        lines.append(f"{grouped(counts.active)} active: what one token meets, experts not chosen left out; {without}")
    return (("Counted", tuple(lines)),)


def _routed(model: Model, counts: Parameters) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """How many parameters a token meets at the least and at the most, where some experts have none."""
    layers = [kind.layer for group in model.layers for kind in group.kinds_in()]
    mixtures = [b.mixer for layer in layers for b in layer.residual_branches if isinstance(b.mixer, Experts)]
    ranges = {mixture.computing for mixture in mixtures}
    if len(ranges) != 1 or all(mixture.n_identity is None for mixture in mixtures):
        return ()
    ((least, mean, most),) = ranges
    met = sum(tensor.active for tensor in counts.tensors if tensor.active is not None)
    inner = [short(counts.active_inner + met * (n - mean) // mean) for n in (least, mean, most)]
    words = (
        f"{inner[0]} where {least} of a token's experts compute, {inner[1]} where {mean} do, {inner[2]} where {most}"
    )
    return (("Active", (f"without the input embedding {words} do",)),)


def module(tensor: Stored) -> str:
    """The part of the model that a tensor belongs to: `layers.{i}.attention`, `embedding`."""
    steps = tensor.name.split(".")
    return ".".join(steps[:3] if "{i}" in steps else steps[:1])


def layer_records(counts: Parameters) -> Iterator[dict[str, Any]]:
    """Each module of each group of alike layers; `parameters` are those of all its layers."""
    running = 0
    for (name, first), group in groupby(counts.tensors, lambda t: (module(t), t.first)):
        tensors = list(group)
        together = sum(t.parameters for t in tensors)
        running += together
        layers = tensors[0].layers
        yield {
            "module": name,
            "first_layer": first,
            "layers": layers,
            "layer_indices": layer_indices(tensors[0]),
            "parameters_each": together // layers,
            "parameters": together,
            "running_total": running,
        }


def _layer_table(counts: Parameters) -> Table:
    rows = tuple(
        (
            r["module"],
            r["layer_indices"],
            r["parameters_each"],
            r["parameters"],
            share(r["parameters"], counts.stored),
        )
        for r in layer_records(counts)
    )
    return Table(
        columns=(*words("module", "layers"), *figures("in one layer", "parameters", "share")),
        rows=rows,
        total=("stored", "", None, counts.stored, None),
    )


def layer_indices(tensor: Stored) -> str:
    """Which layers have a tensor: 0-95, or 1, 3, ..., 41; nothing outside the layers."""
    return "" if tensor.within is None else str(tensor.within)


_LAYER = "layers.{i}."


def tensor_records(counts: Parameters) -> Iterator[dict[str, Any]]:
    for tensor in counts.tensors:
        yield {
            "name": tensor.name,
            "shape": "x".join(str(size) for size in tensor.shape),
            "layers": tensor.layers,
            "first_layer": tensor.first,
            "layer_indices": layer_indices(tensor),
            "parameters": tensor.parameters,
            "category": tensor.category,
        }


def _tensor_table(counts: Parameters) -> Table:
    """Tensors of layers stand below a row that says which layers, without their common beginning."""
    rows: list[tuple[Cell, ...]] = []
    for first, group in groupby(counts.tensors, lambda tensor: tensor.first):
        tensors = list(group)
        if first is not None:
            rows.append((f"{_LAYER[:-1]}", layer_indices(tensors[0]), None, None, None))
        for t in tensors:
            name = f"  {t.name.removeprefix(_LAYER)}" if first is not None else t.name
            rows.append((name, None, t.shape, t.parameters, t.category or f"({t.part})"))
    return Table(
        columns=(*words("tensor", "layers"), *figures("shape", "parameters"), *words("category")),
        rows=tuple(rows),
        total=("stored", "", None, counts.stored, ""),
    )
