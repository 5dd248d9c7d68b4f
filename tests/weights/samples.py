"""Small models of every family, in the words of its config class; no two sizes coincide where the family allows.

Weights are drawn wide, so that every part has its say in the logits: a norm that is left out, two heads that are swapped,
an angle that is off by one.
"""

from __future__ import annotations

from typing import Any

import pytest

V, S, LAYERS = 131, 288, 3
_BASE = {"vocab_size": V, "bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
_LLAMA = {
    **_BASE,
    "hidden_size": 60,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 6,
    "num_key_value_heads": 3,
    "intermediate_size": 84,
    "max_position_embeddings": S,
}
"""Six heads of ten; families with a head_dim of their own have eight or fourteen."""
_WIDE = {**_LLAMA, "head_dim": 14}
_OLD = {
    **_BASE,
    "hidden_size": 64,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "intermediate_size": 100,
    "max_position_embeddings": S,
}
"""Families of as many key/value heads as heads."""
_GPT = {**_BASE, "n_embd": 60, "n_layer": LAYERS, "n_head": 6, "n_inner": 84, "n_positions": S}
_LOCAL = ["sliding_attention", "full_attention", "sliding_attention"]
_YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 72, "rope_theta": 5e3}
_LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
    "rope_theta": 5e3,
}
_NTK = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}
_LINEAR = {"rope_type": "linear", "factor": 4.0, "rope_theta": 1e4}

_MOE = {"num_experts_per_tok": 3, "moe_intermediate_size": 44}
_DEEP = {
    **_MOE,
    "n_routed_experts": 8,
    "n_shared_experts": 2,
    "n_group": 4,
    "topk_group": 2,
    "first_k_dense_replace": 1,
}

_LATENT = {
    **_LLAMA,
    "num_key_value_heads": 6,
    "q_lora_rank": 22,
    "kv_lora_rank": 26,
    "qk_nope_head_dim": 10,
    "qk_rope_head_dim": 6,
    "v_head_dim": 14,
}
_INDEXED = {"index_n_heads": 9, "index_head_dim": 10, "index_topk": 7, "num_experts_per_tok": 3}
_DEEPSEEK_YARN = {**_YARN, "mscale": 0.7, "mscale_all_dim": 1.3}

_DELTA = {
    **_LLAMA,
    "head_dim": 16,
    "full_attention_interval": 3,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 6,
    "linear_key_head_dim": 12,
    "linear_value_head_dim": 22,
    "linear_conv_kernel_dim": 3,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.25},
}
_MAMBA = {
    **_BASE,
    "hidden_size": 60,
    "num_hidden_layers": LAYERS,
    "state_size": 12,
    "conv_kernel": 3,
    "time_step_rank": 7,
}
_MAMBA2 = {"n_groups": 2, "conv_kernel": 3, "chunk_size": 20, "hidden_size": 60}
_GRANITE_HYBRID = {
    **_LLAMA,
    "layer_types": ["linear_attention", "full_attention", "linear_attention"],
    "shared_intermediate_size": 52,
    "mamba_n_heads": 6,
    "mamba_n_groups": 2,
    "mamba_d_state": 12,
    "mamba_d_conv": 3,
    "mamba_chunk_size": 20,
    "residual_multiplier": 0.7,
    "attention_multiplier": 0.2,
    "embedding_multiplier": 1.7,
    "logits_scaling": 1.4,
}

_GEMMA4 = {
    **_LLAMA,
    "head_dim": 14,
    "global_head_dim": 20,
    "sliding_window": 64,
    "layer_types": _LOCAL,
    "hidden_size_per_layer_input": 0,
    "final_logit_softcapping": 30.0,
}
_SHARES = {
    "num_hidden_layers": 6,
    "layer_types": ["sliding_attention", "full_attention"] * 3,
    "num_kv_shared_layers": 3,
    "use_double_wide_mlp": True,
    "hidden_size_per_layer_input": 10,
    "vocab_size_per_layer_input": V,
}

