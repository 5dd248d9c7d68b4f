"""Gemma 4: two widths of heads, values that may be keys, keys and values that the last layers share, a vector of each
token for each layer, and experts beside a dense MLP.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from archcalc.arguments import LARGEST_SIZE
from archcalc.huggingface.families.llama import ATTENTION_BIAS, GATED
from archcalc.huggingface.families.mixtures import experts
from archcalc.huggingface.family import HEADS, SLIDING_WINDOW, Family, decoder, rmsnorm, without
from archcalc.huggingface.layers import FULL, NAMES, SLIDING, Kinds, LayerTypes
from archcalc.huggingface.leaves import (
    Activation,
    ByLayer,
    Draft,
    Flag,
    Leaf,
    Made,
    Mismatch,
    Number,
    Size,
    attention_of,
    inside,
    write,
)
from archcalc.huggingface.rope import KEYS, ProportionalRotary
from archcalc.huggingface.said import Said

SHARED = "/shared"
"""What follows the type of a layer that reads the keys and values of another."""
_DIGITS = 5  # of a layer's number
_OVERRIDES = "per_layer_config"
_SHARES, _WIDE, _EACH = "num_kv_shared_layers", "use_double_wide_mlp", "hidden_size_per_layer_input"
_VOCABULARY, _MIXES = "vocab_size_per_layer_input", "enable_moe_block"


class Sharing(Kinds):
    """The types of attention, the last full, and as many layers at the end that make no keys and values."""

    def __init__(self, attention: LayerTypes) -> None:
        super().__init__(attention.count)
        self.attention = attention

    def types(self, said: Said) -> list[str]:
        types = [*self.attention.types(said)[:-1], FULL]  # whatever the list says of the last
        shared = said.size(_SHARES, least=0)
        if shared and shared >= len(types):
            said.fail(_SHARES, f"must be less than num_hidden_layers ({len(types):,})", shared)
        own = types[: len(types) - shared]
        if shared and set(own) != set(types):
            what = "leaves no layer of each type that makes keys and values"
            said.fail(_SHARES, what, shared)
        return own + [kind + SHARED for kind in types[len(own) :]]

    def name(self, layer: str) -> str:
        return NAMES[attention_of(layer)] + "_shared" * layer.endswith(SHARED)

    def candidates(self, layer: Mapping[str, Any]) -> list[str]:
        attention = _attention_in(layer)
        shared = SHARED * bool(attention.get("shared_kv"))
        return [kind + shared for kind in self.attention.candidates({"attention": attention})]

    def write(self, types: list[str], draft: Draft) -> None:
        shared = [kind.endswith(SHARED) for kind in types]
        if shared != sorted(shared):
            raise Mismatch("layers")
        self.attention.write([attention_of(kind) for kind in types], draft)
        draft.put(_SHARES, sum(shared))


def _attention_in(layer: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Mapping[str, Any] = layer["branches"][0]["mixer"] if "branches" in layer else layer.get("attention", {})
    return found


def _overridden(said: Said, key: str) -> int | None:
    """What newer files say of full layers apart, all of which must say the same; None where they say nothing of it."""
    layers = said.value(_OVERRIDES, counts=False)
    if layers is None:  # the class takes that for a file that says nothing of single layers
        return None
    types = [*_TYPES.types(said)[:-1], FULL]
    full = {i for i, kind in enumerate(types) if kind == FULL}
    named = layers if isinstance(layers, dict) else {"": layers}
    by_number = {int(i): one for i, one in named.items() if str(i).isdecimal() and len(str(i)) <= _DIGITS}
    if len(by_number) != len(named) or not {*by_number} <= full:
        said.fail(_OVERRIDES, "must be a mapping with the numbers of layers with full attention alone", layers)
    said_of = [by_number.get(i) or {} for i in sorted(full)]
    if any(not isinstance(one, dict) or not {*one} <= {"head_dim", "num_key_value_heads"} for one in said_of):
        said.fail(_OVERRIDES, "must say head_dim and num_key_value_heads of layers, and nothing else", layers)
    values = [one.get(key) for one in said_of]
    value = values[0]
    if any(other != value for other in values):
        said.fail(_OVERRIDES, f"must say the same {key} of all layers with full attention", layers)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= LARGEST_SIZE:
        said.fail(_OVERRIDES, f"{key} must be an integer from 1 to {LARGEST_SIZE:,}", value)
    return value


def _d_head(said: Said) -> int:
    if said.layer.startswith(SLIDING):
        return said.size("head_dim")
    if _OVERRIDES in said.config:
        return _overridden(said, "head_dim") or said.size("head_dim")
    return said.size("global_head_dim")


def _say_d_head(value: Any, draft: Draft) -> None:
    draft.put("head_dim" if draft.layer.startswith(SLIDING) else "global_head_dim", value)


def _kv_heads(said: Said) -> int:
    heads, key, found = said.size("num_attention_heads"), "num_key_value_heads", None
    if said.layer.startswith(FULL):
        if _OVERRIDES in said.config:
            found = _overridden(said, key)
        elif said.flag("attention_k_eq_v") and not said.none("num_global_key_value_heads"):
            found = said.size(key := "num_global_key_value_heads")
    found = said.size(key) if found is None else found
    if heads % found:
        said.fail(key, f"must divide num_attention_heads ({heads:,})", found)
    return found


def _say_kv_heads(value: Any, draft: Draft) -> None:
    if draft.layer.startswith(SLIDING):
        draft.put("num_key_value_heads", value)
    elif value != draft.setdefault("num_key_value_heads", value) or "num_global_key_value_heads" in draft:
        draft.put("num_global_key_value_heads", value)


def _d_ff(said: Said) -> int:
    return said.size("intermediate_size") * (2 if said.layer.endswith(SHARED) and said.flag(_WIDE) else 1)


def _say_d_ff(value: Any, draft: Draft) -> None:
    """Layers that share may have MLPs of twice the width; those that do not come first."""
    if not draft.layer.endswith(SHARED):
        draft.put("intermediate_size", value)
        return
    double, rest = divmod(value, draft.get("intermediate_size", value))
    if rest or double not in (1, 2):
        raise Mismatch("mlp.d_ff")
    draft.put(_WIDE, double == 2)


_NORM = rmsnorm()
_HEAD = Made(_d_head, _say_d_head)
_FULL_TURNS = {"rope_type": "proportional", "partial_rotary_factor": 0.25, "rope_theta": 1_000_000.0}
_QUERIES: dict[str, Any] = {
    "kind": "multi_head",
    "n_heads": HEADS,
    "n_kv_heads": Made(_kv_heads, _say_kv_heads),
    "d_head": _HEAD,
    "bias": ATTENTION_BIAS,
    "rotary": ByLayer(
        {FULL: ProportionalRotary(_HEAD, theta_key="", nested=True, default=_FULL_TURNS)}
        | {SLIDING: ProportionalRotary(_HEAD, theta_key="", nested=True, default={"rope_theta": 10_000.0})}
    ),
    "qk_norm": _NORM,
    "scale": 1.0,
    "window": SLIDING_WINDOW,
}
_ATTENTION = {
    **_QUERIES,
    "value_norm": rmsnorm(gain=False),
    "values_are_keys": ByLayer({FULL: Flag("attention_k_eq_v", {True: True, False: None}), SLIDING: None}),
}
_ACTIVATION = Activation("hidden_activation")
_MLP = {**GATED, "d_ff": Made(_d_ff, _say_d_ff), "activation": _ACTIVATION}
_MIXTURE = {
    **experts(
        *("num_experts", "moe_intermediate_size"),
        {
            "scores": "softmax",
            "normalized": True,
            "norm": _NORM,
            "score_scale": "inverse_sqrt_d_model",
            "expert_scale": True,
        },
        "top_k_experts",
    ),
    "activation": _ACTIVATION,
    "shared": _MLP,
    **dict.fromkeys(("experts_norm", "experts_post_norm", "shared_norm", "shared_post_norm"), _NORM),
}
_VECTOR = {"kind": "per_layer", "d_per_layer": Size(_EACH), "activation": _ACTIVATION}


class GemmaLayer(Leaf):
    """A layer in the short form, or in branches where it has experts or reads a vector of the token."""

    def _template(self, *, shared: bool, mixes: bool, each: bool) -> dict[str, Any]:
        attention = {**_QUERIES, "shared_kv": True} if shared else _ATTENTION
        if not mixes and not each:
            return {"norm": _NORM, "attention": attention, "mlp": _MLP, "post_norm": _NORM, "scalar": True}
        mlp: dict[str, Any] = {"norm": None, "mixer": _MIXTURE} if mixes else {"norm": _NORM, "mixer": _MLP}
        branches = [
            {"name": "attention", "norm": _NORM, "mixer": attention, "post_norm": _NORM},
            {"name": "mlp", **mlp, "post_norm": _NORM},
        ]
        if each:
            branches.append({"name": "per_layer", "norm": None, "mixer": _VECTOR, "post_norm": _NORM})
        return {"branches": branches, "scalar": True}

    def read(self, said: Said) -> Any:
        each = said.size(_EACH, least=0) > 0 if _EACH in said.defaults else False
        mixes = said.flag(_MIXES) if _MIXES in said.defaults else False
        template = self._template(shared=said.layer.endswith(SHARED), mixes=mixes, each=each)
        return inside(template, said)

    def write(self, value: Any, draft: Draft) -> None:
        branches = value.get("branches", ())
        draft.d_head = _attention_in(value).get("d_head", draft.d_head)
        mixes = any(branch["mixer"].get("kind") == "experts" for branch in branches)
        each = any(branch["mixer"].get("kind") == "per_layer" for branch in branches)
        write(self._template(shared=draft.layer.endswith(SHARED), mixes=mixes, each=each), value, draft)
        draft.put(_MIXES, mixes)


def _vectors(said: Said) -> dict[str, Any] | None:
    """The table of a vector of each token for each layer."""
    if not said.size(_EACH, least=0):
        return None
    rows = said.size(_VOCABULARY)
    own = {} if rows == said.size("vocab_size") else {"vocab_size": rows}
    return {"d_per_layer": said.size(_EACH), **own, "norm": inside(_NORM, said)}


def _say_vectors(value: Any, draft: Draft) -> None:
    if value is None:
        draft.put(_EACH, 0)
        return
    draft.put(_EACH, value["d_per_layer"])
    draft.put(_VOCABULARY, value.get("vocab_size") or draft["vocab_size"])
    write(_NORM, value["norm"], draft)


def _around(**embedding: Any) -> dict[str, Any]:
    return decoder(
        _NORM,
        embedding={"scale": "sqrt_d_model", **embedding},
        unembedding={"softcap": Number("final_logit_softcapping", optional=True)},
    )


_TYPES = LayerTypes(lambda _, n: [SLIDING if (i + 1) % 6 else FULL for i in range(n)])
_BIDIRECTIONAL = "positions that see what comes after them are not supported, but those of images"
_NESTED = "is not read by this family; rope_parameters has a mapping for each type of attention"
_ONLY: dict[str, tuple[tuple[Any, ...], str]] = {
    "use_bidirectional_attention": ((None, "vision"), _BIDIRECTIONAL),
    **{key: ((None,), _NESTED) for key in KEYS if key != "rope_parameters"},
}
_DEFAULTS: dict[str, Any] = {
    **KEYS,
    "vocab_size": 262144,
    "hidden_size": 2304,
    "intermediate_size": 9216,
    "num_hidden_layers": 30,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "global_head_dim": 512,
    "num_global_key_value_heads": None,
    _OVERRIDES: None,
    "hidden_activation": "gelu_pytorch_tanh",
    "max_position_embeddings": 131072,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": True,
    "attention_bias": False,
    "attention_k_eq_v": False,
    "sliding_window": 512,
    "layer_types": None,
    "final_logit_softcapping": None,
    _SHARES: 0,
    _WIDE: False,
    _EACH: 256,
    _VOCABULARY: 262144,
    _MIXES: False,
    "num_experts": None,
    "top_k_experts": None,
    "moe_intermediate_size": None,
}
_ALL = (
    Family(
        "gemma4_text",
        "Gemma4TextConfig",
        ("Gemma4ForCausalLM", "Gemma4TextModel"),
        _DEFAULTS,
        GemmaLayer(),
        _around(per_layer=Made(_vectors, _say_vectors)),
        Sharing(_TYPES),
        only=_ONLY,
    ),
    Family(
        "gemma4_unified_text",
        "Gemma4UnifiedTextConfig",
        ("Gemma4UnifiedForCausalLM", "Gemma4UnifiedTextModel"),
        {
            **without(
                _DEFAULTS, *(_EACH, _VOCABULARY, _MIXES, "num_experts", "top_k_experts", "moe_intermediate_size")
            ),
            "max_position_embeddings": 262144,
            "sliding_window": 1024,
        },
        GemmaLayer(),
        _around(),
        Sharing(_TYPES),
        only=_ONLY,
    ),
)

FAMILIES = {one.model_type: one for one in _ALL}
