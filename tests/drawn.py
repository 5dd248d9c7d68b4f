"""What the tests read off a drawn model, and change in it, whichever form its layers are written in."""

from pydantic import BaseModel

from archcalc.blocks import MultiHead


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
    """Whether any of its layers has an attention."""
    return any(isinstance(branch.mixer, MultiHead) for branch in branches(model))
