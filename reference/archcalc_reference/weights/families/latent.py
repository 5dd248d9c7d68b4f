"""The names of checkpoints with latent attention: Llama's, with DeepSeek's of the latents.

What we have apart they have in one tensor: the latent and the one rotary key, and of each head what is made of a
latent.
"""

from __future__ import annotations

from dataclasses import replace

from archcalc_reference.weights.families.family import Family, Fused
from archcalc_reference.weights.families.llama import EXPERTS, LLAMA, mixture

INSIDE = {
    "attention.query_latent": "self_attn.q_a_proj",
    "attention.query_latent_norm": "self_attn.q_a_layernorm",
    "attention.latent_norm": "self_attn.kv_a_layernorm",
}
_INDEXER = {
    "attention.indexer.query": "self_attn.indexer.wq_b",
    "attention.indexer.key": "self_attn.indexer.wk",
    "attention.indexer.key_norm": "self_attn.indexer.k_norm",
    "attention.indexer.shares": "self_attn.indexer.weights_proj",
}
FUSED = {
    "self_attn.q_b_proj": Fused(
        ("attention.query_nope", "attention.query_rope"),
        "n_heads",
        needs="attention.query_latent",
        otherwise="self_attn.q_proj",
    ),
    "self_attn.kv_a_proj_with_mqa": Fused(("attention.latent", "attention.key_rope")),
    "self_attn.kv_b_proj": Fused(("attention.key_nope", "attention.value"), "n_heads"),
}

_DEEPSEEK = mixture(
    shared="shared_experts", inside={**INSIDE, "mlp.correction": "mlp.gate.e_score_correction_bias"}
).but(
    *("deepseek_v3", "deepseek_v2", "sarvam_mla", "glm4_moe_lite"),
    fused={"mlp.experts.gate_up_proj": EXPERTS, **FUSED},
)
FAMILIES: tuple[Family, ...] = (
    _DEEPSEEK,
    replace(_DEEPSEEK, types=("mistral4",), each={}),
    # Files have the norm beside the mixture, transformers' model in it.
    _DEEPSEEK.but(
        "axk1",
        inside={"mlp_post_norm": "mlp.post_mlp_layernorm"},
        fused=_DEEPSEEK.fused,
        each={"mlp_post_norm.weight": "post_mlp_layernorm.weight"},
        unread=("post_mlp_layernorm.weight",),
        lacked=("mlp.gate.e_score_correction_bias",),
    ),
    mixture(
        shared="shared_experts",
        inside={**INSIDE, **_INDEXER, "mlp.correction": "mlp.gate.e_score_correction_bias"},
    ).but(
        *("deepseek_v32", "glm_moe_dsa"),
        fused={"mlp.experts.gate_up_proj": EXPERTS, **FUSED},
    ),
    LLAMA.but(*("youtu", "minicpm3"), inside=INSIDE, fused=FUSED),
)
