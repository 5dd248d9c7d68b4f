"""The sheet of a comparison: what differs in the specs, and what that does to every count."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import Any, NamedTuple

from archcalc.checks.budgets import Kept
from archcalc.counts.parameters import outside_the_tally
from archcalc.counts.quantities import QUANTITIES, Asked
from archcalc.errors import LONGEST_VALUE, cut
from archcalc.plan.description import Plan
from archcalc.report.balance import balance, records
from archcalc.report.overview import SHAPE
from archcalc.report.ranks import plan_lines, plan_payload
from archcalc.report.review import MAIN, labels, review
from archcalc.report.sheet import (
    Bytes,
    Cell,
    Fields,
    Sheet,
    Table,
    caveats,
    figures,
    kept_words,
    kernel_words,
    payload,
    words,
)
from archcalc.spec.catalogue import Found
from archcalc.spec.dumping import plain
from archcalc.spec.model import Model
from archcalc.units import binary, grouped, percent, several


class Row(NamedTuple):
    """A count of each spec, by the name that `explain` takes. A `headline` is shown even where nothing differs."""

    name: str
    unit: str
    values: tuple[int, ...]
    headline: bool

    @property
    def differs(self) -> bool:
        return len(set(self.values)) > 1


def difference_sheet(
    found: list[Found], asked: list[Asked], plan: Plan | None = None, kept: Sequence[Kept] = ()
) -> Sheet:
    """The first spec beside each of the others; one pass is asked of all of them, under a plan of one rank of each.

    `kept` is what the project's budgets say of each, if it has some.
    """
    models = [one.model for one in found]
    names = labels(found)
    changed = list(differing_fields(models))
    rows = list(_rows(asked))
    by_name = {row.name: row.values for row in rows}
    shown = [row for row in rows if row.name not in IN_FULL and (row.headline or row.differs) and _own(row, by_name)]
    changes = {row.name: ", ".join(_change(row.values)) for row in rows}
    subject = f"{names[0]} -> {', '.join(names[1:])}"
    outcome = f"parameters {changes['parameters.stored']}; FLOPs per token {changes['flops.per_token']}"
    outcome = outcome if changed else "no difference in shape"
    budgets, broken = balance(names, kept) if kept else ((), "")
    outcome += f"; {broken}" * bool(broken)
    fields = _fields_table(names, changed) if changed else None
    length, ranks, questions = _length(asked[0], models), _ranks(plan, asked[0]), tuple(_caveats(found))
    counted = _counted(asked[0])
    main = [row for row in rows if row.name in MAIN and _own(row, by_name)]
    if by_name.get("parameters.active") == by_name["parameters.stored"]:
        main = [row for row in main if row.name != "parameters.active"]
    differing = [row for row in shown if row.differs]
    return Sheet(
        title=f"{subject}: {outcome}",
        blocks=(
            *([fields] if fields else []),
            _counts_table(names, shown, length),
            *budgets,
            Fields((("Counted", (counted, _LEFT_OUT)), *ranks, *questions)),
        ),
        payload=payload(
            names[0],
            specs=names,
            fields=[{"field": field, "values": list(values)} for field, values in changed],
            differs=bool(changed) or any(row.differs for row in rows),
            rows=[_record(row, names) for row in rows],
            **({"budgets": records(names, kept)} if kept else {}),
            **(plan_payload(plan) if plan else {}),
            conventions={
                "batch": asked[0].work.batch,
                "sequence": asked[0].work.sequence,
                "attention": asked[0].kernels,
                "for": asked[0].purpose,
                **asked[0].keeping._asdict(),
            },
        ),
        records=tuple(_flat(row, names) for row in rows),
        review=review(
            fields,
            (_counts_table(names, main, length, short=True), *budgets),
            _counts_table(names, differing, "")._replace(title="") if differing else None,
            (("Counted", (counted,)), *ranks),
            questions,
            found,
        ),
    )


def _ranks(plan: Plan | None, asked: Asked) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """The plan whose ranks are compared."""
    if plan is None:
        return ()
    lines = plan_lines(plan, trains=asked.purpose == "training")
    return (("Plan", (f"one micro-batch on the rank of each that needs the most memory{_stage(asked)}", *lines)),)


def _stage(asked: Asked) -> str:
    """Of which stage it is, where there are several; another one may have the most FLOPs."""
    plan, stage = asked.model.plan, asked.model.stage  # type: ignore[attr-defined]
    return f": of the first spec that is one of stage {stage}" if plan.pp > 1 else ""


def differing_fields(models: list[Model]) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Fields of the shape whose values are not all the same; None where a spec has no such field.

    Of layers that alternate a field that all kinds have alike is one, as if the layers were of one kind.
    """
    leaves = [dict(_shape(model)) for model in models]
    for path in dict.fromkeys(path for one in leaves for path in one):
        values = tuple(one.get(path) for one in leaves)
        if any(value != values[0] for value in values):
            yield path, values