SAMPLES: dict[str, tuple[str, dict[str, Any]]] = {
    "gemma4": (
        "gemma4_text",
        {
            **_GEMMA4,
            "attention_k_eq_v": True,
            "num_global_key_value_heads": 2,
            "num_hidden_layers": 4,
            "layer_types": _LOCAL[:2] * 2,
        },
    ),
    "gemma4-e2b": ("gemma4_text", {**_GEMMA4, **_SHARES}),
    "gemma4-moe": (
        "gemma4_text",
        {
            **_GEMMA4,
            "attention_k_eq_v": True,
            "enable_moe_block": True,
            "num_experts": 8,
            "top_k_experts": 3,
            "moe_intermediate_size": 44,
        },
    ),
    "gemma4_unified": (
        "gemma4_unified_text",
        {name: value for name, value in _GEMMA4.items() if name != "hidden_size_per_layer_input"}
        | {"attention_k_eq_v": True},
    ),
    "lfm2": (
        "lfm2",
        {**_LLAMA, "full_attn_idxs": [1], "conv_L_cache": 4, "conv_bias": True, "block_multiple_of": 7},
    ),
    "lfm2_moe": (
        "lfm2_moe",
        {**_LLAMA, **_MOE, "num_experts": 8, "num_dense_layers": 1, "layer_types": ["conv", "full_attention", "conv"]},
    ),
    "lfm3": (
        "lfm3",
        {
            **_LLAMA,
            "head_dim": 16,
            "conv_L_cache": 4,
            "sliding_window": 9,
            "layer_types": ["conv", "sliding_attention", "full_attention"],
        },
    ),
    "lara_mini": (
        "lara_mini",
        {
            **{
                key: value
                for key, value in _DELTA.items()
                if key not in ("full_attention_interval", "rope_parameters")
            },
            **_MOE,
            "num_experts": 8,
            "shared_expert_intermediate_size": 52,
            "sliding_window": 9,
            "layer_types": ["linear_attention", "sliding_attention", "full_attention"],
        },
    ),
    "bamba": (
        "bamba",
        {
            **_LLAMA,
            "hidden_size": 72,
            "attn_layer_indices": [1],
            "mamba_n_heads": 6,
            "mamba_n_groups": 2,
            "mamba_d_state": 12,
            "mamba_d_conv": 3,
            "mamba_chunk_size": 20,
            "mamba_proj_bias": True,
        },
    ),
    "zamba2": (
        "zamba2",
        {
            **_LLAMA,
            "num_hidden_layers": 5,
            "num_key_value_heads": 6,
            "layers_block_type": ["hybrid", "linear_attention", "hybrid", "hybrid", "linear_attention"],
            "num_mem_blocks": 2,
            "n_mamba_heads": 6,
            "mamba_ngroups": 2,
            "mamba_d_state": 12,
            "mamba_d_conv": 3,
            "chunk_size": 20,
            "adapter_rank": 9,
            "use_shared_attention_adapter": True,
            "use_mem_rope": True,
            "add_bias_linear": True,
        },
    ),
    "granitemoehybrid": (
        "granitemoehybrid",
        {
            **_GRANITE_HYBRID,
            "num_local_experts": 5,
            "num_experts_per_tok": 3,
            "position_embedding_type": "rope",
        },
    ),
    "granitemoehybrid-dense": ("granitemoehybrid", {**_GRANITE_HYBRID, "num_local_experts": 0}),
    "mamba": ("mamba", {**_MAMBA, "use_bias": True}),
    "falcon_mamba": ("falcon_mamba", _MAMBA),
    "mamba2": (
        "mamba2",
        {**_BASE, **_MAMBA2, "state_size": 12, "num_heads": 6, "head_dim": 20, "num_hidden_layers": LAYERS},
    ),
    "jamba": (
        "jamba",
        {
            **_LLAMA,
            "attn_layer_period": 3,
            "attn_layer_offset": 1,
            "num_experts": 5,
            "num_experts_per_tok": 2,
            "mamba_d_state": 12,
            "mamba_d_conv": 3,
            "mamba_dt_rank": 7,
        },
    ),
    "falcon_h1": (
        "falcon_h1",
        {
            **_LLAMA,
            "head_dim": 14,
            "mamba_d_ssm": 132,
            "mamba_n_heads": 6,
            "mamba_n_groups": 2,
            "mamba_d_state": 12,
            "mamba_d_conv": 3,
            "mamba_chunk_size": 20,
            "mamba_proj_bias": True,
            "projectors_bias": True,
            "mamba_rms_norm": True,
            "embedding_multiplier": 1.7,
            "lm_head_multiplier": 0.6,
            "mlp_multipliers": [0.7, 1.4],
            "key_multiplier": 0.8,
            "attention_in_multiplier": 1.2,
            "attention_out_multiplier": 0.9,
            "ssm_multipliers": [0.75, 1.25, 1.375, 0.875, 0.625],  # which transformers keeps in fp32
            "ssm_in_multiplier": 1.1,
            "ssm_out_multiplier": 0.8,
        },
    ),
    "qwen3_next": ("qwen3_next", {**_DELTA, **_MOE, "num_experts": 8, "shared_expert_intermediate_size": 52}),
    "qwen3_5_text": (
        "qwen3_5_text",
        {**_DELTA, "layer_types": ["linear_attention", "full_attention"], "num_hidden_layers": 2},
    ),
    "qwen3_5_moe_text": (
        "qwen3_5_moe_text",
        {**_DELTA, **_MOE, "num_experts": 8, "shared_expert_intermediate_size": 52},
    ),
    "minimax": (
        "minimax",
        {
            **_WIDE,
            "num_experts_per_tok": 3,
            "num_local_experts": 8,
            "layer_types": ["linear_attention", "full_attention", "linear_attention"],
            "block_size": 34,
            **{f"{name}_alpha_factor": 1.7 for name in ("full_attn", "linear_attn", "mlp")},
            **{f"{name}_beta_factor": 0.6 for name in ("full_attn", "linear_attn", "mlp")},
        },
    ),
    "olmo_hybrid": (
        "olmo_hybrid",
        {
            **_LLAMA,
            "layer_types": ["linear_attention", "full_attention", "linear_attention"],
            # transformers saves its convolution in equal thirds, which are those of queries, keys and values here alone.
            "linear_num_key_heads": 2,
            "linear_key_head_dim": 33,
            "linear_value_head_dim": 11,
            "linear_conv_kernel_dim": 3,
            "rope_parameters": {"rope_type": "default", "rope_theta": None},
        },
    ),
    "olmo_hybrid, rotary": (
        "olmo_hybrid",
        {
            **_LLAMA,
            "attention_bias": True,
            "linear_allow_neg_eigval": False,
            "linear_value_head_dim": 7,
            "rope_parameters": {"rope_type": "default", "rope_theta": 5e3},
        },
    ),
    "kimi_linear": (
        "kimi_linear",
        {
            **_LATENT,
            **_MOE,
            "q_lora_rank": None,
            "num_hidden_layers": 4,
            "num_local_experts": 8,
            "n_shared_experts": 2,
            "layer_types": ["linear_attention", "full_attention", "linear_attention", "linear_attention"],
            "linear_num_heads": 3,
            "linear_head_dim": 12,
            "linear_conv_kernel_dim": 3,
            "rms_norm_eps": 1e-6,
        },
    ),
    "bailing_hybrid": (
        "bailing_hybrid",
        {
            **_LATENT,
            **_MOE,
            "rope_theta": 1e4,
            "num_local_experts": 8,
            "n_group": 4,
            "topk_group": 2,
            "first_k_dense_replace": 1,
            "layer_group_size": 2,
            "head_dim": 12,
            "short_conv_kernel_size": 3,
            "kda_lower_bound": -2.0,
        },
    ),
    "bailing_hybrid, no safe gate": (
        "bailing_hybrid",
        {
            **_LATENT,
            **_MOE,
            "num_hidden_layers": 2,
            "num_local_experts": 8,
            "n_group": 2,
            "topk_group": 2,
            "first_k_dense_replace": 1,
            "layer_group_size": 2,
            "head_dim": 12,
            "kda_safe_gate": False,
        },
    ),
    "nemotron_h": (
        "nemotron_h",
        {
            **_LLAMA,
            **_MAMBA2,
            "layers_block_type": ["linear_attention", "moe", "full_attention", "mlp", "linear_attention"],
            "num_hidden_layers": 5,
            "head_dim": 14,
            "ssm_state_size": 12,
            "mamba_num_heads": 6,
            "mamba_head_dim": 22,
            "use_bias": True,
            "mlp_bias": True,
            "n_routed_experts": 8,
            "n_group": 4,
            "topk_group": 2,
            "num_experts_per_tok": 3,
            "moe_intermediate_size": 44,
            "moe_shared_expert_intermediate_size": 52,
            "routed_scaling_factor": 1.7,
        },
    ),
    "nemotron_h latent": (
        "nemotron_h",
        {
            **_LLAMA,
            **_MAMBA2,
            "layers_block_type": ["moe", "full_attention", "moe"],
            "num_hidden_layers": 3,
            "head_dim": 14,
            "mamba_num_heads": 6,
            "mlp_bias": True,
            "n_routed_experts": 8,
            "num_experts_per_tok": 3,
            "moe_latent_size": 28,
            "moe_intermediate_size": 44,
            "moe_shared_expert_intermediate_size": 52,
        },
    ),
    "gpt2": ("gpt2", _GPT),
    "gpt_oss": (
        "gpt_oss",
        {
            **_WIDE,
            "num_local_experts": 5,
            "num_experts_per_tok": 3,
            "sliding_window": 37,
            "rope_parameters": _YARN,
            "swiglu_limit": 0.7,
        },
    ),
    "ernie4_5_moe": (
        "ernie4_5_moe",
        {
            **_WIDE,
            "moe_num_experts": 5,
            "moe_k": 3,
            "moe_intermediate_size": 44,
            "moe_layer_end_index": -1,
            "use_bias": True,
        },
    ),
    "hunyuan_v1_moe": ("hunyuan_v1_moe", {**_WIDE, "num_experts": 5, "moe_topk": 3}),
    "solar_open": (
        "solar_open",
        {**_WIDE, **_DEEP, "head_dim": 16, "attention_bias": True, "routed_scaling_factor": 1.7},
    ),
    "exaone_moe": (
        "exaone_moe",
        {
            **_WIDE,
            **_MOE,
            "num_experts": 8,
            "num_shared_experts": 2,
            "n_group": 4,
            "topk_group": 2,
            "sliding_window": 37,
            "layer_types": _LOCAL,
        },
    ),
    "cohere2_moe": (
        "cohere2_moe",
        {
            **_WIDE,
            "num_experts": 5,
            "num_experts_per_tok": 3,
            "num_shared_experts": 2,
            "first_k_dense_replace": 1,
            "prefix_dense_intermediate_size": 52,
            "sliding_window": 37,
            "sliding_window_pattern": 2,
            "expert_selection_fn": "sigmoid",
            "rms_norm_eps": 1e-6,
        },
    ),
    "cohere2_moe softmax": (
        "cohere2_moe",
        {**_LLAMA, "head_dim": 10, "num_experts": 5, "num_experts_per_tok": 3, "sliding_window": 37},
    ),
    "phimoe": (
        "phimoe",
        {
            **_WIDE,
            "num_local_experts": 5,
            "attention_bias": True,
            "lm_head_bias": True,
            "sliding_window": 37,
            "router_jitter_noise": 0.2,
        },
    ),
    "mimo_v2_flash": (
        "mimo_v2_flash",
        {
            **_WIDE,
            **_MOE,
            "n_routed_experts": 8,
            "n_group": 4,
            "topk_group": 2,
            "num_key_value_heads": 1,
            "v_head_dim": 10,
            "sliding_window": 37,
            "layer_types": _LOCAL,
            "routed_scaling_factor": 1.7,
            "rope_parameters": {
                "full_attention": {"rope_type": "default", "rope_theta": 5e3, "partial_rotary_factor": 0.6},
                "sliding_attention": {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.6},
            },
        },
    ),
    "flint": (
        "flint",
        {
            **_WIDE,
            **_MOE,
            "num_experts": 5,
            "shared_expert_intermediate_size": 52,
            "sliding_window": 37,
            "mlp_only_layers": [1],
            "layer_types": _LOCAL,
        },
    ),
    "llama4": (
        "llama4_text",
        {
            **_WIDE,
            "num_local_experts": 5,
            "num_experts_per_tok": 3,
            "intermediate_size_mlp": 52,
            "moe_layers": [0, 2],
            "no_rope_layers": [1, 0, 1],
            "attention_chunk_size": 37,
            "floor_scale": 29,
            "rope_parameters": _LLAMA3,
        },
    ),
    "afmoe": (
        "afmoe",
        {
            **_WIDE,
            **_MOE,
            "num_experts": 5,
            "num_shared_experts": 2,
            "num_dense_layers": 1,
            "sliding_window": 37,
            "global_attn_every_n_layers": 2,
            "route_scale": 1.7,
            "mup_enabled": True,
        },
    ),
    "laguna": (
        "laguna",
        {
            **_WIDE,
            **_MOE,
            "head_dim": 16,
            "num_experts": 5,
            "shared_expert_intermediate_size": 52,
            "sliding_window": 37,
            "layer_types": _LOCAL,
            "num_attention_heads_per_layer": [6, 3, 6],
            "moe_routed_scaling_factor": 1.7,
        },
    ),
    "laguna by feature": (
        "laguna",
        {**_WIDE, **_MOE, "head_dim": 16, "num_experts": 5, "gating": "per-element"},
    ),
    "hy_v3": ("hy_v3", {**_WIDE, **_MOE, "num_experts": 5, "num_shared_experts": 2, "mlp_bias": True}),
    "mellum": (
        "mellum",
        {
            **_WIDE,
            **_MOE,
            "num_experts": 5,
            "sliding_window": 37,
            "layer_types": _LOCAL,
            "mlp_layer_types": ["sparse", "dense", "sparse"],
        },
    ),
    "kolibri1": (
        "kolibri1",
        {
            **{key: value for key, value in _WIDE.items() if key != "intermediate_size"},
            **_MOE,
            "num_experts": 5,
            "shared_expert_intermediate_size": 52,
            "sliding_window": 37,
            "layer_types": _LOCAL,
        },
    ),
    "granite_swa": (
        "granite_swa",
        {
            **_LLAMA,
            "attention_multiplier": 0.2,
            "residual_multiplier": 0.4,
            "sliding_window": 37,
            "layer_types": _LOCAL,
            "layer_rope_theta": [5e3, 0, 1e4],
        },
    ),
    "granitemoe_swa": (
        "granitemoe_swa",
        {
            **_LLAMA,
            "num_local_experts": 5,
            "num_experts_per_tok": 3,
            "shared_intermediate_size": 52,
            "attention_multiplier": 0.2,
            "sliding_window": 37,
            "layer_types": _LOCAL,
        },
    ),
    "minimax_m2": ("minimax_m2", {**_WIDE, "num_local_experts": 5, "num_experts_per_tok": 3}),
    "flex_olmo": ("flex_olmo", {**_LLAMA, "num_experts": 5, "num_experts_per_tok": 3}),
    "granitemoe": (
        "granitemoe",
        {
            **_LLAMA,
            "num_local_experts": 5,
            "num_experts_per_tok": 3,
            "attention_multiplier": 0.2,
            "residual_multiplier": 0.4,
            "embedding_multiplier": 3.0,
            "logits_scaling": 2.0,
        },
    ),
    "granitemoeshared": (
        "granitemoeshared",
        {**_LLAMA, "num_local_experts": 5, "num_experts_per_tok": 3, "shared_intermediate_size": 52},
    ),
    "mixtral": ("mixtral", {**_WIDE, "num_local_experts": 5, "num_experts_per_tok": 3, "sliding_window": 37}),
    "qwen2_moe": (
        "qwen2_moe",
        {**_LLAMA, **_MOE, "num_experts": 5, "shared_expert_intermediate_size": 52, "mlp_only_layers": [1]},
    ),
    "qwen3_moe": ("qwen3_moe", {**_WIDE, **_MOE, "num_experts": 7, "norm_topk_prob": True, "decoder_sparse_step": 2}),
    "olmoe": ("olmoe", {**_LLAMA, "num_experts": 6, "num_experts_per_tok": 3}),
    "glm4_moe": ("glm4_moe", {**_WIDE, **_DEEP, "head_dim": 16, "use_qk_norm": True, "routed_scaling_factor": 1.7}),
    "dots1": ("dots1", {**_WIDE, **_DEEP, "norm_topk_prob": True, "max_window_layers": 1, "sliding_window": 37}),
    "deepseek_v2": (
        "deepseek_v2",
        {**_LATENT, **_DEEP, "topk_method": "group_limited_greedy", "rope_parameters": _DEEPSEEK_YARN},
    ),
    "deepseek_v2 lite": ("deepseek_v2", {**_LATENT, **_DEEP, "q_lora_rank": None, "routed_scaling_factor": 1.7}),
    "deepseek_v3": ("deepseek_v3", {**_LATENT, **_DEEP, "rope_parameters": _DEEPSEEK_YARN, "attention_bias": True}),
    "deepseek_v3 halves": ("deepseek_v3", {**_LATENT, **_DEEP, "rope_interleave": False, "v_head_dim": 16}),
    "sarvam_mla": ("sarvam_mla", {**_LATENT, **_DEEP, "q_lora_rank": None}),
    "glm4_moe_lite": ("glm4_moe_lite", {**_LATENT, **_DEEP, "mlp_layer_types": ["dense", "sparse", "dense"]}),
    "deepseek_v32": ("deepseek_v32", {**_LATENT, **_DEEP, **_INDEXED, "rope_parameters": _DEEPSEEK_YARN}),
    "glm_moe_dsa": ("glm_moe_dsa", {**_LATENT, **_DEEP, **_INDEXED, "mlp_layer_types": ["dense", "sparse", "dense"]}),
    "longcat_flash": (
        "longcat_flash",
        {
            **{
                name: value
                for name, value in _LATENT.items()
                if name not in ("num_hidden_layers", "intermediate_size")
            },
            "num_layers": LAYERS,
            "head_dim": 6,
            "ffn_hidden_size": 84,
            "moe_topk": 3,
            "n_routed_experts": 5,
            "zero_expert_num": 3,
            "expert_ffn_hidden_size": 44,
            "routed_scaling_factor": 1.7,
        },
    ),
    "sarvam_moe": ("sarvam_moe", {**_WIDE, **_DEEP, "attention_bias": True}),
    "aria_text": (
        "aria_text",
        {**_LLAMA, "moe_num_experts": 5, "moe_topk": 3, "moe_num_shared_experts": 3, "attention_bias": True},
    ),
    "dbrx": (
        "dbrx",
        {
            **_BASE,
            "d_model": 60,
            "n_heads": 6,
            "n_layers": LAYERS,
            "max_seq_len": S,
            "attn_config": {"kv_n_heads": 3, "clip_qkv": 1.5, "rope_theta": 5e3},
            "rope_parameters": {"rope_type": "default", "rope_theta": 5e3},
            "ffn_config": {"ffn_hidden_size": 44, "moe_num_experts": 5, "moe_top_k": 3},
        },
    ),
    "axk1": (
        "axk1",
        {
            **_LATENT,
            **{key: value for key, value in _DEEP.items() if key != "first_k_dense_replace"},
            "mlp_layer_types": ["dense", "sparse", "sparse"],
        },
    ),
    "youtu": ("youtu", _LATENT),
    "minicpm3": (
        "minicpm3",
        {**_LATENT, "v_head_dim": None, "scale_emb": 3, "scale_depth": 0.9, "dim_model_base": 20},
    ),
    "gpt2 untied": ("gpt2", {**_GPT, "tie_word_embeddings": False, "activation_function": "gelu"}),
    "openai-gpt": ("openai-gpt", {**_GPT, "n_inner": None}),
    "gpt_bigcode": ("gpt_bigcode", _GPT),
    "gpt_bigcode multi-head": ("gpt_bigcode", {**_GPT, "multi_query": False}),
    "gpt_neo": (
        "gpt_neo",
        {
            **_BASE,
            "hidden_size": 64,
            "num_layers": 4,
            "num_heads": 4,
            "intermediate_size": 100,
            "max_position_embeddings": S,
            "window_size": 37,
            "attention_types": [[["global", "local"], 2]],
        },
    ),
    "gptj": ("gptj", {**_GPT, "n_embd": 72, "rotary_dim": 8}),
    "codegen": ("codegen", {**_GPT, "n_embd": 96, "n_head": 8, "rotary_dim": 8}),
    "gpt_neox": ("gpt_neox", {**_OLD, "rotary_pct": 0.25}),
    "gpt_neox in sequence": ("gpt_neox", {**_OLD, "use_parallel_residual": False, "attention_bias": False}),
    "gpt_neox_japanese": (
        "gpt_neox_japanese",
        {
            **_BASE,
            "hidden_size": 64,
            "num_hidden_layers": LAYERS,
            "num_attention_heads": 4,
            "max_position_embeddings": S,
        },
    ),
    "opt": (
        "opt",
        {
            **_BASE,
            "hidden_size": 64,
            "num_hidden_layers": LAYERS,
            "num_attention_heads": 4,
            "ffn_dim": 100,
            "max_position_embeddings": S,
            "word_embed_proj_dim": 64,
            "activation_function": "relu",
        },
    ),
    "opt-350m": (
        "opt",
        {
            **_BASE,
            "hidden_size": 64,
            "num_hidden_layers": LAYERS,
            "num_attention_heads": 4,
            "ffn_dim": 100,
            "max_position_embeddings": S,
            "word_embed_proj_dim": 40,
            "do_layer_norm_before": False,
        },
    ),
    "bitnet": ("bitnet", {**_LLAMA, "attention_bias": True}),
    "xglm": (
        "xglm",
        {
            **_BASE,
            "pad_token_id": 1,
            "d_model": 64,
            "num_layers": LAYERS,
            "attention_heads": 4,
            "ffn_dim": 100,
            "max_position_embeddings": S,
        },
    ),
    "ctrl": ("ctrl", {**{key: value for key, value in _GPT.items() if key != "n_inner"}, "dff": 84}),
    "modernbert-decoder": (
        "modernbert-decoder",
        {
            **_OLD,
            "pad_token_id": 1,
            "bos_token_id": 2,
            "cls_token_id": 2,
            "eos_token_id": 3,
            "sep_token_id": 3,
            "local_attention": 74,
            "layer_types": ["full_attention", "sliding_attention", "sliding_attention"],
            "norm_bias": True,
            "classifier_bias": True,
            "tie_word_embeddings": False,
        },
    ),
    "modernbert-decoder tied": (
        "modernbert-decoder",
        {
            **_OLD,
            "pad_token_id": 1,
            "bos_token_id": 2,
            "cls_token_id": 2,
            "eos_token_id": 3,
            "sep_token_id": 3,
            "num_hidden_layers": 4,
            "attention_bias": True,
            "mlp_bias": True,
        },
    ),
    "biogpt": ("biogpt", {**_OLD, "pad_token_id": 1}),
    "bloom": ("bloom", {**_BASE, "hidden_size": 72, "n_layer": LAYERS, "n_head": 6, "seq_length": S}),
    "falcon-7b": (
        "falcon",
        {**_BASE, "hidden_size": 72, "num_hidden_layers": LAYERS, "num_attention_heads": 6, "ffn_hidden_size": 100},
    ),
    "falcon-40b": (
        "falcon",
        {
            **_BASE,
            "hidden_size": 72,
            "num_hidden_layers": LAYERS,
            "num_attention_heads": 6,
            "num_kv_heads": 3,
            "new_decoder_architecture": True,
        },
    ),
    "falcon-11b": (
        "falcon",
        {
            **_BASE,
            "hidden_size": 72,
            "num_hidden_layers": LAYERS,
            "num_attention_heads": 6,
            "num_kv_heads": 3,
            "new_decoder_architecture": True,
            "num_ln_in_parallel_attn": 1,
            "tie_word_embeddings": False,
        },
    ),
    "falcon-rw": (
        "falcon",
        {
            **_BASE,
            "hidden_size": 72,
            "num_hidden_layers": LAYERS,
            "num_attention_heads": 6,
            "alibi": True,
            "multi_query": False,
            "parallel_attn": False,
            "bias": True,
        },
    ),
    "mpt": (
        "mpt",
        {**_BASE, "d_model": 60, "n_layers": LAYERS, "n_heads": 6, "max_seq_len": S, "expansion_ratio": 4},
    ),
    "llama": ("llama", {**_WIDE, "rope_parameters": _LLAMA3}),
    "llama linear": ("llama", {**_LLAMA, "rope_parameters": _LINEAR, "tie_word_embeddings": True}),
    "llama dynamic": (
        "llama",
        {**_LLAMA, "rope_parameters": _NTK, "attention_bias": True, "mlp_bias": True},
    ),
    "mistral": ("mistral", {**_WIDE, "sliding_window": 97}),
    "ministral": ("ministral", {**_WIDE, "sliding_window": 97, "layer_types": _LOCAL}),
    "ministral3": ("ministral3", {**_WIDE, "rope_parameters": {**_YARN, "llama_4_scaling_beta": 0.1}}),
    "qwen2": ("qwen2", {**_LLAMA, "use_sliding_window": True, "sliding_window": 97, "max_window_layers": 1}),
    "qwen3": ("qwen3", _WIDE),
    "gemma": ("gemma", _WIDE),
    "gemma2": ("gemma2", {**_WIDE, "sliding_window": 97, "layer_types": _LOCAL, "query_pre_attn_scalar": 20}),
    "gemma3_text": (
        "gemma3_text",
        {**_WIDE, "sliding_window": 97, "layer_types": _LOCAL, "query_pre_attn_scalar": 20},
    ),
    "vaultgemma": ("vaultgemma", {**_WIDE, "sliding_window": 97, "layer_types": _LOCAL}),
    "phi": ("phi", {**_OLD, "partial_rotary_factor": 0.5, "num_key_value_heads": 2, "qk_layernorm": True}),
    "phi-2": ("phi", {**_OLD, "partial_rotary_factor": 0.5}),
    "phi3": (
        "phi3",
        {
            **_LLAMA,
            "hidden_size": 72,
            "sliding_window": 97,
            "original_max_position_embeddings": 144,
            "rope_parameters": {
                "rope_type": "longrope",
                "rope_theta": 1e4,
                "long_factor": [1.0, 1.5, 2.0, 4.0, 8.0, 12.0],
                "short_factor": [1.0, 1.0, 1.1, 1.2, 1.5, 2.0],
                "partial_rotary_factor": 1.0,
            },
        },
    ),
    "stablelm": (
        "stablelm",
        {**_OLD, "num_key_value_heads": 2, "qk_layernorm": True, "use_parallel_residual": True},
    ),
    "stablelm-3b": ("stablelm", {**_OLD, "num_key_value_heads": 2, "use_qkv_bias": True}),
    "starcoder2": ("starcoder2", {**_LLAMA, "sliding_window": 97, "use_bias": True}),
    "olmo": ("olmo", {**_LLAMA, "clip_qkv": 0.5}),
    "olmo2": ("olmo2", _LLAMA),
    "olmo3": ("olmo3", {**_LLAMA, "sliding_window": 97, "layer_types": _LOCAL}),
    "smollm3": ("smollm3", {**_LLAMA, "no_rope_layers": [1, 1, 0]}),
    "cohere": ("cohere", {**_LLAMA, "use_qk_norm": True, "logit_scale": 0.5}),
    "cohere2": ("cohere2", {**_WIDE, "sliding_window": 97, "layer_types": _LOCAL}),
    "cohere_compass_text": (
        "cohere_compass_text",
        {
            **_LLAMA,
            "sliding_window": 97,
            "layer_types": _LOCAL,
            "logit_scale": 0.5,
            "rope_parameters": {
                "sliding_attention": {"rope_type": "default", "rope_theta": 5e3, "mrope_section": [3, 1, 1]},
                "full_attention": None,
            },
        },
    ),
    "granite": (
        "granite",
        {
            **_LLAMA,
            "embedding_multiplier": 1.5,
            "attention_multiplier": 0.2,
            "residual_multiplier": 0.7,
            "logits_scaling": 2.0,
        },
    ),
    "glm": ("glm", {**_WIDE, "head_dim": 16}),
    "glm4": ("glm4", {**_WIDE, "head_dim": 16, "attention_bias": True}),
    "exaone": ("exaone", {**_WIDE, "rope_parameters": _LLAMA3}),
    "exaone4": ("exaone4", {**_LLAMA, "sliding_window": 97, "layer_types": _LOCAL}),
    "seed_oss": ("seed_oss", {**_WIDE, "attention_bias": True}),
    "apertus": ("apertus", {**_LLAMA, "rope_parameters": _LLAMA3}),
    "apertus1p5_text": ("apertus1p5_text", {**_LLAMA, "rope_parameters": _LLAMA3, "output_vocab_size": 57}),
    "arcee": ("arcee", {**_LLAMA, "rope_parameters": _YARN}),
    "nemotron": (
        "nemotron",
        {
            **_LLAMA,
            "head_dim": 12,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5},
        },
    ),
    "helium": ("helium", {**_LLAMA, "head_dim": 10}),
    "cwm": ("cwm", {**_WIDE, "bos_token_id": 1, "eos_token_id": 2, "sliding_window": 97, "layer_types": _LOCAL}),
    "nanochat": ("nanochat", _LLAMA),
    "jais2": ("jais2", _WIDE),
    "hunyuan_v1_dense": ("hunyuan_v1_dense", _WIDE),
    "hyperclovax": ("hyperclovax", {**_LLAMA, "use_post_norm": True, "residual_multiplier": 0.7}),
    "ernie4_5": ("ernie4_5", {**_WIDE, "use_bias": True}),
    "internlm3": ("internlm3", {**_WIDE, "qkv_bias": True, "bias": True}),
    "iquestcoder": ("iquestcoder", _WIDE),
    "persimmon": (
        "persimmon",
        {**_OLD, "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5}},
    ),
}


