"""The names of later kin of Llama: norms inside attention and MLP, mixtures packed or turned in their files."""

from __future__ import annotations

from archcalc_reference.weights.families.family import QKV, Family, Fused
from archcalc_reference.weights.families.llama import EXPERTS, LLAMA, SHARED, mixture

FAMILIES: tuple[Family, ...] = (
    LLAMA.but(
        "bitnet",
        inside={"attention.sub_norm": "self_attn.attn_sub_norm", "mlp.sub_norm": "mlp.ffn_sub_norm"},
    ),
    mixture(
        "sarvam_moe",
        shared="shared_experts",
        inside={"mlp.correction": "mlp.gate.e_score_correction_bias"},
        packed={"self_attn.query_key_value": Fused(QKV)},
        older=(
            *LLAMA.older,
            (r"^(model\.)?word_embeddings\.", "model.embed_tokens."),
            (r"\.attention\.", ".self_attn."),
            (r"\.self_attn\.dense\.", ".self_attn.o_proj."),
            (r"\.self_attn\.query_layernorm\.", ".self_attn.q_norm."),
            (r"\.self_attn\.key_layernorm\.", ".self_attn.k_norm."),
            (r"\.mlp\.gate\.expert_bias", ".mlp.gate.e_score_correction_bias"),
        ),
    ),
    LLAMA.but(
        "aria_text",
        inside={
            "mlp.router": "mlp.router",
            "mlp.experts.down.weight": "mlp.experts.down_proj",
            **{ours: f"mlp.shared_experts.{theirs}" for ours, theirs in SHARED.items()},
        },
        fused={"mlp.experts.gate_up_proj": EXPERTS},
        turned=True,
        older=(
            *LLAMA.older,
            (r"\.experts\.fc1\.weight", ".experts.gate_up_proj"),
            (r"\.experts\.fc2\.weight", ".experts.down_proj"),
        ),
    ),
)
