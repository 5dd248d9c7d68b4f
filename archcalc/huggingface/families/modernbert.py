"""ModernBERT as a decoder: no norm before the first attention, and a layer of its own before the head."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from archcalc.huggingface.families.llama import ATTENTION_BIAS, MLP_BIAS
from archcalc.huggingface.family import HEADS, QUOTIENT, Family, decoder, layernorm
from archcalc.huggingface.hybrid import branch
from archcalc.huggingface.layers import FULL, SLIDING, LayerTypes
from archcalc.huggingface.leaves import (
    Activation,
    ByLayer,
    Draft,
    Flag,
    Leaf,
    Made,
    Size,
    attention_of,
    inside,
    write,
)
from archcalc.huggingface.rope import KEYS, Rotary
from archcalc.huggingface.said import Said

_NORM = layernorm("norm_eps", bias=Flag("norm_bias"))
_EVERY = "global_attn_every_n_layers"
_FIRST = "/first"
"""What follows the type of the first layer."""


class _Types(LayerTypes):
    """Windows in some layers; the first is of a type of its own."""

    apart = 1

    def __init__(self) -> None:
        super().__init__(_alternating)

    def types(self, said: Said) -> list[str]:
        first, *rest = super().types(said)
        return [first + _FIRST, *rest]

    def name(self, layer: str) -> str:
        return "first_" * layer.endswith(_FIRST) + super().name(attention_of(layer))

    def candidates(self, layer: Mapping[str, Any]) -> list[str]:
        branches = layer.get("branches", ())
        attention = branches[0]["mixer"] if branches else layer.get("attention", {})
        return [kind + _FIRST * bool(branches) for kind in super().candidates({"attention": attention})]

    def write(self, types: list[str], draft: Draft) -> None:
        super().write([attention_of(kind) for kind in types], draft)
        draft.put("pad_token_id", 0)  # the class takes no null


def _alternating(said: Said, n: int) -> list[str]:
    """Each so-many-th layer, from the first on, sees all positions."""
    step = said.size(_EVERY)
    return [SLIDING if i % step else FULL for i in range(n)]


def _window(said: Said) -> int:
    """Half of local_attention, which counts positions on both sides."""
    half = said.size("local_attention") // 2
    if not half:
        said.fail("local_attention", "must be at least 2", said.value("local_attention"))
    return half


_ATTENTION = {
    "kind": "multi_head",
    "n_heads": HEADS,
    "n_kv_heads": HEADS,
    "d_head": QUOTIENT,
    "bias": ATTENTION_BIAS,
    "rotary": ByLayer(
        {
            FULL: Rotary(QUOTIENT, 160_000.0, theta_key="global_rope_theta", nested=True),
            SLIDING: Rotary(QUOTIENT, theta_key="local_rope_theta", nested=True),
        }
    ),
    "window": ByLayer(
        {FULL: None, SLIDING: Made(_window, lambda value, draft: draft.put("local_attention", value and 2 * value))}
    ),
}
_MLP = {
    "kind": "gated",
    "d_ff": Size("intermediate_size"),
    "activation": Activation("hidden_activation"),
    "bias": MLP_BIAS,
}
_LAYER = {"norm": _NORM, "attention": _ATTENTION, "mlp": _MLP}
_FIRST_LAYER = {"branches": [branch("attention", _ATTENTION, None), branch("mlp", _MLP, _NORM)]}


class _ByPlace(Leaf):
    """The first layer, or another."""

    def read(self, said: Said) -> Any:
        return inside(_FIRST_LAYER if said.layer.endswith(_FIRST) else _LAYER, said)

    def write(self, value: Any, draft: Draft) -> None:
        write(_FIRST_LAYER if draft.layer.endswith(_FIRST) else _LAYER, value, draft)


_ALL = (
    Family(
        "modernbert-decoder",
        "ModernBertDecoderConfig",
        ("ModernBertDecoderForCausalLM", "ModernBertDecoderModel"),
        {
            **{key: default for key, default in KEYS.items() if key != "rope_theta"},
            "vocab_size": 50368,
            "hidden_size": 768,
            "intermediate_size": 1152,
            "num_hidden_layers": 22,
            "num_attention_heads": 12,
            "hidden_activation": "gelu",
            "max_position_embeddings": 8192,
            "norm_eps": 1e-5,
            "norm_bias": False,
            "attention_bias": False,
            "mlp_bias": False,
            "decoder_bias": True,
            "classifier_bias": False,
            "classifier_activation": "gelu",
            "local_attention": 128,
            "layer_types": None,
            "tie_word_embeddings": True,
            _EVERY: 3,
            "global_rope_theta": None,
            "local_rope_theta": None,
        },
        _ByPlace(),
        decoder(
            _NORM,
            embedding={"norm": _NORM},
            unembedding={
                "bias": Flag("decoder_bias"),
                "transform": {
                    "activation": Activation("classifier_activation"),
                    "bias": Flag("classifier_bias"),
                    "norm": _NORM,
                },
            },
        ),
        _Types(),
        ignored=(
            *("initializer_cutoff_factor", "mlp_dropout", "embedding_dropout", "classifier_dropout"),
            "sliding_window",  # worked out anew
            *("position_embedding_type", "layer_norm_eps", "classifier_pooling", "causal_mask", "is_causal"),
            *("unpad_embeddings", "repad_logits_with_grad", "reference_compile", "deterministic_flash_attn"),
            *("sparse_prediction", "sparse_pred_ignore_index"),
        ),
    ),
)

FAMILIES = {one.model_type: one for one in _ALL}
