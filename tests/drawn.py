"""What the tests read off a drawn model, and change in it, whichever form its layers are written in."""

import numpy as np
from hypothesis import strategies as st
from pydantic import BaseModel

from archcalc.blocks import LatentAttention, LinearUnembedding, MultiHead, TokenEmbedding
from archcalc.blocks.mamba import Mamba
from archcalc.blocks.mlp import MLP
from archcalc.blocks.recurrent import Recurrent, StateMixer
from archcalc.spec.groups import BranchGroup, Repeated, TwoBranchGroup
from archcalc.spec.layers import BranchLayer, TwoBranchLayer
from archcalc.spec.model import Model


def parts(part, kind):
    """The parts of a class in a model or in a part of it, in order."""
    if isinstance(part, kind):
        yield part
    inner = (value for _, value in part) if isinstance(part, BaseModel) else part
    if isinstance(inner, dict):
        inner = inner.values()
    if isinstance(part, BaseModel | tuple | dict):
        for one in inner:
            yield from parts(one, kind)


def changed(part, kind, change):
    """The same model with the result of `change` in place of every part of a class."""
    if isinstance(part, BaseModel):
        part = part.model_copy(update={name: changed(value, kind, change) for name, value in part})
        return change(part) if isinstance(part, kind) else part
    if isinstance(part, tuple):
        return tuple(changed(value, kind, change) for value in part)
    if isinstance(part, dict):
        return {name: changed(value, kind, change) for name, value in part.items()}
    return part


def layers_of(model):
    """The layers of a model, one by one: each as a Layer, in the order of the forward pass."""
    found = []
    for group in model.layers:
        at = {offset: kind.layer for kind in group.kinds_in() for offset in kind.offsets}
        found += [at[i % group.period] for i in range(group.repeat)]
    return found


def branches(model):
    """The residual branches of all layers, one by one."""
    return [branch for layer in layers_of(model) for branch in layer.residual_branches]


def attends(model):
    """Whether any of its layers has an attention, of its own or shared."""
    return any(isinstance(branch.mixer, MultiHead | LatentAttention) or branch.added for branch in branches(model))


def is_remembered(model):
    """Whether any of its layers keeps a state of all positions."""
    return any(parts(model, StateMixer | Mamba))


def keeps_keys(model):
    """Whether all that it keeps of a text are keys and values as they were made."""
    return not any(parts(model, LatentAttention | Recurrent))


def single(layer):
    """A group of one such layer."""
    group = TwoBranchGroup if isinstance(layer, TwoBranchLayer) else BranchGroup
    return group.model_construct(repeat=1, **{name: value for name, value in layer if name != "repeat"})


def size_paths(part, path=""):
    """Every size of a model by its path."""
    if isinstance(part, BaseModel):
        items = [(name, value) for name, value in part if name != "schema_version"]
    elif isinstance(part, dict):
        items = list(part.items())
    else:
        items = list(enumerate(part)) if isinstance(part, tuple) else []
    if type(part) is int:
        return [path]
    return [found for name, value in items for found in size_paths(value, f"{path}.{name}" if path else str(name))]


def value(model, path):
    """What stands at a path of a model."""
    part = model
    for step in path.split("."):
        part = part[int(step)] if step.isdigit() else part[step] if isinstance(part, dict) else getattr(part, step)
    return part


def stacked(rows):
    """One model whose sizes are columns of int64, from models that differ in sizes alone."""
    first = rows[0]
    if isinstance(first, BaseModel):
        known = [name for name, _ in first if name != "schema_version"]
        return first.model_copy(update={name: stacked([getattr(row, name) for row in rows]) for name in known})
    if isinstance(first, tuple):
        return tuple(stacked(list(inner)) for inner in zip(*rows, strict=True))
    if isinstance(first, dict):
        return {name: stacked([row[name] for row in rows]) for name in first}
    return np.array(rows, dtype=np.int64) if type(first) is int else first


@st.composite
def resized(draw, model, largest, scale=1):
    """The same model with other sizes, of which most are multiples of `scale`."""
    narrow = draw(st.integers(1, largest)) * scale  # of both tables

    def other(part):
        sizes = {name: draw(st.integers(1, largest)) * scale for name, n in part if type(n) is int}
        sizes |= {"repeat": draw(st.integers(1, 9))} if "repeat" in sizes else {}
        sizes |= {"d_embedding": narrow} if "d_embedding" in sizes else {}
        sizes.pop("schema_version", None)
        if isinstance(part, MultiHead):
            sizes["n_kv_heads"] = draw(st.integers(1, 4))
            sizes["n_heads"] *= sizes["n_kv_heads"]
            if part.rotary is not None:
                most = sizes["d_head"] = 2 * sizes["d_head"]
                turned = 2 * draw(st.integers(1, most // 2))
                sizes["rotary"] = part.rotary.model_copy(update={"d_rotary": turned})
        return part.model_copy(update=sizes)

    return changed(model, Model | Repeated | MultiHead | MLP | TokenEmbedding | LinearUnembedding, other)


def alone(layer):
    """A layer as a kind of a pattern has it."""
    form = TwoBranchLayer if isinstance(layer, TwoBranchLayer) else BranchLayer
    return form.model_construct(**{name: value for name, value in layer if name != "repeat"})
