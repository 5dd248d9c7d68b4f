"""The sheet of a checkpoint's parameters and bytes, told from its headers alone."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any, Literal, NamedTuple

from archcalc.huggingface.packing import Weight
from archcalc.huggingface.stored import Stored
from archcalc.report.sheet import Cell, Fields, Sheet, Table, figures, payload, words
from archcalc.units import four_digits, grouped, several, shape, short

By = Literal["category", "layer", "tensor"]
_LAYER = re.compile(r"(.*?\.)([0-9]{1,9})\.(.*)")


class Sum(NamedTuple):
    """Weights together; `parameters` are those of the weights whose packing is known."""

    tensors: int
    parameters: int
    stored_bytes: int


def together(weights: Iterable[Weight]) -> Sum:
    """How many weights, parameters and bytes."""
    every = list(weights)
    return Sum(len(every), sum(w.parameters or 0 for w in every), sum(w.stored_bytes for w in every))


def stored_sheet(stored: Stored, by: By) -> Sheet:
    """Parameters and bytes of a checkpoint by format, layer or tensor. Buffers are no parameters, and stand apart."""
    kept = [weight for weight in stored.weights if not weight.buffer]
    buffers = together(weight for weight in stored.weights if weight.buffer)
    unknown = together(weight for weight in kept if weight.parameters is None)
    whole = together(kept)
    records = tuple({"category": _formats, "layer": _layers, "tensor": _tensors}[by](kept))
    title = f"{stored.path}: {grouped(whole.parameters)} parameters stored ({short(whole.parameters)})"
    return Sheet(
        title=title + f", and {unknown.stored_bytes:,} bytes packed in an unknown way" * bool(unknown.tensors),
        blocks=(
            {"category": _format_table, "layer": _layer_table, "tensor": _tensor_table}[by](records, whole),
            Fields(tuple(_fields(stored, buffers, unknown))),
        ),
        payload=payload(
            stored.path,
            parameters={"stored": whole.parameters},
            stored_bytes=whole.stored_bytes,
            formats=list(_formats(kept)),
            **({"layers": list(records)} if by == "layer" else {}),
            **({"tensors": list(records)} if by == "tensor" else {}),
            buffers=buffers._asdict(),
            packed_in_an_unknown_way=unknown._asdict(),
            files=list(stored.files),
            header_bytes=stored.header_bytes,
        ),
        records=tuple({**r, "shape": "x".join(map(str, r["shape"] or ()))} if "shape" in r else r for r in records),
    )


def _fields(stored: Stored, buffers: Sum, unknown: Sum) -> Iterator[tuple[str, tuple[str, ...]]]:
    yield "Read", (f"{stored.header_bytes:,} bytes of headers in {several(len(stored.files), 'file')}",)
    if stored.gguf is not None:
        said = [f"{key.rpartition('.')[2]} {stored.gguf[key]}" for key in _SAID if stored.gguf.get(key) is not None]
        if said:
            yield "GGUF", (", ".join(said),)
    if buffers.tensors:
        sizes = f"{buffers.parameters:,} numbers, {buffers.stored_bytes:,} bytes"
        what = "masks, angles and the like, which are not parameters"
        yield "Buffers", (f"{several(buffers.tensors, 'tensor')} of {sizes}: {what}",)
    if unknown.tensors:
        how = "packed in an unknown way: neither the header nor a file beside it says how many parameters they are"
        yield "Warning", (f"{several(unknown.tensors, 'weight')} {how}",)
    if stored.others:
        yield "Warning", (f"this is one file of {stored.others + 1:,}; their folder or index counts all of them",)


_SAID = ("general.name", "general.architecture", "general.size_label")


def _formats(weights: list[Weight]) -> Iterator[dict[str, Any]]:
    """A record for each format, that of the most bytes first."""
    found: dict[str, list[Weight]] = {}
    for weight in weights:
        found.setdefault(weight.format, []).append(weight)
    sums = {form: together(some) for form, some in found.items()}
    for form, one in sorted(sums.items(), key=lambda item: -item[1].stored_bytes):
        known = found[form][0].parameters is not None
        yield {"format": form, **one._asdict(), "parameters": one.parameters if known else None}


def _format_table(records: tuple[dict[str, Any], ...], whole: Sum) -> Table:
    bits = _bits(whole._asdict()) if all(record["parameters"] is not None for record in records) else None
    return Table(
        columns=(*words("format"), *figures("tensors", "parameters", "bytes", "bits each")),
        rows=tuple((r["format"], r["tensors"], r["parameters"], r["stored_bytes"], _bits(r)) for r in records),
        total=("stored", *whole, bits),
    )


def _bits(record: dict[str, Any]) -> str | None:
    """Bits of a parameter, with its share of scales."""
    return four_digits(8 * record["stored_bytes"] / record["parameters"]) if record["parameters"] else None


def _placed(weight: Weight) -> tuple[str, int | None]:
    """The layers that a weight is of, with {i} for the number, and the number; the name's beginning outside them."""
    match = _LAYER.fullmatch(weight.name)
    return (f"{match[1]}{{i}}", int(match[2])) if match else (weight.name.rpartition(".")[0] or weight.name, None)


def _layers(weights: list[Weight]) -> Iterator[dict[str, Any]]:
    """A record for each run of alike layers, and for each module outside them."""
    found: dict[tuple[str, int | None], list[Weight]] = {}
    for weight in weights:
        found.setdefault(_placed(weight), []).append(weight)
    order = {module: place for place, (module, _) in enumerate(found)}
    sums = [(module, i, together(some)) for (module, i), some in found.items()]
    sums.sort(key=lambda one: (-1, 0) if one[1] is None else (order[one[0]], one[1]))
    for (module, one), group in groupby(sums, lambda item: (item[0], item[2])):
        numbers = [i for _, i, _ in group]
        first, last = numbers[0], numbers[-1]
        yield {
            "module": module,
            "layer_indices": "" if first is None else f"{first}" if first == last else f"{first}-{last}",
            "layers": len(numbers),
            "tensors": one.tensors * len(numbers),
            "parameters_each": one.parameters,
            "parameters": one.parameters * len(numbers),
            "stored_bytes": one.stored_bytes * len(numbers),
        }


def _layer_table(records: tuple[dict[str, Any], ...], whole: Sum) -> Table:
    keys = ("module", "layer_indices", "parameters_each", "parameters", "stored_bytes")
    return Table(
        columns=(*words("module", "layers"), *figures("in one layer", "parameters", "bytes")),
        rows=tuple(tuple(record[key] for key in keys) for record in records),
        total=("stored", "", None, whole.parameters, whole.stored_bytes),
    )


def _tensors(weights: list[Weight]) -> Iterator[dict[str, Any]]:
    for weight in weights:
        yield {
            "name": weight.name,
            "shape": None if weight.shape is None else list(weight.shape),
            "format": weight.format,
            "parameters": weight.parameters,
            "stored_bytes": weight.stored_bytes,
        }


def _tensor_table(records: tuple[dict[str, Any], ...], whole: Sum) -> Table:
    rows: list[tuple[Cell, ...]] = [
        (r["name"], shape(tuple(r["shape"] or ())), r["parameters"], r["stored_bytes"], r["format"]) for r in records
    ]
    return Table(
        columns=(*words("tensor"), *figures("shape", "parameters", "bytes"), *words("format")),
        rows=tuple(rows),
        total=("stored", "", whole.parameters, whole.stored_bytes, ""),
    )
