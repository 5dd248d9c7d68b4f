"""What a folder says of its model beside the tensors: config.json, spec.yaml, and files that change the model.

config.json is read as a spec is imported from it, so with the names, defaults and refusals of its family, and the spec
that it describes is held against the one that the weights are read for. Settings of training alone (dropout,
initialization) are not compared. `dtype` is not either: tensors are read in the type that they are stored in, which
loses nothing.

Nothing here takes PyTorch.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from pydantic import BaseModel

from archcalc.errors import Invalid, Problem, written
from archcalc.files.regular import names_in
from archcalc.huggingface.families import described_text
from archcalc.huggingface.importing import Imported, import_config
from archcalc.spec.catalogue import find, load
from archcalc.spec.checkpoints import SPEC
from archcalc.spec.model import Model
from archcalc.spec.source import Document
from archcalc.spec.validation import validate
from archcalc_reference.files import CONFIG, read_object
from archcalc_reference.weights.families import OWN, Family
from archcalc_reference.weights.families.family import each_layer

TIE = "tie_word_embeddings"

# Heads that predict tokens, and models without a head, whose checkpoints serve where the head is tied.
_ARCHITECTURES = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration", "Model")
_DTYPES = ("float64", "float32", "float16", "bfloat16", "double", "float", "half", "auto")

_BESIDE = {
    "adapter_config.json": "an adapter (LoRA) is not supported yet; merge it into the weights",
    "quantize_config.json": "quantized weights are not supported yet",
    "quant_config.json": "quantized weights are not supported yet",
    "hf_quant_config.json": "quantized weights are not supported yet",
}
"""Files whose presence says that the tensors are not the whole model, or not as they look."""


class Described(NamedTuple):
    """The model that a config.json describes: what it says, and the spec that this is."""

    file: str
    config: dict[str, Any]
    imported: Imported
    model: Model

    @property
    def tie(self) -> Tie:
        """What it says of the tie, as transformers takes it."""
        return Tie(self.file, self.model.unembedding.tied, said=self.config.get(TIE) is not None)


class Tie(NamedTuple):
    """Whether a file says that the head is the token table; `said` is False where that is its family's default."""

    file: str
    tied: bool
    said: bool


def read_config(folder: str) -> dict[str, Any]:
    """The object of config.json; an empty one where there is none."""
    path = os.path.join(folder, CONFIG)
    return read_object(path) if os.path.exists(path) else {}


def refuse_what_is_not_read(folder: str) -> None:
    """Raise Invalid where a folder's files say that the tensors are not the whole model, or not as they look."""
    there = names_in(folder)
    for name, message in _BESIDE.items():
        if name in there:
            raise Invalid(Problem(os.path.join(folder, name), message))
    config = read_config(folder)
    if problems := list(_not_read(config, os.path.join(folder, CONFIG))):
        raise Invalid(*problems)


def _not_read(config: dict[str, Any], path: str) -> Iterator[Problem]:
    architectures = config.get("architectures") or []
    if not isinstance(architectures, list) or not all(
        str(architecture).endswith(_ARCHITECTURES) for architecture in architectures
    ):
        fix = "supported: models that predict the next token"
        yield Problem(path, "is not supported yet", "architectures", value=written(architectures), suggestion=fix)
    for key in ("quantization_config", "compression_config"):
        if config.get(key):
            said = config[key]
            method = said.get("quant_method") if isinstance(said, dict) else None
            yield Problem(path, "quantized weights are not supported yet", key, value=written(method or said))
    for key in ("dtype", "torch_dtype"):
        said = config.get(key)
        if said is not None and str(said).removeprefix("torch.") not in _DTYPES:
            fix = f"supported: {', '.join(_DTYPES[:4])}"
            yield Problem(path, "is not a supported type", key, value=written(said), suggestion=fix)
    named = config.get("transformers_weights")
    if named not in (None, "model.safetensors"):
        yield Problem(path, "a different weights file is not supported", "transformers_weights", value=written(named))
    for key, wanted in (("is_causal", True), ("is_encoder_decoder", False)):
        if config.get(key, wanted) is not wanted:
            what = "is not supported: each token is predicted from those before it alone"
            yield Problem(path, what, key, value=written(config[key]))
    if config.get("pruned_heads"):
        yield Problem(path, "pruned heads are not supported", "pruned_heads", value=written(config["pruned_heads"]))


def described(folder: str, family: Family) -> Described | None:
    """The model of a folder's config.json; None where there is none.

    One that does not say its model_type, as old ones, is taken to be of the family whose names the tensors have.
    Raises Invalid where it describes nothing that is known.
    """
    path = os.path.join(folder, CONFIG)
    config = read_config(folder)
    if not os.path.exists(path) or (family is OWN and "model_type" not in config):
        return None
    whole = described_text({"model_type": family.name, **config}, path)
    imported = import_config(whole, path)
    return Described(path, config, imported, validate(Document(path, imported.data), Model))


def contradictions(model: Model, folder: str, said: Described | None) -> list[Problem]:
    """What config.json and spec.yaml beside the weights say otherwise than the spec, a line each; the tie is apart.

    Twelve heads and sixteen have weights of the same shapes, and other logits.
    """
    return [*_of_spec(model, folder), *(_of_config(model, said) if said else ())]


