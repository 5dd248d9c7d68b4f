"""A checkpoint's header held against a spec, tensor by tensor: names, shapes, types, and what is tied or padded."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from archcalc.checks.verdict import Check, same
from archcalc.counts.parameters import Stored
from archcalc.errors import MOST_PROBLEMS_SHOWN
from archcalc.huggingface.headers import Shape
from archcalc.huggingface.packing import Weight
from archcalc.units import several

_LAYER = re.compile(r"(.*?\.)([0-9]{1,9})(\..*)")
_NO_WEIGHTS = ("BOOL", "C64", "I64", "U64", "I32", "U32", "I16", "U16", "I8", "U8")


class Expected(NamedTuple):
    """A tensor that a checkpoint of the spec has, under the name that its file gives it.

    `rows` names the size that its rows are, where a file may have more of them: padding. A `buffer` is no parameter,
    and a `lacked` one may be absent. `evenly` is the shape that it has in a file where it was split wrongly.
    """

    name: str
    shape: Shape
    rows: str = ""
    buffer: bool = False
    lacked: bool = False
    evenly: Shape | None = None

    @property
    def parameters(self) -> int:
        count = 1
        for size in self.shape:
            count *= size
        return count


class Held(NamedTuple):
    """The comparisons, a line for what could not be compared, and one for what is there twice."""

    checks: tuple[Check, ...]
    not_compared: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


class _Difference(NamedTuple):
    """A tensor that is otherwise than the spec has it."""

    name: str
    counted: Shape | None
    measured: Shape | None
    reason: str


def shapes_of(tensors: Iterable[Stored]) -> dict[str, Shape]:
    """The shapes of tensors by their names, those of layers one by one."""
    found: dict[str, Shape] = {}
    for tensor in tensors:
        for i in (None,) if tensor.within is None else tensor.within.indices():
            found[tensor.name.format(i=i)] = tensor.shape
    return found


def held(expected: list[Expected], head: Expected | None, weights: dict[str, Weight]) -> Held:
    """Hold the weights of a file, by name, against what is expected.

    `head` is the matrix of a tied head, which a file may have beside the table, or in its place as `expected` has it.
    Buffers are no weights, unless a parameter's name is on one; those that are expected must be there too.
    """
    wanted = {one.name: one for one in expected if not one.buffer}
    beside = {one.name: one for one in expected if one.buffer}
    there = {
        name: weight
        for name, weight in weights.items()
        if name not in beside and (not weight.buffer or name in wanted)
    }
    warnings, differences = [], list[_Difference]()
    if head is not None and head.name in there and head.name not in wanted:
        again = there.pop(head.name)
        warnings.append(
            f"{again.name} is stored too ({again.stored_bytes:,} bytes), and the spec ties it to the token table;"
            " whether they are equal, only their numbers tell"
        )
        differences += _difference(head, again)
    unknown = [weight for name, weight in there.items() if name in wanted and weight.parameters is None]
    for name, weight in there.items():
        if name in wanted:
            differences += _difference(wanted[name], weight)
        else:
            differences.append(_Difference(weight.name, None, weight.shape, "UNEXPECTED"))
    for one in expected:
        if one.name not in weights and not one.lacked:
            differences.append(_Difference(one.name, one.shape, None, _missing(one)))
        elif one.buffer and one.name in weights:
            differences += _difference(one, weights[one.name])
    if absent := [one for one in expected if one.lacked and one.name not in weights]:
        warnings.append(f"{absent[0].name} is not stored, in {several(len(absent), 'layer')}: zeros stand for it")
    checks = [same("tensors", len(wanted), len(there))]
    if not unknown:
        stored = sum(weight.parameters or 0 for weight in there.values())
        checks.append(same("parameters", sum(one.parameters for one in wanted.values()), stored))
    not_compared = (
        (f"{several(len(unknown), 'weight')} {PACKED}: {unknown[0].name}, {unknown[0].format}",) if unknown else ()
    )
    return Held((*checks, *_rows(differences)), not_compared, tuple(warnings))


def _missing(one: Expected) -> str:
    return "MISSING; unembedding.tied=true describes a file without it" if one.rows == _HEAD else "MISSING"


_HEAD = "vocab_size of the head"
PACKED = "packed in an unknown way"
"""What is said of weights whose shapes are not compared, as nothing says how their bytes are numbers."""


def expected_head(name: str, shape: Shape) -> Expected:
    """The matrix of a head that is not tied."""
    return Expected(name, shape, _HEAD)


def _difference(one: Expected, weight: Weight) -> Iterator[_Difference]:
    """What is wrong with a weight, if anything is. What is packed in an unknown way is not compared."""
    if weight.parameters is None:
        return
    if not weight.packed and weight.format in _NO_WEIGHTS:
        yield _Difference(weight.name, one.shape, weight.shape, f"WRONG TYPE: {weight.format}")
    elif weight.shape is None:
        if weight.parameters != one.parameters:
            what = f"DIFFERENT SIZE: {weight.parameters:,} parameters as {weight.format}"
            yield _Difference(weight.name, one.shape, None, what)
    elif weight.shape != one.shape:
        yield _Difference(weight.name, one.shape, weight.shape, _how(one, weight.shape))


def _how(one: Expected, stored: Shape) -> str:
    if one.rows and len(stored) == len(one.shape) and stored[1:] == one.shape[1:] and stored[0] > one.shape[0]:
        rows = one.rows.partition(" ")[0]
        return f"PADDED by {several(stored[0] - one.shape[0], 'row')}; {rows}={stored[0]} counts them"
    if stored == one.evenly:
        return "SPLIT INTO EQUAL PARTS, as transformers saves it; parts of these widths do not load"
    return "TRANSPOSED" if stored == one.shape[::-1] else "DIFFERENT SHAPE"


def _rows(differences: Iterable[_Difference]) -> Iterator[Check]:
    """A row for each difference; layers that differ alike share one."""
    found: dict[_Difference, list[int]] = {}
    for one in differences:
        match = _LAYER.fullmatch(one.name)
        key = one._replace(name=f"{match[1]}{{i}}{match[3]}") if match else one
        found.setdefault(key, []).extend([int(match[2])] if match else [])
    for one, layers in list(found.items())[:MOST_PROBLEMS_SHOWN]:
        several_layers = f" ({several(len(layers), 'layer')})" if len(layers) > 1 else ""
        name = one.name.replace("{i}", str(layers[0])) if len(layers) == 1 else one.name
        yield Check(
            name + several_layers,
            None if one.counted is None else list(one.counted),
            None if one.measured is None else list(one.measured),
            equal=False,
            reason=one.reason,
        )
    if (more := len(found) - MOST_PROBLEMS_SHOWN) > 0:
        yield Check(several(more, "more difference"), None, None, equal=False, reason="DIFFERS")
