"""A file's modules of multi-token prediction, held against a spec's tensor by tensor where their names are known.

DeepSeek's files number them as layers behind the last, Qwen's have a name of their own for the one that they have. Of
files with other names the sum of the parameters alone is compared.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from archcalc.checks.stored import Expected, held, shapes_of
from archcalc.checks.verdict import Check, same
from archcalc.counts.mtp import modules
from archcalc.counts.parameters import kept_beside, params
from archcalc.huggingface.headers import Shape
from archcalc.huggingface.packing import Weight
from archcalc.spec.model import Model
from archcalc.spec.mtp import MTP, PREFIX
from archcalc.tape.run import Run

if TYPE_CHECKING:
    from archcalc_reference.weights.families import Family

_COPIES = ("embed_tokens.weight", *(f"shared_head{of}.weight" for of in (".head", ".output", "_head")))
"""How the names of tensors end that modules share with the model, and that a file may have for each again."""
_NUMBERED = {"projection": "eh_proj", "token_norm": "enorm", "hidden_norm": "hnorm", "final_norm": "shared_head.norm"}
_NAMED = {
    "projection": "mtp.fc",
    "token_norm": "mtp.pre_fc_norm_embedding",
    "hidden_norm": "mtp.pre_fc_norm_hidden",
    "final_norm": "mtp.norm",
}
"""What stands around a module's layer: our names, and theirs."""
_AROUND_NAMED = re.compile(r"^((model|language_model)\.)*(?=mtp\.)")
_LAYER_NAMED = "mtp.layers.0."
_OURS = re.compile(rf"{re.escape(PREFIX)}([0-9]+)\.(layer\.)?(.+)")
_WHAT = "multi-token prediction"


def held_modules(weights: Sequence[Weight], model: Model, family: Family | None) -> Iterator[Check]:
    """The comparisons of a file's modules with the spec's; none where either has none, or it is packed unknown."""
    own = [weight for weight in weights if not weight.name.endswith(_COPIES)]
    if model.mtp is None or not own or any(weight.parameters is None for weight in own):
        return
    counted = modules(model, Run()).parameters
    stored = sum(weight.parameters or 0 for weight in own if not weight.buffer)
    yield same(f"parameters of {_WHAT}", counted, stored)
    if family is not None:
        yield from _by_name(own, model, model.mtp, family)


def _by_name(own: list[Weight], model: Model, mtp: MTP, family: Family) -> Iterator[Check]:
    """A row for each tensor that is otherwise than the spec has it; nothing where the names are not known."""
    from archcalc_reference.weights.families import Unnamed

    named = [_AROUND_NAMED.sub("", weight.name) for weight in own]
    layers = [family.layer.format(i=model.n_layers + i) for i in range(mtp.n_modules)]
    if f"{_NAMED['projection']}.weight" in named and mtp.n_modules == 1:
        around, filed = [_NAMED], _LAYER_NAMED
        named = [layers[0] + name.removeprefix(filed) if name.startswith(filed) else name for name in named]
        full = [name if name.startswith("mtp.") else family.full(name) for name in named]
    else:
        around, filed = [{ours: layer + theirs for ours, theirs in _NUMBERED.items()} for layer in layers], ""
        full = [family.full(name) for name in named]
    if f"{around[0]['projection']}.weight" not in full:
        return
    taken = model.record_mtp(Run())
    beside = shapes_of(kept_beside(taken))
    every = {name: shape for name, shape in shapes_of(params(taken).tensors).items() if name.startswith(PREFIX)}
    try:
        expected = list(_expected({**every, **beside}, beside, model, mtp, family.as_named(full), around))
    except Unnamed:
        return
    for check in held(expected, None, dict(zip(full, own, strict=True))).checks:
        if check.reason and check.what not in ("tensors", "parameters"):
            what = check.what
            yield check._replace(
                what=what.replace(layers[0], filed, 1) if filed and what.startswith(layers[0]) else what
            )


def _expected(
    shapes: Mapping[str, Shape],
    beside: Mapping[str, Shape],
    model: Model,
    mtp: MTP,
    family: Family,
    around: Sequence[Mapping[str, str]],
) -> Iterator[Expected]:
    """The tensors of the modules, each module's layer as one behind the last."""
    inside: dict[str, Shape] = {}
    for name, shape in shapes.items():
        match = _OURS.fullmatch(name)
        if match is None:
            continue
        i, of_layer, rest = int(match[1]), match[2], match[3]
        if of_layer:
            inside[f"layers.{model.n_layers + i}.{rest}"] = shape
        else:
            module, _, leaf = rest.rpartition(".")
            yield Expected(f"{around[i][module]}.{leaf}", shape)
    further = [mtp.layer_in(model.layers)] * mtp.n_modules
    buffers = {name.rpartition(".layer.")[2] for name in beside}
    for entry in family.entries(model, inside, further):
        ours = entry.parameters[0].split(".", 2)[2]
        yield Expected(entry.name, entry.shape, buffer=ours in buffers)
