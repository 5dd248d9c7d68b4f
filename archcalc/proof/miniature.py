"""A small model of the same architecture as another: what numbers are compared on, whatever the size of the first."""

from __future__ import annotations

from typing import Any, cast

from archcalc.spec.model import LayerGroup, Model

MOST_GROUPS = 4  # of layers that differ; a model has few, and each costs a comparison its time
MOST_REPEATS = 2  # layers of a group: one to be first, one to be last
VOCABULARY, CONTEXT = 97, 32
D_HEAD, D_FF = 8, 56  # of the first kind of layer; of others somewhat more, so that kinds which differ still do


def miniature(model: Model) -> Model:
    """The same blocks, biases, ties and ratios (fewer key/value heads than heads, heads that make up d_model or do
    not), of few layers and small sizes. Sizes of one stay one where they are an architecture of their own: one
    key/value head is multi-query attention.
    """
    found: list[Any] = []
    for group in model.layers:
        if group not in found and len(found) < MOST_GROUPS:
            found.append(group)
    heads = _small([group.attention.d_head for group in found], D_HEAD)
    hidden = _small([group.mlp.d_ff for group in found], D_FF)
    layers = tuple(_layers(group, heads[group.attention.d_head], hidden[group.mlp.d_ff]) for group in found)
    makes_up = all(group.attention.n_heads * group.attention.d_head == model.d_model for group in found)
    first: Any = layers[0].attention
    d_model = first.n_heads * first.d_head + (0 if makes_up else 5)
    sizes = {"vocab_size": VOCABULARY, "context_length": CONTEXT, "d_model": d_model, "layers": layers}
    return model.model_copy(update=sizes)


def described(model: Model) -> str:
    """How large a miniature is, in a few words."""
    layers = "layer" if model.n_layers == 1 else "layers"
    return f"a model of the same architecture with {model.n_layers} {layers} and d_model {model.d_model}"


def _layers(group: LayerGroup, d_head: int, d_ff: int) -> LayerGroup:
    attention, mlp = cast("Any", group.attention), cast("Any", group.mlp)
    shared = min(attention.n_heads // attention.n_kv_heads, 3)  # query heads of a key/value head
    kv_heads = min(attention.n_kv_heads, 4 if shared == 1 else 2)
    return group.model_copy(
        update={
            "repeat": min(group.repeat, MOST_REPEATS),
            "attention": attention.model_copy(
                update={"n_heads": kv_heads * shared, "n_kv_heads": kv_heads, "d_head": d_head}
            ),
            "mlp": mlp.model_copy(update={"d_ff": d_ff}),
        }
    )


def _small(sizes: list[int], least: int) -> dict[int, int]:
    """A small size for each that occurs, another one for another."""
    return {size: least + 8 * i for i, size in enumerate(dict.fromkeys(sizes))}
