"""Llama and its kin: pre-norm by RMSNorm, rotary positions, a gated MLP."""

from __future__ import annotations

from typing import Any

from archcalc.huggingface.family import D_HEAD, HEADS, KV_HEADS, WINDOW, Family, decoder, rmsnorm
from archcalc.huggingface.leaves import Activation, Flag, Size
from archcalc.huggingface.rope import KEYS, Rotary

GATED: dict[str, Any] = {
    "kind": "gated",
    "d_ff": Size("intermediate_size"),
    "activation": Activation("hidden_act"),
    "bias": False,
}
ATTENTION: dict[str, Any] = {
    "kind": "multi_head",
    "n_heads": HEADS,
    "n_kv_heads": KV_HEADS,
    "d_head": D_HEAD,
    "bias": False,
    "rotary": Rotary(D_HEAD),
}
LAYER: dict[str, Any] = {"norm": rmsnorm(), "attention": ATTENTION, "mlp": GATED}
BIASES: dict[str, Any] = {
    "attention": {**ATTENTION, "bias": Flag("attention_bias")},
    "mlp": {**GATED, "bias": Flag("mlp_bias")},
}

_LLAMA = Family(
    "llama",
    "LlamaConfig",
    ("LlamaForCausalLM", "LlamaModel", "LLaMAForCausalLM"),
    {
        **KEYS,
        "vocab_size": 32000,
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": None,
        "hidden_act": "silu",
        "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-6,
        "tie_word_embeddings": False,
        "attention_bias": False,
        "mlp_bias": False,
        "head_dim": None,
    },
    {**LAYER, **BIASES},
    decoder(rmsnorm()),
)
_MISTRAL = Family(
    "mistral",
    "MistralConfig",
    ("MistralForCausalLM", "MistralModel"),
    {
        **KEYS,
        "vocab_size": 32000,
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": None,
        "hidden_act": "silu",
        "max_position_embeddings": 131072,
        "rms_norm_eps": 1e-6,
        "tie_word_embeddings": False,
        "sliding_window": 4096,
    },
    {**LAYER, "attention": {**ATTENTION, "window": WINDOW}},
    decoder(rmsnorm()),
)

FAMILIES = {one.model_type: one for one in (_LLAMA, _MISTRAL)}