_EYES = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 40}
_PATCHES = {**_EYES, "image_size": 28, "patch_size": 14}
_QWEN_EYES = {"hidden_size": 32, "out_hidden_size": 60, "depth": 1, "num_heads": 2, "intermediate_size": 40}


def _mrope(*sections: int) -> dict[str, Any]:
    return {"rope_type": "default", "mrope_section": list(sections), "rope_theta": 1e4}


_WINDOWS = {**_WIDE, "sliding_window": 97, "layer_types": _LOCAL}
WRAPPERS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "gemma3": ("gemma3_text", {**_WINDOWS, "query_pre_attn_scalar": 20}, _PATCHES),
    "mistral3": ("mistral", {**_WIDE, "model_type": "mistral"}, {**_PATCHES, "model_type": "pixtral"}),
    "mistral3 mistral4": (
        "mistral4",
        {
            **_LATENT,
            **_DEEP,
            "n_group": 1,
            "topk_group": 1,
            "rope_parameters": {**_DEEPSEEK_YARN, "llama_4_scaling_beta": 0.3},
            "model_type": "mistral4",
        },
        {**_PATCHES, "model_type": "pixtral"},
    ),
    "llava": ("llama", {**_LLAMA, "model_type": "llama"}, {**_PATCHES, "model_type": "clip_vision_model"}),
    "qwen2_vl": ("qwen2_vl_text", {**_LLAMA, "rope_parameters": _mrope(1, 2, 2)}, {**_QWEN_EYES, "hidden_size": 60}),
    "qwen2_5_vl": ("qwen2_5_vl_text", {**_LLAMA, "rope_parameters": _mrope(1, 2, 2)}, _QWEN_EYES),
    "step3p7": (
        "step3p5",
        {
            **_WIDE,
            **_MOE,
            "pad_token_id": 1,
            "head_dim": 16,
            "num_hidden_layers": 5,
            "layer_types": ["full_attention", *["sliding_attention", "full_attention"] * 2],
            "num_sliding_attention_heads": 9,
            "sliding_window": 64,
            "n_routed_experts": 8,
            "share_expert_dim": 52,
            "moe_router_scaling_factor": 1.7,
            "mlp_layer_types": ["dense", "dense", *["sparse"] * 3],
            "swiglu_limits": [0.0, 0.0, 0.0, 1.0, 0.7],
            "swiglu_limits_shared": [0.9, 0.0, 0.0, 0.0, 0.8],
            "rope_parameters": {
                "full_attention": {"rope_type": "default", "rope_theta": 5e3, "partial_rotary_factor": 0.5},
                "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
            },
        },
        {"width": 32, "layers": 1, "heads": 2, "image_size": 28},
    ),
    "qwen3_vl_moe": (
        "qwen3_vl_moe_text",
        {**_WIDE, **_MOE, "num_experts": 5, "rope_parameters": _mrope(3, 2, 2)},
        {**_QWEN_EYES, "deepstack_visual_indexes": [0]},
    ),
    "glm4v_moe": (
        "glm4v_moe_text",
        {
            **_WIDE,
            **_DEEP,
            "head_dim": 16,
            "rope_parameters": {**_mrope(2, 1, 1), "partial_rotary_factor": 0.5},
        },
        {**_QWEN_EYES, "num_hidden_layers": 1},
    ),
    "qwen3_vl": (
        "qwen3_vl_text",
        {**_WIDE, "rope_parameters": _mrope(3, 2, 2)},
        {**_QWEN_EYES, "deepstack_visual_indexes": [0]},
    ),
}
"""Models that see images too: the text model that each has, its config, and that of a small encoder of images."""


