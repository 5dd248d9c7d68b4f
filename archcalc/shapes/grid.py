"""Grids of shapes: arrays in place of a model's sizes, counted by the same functions as one model."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, get_args

from pydantic import BaseModel

from archcalc.arguments import LARGEST_SIZE, choice, instance, size
from archcalc.blocks.base import parts
from archcalc.blocks.constraints import constraints
from archcalc.counts.quantities import QUANTITIES, Asked, Quantity, one_pass
from archcalc.errors import Invalid, Problem, nearest, shown
from archcalc.shapes.axes import (
    FLAG,
    RUN,
    Axis,
    Values,
    count_shapes,
    is_size,
    limits,
    read_axes,
    size_names,
    value_at,
)
from archcalc.spec.catalogue import Found, find, typed
from archcalc.spec.crossing import parted
from archcalc.spec.dumping import dump
from archcalc.spec.model import Model
from archcalc.spec.names import fields, places, short_name
from archcalc.spec.question import Change, ask
from archcalc.spec.source import Where, dotted, parse
from archcalc.spec.validation import validate
from archcalc.tape.legend import Mask, Size
from archcalc.tape.precision import DEFAULTS, Keeping, Purpose, refuse_other_purpose
from archcalc.tape.run import AttentionKernel, Run

CHUNK = 16_384  # rows at a time: arrays that stay in a processor's cache
MOST_AT_ONCE = 16  # groups of layers that so many rows are counted of: of more groups fewer rows

SHOWN = (
    "parameters.stored",
    "flops.forward",
    "flops.training",
    "activations.saved",
    "cache.per_token",
    "cache.state",
    "memory.state",
)
"""The columns if none are named, but for rare ones that are 0 of the spec itself. memory.total takes ten times as long
as the others."""


class Followed(NamedTuple):
    """A field that follows what is varied: `name = rule`, to keep `because`."""

    name: str
    path: str
    rule: str
    because: str

    def __str__(self) -> str:
        what = f"{self.name} = {self.rule}"
        return what if what == self.because else f"{what}, to keep {self.because}"


class Grid(NamedTuple):
    """The result of a sweep: one figure a column and row.

    `values` maps each column to an array of float64 with one whole number a row, exact below 2^53 and to a relative
    1e-12 above. `left_out` counts the invalid shapes by reason. `found` is the spec that was varied, `asked` the run.
    """

    found: Found
    axes: tuple[Axis, ...]
    asked: Asked
    columns: dict[str, Quantity]
    values: dict[str, Size]
    followed: tuple[Followed, ...]
    left_out: dict[str, int]

    def __len__(self) -> int:
        return len(next(iter(self.values.values())))

    def rows(self, most: int | None = None) -> Iterator[tuple[int, ...]]:
        """The rows as ints, the first `most` of them."""
        count = len(self) if most is None else min(most, len(self))
        for start in range(0, count, CHUNK):  # as ints all rows together would take a gigabyte
            end = min(start + CHUNK, count)
            yield from zip(*(map(int, column[start:end].tolist()) for column in self.values.values()), strict=True)


def sweep(
    spec: str | os.PathLike[str] | Model | Found,
    vary: Mapping[str, Values],
    *,
    columns: Sequence[str] | None = None,
    batch: int = 1,
    seq: int | None = None,
    attention: AttentionKernel | None = None,
    purpose: Purpose = "training",
    keeping: Keeping | None = None,
) -> Grid:
    """Count every shape of a grid: `sweep("gpt2", {"n_layers": [12, 24], "d_model": "512..2048:256"})`.

    `vary` maps fields of the spec, `batch` or `seq` to their sizes; the last field varies fastest. `columns` are names
    of quantities (see `archcalc list quantities`) or of sizes; default: SHOWN. `seq` defaults to the context length.
    `attention` defaults to math for FLOPs and to flash for memory. `purpose` says whether memory is that of training
    or of inference.

    Raises Invalid for an unknown field or column, for a size out of range, and for an argument that changes no column.
    """
    import numpy as np

    found = _found(spec)
    keeping = _keeping(choice("--for", "", purpose, get_args(Purpose)), keeping)
    if attention is not None:
        choice("--attention", "", attention, get_args(AttentionKernel))
    axes = read_axes(found, vary)
    inner = count = count_shapes(axes)
    sizes: list[tuple[Axis, Size]] = []
    for axis in axes:
        inner //= len(axis)
        sizes.append((axis, np.fromiter(axis.sizes(), np.int64)[np.arange(count) // inner % len(axis)]))
    asked = {place: column for axis, column in sizes for place in axis.places}
    document, changes = ask(found.read, {**found.answers, **asked}, FLAG)
    model = _filled(found.model, document.data)
    varied = {axis.name: column for axis, column in sizes if not axis.where}
    asked_for = one_pass(model, *_sizes(model, varied, batch, seq), attention, purpose, keeping)
    chosen = _columns(found, axes, columns, asked_for)
    given = {
        "--batch": batch != 1,
        "--seq": seq is not None,
        "--attention": attention is not None,
        "--for": purpose != "training",
    }
    _refuse_unused(chosen, given, keeping)
    run = asked_for.work

    names = fields(found.read)
    possible = np.ones(count, dtype=bool)
    left_out: dict[str, int] = {}
    for reason, wrong in _impossible(model, run, names):
        hit = possible & wrong
        if hit.any():
            left_out[reason] = left_out.get(reason, 0) + int(hit.sum())
            possible ^= hit
    rows = np.flatnonzero(possible)

    values = {name: np.empty(len(rows)) for name in chosen}  # of floats: int64 overflows in silence
    chunk = CHUNK * MOST_AT_ONCE // max(len(found.model.layers), MOST_AT_ONCE)
    for start in range(0, len(rows), chunk):
        here = rows[start : start + chunk]
        work, held = (Run(*(_at(part, here) for part in one)) for one in (asked_for.work, asked_for.held))
        shapes = Asked(_at(model, here), work, held, keeping)
        for name, column in chosen.items():
            values[name][start : start + chunk] = column.of(shapes)
    return Grid(
        found=_same(found, changes),
        axes=axes,
        asked=asked_for,
        columns=chosen,
        values=values,
        followed=tuple(_followed(changes, names)),
        left_out=left_out,
    )


def _found(spec: str | os.PathLike[str] | Model | Found) -> Found:
    if isinstance(spec, Found):
        return spec
    if isinstance(spec, Model):
        document = parse(dump(spec).encode(), spec.name)
        return Found(validate(document, Model), document, document, {})
    return find(typed(spec))


def _keeping(purpose: Purpose, keeping: Keeping | None) -> Keeping:
    """How numbers are kept, as the purpose has it if not given."""
    if keeping is None:
        return Keeping(DEFAULTS[purpose])
    instance("sweep", "keeping", keeping, Keeping)
    refuse_other_purpose(purpose, keeping)
    return keeping


def _sizes(model: Model, varied: Mapping[str, Size], batch: int, seq: int | None) -> tuple[Size, Size]:
    """Batch and sequence of the pass: varied, given, or the whole context."""
    most = model.context_length if is_size(model.context_length) else LARGEST_SIZE
    batch = size("--batch", "", batch)
    seq = None if seq is None else size("--seq", "", seq, most)
    for name, given in (("batch", batch != 1), ("seq", seq is not None)):
        if given and name in varied:
            raise Invalid(Problem(FLAG, f"is already set by --{name}", name))
    return varied.get("batch", batch), varied.get("seq", model.context_length if seq is None else seq)


_NO_FLAG = ("statistic", "offload")  # of a single device


def _refuse_unused(columns: Mapping[str, Quantity], given: Mapping[str, bool], keeping: Keeping) -> None:
    """Raises Invalid for a flag that changes none of the columns."""
    own = Keeping(DEFAULTS["inference" if given["--for"] else "training"])
    flags = {field: f"--{field.replace('_', '-')}" for field in own._fields if field not in _NO_FLAG}
    kept = {flag: getattr(keeping, field) != getattr(own, field) for field, flag in flags.items()}
    used = {flag for column in columns.values() for flag in column.flags}
    for flag, is_given in {**given, **kept}.items():
        if is_given and flag not in used:
            raise Invalid(Problem(flag, "changes none of the columns", value=", ".join(columns)))


def _names(columns: object) -> list[str]:
    """Names of columns. Raises Invalid for what is not a list of words."""
    if isinstance(columns, str) or not isinstance(columns, Iterable):
        raise Invalid(Problem("--columns", "must be a list of names", value=shown(columns)))
    for name in (names := list(columns)):
        if not isinstance(name, str):
            raise Invalid(Problem("--columns", "unknown column", value=shown(name)))
    return names


def _columns(found: Found, axes: tuple[Axis, ...], names: Sequence[str] | None, asked: Asked) -> dict[str, Quantity]:
    """The columns by name: what is varied, which comes first unless it is named, and what is asked for."""
    names = None if names is None else _names(names)
    index = fields(found.read)
    varied = {axis.name: _size_column(found, axis.name, axis.where) for axis in axes}
    named: dict[str, Quantity] = {}
    own = one_pass(found.model, purpose=asked.purpose, keeping=asked.keeping)
    there = [name for name in SHOWN if not QUANTITIES[name].refusal(asked)]
    possible = [name for name in there if not QUANTITIES[name].rare or QUANTITIES[name].of(own)]
    for name in possible if names is None else names:
        if name in named:
            raise Invalid(Problem("--columns", "is listed twice", name))
        if name in varied or name in QUANTITIES:
            named[name] = varied.get(name) or QUANTITIES[name]
            if refused := named[name].refusal(asked):
                raise Invalid(Problem("--columns", refused, name))
            continue
        if name not in index and name != "n_layers":
            near = nearest(name, [*QUANTITIES, *size_names(found)], 3)
            fix = "`archcalc list quantities` lists the names; the spec's sizes can be columns too"
            fix = f"nearest: {', '.join(near)}" if near else fix
            raise Invalid(Problem("--columns", "unknown column", value=shown(name), suggestion=fix))
        where = places(name, index, "--columns", found.read.data)[0]
        if not is_size(value_at(found.model, where)):
            raise Invalid(Problem("--columns", "is not a size", dotted(where)))
        named[name] = _size_column(found, name, where)
    return {name: column for name, column in varied.items() if name not in named} | named


def _size_column(found: Found, name: str, where: Where | None) -> Quantity:
    """A size itself, as a column."""
    if where is None:
        return Quantity(lambda asked: asked.work.batch if name == "batch" else asked.work.sequence, "", RUN[name])
    holder = value_at(found.model, where[:-1])
    meaning = f"{dotted(where)}: {type(holder).model_fields[where[-1]].description}"
    return Quantity(lambda asked: value_at(asked.model, where), "", meaning)


def _filled(part: Any, data: Any) -> Any:
    """A part of a model with the sizes that plain data has in its place."""
    if isinstance(part, BaseModel):
        known = type(part).model_fields
        return part.model_copy(
            update={name: _filled(getattr(part, name), inner) for name, inner in data.items() if name in known}
        )
    if isinstance(part, tuple):
        if len(part) != len(data):
            return tuple(data)  # a pattern that grew with the number of layers
        return tuple(_filled(inner, plain) for inner, plain in zip(part, data, strict=True))
    if isinstance(part, dict):
        return {name: _filled(inner, data[name]) for name, inner in part.items()}
    return data if is_size(part) else part


def _at(part: Any, rows: Size) -> Any:
    """A part of a model, or of a run, at some rows of its arrays."""
    if isinstance(part, BaseModel):
        return part.model_copy(update={name: _at(inner, rows) for name, inner in part})
    if isinstance(part, tuple):
        return tuple(_at(inner, rows) for inner in part)
    if isinstance(part, dict):
        return {name: _at(inner, rows) for name, inner in part.items()}
    return part[rows] * 1.0 if hasattr(part, "dtype") else part


def _impossible(model: Model, run: Run, names: Mapping[str, list[Where]]) -> Iterator[tuple[str, Mask]]:
    """Which shapes are not valid specs, and why, as validation would say of each."""
    for where, holder in parts(model):
        for field, known in type(holder).model_fields.items():
            size, name = getattr(holder, field), (*where, field)
            if hasattr(size, "dtype"):
                low, high = limits(known)
                yield f"{short_name(name, names)} is not from {low} to {high:,}", (size < low) | (size > high)
        for field, constraint in constraints(holder):
            if getattr(holder, field) is not None:
                reason = constraint.reason(short_name((*where, *constraint.place(field)), names))
                yield reason, constraint.holds(getattr(holder, field), holder) ^ True
    per_layer = getattr(model.embedding, "per_layer", None)
    yield from parted(model.layers, None if per_layer is None else per_layer.d_per_layer)
    yield "the sequence is longer than context_length", run.sequence > model.context_length


def _followed(changes: tuple[Change, ...], names: Mapping[str, list[Where]]) -> Iterator[Followed]:
    """What is another in each row because of what is varied."""
    for change in changes:
        if change.because and hasattr(change.new, "dtype"):
            where = next(where for where in names[change.path] if dotted(where) == change.path)
            yield Followed(short_name(where, names), change.path, change.rule, change.because)


def _same(found: Found, changes: tuple[Change, ...]) -> Found:
    """The spec with what a question changed in all rows alike; a misprint of a varied field is ignored."""
    many = {change.path.rpartition(".")[2] for change in changes if hasattr(change.new, "dtype")}
    misprints = tuple(misprint for misprint in found.model.misprints if misprint.field not in many)
    model = found.model.model_copy(update={"misprints": misprints})
    return found._replace(model=model, changes=tuple(c for c in changes if not hasattr(c.new, "dtype")))
