"""Hypothesis strategies that build valid specs, and spoil them. Needs the extra `strategies`.

    >>> from hypothesis import given
    >>> from archcalc import strategies
    >>> @given(strategies.models())
    ... def test_mine(model): ...

They are made from the classes that read specs, so a new block is drawn without a word here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from types import UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

from hypothesis import strategies as st
from pydantic.fields import FieldInfo

from archcalc.arguments import size
from archcalc.blocks.base import Mixer, Strict, registered
from archcalc.blocks.constraints import Constraint
from archcalc.blocks.norm import Norm
from archcalc.blocks.rotary import LongRope
from archcalc.spec.dumping import dump
from archcalc.spec.groups import MOST_REPEATS, AlternatingGroup, BranchGroup
from archcalc.spec.layers import BranchLayer, TwoBranchLayer
from archcalc.spec.model import Model
from archcalc.spec.published import Initialization
from archcalc.spec.shared import SharedBlock

LARGEST = 8
"""The largest size drawn where no other is asked for: small enough to build and run the model."""


def models(largest: int = LARGEST, most_groups: int = 3, most_repeats: int = 3) -> st.SearchStrategy[Model]:
    """Valid models with sizes from 1 to `largest`, of one to `most_groups` groups of one to `most_repeats` layers.

    They have no published figures, misprints or assumptions; biases, ties and kinds of blocks are drawn.

    Raises Invalid for a bound that is no size.
    """
    largest = size("strategies", "largest", largest)
    most_groups = size("strategies", "most_groups", most_groups)
    most_repeats = size("strategies", "most_repeats", most_repeats, MOST_REPEATS)
    return _mappings(Model, _Most(largest, most_groups, most_repeats)).map(_agreeing).map(Model.model_validate)


def _agreeing(data: dict[str, Any]) -> dict[str, Any]:
    """The same with tables of one width, so that they can be tied, and keys and values that are there to be shared."""
    head = data["unembedding"]
    head["d_embedding"] = data["embedding"].get("d_embedding")
    if head.get("rows") is not None:
        head["rows"] = None if head["tied"] else 1 + head["rows"] % data["vocab_size"]
    _each_or_none(data)
    _uses_alike(data)
    made: list[dict[str, Any]] = []
    for group in data["layers"]:
        kinds = (
            [group["kinds"][name] for name in group["pattern"][: group["repeat"]]] if "pattern" in group else [group]
        )
        for layer in kinds:
            parts = [branch["mixer"] for branch in layer["branches"]] if "branches" in layer else [layer["attention"]]
            for attention in (part for part in parts if part["kind"] == "multi_head"):
                if attention["shared_kv"] and made:
                    attention |= {name: made[-1][name] for name in _SHARED}
                    attention["rotary"] = None
                attention["shared_kv"] = attention["shared_kv"] and bool(made)
                made += [attention] * (not attention["shared_kv"])
    last = data["layers"][-1]
    if data["mtp"] is not None and _reads_others(last["kinds"][last["pattern"][-1]] if "pattern" in last else last):
        data["mtp"] = None
    return data


def _reads_others(layer: dict[str, Any]) -> bool:
    """Whether a layer reads what was made outside it: no module of multi-token prediction is like that."""
    parts = [branch["mixer"] for branch in layer["branches"]] if "branches" in layer else [layer["attention"]]
    shares = any(branch.get("added") for branch in layer.get("branches", ()))
    return shares or any(part["kind"] == "per_layer" or part.get("shared_kv") for part in parts)


def _uses_alike(data: dict[str, Any]) -> None:
    """Uses of shared blocks of one name that differ in their adapters alone."""
    known: dict[str, dict[str, Any]] = {}
    for layer in (layer for group in data["layers"] for layer in group.get("kinds", {"": group}).values()):
        for added in (branch["added"] for branch in layer.get("branches", ()) if branch.get("added")):
            first = known.setdefault(added["block"], added)
            added |= {name: first[name] for name in ("norm", "attention", "mlp_norm", "mlp")}
            added["attention"]["shared_kv"] = False


def _each_or_none(data: dict[str, Any]) -> None:
    """Vectors for each layer where all layers have branches, and then one that reads them; else nowhere."""
    layers = [layer for group in data["layers"] for layer in group.get("kinds", {"": group}).values()]
    for branch in (branch for layer in layers for branch in layer.get("branches", ())):
        if branch["mixer"]["kind"] == "per_layer":
            branch["mixer"] = {"kind": "plain", "d_ff": 3, "activation": "relu", "bias": False}
    if not all("branches" in layer for layer in layers):
        data["embedding"]["per_layer"] = None
    if data["embedding"]["per_layer"] is not None:
        d_per_layer = data["embedding"]["per_layer"]["d_per_layer"]
        mixer = {"kind": "per_layer", "d_per_layer": d_per_layer, "activation": "gelu_tanh"}
        for layer in layers:
            layer["branches"].append({"name": "each", "norm": None, "mixer": mixer})


_SHARED = ("n_heads", "n_kv_heads", "d_head", "d_value", "window", "chunk")


def sizes(largest: int = LARGEST) -> st.SearchStrategy[int]:
    """Sizes of an architecture, 1 among them often."""
    return st.integers(1, size("strategies", "largest", largest))


class _Most(NamedTuple):
    """How much is drawn: sizes, groups of layers, layers of a group."""

    size: int
    groups: int
    repeats: int


Allowed = tuple[Any, ...] | None
"""The values that the constraints of a field leave; None where they leave all."""


@lru_cache(4_096)
def _mappings(holder: type[Strict], most: _Most) -> st.SearchStrategy[Any]:
    """Plain data that is valid for a class."""
    special = _SPECIAL.get(holder)
    return special(most) if special else _mapping(holder, most)


@st.composite
def _mapping(draw: st.DrawFn, holder: type[Strict], most: _Most) -> dict[str, Any]:
    """Field by field in their order; constraints say which sizes may be."""
    data: dict[str, Any] = {}
    for name, field in holder.model_fields.items():
        found = (one.allowed(data, most.size) for one in field.metadata if isinstance(one, Constraint))
        limits = [values for values in found if values is not None]
        allowed = tuple(sorted(set(limits[0]).intersection(*limits))) if limits else None
        strategy = _values(holder, name, most, allowed)
        if strategy is not None:
            data[field.alias or name] = draw(strategy)
    return data


@lru_cache(4_096)
def _values(holder: type[Strict], name: str, most: _Most, allowed: Allowed) -> st.SearchStrategy[Any] | None:
    """Values of one field; None for what describes a spec and is left out."""
    if name in _PLAIN:
        return _PLAIN[name]
    if name == "repeat":
        return st.integers(1, most.repeats)
    field = holder.model_fields[name]
    parts = [part for one in _members(field.annotation) for part in _of(one, field, most, allowed)]
    return st.one_of(parts) if parts else None


def _of(kind: Any, field: FieldInfo, most: _Most, allowed: Allowed) -> Iterator[st.SearchStrategy[Any]]:
    """Strategies for one member of a field's type."""
    if kind is type(None):
        yield st.none()
    elif kind is bool:
        yield st.sampled_from([False, True] if allowed is None else allowed)
    elif kind is int:
        yield from _ints(field, most, allowed)
    elif kind is float:
        known = not field.is_required() and field.default is not None
        numbers = (0.5, 2.0, 30.0) if allowed is None else [float(n) for n in allowed if n is not None]
        if known or numbers:
            yield st.just(field.default) if known else st.sampled_from(numbers)
    elif get_origin(kind) is Literal:
        yield st.sampled_from([word for word in get_args(kind) if allowed is None or word in allowed])
    elif get_origin(kind) is tuple and field.is_required():
        inner = [_mappings(one, most) for member in _members(get_args(kind)[0]) for one in _kinds(member)]
        yield st.lists(st.one_of(inner), min_size=1, max_size=most.groups)
    elif allowed in ((), (None,)):
        return
    elif isinstance(kind, type) and issubclass(kind, Strict) and kind is not Initialization:
        # What restricts a block restricts the sizes in it: they are at most the last that may be.
        within = most if allowed is None else most._replace(size=allowed[-1])
        yield from (_mappings(one, within) for one in _kinds(kind) if allowed is None or within.size > 1)