def _shape(model: Model) -> Iterator[tuple[str, Any]]:
    """The fields of a shape, without what is absent, by path."""
    data = plain(model)
    for name in SHAPE:
        if name != "layers":
            yield from _leaves(data.get(name), name)
            continue
        yield from _layers(data["layers"])


def _layers(groups: list[dict[str, Any]]) -> Iterator[tuple[str, Any]]:
    for i, group in enumerate(groups):
        kinds: dict[str, dict[str, Any]] = {name: dict(_leaves(kind)) for name, kind in group.pop("kinds", {}).items()}
        if kinds:
            pattern = [(name, len(list(run))) for name, run in groupby(group.pop("pattern"))]
            group["pattern"] = ", ".join(name if n == 1 else f"{name} x{n}" for name, n in pattern)
        yield from _leaves(group, f"layers.{i}")
        for path in dict.fromkeys(path for kind in kinds.values() for path in kind):
            values = {name: kind.get(path) for name, kind in kinds.items()}
            if len(set(values.values())) == 1:
                yield f"layers.{i}.{path}", next(iter(values.values()))
            else:
                yield from ((f"layers.{i}.kinds.{name}.{path}", value) for name, value in values.items())


def _leaves(part: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if not isinstance(part, dict | list):
        yield path, part
        return
    for key, inner in part.items() if isinstance(part, dict) else enumerate(part):
        yield from _leaves(inner, f"{path}.{key}" if path else str(key))


FIRST = ("flops.per_token", "cache.per_token")  # what no length of the pass turns round
IN_FULL = (
    *("parameters.active", "parameters.active_inner", "parameters.non_embedding", "parameters.tally"),
    *("flops.backward", "flops.pointwise"),
)
"""What JSON and CSV have and the table leaves out."""


def _rows(asked: list[Asked]) -> Iterator[Row]:
    """Every count, of all models side by side: per token first, then the quantities and what they are made of."""
    names = [name for name, quantity in QUANTITIES.items() if not any(map(quantity.refusal, asked))]
    for name in (*FIRST, *(name for name in names if name not in FIRST)):
        quantity = QUANTITIES[name]
        yield Row(name, quantity.unit, tuple(quantity.of(one) for one in asked), headline=True)
        if name == "parameters.stored":
            yield from _parts_of_parameters(asked)
        if name == "flops.forward":
            categories = [{part.category: part.forward for part in one.flops.categories} for one in asked]
            for category in dict.fromkeys(name for one in categories for name in one):
                parts = tuple(one.get(category, 0) for one in categories)
                yield Row(f"flops.categories.{category}.forward", "FLOPs", parts, headline=False)


def _own(row: Row, others: dict[str, tuple[int, ...]]) -> bool:
    """Whether a row says what the one that it stands beside does not."""
    quantity = QUANTITIES.get(row.name)
    if quantity is None:
        return True
    return any(row.values) if quantity.rare else not quantity.beside or others[quantity.beside] != row.values


def _parts_of_parameters(asked: list[Asked]) -> Iterator[Row]:
    """The categories of the tally, and what a checkpoint stores beside them."""
    counts = [one.counts for one in asked]
    for i, category in enumerate(counts[0].tally.categories):
        parts = tuple(count.tally.categories[i].parameters for count in counts)
        yield Row(f"tally.categories.{category.category}.parameters", "parameters", parts, headline=False)
    for rest in outside_the_tally(tensor for count in counts for tensor in count.tensors):
        learned = tuple(sum(tensor.parameters for tensor in count.tensors if tensor.part == rest) for count in counts)
        yield Row(f"bridge.{rest}.parameters", "parameters", learned, headline=False)


def _change(values: tuple[int, ...]) -> list[str]:
    """Each of the others beside the first: +12.50%, or x 15.2 of what is more than ten times as much."""
    first = values[0]
    return [
        ("new" if value else "=")
        if not first
        else f"x {value / first:,.4g}"
        if value > _TIMES * first
        else percent(value - first, first)
        for value in values[1:]
    ]


_TIMES = 10  # from where a factor says more than a percentage


def _fields_table(names: list[str], changed: list[tuple[str, tuple[Any, ...]]]) -> Table:
    rows = tuple((field, *(_value(value) for value in values)) for field, values in changed)
    return Table((*words("field"), *figures(*names)), rows, title="Fields that differ")


def _value(value: Any) -> Cell:
    if isinstance(value, str):
        return cut(value, LONGEST_VALUE)  # a pattern may name ten thousand layers
    return "-" if value is None else str(value).lower() if isinstance(value, bool | float) else value


def _counts_table(names: list[str], rows: list[Row], length: str, *, short: bool = False) -> Table:
    """A count, and for each of the others its difference from the first; what a count is made of stands below it.

    Of several others the difference is in percent alone. `short` has bytes in binary units in every format.
    """
    both = len(names) == 2
    heads = [names[0]]
    for name in names[1:]:
        heads += [name, "difference", ""] if both else [name, ""]
    lines: list[tuple[Cell, ...]] = []
    for row in rows:
        parts = row.name.split(".")
        label = row.name if row.headline else f"  {parts[-2]}"
        size: Callable[[int], Cell] = int if row.unit != "bytes" else binary if short else Bytes
        cells: list[Cell] = [label, size(row.values[0])]
        for value, change in zip(row.values[1:], _change(row.values), strict=True):
            difference = value - row.values[0]
            signed: Cell = f"{difference:+,}"
            if row.unit == "bytes":
                signed = f"{'+' * (difference > 0)}{binary(difference)}" if short else Bytes(difference, signed=True)
            cells += [size(value), signed if difference else "=", change] if both else [size(value), change]
            if not difference:
                cells[-1] = None if both else "="
        lines.append(tuple(cells))
    return Table((*words("quantity"), *figures(*heads)), tuple(lines), title=f"Quantities, {length}")


def _length(asked: Asked, models: list[Model]) -> str:
    """The one length at which all are counted, and where it is from."""
    contexts = {model.context_length for model in models}
    sequence = asked.work.sequence
    why = "the full context" if contexts == {sequence} else "the shortest context" if sequence in contexts else ""
    size = f"all at {grouped(asked.work.batch)} x {several(sequence, 'token')}"
    return f"{size} ({why})" if why and sequence == min(contexts) else size


_LEFT_OUT = "unchanged parts are left out; JSON and CSV have every row"


def _counted(asked: Asked) -> str:
    return f"{kernel_words(asked)}, causal full; {kept_words(asked)}"


def _caveats(found: list[Found]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """What was asked of each spec; what they assume is in their own reports."""
    for one in found:
        yield from ((label, lines) for label, lines in caveats(one) if label == "Changed")


def _record(row: Row, names: list[str]) -> dict[str, Any]:
    return {
        "name": row.name,
        "unit": row.unit,
        "values": dict(zip(names, row.values, strict=False)) if len(set(names)) == len(names) else list(row.values),
        "differences": [value - row.values[0] for value in row.values[1:]],
    }


def _flat(row: Row, names: list[str]) -> dict[str, Any]:
    cells = {
        f"{name}" if i == 0 else f"{i}: {name}": v for i, (name, v) in enumerate(zip(names, row.values, strict=True))
    }
    return {"name": row.name, "unit": row.unit, **cells}
