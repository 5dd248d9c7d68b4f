"""Step 3.5 and Step 3.7: gated heads, more of them in layers with windows, and experts whose gates are cut in some
layers. Lists may go on for the layers of multi-token prediction.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from archcalc.huggingface.families.gated import SCORES
from archcalc.huggingface.families.llama import ATTENTION_BIAS, GATED, MLP_BIAS, layer
from archcalc.huggingface.families.mixtures import TRAINING, experts
from archcalc.huggingface.family import D_HEAD, KV_HEADS, SLIDING_WINDOW, Family, decoder, rmsnorm, sizes
from archcalc.huggingface.layers import DENSE, FULL, NAMES, SLIDING, Kinds
from archcalc.huggingface.leaves import Draft, Leaf, Made, Mismatch, Number, Size, attention_of, inside, write
from archcalc.huggingface.modules import NEXTN, TYPES, Modules
from archcalc.huggingface.rope import Rotary
from archcalc.huggingface.said import LARGEST_NUMBER, MOST_LAYERS, Said
from archcalc.huggingface.scaling import Settings

_MTP, _TYPES, _MLPS, _OLD_MLPS = "num_nextn_predict_layers", "layer_types", "mlp_layer_types", "moe_layers_enum"
_LIMITS = ("swiglu_limits", "swiglu_limits_shared")
_HEADS, _OTHER = "num_sliding_attention_heads", "attention_other_setting"
_SCALAR = "query_pre_attn_scalar"
_FIRST_SPARSE = 3
_NUMBER = re.compile("[0-9]{1,9}")


def _listed(said: Said, key: str, n: int, what: str) -> list[Any] | None:
    """A list with an entry for each layer, without those of multi-token prediction; None where there is none."""
    found = said.value(key, counts=False)
    if found is None:
        return None
    more = said.size(_MTP, least=0, counts=False)
    if not isinstance(found, list) or len(found) not in (n, n + more):
        said.fail(key, f"must be a list with {what} for each of {n:,} layers", found)
    return list(found[:n])


def _sparse(said: Said, n: int) -> set[int]:
    """The numbers of the layers with experts, where no list of types says which have them."""
    older = said.value(_OLD_MLPS, counts=False)
    if older is None:
        return {*range(_FIRST_SPARSE, n)}
    listed = older.split(",") if isinstance(older, str) else older
    words = [str(word).strip() for word in listed] if isinstance(listed, list) else None
    if words is None or not all(_NUMBER.fullmatch(word) for word in words if word):
        said.fail(_OLD_MLPS, "must list the numbers of the layers with experts", older)
    return {int(word) for word in words if word}


class _Layers(Kinds):
    """A type of attention, whether there are experts, and how far gates are cut, in one word with slashes."""

    in_groups = True

    def types(self, said: Said) -> list[str]:
        n = said.size(self.count, most=MOST_LAYERS)
        kinds = _listed(said, _TYPES, n, "a type") or [FULL] * n
        for kind in kinds:
            if not isinstance(kind, str) or kind not in NAMES:
                said.fail(_TYPES, "has an unknown type of layer", kind)
        limits = [self._limits(said, key, n) for key in _LIMITS]
        ends = [DENSE if dense else "" for dense in self._dense(said, n)]
        cuts = [_cuts(own, shared) for own, shared in zip(*limits, strict=True)]
        return [kind + cut + end for kind, cut, end in zip(kinds, cuts, ends, strict=True)]

    def _limits(self, said: Said, key: str, n: int) -> list[float]:
        found = _listed(said, key, n, "a number or null") or [0] * n
        for limit in found:
            number = limit is None or (isinstance(limit, int | float) and not isinstance(limit, bool))
            if not number or not 0 <= (limit or 0) <= LARGEST_NUMBER:
                said.fail(key, "must be a list of numbers from 0 on", limit)
        return [float(limit or 0) for limit in found]

    def _dense(self, said: Said, n: int) -> list[bool]:
        types = _listed(said, _MLPS, n, '"dense" or "sparse"')
        if types is not None:
            for one in types:
                if one not in ("dense", "sparse"):
                    said.fail(_MLPS, 'must be a list of "dense" and "sparse"', one)
            return [one == "dense" for one in types]
        sparse = _sparse(said, n)
        return [i not in sparse for i in range(n)]

    def name(self, layer: str) -> str:
        kind, *rest = layer.removesuffix(DENSE).split("/")
        name = "" if kind == FULL else f"{NAMES[kind]}_"
        name += "dense" if layer.endswith(DENSE) else "experts"
        return re.sub(r"\W+", "_", "_".join([f"{name}_cut", *(f"{float(n):g}" for n in rest)]))[:30] if rest else name

    def candidates(self, layer: Mapping[str, Any]) -> list[str]:
        mlp = layer.get("mlp", {})
        dense = DENSE * (mlp.get("kind") != "experts")
        inner = mlp if dense else mlp.get("shared") or {}
        own, shared = (part.get("cut", {}).get("limit", 0) for part in ({} if dense else mlp, inner))
        cut = _cuts(float(own), float(shared))
        windowed = layer.get("attention", {}).get("window") is not None
        return [f"{kind}{cut}{dense}" for kind in ((SLIDING, FULL) if windowed else (FULL, SLIDING))]

    def write(self, types: list[str], draft: Draft) -> None:
        super().write(types, draft)
        draft.put(_TYPES, [attention_of(kind) for kind in types])
        draft.put(_MLPS, ["dense" if kind.endswith(DENSE) else "sparse" for kind in types])
        for i, key in enumerate(_LIMITS):
            limits = [_limit(kind, i) for kind in types]
            draft.put(key, [limit or 0.0 for limit in limits] if any(limits) else None)


def _cuts(own: float, shared: float) -> str:
    """The end of the type of a layer whose experts, or whose shared MLP, have a limit; 0 is none."""
    return f"/{own!r}/{shared!r}" if own or shared else ""


def _limit(layer: str, which: int) -> float | None:
    """How far a type of layer cuts: the experts', or that of the MLP that all tokens go through."""
    _, *limits = layer.removesuffix(DENSE).split("/")
    return float(limits[which]) or None if limits else None