def contradictions_of_gguf(model: Model, path: str) -> Iterator[Problem]:
    """What the keys of a GGUF file say otherwise than the spec, a line each; the tie is told by the head itself."""
    said = find(path)
    told: set[str] = set()
    for where, value, other in _differences(model, said.model):
        keys = _keys(where, said.document.origins)
        if where == "unembedding.tied" or told.intersection(keys):
            continue
        told.update(keys)
        what = (
            f"describes a model whose {_LAYER.sub('', where)} is {written(other)}; {model.name} has {written(value)}"
        )
        yield Problem(path, what, keys[-1] if keys else "")  # the last is the most particular


def _of_spec(model: Model, folder: str) -> Iterator[Problem]:
    path = os.path.join(folder, SPEC)
    if not os.path.exists(path):
        return
    for where, value, other in _differences(model, load(path)):
        yield Problem(path, f"must be {written(value)}, as in {model.name}", where, value=written(other))


def _of_config(model: Model, said: Described) -> Iterator[Problem]:
    told: set[str] = set()
    for where, value, other in _differences(model, said.model):
        keys = _keys(where, said.imported.origins)
        follows = where.endswith(".d_head") and told and keys == _keys("d_model", said.imported.origins)
        if where == "unembedding.tied" or told.intersection(keys) or follows:
            continue  # the tie is told apart; what follows from what is told needs no line of its own
        told.update(keys)
        yield _contradiction(model, said, _LAYER.sub("", where), keys, value, other)


def _contradiction(model: Model, said: Described, field: str, keys: list[str], value: Any, other: Any) -> Problem:
    """The line for a field that is `value` in the spec and `other` by the keys that it came from."""
    there = [key for key in keys if key in said.config]
    plain = not isinstance(other, str) and other is not None
    for key in there:
        if plain and said.config[key] == other and isinstance(said.config[key], bool) == isinstance(other, bool):
            return Problem(
                said.file, f"must be {written(value)}, as in {model.name}", key, value=written(said.config[key])
            )
    has = f"{model.name} has {written(value)}"
    if there:
        what = f"gives {field} {written(other)}, and {has}"
        return Problem(said.file, what, there[0], value=written(said.config[there[0]]))
    if keys:
        return Problem(said.file, f"is missing, and transformers assumes {written(other)}; {has}", keys[0])
    kind = said.config.get("model_type", "this family")
    return Problem(said.file, f"describes a model of {kind} whose {field} is {written(other)}; {has}")


def _keys(where: str, origins: dict[str, list[str]]) -> list[str]:
    """The keys of config.json that a field came from, or that the block that it is part of came from.

    An import names the first layer, and the norms of both branches as one.
    """
    where = _LAYER.sub("layers.0.", _NORM.sub(r"\1.\2", where))
    while where:
        if found := origins.get({"n_layers": "layers.0.repeat"}.get(where, where)):
            return found
        where = where.rpartition(".")[0]
    return []


_LAYER = re.compile(r"^layers\.\d+\.")
_NORM = re.compile(r"^(layers\.\d+)\.[a-z_]+?_((?:post_|stream_)?norm)\b")


def _differences(model: Model, other: Model) -> Iterator[tuple[str, Any, Any]]:
    """The fields that decide the logits and that two models have otherwise: path, value, the other's value.

    Of alike layers one tells.
    """
    told: set[str] = set()
    for where, value, others in _apart("", _outside(model), _outside(other)):
        if where != "context_length" or not model.shortens(other):
            yield where, value, others
    for i, (mine, theirs) in enumerate(zip(_each(model), _each(other), strict=False)):
        for where, value, others in _apart("", mine, theirs):
            if where not in told:
                told.add(where)
                yield f"layers.{i}.{where}", value, others


def _apart(where: str, value: Any, other: Any) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(value, dict) and isinstance(other, dict):
        for name in dict.fromkeys((*value, *other)):
            yield from _apart(f"{where}.{name}" if where else name, value.get(name), other.get(name))
    elif value != other:
        yield where, value, other


def _outside(model: Model) -> dict[str, Any]:
    """What a model is but for its layers."""
    sizes = {name: getattr(model, name) for name in ("vocab_size", "context_length", "d_model", "n_layers")}
    return {**sizes, **{name: _data(getattr(model, name)) for name in ("embedding", "final_norm", "unembedding")}}


def _each(model: Model) -> Iterator[dict[str, Any]]:
    """What each layer is."""
    known: dict[int, dict[str, Any]] = {}
    for layer in each_layer(model):
        if id(layer) not in known:
            known[id(layer)] = {"parallel": layer.side_by_side}
            for branch in layer.residual_branches:
                known[id(layer)] |= {
                    branch.name: _data(branch.mixer),
                    f"{branch.name}_added": _of_any_name(branch.added),
                    f"{branch.name}_norm": _data(branch.norm),
                    f"{branch.name}_post_norm": _data(branch.post_norm),
                    f"{branch.name}_stream_norm": _data(branch.stream_norm),
                    f"{branch.name}_scale": branch.scale,
                    f"{branch.name}_residual": (branch.residual, branch.residual_scale, branch.joins),
                }
        yield known[id(layer)]


def _of_any_name(block: Any) -> Any:
    """What a shared block is, whatever it is called."""
    return None if block is None else {name: _data(value) for name, value in block if name != "block"}


def _data(block: Any) -> Any:
    return block.model_dump() if isinstance(block, BaseModel) else block


def is_tied(folder: str, family: Family) -> bool:
    """Whether the head is the token table, by spec.yaml or config.json; True where neither says, as for GPT-2."""
    path = os.path.join(folder, SPEC)
    if os.path.exists(path):
        return load(path).unembedding.tied
    value = read_config(folder).get(TIE)
    if isinstance(value, bool):
        return value
    said = described(folder, family)
    return said is None or said.model.unembedding.tied