def _ints(field: FieldInfo, most: _Most, allowed: Allowed) -> Iterator[st.SearchStrategy[Any]]:
    low = next((m.ge for m in field.metadata if hasattr(m, "ge")), 1)
    if allowed is None:
        yield sizes(most.size) if low else st.integers(0, 2)
    elif allowed:
        yield st.sampled_from(allowed)


def _members(annotation: Any) -> list[Any]:
    """The members of a union, or the type itself."""
    while get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if get_origin(annotation) in (Union, UnionType):
        return [inner for one in get_args(annotation) for inner in _members(one)]
    return [annotation]


def _kinds(kind: type[Strict]) -> list[type[Strict]]:
    """The kinds of a slot, or the class itself."""
    return [*registered(kind).values()] or [kind]


_PLAIN: dict[str, st.SearchStrategy[Any]] = {
    "name": st.just("drawn"),
    "source": st.just("archcalc.strategies"),
    "epsilon": st.sampled_from((1e-5, 1e-6)),
    "theta": st.sampled_from((100.0, 10_000.0)),
    "share": st.sampled_from((0.25, 0.5, 1.0)),
    "block": st.sampled_from(("one", "other")),
    "layer": st.none(),  # of modules of multi-token prediction: as the model's last
}


@st.composite
def _alternating(draw: st.DrawFn, most: _Most) -> dict[str, Any]:
    """Layers of one to three kinds, in an order that may be longer than the group."""
    names = ["a", "b", "c"][: draw(st.integers(1, 3))]
    layer = st.one_of(_mappings(TwoBranchLayer, most), _mappings(BranchLayer, most))
    more = draw(st.lists(st.sampled_from(names), max_size=3))
    return {
        "repeat": draw(st.integers(1, most.repeats)),
        "pattern": draw(st.permutations([*names, *more])),
        "kinds": {name: draw(layer) for name in names},
    }


