"""GPT-2 and its kin: LayerNorm, biases, a plain MLP."""

from __future__ import annotations

from typing import Any

from archcalc.huggingface.family import Family, layernorm
from archcalc.huggingface.leaves import Activation, Flag, Quotient, Size, Times

_HEADS = Size("num_attention_heads")
_MHA: dict[str, Any] = {
    "kind": "multi_head",
    "n_heads": _HEADS,
    "n_kv_heads": _HEADS,
    "d_head": Quotient("hidden_size", "num_attention_heads"),
    "bias": True,
}
_NORM = layernorm("layer_norm_epsilon")
_GPT2_NAMES = {
    "hidden_size": ("n_embd",),
    "num_hidden_layers": ("n_layer",),
    "num_attention_heads": ("n_head",),
    "max_position_embeddings": ("n_positions",),
}

_GPT2 = Family(
    "gpt2",
    "GPT2Config",
    ("GPT2LMHeadModel", "GPT2Model"),
    {
        "vocab_size": 50257,
        "max_position_embeddings": 1024,
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "n_inner": None,
        "activation_function": "gelu_new",
        "layer_norm_epsilon": 1e-5,
        "tie_word_embeddings": True,
    },
    {
        "norm": _NORM,
        "attention": _MHA,
        "mlp": {
            "kind": "plain",
            "d_ff": Size("n_inner", Times(4, "hidden_size")),
            "activation": Activation("activation_function"),
            "bias": True,
        },
    },
    {
        "vocab_size": Size("vocab_size"),
        "context_length": Size("max_position_embeddings"),
        "d_model": Size("hidden_size"),
        "embedding": {"positions": "learned"},
        "final_norm": _NORM,
        "unembedding": {"tied": Flag("tie_word_embeddings"), "bias": False},
    },
    aliases=_GPT2_NAMES,
    ignored=("n_ctx",),
    only={
        "scale_attn_weights": ((True,), "scores without their scale are not supported"),
        "scale_attn_by_inverse_layer_idx": ((False,), "scores scaled by the layer's index are not supported"),
        "reorder_and_upcast_attn": ((False, True), "must be true or false"),
    },
)

FAMILIES = {one.model_type: one for one in (_GPT2,)}
