"""The sheet of a comparison: what differs in the specs, and what that does to every count."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from archcalc.activations import cache, saved, widths
from archcalc.catalogue import Found
from archcalc.count import params
from archcalc.footprint import memory
from archcalc.legend import BRIDGE
from archcalc.precision import Keeping
from archcalc.report.overview import SHAPE
from archcalc.report.sheet import Cell, Fields, Sheet, Table, caveats, figures, payload, words
from archcalc.run import Run
from archcalc.spec import Model
from archcalc.units import grouped, percent
from archcalc.work import flops


class Asked(NamedTuple):
    """What is compared: batches of `sequence` positions, of the whole context where None."""

    batch: int
    sequence: int | None
    keeping: Keeping


class Row(NamedTuple):
    """A count of each spec. A `headline` is shown even where nothing differs."""

    section: str
    name: str
    values: tuple[int, ...]
    headline: bool

    @property
    def differs(self) -> bool:
        return len(set(self.values)) > 1


def difference_sheet(found: list[Found], asked: Asked) -> Sheet:
    """The first spec beside each of the others."""
    models = [one.model for one in found]
    names = [one.name for one in found]
    changed = list(differing_fields(models))
    rows = list(_rows(models, asked))
    shown = [row for row in rows if row.headline or row.differs]
    stored = rows[0].values
    subject = f"{names[0]} -> {', '.join(names[1:])}"
    outcome = "the same shape" if not changed else f"parameters {', '.join(_change(stored))}"
    return Sheet(
        title=f"{subject}: {outcome}",
        blocks=(
            *([_fields_table(names, changed)] if changed else []),
            _counts_table(names, shown),
            Fields((("Counted", _counted(asked)), *_caveats(found))),
        ),
        payload=payload(
            names[0],
            specs=names,
            fields=[{"field": field, "values": list(values)} for field, values in changed],
            rows=[_record(row, names) for row in rows],
            conventions={"batch": asked.batch, "sequence": asked.sequence, **asked.keeping._asdict()},
        ),
        records=tuple(_flat(row, names) for row in rows),
    )


def differing_fields(models: list[Model]) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Fields of the shape whose values are not all the same; None where a spec has no such field."""
    leaves = [dict(_leaves(model.model_dump(mode="json", include=SHAPE))) for model in models]
    for path in dict.fromkeys(path for one in leaves for path in one):
        values = tuple(one.get(path) for one in leaves)
        if any(value != values[0] for value in values):
            yield path, values


def _leaves(part: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if not isinstance(part, dict | list):
        yield path, part
        return
    for key, inner in part.items() if isinstance(part, dict) else enumerate(part):
        yield from _leaves(inner, f"{path}.{key}" if path else str(key))


def _rows(models: list[Model], asked: Asked) -> Iterator[Row]:
    """Every count, of all models side by side."""
    counts = [params(model) for model in models]
    runs = [
        Run(batch=asked.batch, sequence=asked.sequence or model.context_length, attention="flash") for model in models
    ]
    works = [flops(model, run._replace(attention="math")) for model, run in zip(models, runs, strict=True)]
    pairs = list(zip(models, runs, strict=True))
    width = widths(asked.keeping.recipe.compute)

    def row(section: str, name: str, values: list[int], *, headline: bool = False) -> Row:
        return Row(section, name, tuple(values), headline)

    yield row("parameters", "stored", [count.stored for count in counts], headline=True)
    for i, category in enumerate(counts[0].tally.categories):
        yield row("parameters", category.category, [count.tally.categories[i].parameters for count in counts])
    for rest in BRIDGE:
        learned = [sum(tensor.parameters for tensor in count.tensors if tensor.part == rest) for count in counts]
        yield row("parameters", rest, learned)
    yield row("matrices", "tallied", [count.tally.matrices for count in counts], headline=True)
    yield row("FLOPs", "forward", [work.forward for work in works], headline=True)
    for i, part in enumerate(works[0].categories):
        yield row("FLOPs", f"forward, {part.category}", [work.categories[i].forward for work in works])
    yield row("FLOPs", "training", [work.forward + work.backward for work in works], headline=True)
    cached = [cache(model, Run("prefill"), asked.keeping.recipe.compute) for model in models]
    yield row("bytes", "cache per token", cached, headline=True)
    kept = [
        saved(model, run, width, asked.keeping.recompute, cast=asked.keeping.recipe.autocast).total
        for model, run in pairs
    ]
    held = [memory(model, run, asked.keeping) for model, run in pairs]
    yield row("bytes", "state of training", [one.state for one in held], headline=True)
    yield row("bytes", "saved activations", kept, headline=True)
    yield row("bytes", "peak of training", [one.total for one in held], headline=True)


def _change(values: tuple[int, ...]) -> list[str]:
    """Each of the others beside the first: +12.50%."""
    first = values[0]
    return [percent(value - first, first) if first else "new" if value else "=" for value in values[1:]]


def _fields_table(names: list[str], changed: list[tuple[str, tuple[Any, ...]]]) -> Table:
    rows = tuple((field, *(_value(value) for value in values)) for field, values in changed)
    return Table((*words("field"), *figures(*names)), rows, title="What differs")


def _value(value: Any) -> Cell:
    return "-" if value is None else str(value).lower() if isinstance(value, bool | float) else value


def _counts_table(names: list[str], rows: list[Row]) -> Table:
    """A count, and for each of the others its difference from the first."""
    heads = [names[0]]
    for name in names[1:]:
        heads += [name, "difference", ""]
    lines: list[tuple[Cell, ...]] = []
    section = ""
    for row in rows:
        if row.section != section:
            section = row.section
            lines.append((section, *([None] * (len(heads)))))
        cells: list[Cell] = [f"  {row.name}", row.values[0]]
        for value, change in zip(row.values[1:], _change(row.values), strict=True):
            difference = value - row.values[0]
            cells += [value, f"{difference:+,}" if difference else "=", change if difference else None]
        lines.append(tuple(cells))
    return Table((*words(""), *figures(*heads)), tuple(lines), title="What that does")


def _counted(asked: Asked) -> tuple[str, ...]:
    size = "the whole context of each" if asked.sequence is None else f"{grouped(asked.sequence)} tokens"
    kept = f"{asked.keeping.precision}, {asked.keeping.optimizer}, flash attention"
    return (
        f"{grouped(asked.batch)} x {size}; FLOPs: math attention, causal full",
        f"bytes: {kept}, recompute {asked.keeping.recompute}",
        "categories that are alike are left out; JSON and CSV have them all",
    )


def _caveats(found: list[Found]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """What was asked of each spec; what they assume is in their own reports."""
    for one in found:
        yield from ((label, lines) for label, lines in caveats(one) if label == "Asked")


def _record(row: Row, names: list[str]) -> dict[str, Any]:
    return {
        "section": row.section,
        "name": row.name,
        "values": dict(zip(names, row.values, strict=False)) if len(set(names)) == len(names) else list(row.values),
        "differences": [value - row.values[0] for value in row.values[1:]],
    }


def _flat(row: Row, names: list[str]) -> dict[str, Any]:
    cells = {
        f"{name}" if i == 0 else f"{i}: {name}": v for i, (name, v) in enumerate(zip(names, row.values, strict=True))
    }
    return {"section": row.section, "name": row.name, **cells}