@st.composite
def _branching(draw: st.DrawFn, most: _Most, *, repeated: bool) -> dict[str, Any]:
    """One to three branches of any mixers."""
    parallel = draw(st.booleans())
    branches: list[dict[str, Any]] = []
    shares = draw(st.integers(0, 4)) == 0  # few layers do, and one of their branches
    for i in range(draw(st.integers(1, 3))):
        branch = draw(_mappings(_OneBranch, most))
        if shares and not any(one.get("added") for one in branches):
            branch["added"] = draw(_mappings(SharedBlock, most))
        if branches and branches[-1]["norm"] is not None and not branch.get("added") and draw(st.booleans()):
            branch["norm"] = "shared"
        if not parallel and branch["norm"] not in (None, "shared") and draw(st.booleans()):
            branch["residual"] = "normed"
        branches.append({"name": f"branch_{i}", **branch})
    for branch in [] if parallel else branches[:-1]:
        may = branch["stream_norm"] is branch["residual_scale"] is None and "residual" not in branch
        branch["joins"] = "end" if may and draw(st.booleans()) else "stream"
    found = {"parallel": parallel, "branches": branches}
    return {"repeat": draw(st.integers(1, most.repeats)), **found} if repeated else found


def _no_values(_: _Most) -> st.SearchStrategy[Any]:
    """One factor for each pair of features: no field by itself says how many."""
    return st.nothing()


class _OneBranch(Strict):
    """The fields of a branch that do not depend on other branches."""

    norm: Norm | None
    mixer: Mixer
    post_norm: Norm | None
    stream_norm: Norm | None
    scale: float | None
    input_scale: float | None
    residual_scale: float | None


_SPECIAL: dict[type[Strict], Callable[[_Most], st.SearchStrategy[Any]]] = {
    AlternatingGroup: _alternating,
    BranchGroup: partial(_branching, repeated=True),
    BranchLayer: partial(_branching, repeated=False),
    LongRope: _no_values,
}
"""Classes whose fields depend on each other in a way that no constraint of a field says."""


_SPOILS = ("drop", "rename", "retype", "zero", "negate", "enlarge", "duplicate", "cut", "noise")
_WRONG_VALUES = ("", "[1]", "{a: 1}", "text", "1.5", "true", "null", "*x", "!t 1", "&x 1", ".nan", '"1"')


def _fields(line: str) -> Iterator[tuple[str, str, str, str]]:
    """A line as what is before a field, its key, its value and what is after: of its first field, and each inside."""
    key, _, value = line.partition(":")
    yield "", key, value.strip(), ""
    for field in re.finditer(r"(\w+): ([^,{}\[\]]+)(?=[,}])", line):
        yield line[: field.start()], field[1], field[2], line[field.end() :]


@st.composite
def spoiled(draw: st.DrawFn) -> bytes:
    """The bytes of a spec file in which something is wrong; now and then it comes out valid all the same."""
    lines = dump(draw(models())).splitlines()
    at = draw(st.integers(0, len(lines) - 1))
    before, key, value, after = draw(st.sampled_from(list(_fields(lines[at]))))
    spoil = draw(st.sampled_from(_SPOILS))
    if spoil == "drop":
        lines[at] = before + after
    elif spoil == "duplicate":
        lines[at] = f"{before}{key}: {value}, {key}: {value}{after}" if after else f"{lines[at]}\n{lines[at]}"
    elif spoil == "rename":
        lines[at] = f"{before}{key}{draw(st.text(max_size=3))}: {value}{after}"
    elif spoil in ("retype", "zero", "negate", "enlarge"):
        values = {"zero": "0", "negate": "-1", "enlarge": "1e30"}
        lines[at] = f"{before}{key}: {values.get(spoil) or draw(st.sampled_from(_WRONG_VALUES))}{after}"
    text = "\n".join(lines).encode()
    if spoil == "cut":
        return text[: draw(st.integers(0, len(text)))]
    if spoil == "noise":
        place = draw(st.integers(0, len(text)))
        return text[:place] + draw(st.binary(min_size=1, max_size=8)) + text[place:]
    return text