class _Cut(Leaf):
    """A gate that is cut after its activation, and what it multiplies, as the type of the layer says."""

    def __init__(self, which: int) -> None:
        self.which = which

    def read(self, said: Said) -> Any:
        limit = _limit(said.layer, self.which)
        return None if limit is None else {"limit": limit, "gate": "after", "plus_one": False}

    def write(self, value: Any, draft: Draft) -> None:
        limit = _limit(draft.layer, self.which)
        if value != (None if limit is None else {"limit": limit, "gate": "after", "plus_one": False}):
            raise Mismatch("mlp.cut")


def _heads(said: Said) -> int:
    """Of layers with windows a number of their own; older files have it in a mapping."""
    key = "num_attention_heads"
    shared = said.size("num_key_value_heads")
    found = said.size(key)
    if said.layer.startswith(SLIDING):
        other = said.value(_OTHER, counts=False)
        if not said.none(_HEADS):
            found = said.size(key := _HEADS)
        elif isinstance(other, dict) and isinstance(other.get(key), int):
            found = other[key]
            alike = {"num_key_value_heads": shared, "num_attention_groups": shared, "head_dim": said.size("head_dim")}
            if any(other.get(name, same) != same for name, same in alike.items()):
                said.fail(
                    _OTHER, "must not change key/value heads or head_dim, which transformers takes as of all", other
                )
            key = _OTHER
        elif other is not None:
            said.fail(_OTHER, f"must be a mapping that has {key}", other)
    if found < 1 or found % shared:
        said.fail(key, f"must be a multiple of num_key_value_heads ({shared:,})", found)
    return found


def _say_heads(value: Any, draft: Draft) -> None:
    draft.put(_HEADS if draft.layer.startswith(SLIDING) else "num_attention_heads", value)


def _overrides_agree(said: Said) -> None:
    """What newer files say of single layers is what they say of layers with windows."""
    said_of = said.value("per_layer_config", counts=False)
    if said_of is None or said_of == {}:
        return
    heads = None if said.none(_HEADS) else said.size(_HEADS)
    if not isinstance(said_of, dict) or any(one != {"num_attention_heads": heads} for one in said_of.values()):
        what = f"must say num_attention_heads of layers with windows, and the same as {_HEADS}"
        said.fail("per_layer_config", what, said_of)


def _scale(said: Said) -> float | None:
    """query_pre_attn_scalar ^ -0.5, where that is not the usual 1 / sqrt(d_head)."""
    if said.none(_SCALAR):
        said.value(_SCALAR, counts=False)
        return None
    scalar = said.number(_SCALAR)
    return None if scalar == D_HEAD.read(said) else float(scalar**-0.5)


def _say_scale(value: Any, draft: Draft) -> None:
    draft.put(_SCALAR, draft.d_head if value is None else round(value**-2))


class _Turns(Rotary):
    """Settings for each type of attention, or in older files lists with a base and a part for each layer."""

    def settings(self, said: Said) -> Settings:
        whole = said.value("rope_parameters", counts=False)
        kind = attention_of(said.layer)
        if isinstance(whole, dict) and isinstance(whole.get(kind), dict):
            return Settings(whole[kind], "rope_parameters", said)
        types = said.config.get(_TYPES)
        at = types.index(kind) if isinstance(types, list) and kind in types else 0
        inside = {"rope_type": "default"}
        for key, name in (("rope_theta", "rope_theta"), ("partial_rotary_factors", "partial_rotary_factor")):
            value = said.value(key, counts=False)
            found = value[at] if isinstance(value, list) and at < len(value) else value
            inside |= {} if found is None else {name: found}
        scaled = said.value("rope_scaling", counts=False)
        more = scaled if isinstance(scaled, dict) and kind == FULL else {}
        return Settings({**inside, **more}, "rope_parameters", said)


