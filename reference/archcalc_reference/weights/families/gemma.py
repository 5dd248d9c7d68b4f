"""The names of Gemma's checkpoints from its second version on: Llama's, with norms around each branch."""

from __future__ import annotations

from archcalc_reference.weights.families.family import Family, Fused
from archcalc_reference.weights.families.llama import LLAMA

_GEMMA2 = LLAMA.but(
    *("gemma2", "gemma3_text", "vaultgemma", "olmo2", "olmo3", "exaone4"),
    inside={
        "attention_post_norm": "post_attention_layernorm",
        "mlp_norm": "pre_feedforward_layernorm",
        "mlp_post_norm": "post_feedforward_layernorm",
    },
)
_VECTORS = {
    "embedding.per_layer.token": "model.embed_tokens_per_layer",
    "embedding.per_layer.projection": "model.per_layer_model_projection",
    "embedding.per_layer.norm": "model.per_layer_projection_norm",
}
_EXPERTS = {
    "mlp.router_norm.weight": "router.scale",
    "mlp.router": "router.proj",
    "mlp.expert_scale": "router.per_expert_scale",
    "mlp.experts.down.weight": "experts.down_proj",
    "mlp.experts_norm": "pre_feedforward_layernorm_2",
    "mlp.experts_post_norm": "post_feedforward_layernorm_2",
    "mlp.shared_norm": "pre_feedforward_layernorm",
    "mlp.shared_post_norm": "post_feedforward_layernorm_1",
    **{f"mlp.shared.{name}": f"mlp.{name}_proj" for name in ("gate", "up", "down")},
}

FAMILIES: tuple[Family, ...] = (
    _GEMMA2,
    _GEMMA2.but(
        *("gemma4_text", "gemma4_unified_text"),
        outside=_VECTORS,
        inside={
            "scalar": "layer_scalar",
            "per_layer.gate": "per_layer_input_gate",
            "per_layer.down": "per_layer_projection",
            "per_layer_post_norm": "post_per_layer_input_norm",
            **_EXPERTS,
        },
        fused={"experts.gate_up_proj": Fused(("mlp.experts.gate", "mlp.experts.up"), "n_experts", bare=True)},
    ),
)
