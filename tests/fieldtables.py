"""Tables of the fields of specs, made from the classes that read them: values, defaults, meaning, and what they change.

What a field changes is found by changing it: a small spec is counted with two values of the field.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from itertools import pairwise
from typing import Any, ForwardRef, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from archcalc.blocks.activation import Cut
from archcalc.blocks.attention import Attention, Biases, MultiHead
from archcalc.blocks.base import Mixer, Slot, models_in, registered
from archcalc.blocks.constraints import (
    AtLeast,
    AtMost,
    Constraint,
    Divides,
    Even,
    LeavesEnough,
    Needs,
    OneForEachPair,
    OneTable,
    Without,
)
from archcalc.blocks.delta import GatedDelta
from archcalc.blocks.embedding import Embedding, TokenEmbedding
from archcalc.blocks.experts import Experts, WeighsOutputs
from archcalc.blocks.growth import QueryGrowth
from archcalc.blocks.heads import SomeRows
from archcalc.blocks.indexer import Indexer
from archcalc.blocks.latent import LatentAttention, NeedsMscale
from archcalc.blocks.lightning import Lightning
from archcalc.blocks.mamba import Mamba
from archcalc.blocks.mamba2 import Mamba2
from archcalc.blocks.mlp import MLP, DenseMLP, GatedBiases, GatedMLP, PlainMLP
from archcalc.blocks.norm import LayerNorm, Norm, RMSNorm
from archcalc.blocks.perlayer import PerLayer, PerLayerVectors
from archcalc.blocks.rotary import Dynamic, Linear, Llama3, LongRope, Proportional, Rotary, Scaling, Yarn
from archcalc.blocks.router import Router
from archcalc.blocks.shortconv import ShortConvolution
from archcalc.blocks.unembedding import LinearUnembedding, Transform, Unembedding
from archcalc.counts.quantities import QUANTITIES, one_pass
from archcalc.spec.branch import Branch
from archcalc.spec.groups import AlternatingGroup, BranchGroup, TwoBranchGroup
from archcalc.spec.layers import BranchLayer, TwoBranchLayer
from archcalc.spec.model import Model
from archcalc.spec.mtp import MTP
from archcalc.spec.published import Allowance, Initialization, Misprint, Published
from archcalc.spec.shared import SharedBlock

NORM = {"kind": "layernorm", "bias": True}
ROTARY = {"d_rotary": 8, "theta": 10_000.0}
HEADS = {"kind": "multi_head", "n_heads": 4, "n_kv_heads": 4, "d_head": 8, "bias": False}
LATENT = {
    "kind": "latent",
    "n_heads": 4,
    "q_rank": 20,
    "kv_rank": 16,
    "d_nope": 8,
    "d_rope": 4,
    "d_value": 6,
    "bias": False,
    "norm": {"kind": "rmsnorm"},
}
INDEXER = {"n_heads": 6, "d_head": 8, "top_k": 5, "norm": NORM}
TURNED = {"d_rotary": 4, "theta": 10_000.0}
YARN = {"kind": "yarn", "factor": 2.0, "original_context_length": 16, "mscale_all_dim": 1.0}
TWO_MATRICES = {"kind": "plain", "d_ff": 40, "activation": "gelu_tanh", "bias": False}
GATED = {**TWO_MATRICES, "kind": "gated"}
ROUTER = {"scores": "softmax", "normalized": True}
EXPERTS = {
    "kind": "experts",
    "n_experts": 4,
    "n_experts_per_token": 2,
    "d_ff": 20,
    "gated": True,
    "activation": "silu",
    "router": ROUTER,
}
CUT = {"limit": 7.0, "gate": "before", "plus_one": True}
STATE = {
    "n_heads": 4,
    "n_groups": 2,
    "d_head": 8,
    "d_state": 8,
    "d_conv": 4,
    "chunk_size": 16,
    "activation": "silu",
    "norm": NORM,
}
MAMBA = {
    "kind": "mamba",
    "d_inner": 24,
    "d_state": 8,
    "d_conv": 4,
    "step_rank": 6,
    "activation": "silu",
    "bias": False,
    "conv_bias": False,
    "norm": None,
}
MAMBA2 = {"kind": "mamba2", **STATE, "bias": False, "conv_bias": False}
LAYER = {"norm": NORM, "attention": HEADS, "mlp": TWO_MATRICES}
LOCAL = {**LAYER, "attention": {**HEADS, "window": 8}}
BRANCH = {"name": "mix", "norm": NORM, "mixer": HEADS}
EACH = {"kind": "per_layer", "d_per_layer": 4, "activation": "gelu_tanh"}
VECTORS = {"d_per_layer": 4, "norm": {"kind": "rmsnorm"}}
FEED = {"name": "feed", "norm": NORM, "mixer": TWO_MATRICES}
SHARED = {"block": "one", "norm": NORM, "attention": HEADS, "mlp_norm": NORM, "mlp": TWO_MATRICES}
SPEC = {
    "schema": 0,
    "name": "small",
    "source": "these tables",
    "vocab_size": 90,
    "context_length": 32,
    "d_model": 24,
    "embedding": {"positions": "learned"},
    "layers": [{"repeat": 2, **LAYER}],
    "final_norm": NORM,
    "unembedding": {"tied": False, "bias": False},
}

# Where an instance of a class stands in a small spec, and what it is there.
_GROUP = ("layers", 0)
_ATTENTION = (*_GROUP, "attention")
_INDEXER = (*_ATTENTION, "indexer")
_LONG = (*_GROUP, "branches")
_SCALED = (*_ATTENTION, "rotary", "scaling")
_LLAMA3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_context_length": 16}
HOSTS: dict[type[BaseModel], tuple[tuple[str | int, ...], dict[str, Any]]] = {
    Model: ((), SPEC),
    TokenEmbedding: (("embedding",), SPEC["embedding"]),
    PerLayerVectors: (("embedding", "per_layer"), VECTORS),
    PerLayer: ((*_LONG, 1, "mixer"), EACH),
    LayerNorm: (("final_norm",), NORM),
    RMSNorm: (("final_norm",), {"kind": "rmsnorm"}),
    TwoBranchGroup: (_GROUP, {"repeat": 2, **LAYER}),
    BranchGroup: (_GROUP, {"repeat": 2, "branches": [BRANCH, FEED]}),
    Branch: ((*_LONG, 0), BRANCH),
    SharedBlock: ((*_LONG, 0, "added"), SHARED),
    AlternatingGroup: (_GROUP, {"repeat": 4, "pattern": ["local", "full"], "kinds": {"local": LOCAL, "full": LAYER}}),
    MultiHead: (_ATTENTION, HEADS),
    LatentAttention: (_ATTENTION, LATENT),
    Indexer: (_INDEXER, INDEXER),
    Mamba: (_ATTENTION, MAMBA),
    Mamba2: (_ATTENTION, MAMBA2),
    GatedDelta: (_ATTENTION, {**STATE, "kind": "gated_delta"}),
    Lightning: (
        _ATTENTION,
        {**{name: value for name, value in STATE.items() if name != "d_conv"}, "kind": "lightning", "slopes": "equal"},
    ),
    ShortConvolution: (_ATTENTION, {"kind": "short_conv", "d_inner": 24, "d_conv": 4, "bias": False}),
    Biases: ((*_ATTENTION, "bias"), dict.fromkeys(Biases.model_fields, False)),
    QueryGrowth: ((*_ATTENTION, "query_growth"), {"rate": 0.1, "interval": 16}),
    Rotary: ((*_ATTENTION, "rotary"), ROTARY),
    Linear: (_SCALED, {"kind": "linear", "factor": 2.0}),
    Dynamic: (_SCALED, {"kind": "dynamic", "factor": 2.0, "original_context_length": 16}),
    Yarn: (_SCALED, {"kind": "yarn", "factor": 2.0, "original_context_length": 16}),
    Llama3: (_SCALED, {"kind": "llama3", "factor": 2.0, **_LLAMA3}),
    Proportional: (_SCALED, {"kind": "proportional", "share": 0.5}),
    LongRope: (
        _SCALED,
        {"kind": "longrope", "short_factor": [1.0] * 4, "long_factor": [2.0] * 4, "original_context_length": 16},
    ),
    PlainMLP: ((*_GROUP, "mlp"), TWO_MATRICES),
    GatedMLP: ((*_GROUP, "mlp"), GATED),
    GatedBiases: ((*_GROUP, "mlp", "bias"), dict.fromkeys(GatedBiases.model_fields, False)),
    Experts: ((*_GROUP, "mlp"), EXPERTS),
    Router: ((*_GROUP, "mlp", "router"), ROUTER),
    Cut: ((*_GROUP, "mlp", "cut"), CUT),
    LinearUnembedding: (("unembedding",), SPEC["unembedding"]),
    MTP: (("mtp",), {"n_modules": 1}),
    Transform: (("unembedding", "transform"), {"activation": "gelu", "bias": False, "norm": NORM}),
}
TALKS: tuple[type[BaseModel], ...] = (Initialization, Published, Misprint, Allowance)
"""Classes that describe a model and change no count."""

# Other values of fields that have none by their type.
OTHERS: dict[str, tuple[Any, ...]] = {
    "layers": ([{"repeat": 2, **LOCAL}],),
    "embedding": ({"positions": "none"},),
    "unembedding": ({"tied": True, "bias": False},),
    "attention": ({**HEADS, "d_head": 16},),
    "mixer": (GATED,),
    "mlp": (GATED,),
    "branches": ([BRANCH],),
    "pattern": (["full", "local", "full"],),
    "kinds": ({"local": LOCAL, "full": {**LAYER, "mlp": GATED}},),
    "norm": (None, {**NORM, "bias": False}),
    "bias": (True,),
    "rotary": (ROTARY,),
    "scaling": ({"kind": "linear", "factor": 2.0},),
    "query_growth": ({"rate": 0.1, "interval": 16},),
    "short_factor": ([3.0] * 4,),
    "long_factor": ([3.0] * 4,),
    "n_kv_heads": (2,),
    "d_rotary": (4,),
    "qk_norm": (NORM,),
    "parallel": ("shared", "own", True),
    "scale": (0.5,),
    "cut": (CUT,),
    "router": ({**ROUTER, "bias": True},),
    "shared": (GATED,),
    "added": (SHARED,),
    "block": ("other",),
    "transform": ({"activation": "gelu", "bias": False, "norm": NORM},),
    "rows": (50,),
    "per_layer": (VECTORS,),
    "score_scale": ("inverse_sqrt_d_model",),
    "mtp": ({"n_modules": 1},),
    "layer": ({**LAYER, "mlp": GATED},),
    "epsilon": (0.01,),
}
# What must be there for a field to matter.
WITH: dict[tuple[str, str], dict[str, Any]] = {
    ("MultiHead", "qk_norm_over"): {"qk_norm": NORM},
    ("MultiHead", "qk_norm_place"): {"qk_norm": NORM, "rotary": ROTARY},
    ("MultiHead", "alibi_scale"): {"alibi": True},
    ("MultiHead", "gate_activation"): {"gate": "head"},
    ("LatentAttention", "rotary"): {"d_rope": 8},
    ("LatentAttention", "mscale"): {"rotary": {**TURNED, "scaling": YARN}},
    ("Experts", "shared_gate"): {"shared": GATED},
    ("LinearUnembedding", "rows"): {"tied": False},
    ("TokenEmbedding", "sinusoids"): {"positions": "sinusoidal"},
    ("TokenEmbedding", "first_position"): {"positions": "sinusoidal"},
    ("TokenEmbedding", "extra_positions"): {"positions": "learned"},
    ("Experts", "n_identity"): {"n_experts_per_token": 3},
    ("Experts", "latent_bias"): {"d_latent": 12},
    ("Experts", "shared_norm"): {"shared": GATED},
    ("Experts", "shared_post_norm"): {"shared": GATED},
    ("MultiHead", "values_are_keys"): {"value_norm": NORM},
    ("Experts", "n_groups_chosen"): {"n_groups": 2},
}
# The numbers that say what a field changes, and what a reader calls them.
MEASURED = {"parameters.stored": "parameters", "flops.forward": "FLOPs", "activations.saved": "activations"}
MEASURED |= {"cache.total": "cache", "cache.state": "state", "parameters.mtp": "MTP"}

# Where a class, or a slot, is described on the page.
PLACES: dict[type[BaseModel], tuple[str, str]] = {
    Norm: ("a norm", "norms"),
    Attention: ("an attention", "attention"),
    MLP: ("an MLP", "mlps"),
    Mixer: ("an attention or an MLP", "attention"),
    Biases: ("each by its name", "biases-of-single-projections"),
    GatedBiases: ("each by its name", "biases-of-single-projections"),
    Embedding: ("an embedding", "embedding"),
    Unembedding: ("an unembedding", "unembedding"),
    Transform: ("a transform", "unembedding"),
    Rotary: ("rotary positions", "rotary-positions"),
    Scaling: ("a scaling", "scalings"),
    Indexer: ("an indexer", "indexers"),
    Router: ("a router", "mlps"),
    Cut: ("a cut", "mlps"),
    DenseMLP: ("an MLP", "mlps"),
    QueryGrowth: ("a growth", "growing-queries"),
    MTP: ("modules", "multi-token-prediction"),
    PerLayerVectors: ("vectors", "vectors-for-each-layer"),
    Branch: ("branches", "branches"),
    SharedBlock: ("a shared block", "blocks-that-layers-share"),
    MultiHead: ("an attention", "attention"),
    Initialization: ("an initialization", "what-describes-a-model"),
    Published: ("figures", "what-describes-a-model"),
    Misprint: ("misprints", "what-describes-a-model"),
    Allowance: ("allowances", "what-describes-a-model"),
}


def described(start: type[BaseModel] = Model, seen: list[type[BaseModel]] | None = None) -> list[type[BaseModel]]:
    """Every class that a spec is made of."""
    seen = [] if seen is None else seen
    if kinds := registered(start):
        for kind in kinds.values():
            described(kind, seen)
    elif start not in seen:
        seen.append(start)
        for field in start.model_fields.values():
            for inner in models_in(field.annotation):
                if inner not in (TwoBranchLayer, BranchLayer):  # the groups of these have their fields, and repeat
                    described(inner, seen)
    return seen


def field_table(one: type[BaseModel]) -> str:
    """The table of a class."""
    talks = one in TALKS
    head = ("field", "value", "if absent", *(() if talks else ("changes",)), "meaning")
    lines = [head, ("---",) * len(head)]
    for name, field in one.model_fields.items():
        if name == "kind" and issubclass(one, Slot) and one.default_kind is not None:
            continue  # there is no other yet
        meaning = field.description or ("which of the kinds it is" if name == "kind" else "")
        assert meaning, f"{one.__name__}.{name} has no description"
        changes = () if talks else (_changes(one, field.alias or name),)
        lines.append((f"`{field.alias or name}`", _value(field), _default(one, name, field), *changes, meaning))
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _default(one: type[BaseModel], name: str, field: FieldInfo) -> str:
    if (field.is_required() or name == "kind") and not (name == "kind" and getattr(one, "default_kind", None)):
        return "required"
    default = field.default
    if default is None or isinstance(default, bool):
        return {None: "null", True: "true", False: "false"}[default]
    if default == () or isinstance(default, BaseModel):
        return "none" if default == () else "as below"
    return f"`{default:g}`" if isinstance(default, float) else f"`{default}`"


def _value(field: FieldInfo) -> str:
    said = [*dict.fromkeys(_words(field.annotation))]
    extra = [_constraint(found) for found in field.metadata if isinstance(found, Constraint)]
    null = said.pop(said.index("null")) if "null" in said else None
    text = " or ".join(said) + ("," * bool(extra) + "".join(f" {one}" for one in extra)).replace(",", "", 1)
    return text + f" or {null}" * bool(null)


def _constraint(one: Constraint) -> str:
    if isinstance(one, Divides):
        return f"that divides `{one.whole}`"
    if isinstance(one, AtMost):
        return f"of at most `{one.limit}`" + " features" * bool(one.inner)
    if isinstance(one, AtLeast):
        return f"of at least `{one.limit}`"
    if isinstance(one, Needs):
        return f"(only with `{one.other}`)" if one.having is None else f"(only with {one.other}: {one.having})"
    if isinstance(one, OneTable):
        return f"(if tied, `{one.width}` is that of the {one.other})"
    if isinstance(one, SomeRows):
        return f"(its `rows`, if any, are at most `{one.vocabulary}`, and it is not tied)"
    if isinstance(one, Without):
        return f"(not with `{one.other}`)"
    if isinstance(one, LeavesEnough):
        return f"(with `{one.wanted}` of `{one.whole}` in them)"
    if isinstance(one, OneForEachPair):
        return f"(its lists have {one.features} / 2 numbers)"
    if isinstance(one, WeighsOutputs):
        return "(only with weights of outputs)"
    if isinstance(one, NeedsMscale):
        return "(only with `mscale_all_dim` of a scaling)"
    assert isinstance(one, Even)
    return "that is even"


_SIMPLE = {int: "integer", float: "number", str: "text", bool: "true or false", type(None): "null"}


def _words(annotation: Any) -> Iterator[str]:
    if get_origin(annotation) is Literal:
        yield ", ".join(f"`{value}`" for value in get_args(annotation))
    elif annotation in _SIMPLE:
        yield _SIMPLE[annotation]
    elif annotation in PLACES:
        words, place = PLACES[annotation]
        yield f"[{words}](#{place})"
    elif get_origin(annotation) is tuple:
        inner = [*dict.fromkeys(_words(get_args(annotation)[0]))]
        yield f"list of {' or '.join({'number': 'numbers', 'text': 'texts'}.get(one, one) for one in inner)}"
    elif (
        isinstance(annotation, ForwardRef) or get_origin(annotation) is dict
    ):  # kinds, before and after a spec has some
        yield "mapping of names to layers of the two other forms, without `repeat`"
    elif isinstance(annotation, type):
        said = {AlternatingGroup: "[groups](#layers)", TwoBranchLayer: "[a layer](#layers) without `repeat`"}
        yield {BranchGroup: "", TwoBranchGroup: "", BranchLayer: "", **said}[annotation]
    else:
        inner = [inner for one in get_args(annotation) for inner in _words(one)]
        yield from filter(None, inner)


def _changes(one: type[BaseModel], name: str) -> str:
    """The quantities that are not the same for two values of a field."""
    path, there = HOSTS[one]
    there = {**there, **WITH.get((one.__name__, name), {})}
    field = next(field for known, field in one.model_fields.items() if name in (known, field.alias))
    if name == "kind":
        return " "  # everything that the tables of the kinds say
    if name in ("schema", "name", "source", "published", "misprints", "assumptions", "allow", "initialization"):
        return "-"
    before = _counts(path, there)
    changed: set[str] = set()
    for value in _others(name, field, there):
        changed.update(key for key, n in _counts(path, {**there, name: value}).items() if n != before[key])
    return ", ".join(words for key, words in MEASURED.items() if key in changed) or "-"


def _others(name: str, field: FieldInfo, there: dict[str, Any]) -> Iterator[Any]:
    """Other values of a field, of which one at least is valid."""
    now = there.get(name, None if field.default is PydanticUndefined else field.default)
    kinds = set(_words(field.annotation))
    if name in OTHERS:
        yield from OTHERS[name]
    elif kinds == {"true or false"}:
        yield not now
    elif "integer" in kinds:
        yield 8 if not now else 2 * now
    elif "number" in kinds:
        yield 0.5 if not now else 0.75 * now
    elif models_in(field.annotation):
        yield from (None, NORM) if now else (NORM,)
    else:
        yield from get_args(field.annotation) or get_args(get_args(field.annotation)[0])


def _counts(path: tuple[str | int, ...], part: dict[str, Any]) -> dict[str, int]:
    """What is counted of the small spec with a part at its place; nothing where that is not valid."""
    spec: Any = deepcopy(SPEC)
    if path:
        _place(spec, path, deepcopy(part))
    else:
        spec = deepcopy(part)
    _agree(spec)
    try:
        model = Model.model_validate(spec)
    except ValueError:
        return {}
    asked = one_pass(model, attention="math")
    asked.work = asked.work._replace(causal="exact")
    return {name: QUANTITIES[name].of(asked) for name in MEASURED}


def _agree(spec: dict[str, Any]) -> None:
    """Give a spec what a part of it needs elsewhere: a layer before, vectors for each layer, and what reads them."""
    group = spec["layers"][0]
    if group.get("attention", {}).get("shared_kv"):
        spec["layers"] = deepcopy([{**LAYER, "repeat": 1}, {**group, "repeat": 1}])
    each = [branch["mixer"] for branch in group.get("branches", ()) if branch["mixer"]["kind"] == "per_layer"]
    if each:
        spec["embedding"]["per_layer"] = {**VECTORS, "d_per_layer": each[0]["d_per_layer"]}
    elif vectors := spec["embedding"].get("per_layer"):
        mixer = {**EACH, "d_per_layer": vectors["d_per_layer"]}
        branches = [BRANCH, FEED, {"name": "each", "norm": None, "mixer": mixer}]
        spec["layers"] = deepcopy([{"repeat": 2, "branches": branches}])


def _place(spec: Any, path: tuple[str | int, ...], part: Any) -> None:
    if path == ("embedding", "per_layer"):
        spec["embedding"]["per_layer"] = {}
    if path[:3] == _LONG:
        spec["layers"] = deepcopy([{"repeat": 2, "branches": [BRANCH, FEED]}])
    for step, following in pairwise(path):
        if step == "rotary":
            spec.setdefault("rotary", deepcopy(ROTARY))
        if following == "indexer":
            spec[step] = deepcopy(LATENT)
        if step == "mlp" and following in ("bias", "cut"):
            spec["mlp"] = deepcopy(GATED)
        spec = spec[step]
    spec[path[-1]] = part