def configuration(name: str) -> Any:
    """The config of a sample, as transformers builds it."""
    transformers = pytest.importorskip("transformers", reason="the outside voice")
    if name in WRAPPERS:
        _, text, vision = WRAPPERS[name]
        return transformers.AutoConfig.for_model(name.partition(" ")[0], text_config=text, vision_config=vision)
    kind, settings = SAMPLES[name]
    return transformers.AutoConfig.for_model(kind, **settings, attn_implementation="eager")


def built(name: str, *, meta: bool = False) -> Any:
    """transformers' model of a sample, on the meta device or with random weights."""
    import torch
    import transformers

    config = configuration(name)
    if name == "falcon-rw" and not meta:
        # With eager attention transformers adds ALiBi twice: to the scores, and to the mask that is added to them.
        config._attn_implementation = "sdpa"
    build = transformers.AutoModelForImageTextToText if name in WRAPPERS else transformers.AutoModelForCausalLM
    with torch.device("meta" if meta else "cpu"):
        # Where tensors have no numbers, no expert can be looked for: each vector gets the matrices of its own.
        config._experts_implementation = "batched_mm" if meta else "eager"
        model = build.from_config(config).eval()
    if not meta:
        torch.manual_seed(0)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() < 2:
                    parameter.add_(torch.randn_like(parameter) * 0.2)
                else:
                    parameter.copy_(torch.randn_like(parameter) * 0.2)
            for stored, buffer in model.named_buffers():
                if stored.endswith("e_score_correction_bias"):
                    buffer.copy_(torch.randn_like(buffer) * 0.2)
                elif stored.endswith("layer_scalar"):
                    buffer.add_(torch.randn_like(buffer) * 0.2)
    return model
