"""Gemma: gains of 1 + weight, embeddings scaled by the square root of the width, and norms around each branch (2, 3)."""

from __future__ import annotations

from typing import Any

from archcalc.huggingface.families.llama import ATTENTION, GATED
from archcalc.huggingface.family import SLIDING_WINDOW, Family, decoder, rmsnorm
from archcalc.huggingface.layers import FULL, SLIDING, LayerTypes
from archcalc.huggingface.leaves import Activation, Draft, Flag, Made, Number
from archcalc.huggingface.rope import KEYS
from archcalc.huggingface.said import Said

NORM = rmsnorm(unit_offset=True)


def _scale(said: Said) -> float | None:
    """query_pre_attn_scalar ^ -0.5, where that is not the usual 1 / sqrt(d_head)."""
    scalar = said.number("query_pre_attn_scalar")
    return None if scalar == said.size("head_dim") else scalar**-0.5


def _write_scale(value: Any, draft: Draft) -> None:
    draft.put("query_pre_attn_scalar", draft.d_head if value is None else round(value**-2, 6))


SCALE = Made(_scale, _write_scale)
MLP = {**GATED, "activation": Activation("hidden_activation")}

_GEMMA2 = Family(
    "gemma2",
    "Gemma2Config",
    ("Gemma2ForCausalLM", "Gemma2Model"),
    {
        **KEYS,
        "vocab_size": 256000,
        "hidden_size": 2304,
        "intermediate_size": 9216,
        "num_hidden_layers": 26,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 256,
        "hidden_activation": "gelu_pytorch_tanh",
        "max_position_embeddings": 8192,
        "rms_norm_eps": 1e-6,
        "tie_word_embeddings": True,
        "attention_bias": False,
        "query_pre_attn_scalar": 256,
        "sliding_window": 4096,
        "layer_types": None,
        "final_logit_softcapping": 30.0,
        "attn_logit_softcapping": 50.0,
    },
    {
        "norm": NORM,
        "attention": {
            **ATTENTION,
            "bias": Flag("attention_bias"),
            "window": SLIDING_WINDOW,
            "scale": SCALE,
            "softcap": Number("attn_logit_softcapping", optional=True),
        },
        "mlp": MLP,
        "post_norm": NORM,
    },
    decoder(
        NORM,
        embedding={"scale": "sqrt_d_model"},
        unembedding={"softcap": Number("final_logit_softcapping", optional=True)},
    ),
    LayerTypes(lambda _, n: [FULL if i % 2 else SLIDING for i in range(n)]),
)

FAMILIES = {one.model_type: one for one in (_GEMMA2,)}
