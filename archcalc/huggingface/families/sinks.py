"""Heads with sinks, learned scores that take their share of the softmax: gpt-oss."""

from __future__ import annotations

from archcalc.huggingface.families.llama import ATTENTION_BIAS, layer
from archcalc.huggingface.families.mixtures import TRAINING, experts
from archcalc.huggingface.family import D_HEAD, SLIDING_WINDOW, Family, decoder, rmsnorm, sizes
from archcalc.huggingface.layers import FULL, SLIDING, LayerTypes
from archcalc.huggingface.leaves import Number
from archcalc.huggingface.rope import Rotary

_YARN = {
    "rope_type": "yarn",
    "factor": 32.0,
    "beta_fast": 32.0,
    "beta_slow": 1.0,
    "truncate": False,
    "original_max_position_embeddings": 4096,
}

_ALL = (
    Family(
        "gpt_oss",
        "GptOssConfig",
        ("GptOssForCausalLM", "GptOssModel"),
        sizes(
            *(201088, 2880, 2880, 36, 64, 8, 131072),
            head_dim=64,
            rms_norm_eps=1e-5,
            attention_bias=True,
            sliding_window=128,
            layer_types=None,
            num_local_experts=128,
            num_experts_per_tok=4,
            swiglu_limit=7.0,
        ),
        {
            **layer(
                {
                    "bias": ATTENTION_BIAS,
                    "rotary": Rotary(D_HEAD, 150_000.0, default=_YARN),
                    "window": SLIDING_WINDOW,
                    "sinks": True,
                }
            ),
            "mlp": {
                **experts(
                    *("num_local_experts", "intermediate_size"),
                    {"scores": "softmax_of_chosen", "normalized": False, "bias": True},
                ),
                "activation": "gelu_quick",
                "cut": {"limit": Number("swiglu_limit"), "gate": "before", "plus_one": True},
                "bias": True,
            },
        },
        decoder(rmsnorm()),
        LayerTypes(lambda _, n: [FULL if i % 2 else SLIDING for i in range(n)]),
        aliases={"num_local_experts": ("num_experts",), "num_experts_per_tok": ("experts_per_token",)},
        only={"swiglu_alpha": ((1.702,), "only 1.702 is supported")},
        ignored=(*TRAINING, "hidden_act", "initial_context_length"),
    ),
)

FAMILIES = {one.model_type: one for one in _ALL}