class _Mlp(Leaf):
    """Dense in the first layers, experts in the others."""

    def _template(self, kind: str) -> dict[str, Any]:
        return _DENSE if kind.endswith(DENSE) else _EXPERTS

    def read(self, said: Said) -> Any:
        return inside(self._template(said.layer), said)

    def write(self, value: Any, draft: Draft) -> None:
        write(self._template(draft.layer), value, draft)


def _module(said: Said, types: list[str], n: int) -> list[str]:
    """What the ends of the lists say of the layers behind the last; several must be alike."""
    whole, listed = said.config.get(_TYPES), said.config.get(_MLPS)
    kinds: Any
    mlps: Any
    kinds = [FULL] * n if whole is None else _behind(whole, types, n) or said.config.get(TYPES[0])
    mlps = _behind(listed, types, n) or said.config.get(TYPES[1])
    if listed is None and mlps is None:
        mlps = ["sparse" if i in _sparse(said, len(types)) else "dense" for i in range(len(types), len(types) + n)]
    if any(not isinstance(one, list) or len(one) != n or one != one[:1] * n for one in (kinds, mlps)):
        return []
    return [kinds[0] + DENSE * (mlps[0] == "dense")] if isinstance(kinds[0], str) and kinds[0] in NAMES else []


def _behind(listed: Any, types: list[str], n: int) -> list[Any] | None:
    """The entries of a list that goes on for the modules."""
    more = isinstance(listed, list) and len(listed) == len(types) + n
    return list(listed[len(types) :]) if more else None


def _say_module(layer: Mapping[str, Any], n: int, draft: Draft) -> None:
    kind = SLIDING if layer.get("attention", {}).get("window") is not None else FULL
    draft.put(TYPES[0], [kind] * n)
    draft.put(TYPES[1], ["sparse" if layer.get("mlp", {}).get("kind") == "experts" else "dense"] * n)


_NORM = rmsnorm(unit_offset=True)
_DENSE = {**GATED, "bias": MLP_BIAS, "cut": _Cut(1)}
_EXPERTS = {
    **experts(
        *("n_routed_experts", "moe_intermediate_size"),
        {**SCORES, "scale": Number("moe_router_scaling_factor", neutral=1.0)},
        cut=_Cut(0),
    ),
    "shared": {**_DENSE, "d_ff": Size("share_expert_dim")},
}
_FAMILY = Family(
    "step3p5",
    "Step3p7TextConfig",
    ("Step3p7TextModel", "Step3p7ForConditionalGeneration"),
    {
        **sizes(
            *(128815, 4096, 11264, 45, 64, 8, 128000),
            rms_norm_eps=1e-5,
            attention_bias=False,
            mlp_bias=False,
            n_routed_experts=288,
            num_experts_per_tok=8,
            moe_intermediate_size=1280,
            share_expert_dim=1280,
            moe_router_scaling_factor=1.0,
            sliding_window=None,
        ),
        "head_dim": 128,
        **dict.fromkeys((_HEADS, _OTHER, _TYPES, _MLPS, _OLD_MLPS, _SCALAR, *_LIMITS)),
        _MTP: 0,
        "partial_rotary_factors": None,
        "per_layer_config": None,
    },
    layer(
        {
            "n_heads": Made(_heads, _say_heads),
            "n_kv_heads": KV_HEADS,
            "bias": ATTENTION_BIAS,
            "qk_norm": _NORM,
            "rotary": _Turns(D_HEAD, theta_key="", partial=1.0, nested=True),
            "scale": Made(_scale, _say_scale),
            "window": SLIDING_WINDOW,
            "gate": "head",
        },
        norm=_NORM,
    )
    | {"mlp": _Mlp()},
    decoder(_NORM),
    _Layers(),
    aliases={
        "n_routed_experts": ("num_local_experts", "moe_num_experts", "num_experts"),
        "num_key_value_heads": ("num_attention_groups",),
        "num_experts_per_tok": ("moe_top_k",),
        "share_expert_dim": ("share_expert_dims",),
        _MTP: ("num_mtp_layers",),
    },
    only={
        "gating": ((True, "per-head"), "only a gate for each head is supported"),
        "first_k_dense_replace": (
            (_FIRST_SPARSE,),
            "is not read by transformers, which has three; mlp_layer_types is",
        ),
        "n_shared_experts": ((1,), "is not read by transformers, which has one; share_expert_dim says its width"),
        "scoring_func": (("sigmoid",), "scores that are not sigmoids are not supported in this family"),
        "use_moe_router_bias": ((True,), "is read as true by this family"),
    },
    ignored=(*TRAINING, "projector_bias"),
    checks=(_overrides_agree,),
    modules=Modules(NEXTN, _module, TYPES, _say_module),
)

FAMILIES = {_FAMILY.model_type: _FAMILY}
