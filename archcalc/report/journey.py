"""A running model's own account: each call with its shape, its weights and its FLOPs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import groupby
from typing import Any, NamedTuple

from archcalc.counts.flops import flops
from archcalc.counts.parameters import params
from archcalc.report.prediction import Likely
from archcalc.report.sheet import Cell, Fields, Sheet, Table, caveats, figures, notes, payload, words
from archcalc.report.tokens import Token, begins_fields
from archcalc.spec.catalogue import Found
from archcalc.tape.run import Run
from archcalc.units import four_digits, grouped, several, shape, share

_LAYER = re.compile(r"layers\.([0-9]+)")
_SHOWN_TOKENS = 12
_LENGTHS = (
    "of vectors of the residual stream and of what comes to it; mean: over all positions but the first",
    "the first is apart: in many models its vector is unlike all others (an attention sink)",
)


class Group(NamedTuple):
    """Calls of one module, the same in `layers` layers one after the other; `calls` has those of each layer."""

    module: str
    layers: int
    calls: tuple[tuple[Any, ...], ...]


def journey_sheet(
    found: Found,
    prompt: str,
    tokens: list[Token],
    calls: list[Any],
    likely: list[Likely],
    *,
    begins: tuple[Token, ...] = (),
    tokenizer: str = "bytes",
) -> Sheet:
    """What the model did to a prompt, held against the count; `likely` tokens come next where there are weights.

    `tokenizer` is the name of what cut it.
    """
    counted = flops(found.model, Run("prefill", 1, len(tokens))).forward
    run = sum(call.flops for call in calls)
    met = {name: sizes for call in calls for name, sizes in call.weights}
    stored = params(found.model).stored
    numbers = sum(_volume(sizes) for sizes in met.values())
    agrees = (
        f"{grouped(run)} FLOPs by PyTorch's FLOP counter, {_beside(run, counted)}",
        f"{grouped(numbers)} parameters used, {_beside(numbers, stored)}",
    )
    ran = "on the CPU in fp32, with math attention, which shows the scores"
    if not likely:
        cut = "one token per byte" if tokenizer == "bytes" else f"tokens by {tokenizer}"
        ran = f"on PyTorch's meta device: shapes without values, {cut}; --weights DIR loads a trained model"
    following = (("Next", (", ".join(_chance(one) for one in likely),)),) if likely else ()
    lengths = (("Lengths", _LENGTHS),) if likely else ()
    return Sheet(
        title=f"{found.name}: {several(len(tokens), 'token')} pass through the running model",
        blocks=(
            _table(calls, len(tokens)),
            *([_lengths_table(calls)] if likely else []),
            Fields(
                (
                    ("Prompt", (f"{prompt!r} is {_spelled(tokens[len(begins) :])}",)),
                    *begins_fields(begins),
                    *following,
                    ("Agrees" if (run, numbers) == (counted, stored) else "Differs", agrees),
                    ("Ran", (ran,)),
                    ("Data", ("as in PyTorch: sequences x positions x features; heads come before positions",)),
                    ("FLOPs", ("summed over all layers",)),
                    *lengths,
                    *caveats(found),
                )
            ),
        ),
        payload=payload(
            found.name,
            prompt=prompt,
            begins=[token.id for token in begins],
            tokens=[token.id for token in tokens],
            calls=[_json(call) for call in calls],
            flops={"run": run, "counted": counted},
            weights={"met": numbers, "counted": stored},
            next=[one.record for one in likely],
            **notes(found),
        ),
        records=tuple(_record(call) for call in calls),
    )


def _beside(run: int, counted: int) -> str:
    return "as counted" if run == counted else f"counted {grouped(counted)} ({run - counted:+,})"


def _volume(sizes: tuple[int, ...]) -> int:
    total = 1
    for size in sizes:
        total *= size
    return total


def _chance(one: Likely) -> str:
    return f"{one.token.literal} {share(one.probability, 1)}"


def _spelled(tokens: list[Token]) -> str:
    """The first tokens as they are written."""
    first = " ".join(token.literal for token in tokens[:_SHOWN_TOKENS])
    more = len(tokens) - _SHOWN_TOKENS
    return first if more <= 0 else f"{first} and {grouped(more)} more"


def _table(calls: list[Any], tokens: int) -> Table:
    rows: list[tuple[Cell, ...]] = [("token ids", None, f"1 x {grouped(tokens)}", None, None)]
    for group in _grouped(calls):
        times = f" x{grouped(group.layers)}" if group.layers > 1 else ""
        if len(group.calls) > 1:
            rows.append((f"{group.module}{times}", *[None] * 4))
        for same in group.calls:
            first = same[0]
            leaf = "" if len(group.calls) == 1 else _leaf(first.module, group.module)
            name = f"  {leaf}".rstrip() if len(group.calls) > 1 else f"{group.module}{times}"
            rows.append((name, first.function, shape(first.shape), _weights(first), _flops(same)))
    if calls:  # the sampler's own step, behind the model's last
        rows.append(("softmax, last position", "softmax", shape((1, calls[-1].shape[-1])), None, None))
    total = ("total", None, None, None, sum(call.flops for call in calls))
    columns = (*words("module", "PyTorch"), *figures("data", "weights in one layer", "FLOPs"))
    return Table(columns, tuple(rows), total)


def _lengths_table(calls: list[Any]) -> Table:
    """The calls that made vectors of the residual stream, or such as come to it, and how long these are."""
    rows = tuple(
        (
            f"{_LAYER.sub('layers.{i}', same[0].module)}{f' x{grouped(group.layers)}' if group.layers > 1 else ''}",
            same[0].function,
            _lengths([call.first_length for call in same]),
            _lengths([call.mean_length for call in same]),
        )
        for group in _grouped(calls)
        for same in group.calls
        if same[0].first_length is not None
    )
    columns = (*words("module", "PyTorch"), *figures("first position", "mean of the others"))
    return Table(columns, rows, title="Lengths of vectors, in the first layer .. in the last", keys=2)


def _grouped(calls: list[Any]) -> Iterator[Group]:
    """Calls by module; those of layers that do the same stand together."""
    blocks = [(_block(key), list(part)) for key, part in groupby(calls, key=lambda call: _layer(call.module))]
    for _, part in groupby(blocks, key=lambda block: (block[0], [_same(call) for call in block[1]])):
        layers = [block for _, block in part]
        for module, inside in groupby(
            zip(*layers, strict=True), key=lambda same: _group(_LAYER.sub("layers.{i}", same[0].module))
        ):
            yield Group(module, len(layers), tuple(inside))


def _layer(module: str) -> str:
    """Which layer a module stands in, or its own name where it stands in none."""
    match = _LAYER.match(module)
    return match[0] if match else module.partition(".")[0]


def _block(key: str) -> str:
    return _LAYER.sub("layers.{i}", key)


def _same(call: Any) -> tuple[Any, ...]:
    """What calls of two layers must share to be one row."""
    weights = tuple((_LAYER.sub("", name), sizes) for name, sizes in call.weights)
    return _LAYER.sub("", call.module), call.function, call.shape, weights, call.flops


def _group(module: str) -> str:
    """The module that a call is shown under: that of a matrix's owner, not the matrix's own."""
    parts = module.split(".")
    depth = 3 if parts[0] == "layers" else 1
    return ".".join(parts[:depth])


def _leaf(module: str, group: str) -> str:
    return _LAYER.sub("layers.{i}", module).removeprefix(group).removeprefix(".")


def _weights(call: Any) -> str | None:
    """The sizes of the weights that a call read, a bias after its matrix."""
    return " + ".join(shape(sizes) for _, sizes in call.weights) or None


def _flops(same: tuple[Any, ...]) -> int | None:
    return sum(call.flops for call in same) or None


def _lengths(lengths: list[float | None]) -> str | None:
    """The length in the first layer and in the last."""
    found = [four_digits(length) for length in lengths if length is not None]
    return " .. ".join(found[:: max(len(found) - 1, 1)]) or None


def _json(call: Any) -> dict[str, Any]:
    weights = [{"name": name, "shape": list(sizes)} for name, sizes in call.weights]
    return {**call._asdict(), "shape": list(call.shape), "weights": weights}


def _record(call: Any) -> dict[str, Any]:
    flat = {"shape": "x".join(map(str, call.shape)), "weights": " ".join(name for name, _ in call.weights)}
    return {**call._asdict(), **flat}
