"""A small model of the same architecture as another: what numbers are compared on, whatever the size of the first."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from pydantic import BaseModel

from archcalc.blocks.attention import MultiHead
from archcalc.blocks.base import Block
from archcalc.blocks.relations import Multiple, Product
from archcalc.blocks.shrinking import Shrinking, is_plain, small
from archcalc.spec.branch import Branch
from archcalc.spec.crossing import shares_keys
from archcalc.spec.groups import AlternatingGroup, BranchGroup, LayerGroup, TwoBranchGroup
from archcalc.spec.layers import Layer
from archcalc.spec.model import Model

MOST_GROUPS = 4  # of layers that differ; a model has few, and each costs a comparison its time
MOST_REPEATS = 2  # layers of a group: one to be first, one to be last
VOCABULARY, CONTEXT = 97, 32
MOST_TIMES = 8  # d_model, of a size that is a multiple of it
D_MODEL = 32  # where no block says what makes it up


def miniature(model: Model) -> Model:
    """The same blocks, biases, ties and ratios (fewer key/value heads than heads, heads that make up d_model or do
    not), of few layers and small sizes. Sizes of one stay one where they are an architecture of their own: one
    key/value head is multi-query attention.
    """
    found: list[LayerGroup] = []
    for group in model.layers:
        if group not in found and len(found) < MOST_GROUPS:
            found.append(group)
    shrinking = Shrinking(_heads(found))
    layers = tuple(_few(small(group, shrinking)) for group in found)
    d_model = _d_model(model, tuple(found), layers)
    layers = _in_ratio(tuple(found), layers, model.d_model, d_model)
    update = {
        "vocab_size": VOCABULARY,
        "context_length": CONTEXT,
        "d_model": d_model,
        "layers": layers,
        **{name: small(getattr(model, name), shrinking) for name in ("embedding", "final_norm", "unembedding")},
    }
    return model.model_copy(update=update)


def _heads(groups: list[LayerGroup]) -> dict[int, set[int]]:
    """For each number of heads the numbers of key/value heads that attentions with so many have."""
    found: dict[int, set[int]] = {}
    for kind in (kind for group in groups for kind in group.kinds_in()):
        for mixer in (branch.mixer for branch in kind.layer.residual_branches):
            if isinstance(mixer, MultiHead):
                found.setdefault(mixer.n_heads, set()).add(mixer.n_kv_heads)
    return found


def one_layer(model: Model, layer: Layer) -> Model:
    """The same model with one layer of one kind, which makes its own keys and values."""
    data = {name: _alone(value) for name, value in layer if name != "repeat"}
    form = BranchGroup if "branches" in data else TwoBranchGroup
    return model.model_copy(update={"layers": (form.model_construct(repeat=1, **data),)})


def _alone(part: Any) -> Any:
    """An attention, or branches, without what another layer makes."""
    if isinstance(part, tuple):
        return tuple(map(_alone, part))
    if isinstance(part, Branch):
        return part.model_copy(update={"mixer": _alone(part.mixer)})
    return part.model_copy(update={"shared_kv": False}) if isinstance(part, MultiHead) else part


def without_factors(part: Any) -> Any:
    """The same part with nothing multiplied, capped or cut: a large factor lets one score drown all others."""
    return _without(part, lambda block: getattr(block, "factors", ()))


def without_capacity(part: Any) -> Any:
    """The same part with room for all vectors in the buffers of experts."""
    return _without(part, lambda block: ("capacity_factor",) if hasattr(block, "capacity_factor") else ())


def _without(part: Any, fields: Callable[[BaseModel], Iterable[str]]) -> Any:
    """The same part, without some fields of each block in it."""
    if isinstance(part, BaseModel):
        inner = {name: _without(value, fields) for name, value in part if not is_plain(value)}
        return part.model_copy(update={**inner, **dict.fromkeys(fields(part))})
    if isinstance(part, tuple):
        return tuple(_without(one, fields) for one in part)
    return {name: _without(value, fields) for name, value in part.items()} if isinstance(part, dict) else part


def described(model: Model) -> str:
    """How large a miniature is, in a few words."""
    layers = "layer" if model.n_layers == 1 else "layers"
    return f"a model of the same architecture with {model.n_layers} {layers} and d_model {model.d_model}"


def _few(group: LayerGroup) -> LayerGroup:
    """One layer to be first and one to be last; of kinds that alternate each once, and one again.

    The last is of the kind that it was of, which some families ask for; of a pattern that repeats the first is too,
    or else that of the last. What shares the keys and values of layers before it stays behind them.
    """
    if isinstance(group, AlternatingGroup):
        order, last = tuple(dict.fromkeys(group.pattern)), group.pattern[(group.repeat - 1) % group.period]
        if last == order[0] or group.repeat <= len(order):
            return group.model_copy(update={"pattern": order, "repeat": min(group.repeat, len(order) + 1)})
        if group.period < group.repeat and not shares_keys((group,)):
            order = (last, *(name for name in order if name != last))
            return group.model_copy(update={"pattern": order, "repeat": len(order) + 1})
        order = order if order[-1] == last else (*order, last)
        return group.model_copy(update={"pattern": order, "repeat": len(order)})
    return group.model_copy(update={"repeat": min(group.repeat, MOST_REPEATS)})


def _d_model(model: Model, large: tuple[LayerGroup, ...], layers: tuple[LayerGroup, ...]) -> int:
    """What the first block that has a product of its sizes for d_model makes it; another multiple where not all do."""
    if not (small_ones := _products(layers)):
        return D_MODEL
    heads, d_head = small_ones[0]
    makes_up = all(first * second == model.d_model for first, second in _products(large))
    return heads * (d_head if makes_up else d_head + 1)


def _in_ratio(large: Any, tiny: Any, was: int, now: int) -> Any:
    """The small parts, with the sizes that were a multiple of d_model that multiple of it again: d_ff = 4 x d_model.

    Families whose config.json does not say such a size have no other.
    """
    if isinstance(tiny, tuple):
        return tuple(_in_ratio(*pair, was, now) for pair in zip(large, tiny, strict=True))
    if isinstance(tiny, dict):
        return {name: _in_ratio(large[name], part, was, now) for name, part in tiny.items()}
    if not isinstance(tiny, BaseModel):
        return tiny
    update = {}
    for name, part in tiny:
        if isinstance(part, BaseModel | dict) or (isinstance(part, tuple) and isinstance(part[0], BaseModel)):
            update[name] = _in_ratio(getattr(large, name), part, was, now)
    for one in getattr(tiny, "relations", ()):
        if isinstance(one, Multiple) and one.fields[1] == "d_model":
            times, rest = divmod(getattr(large, one.fields[0]), was)
            if not rest and times <= MOST_TIMES:
                update[one.fields[0]] = times * now
    return tiny.model_copy(update=update)


def _products(part: Any) -> list[tuple[int, int]]:
    """The sizes of each block whose product d_model may be."""
    if isinstance(part, tuple | list):
        return [found for inner in part for found in _products(inner)]
    if isinstance(part, dict):
        return _products(list(part.values()))
    own = []
    if isinstance(part, Block):
        products = [one.fields for one in part.relations if isinstance(one, Product) and one.fields[2] == "d_model"]
        own = [(getattr(part, first), getattr(part, second)) for first, second, _ in products]
    inner = [value for _, value in part] if isinstance(part, BaseModel) else []
    return [
        *own,
        *_products([value for value in inner if value is not None and not isinstance(value, str | int | float)]),
    ]
