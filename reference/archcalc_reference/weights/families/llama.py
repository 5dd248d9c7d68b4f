"""The names of Llama's checkpoints and of those that took them over, as transformers' models have them."""

from __future__ import annotations

from typing import Any

from archcalc_reference.weights.families.family import QKV, Family, Fused

_ANGLES = ("rotary_emb.inv_freq",)
# How models that see images as well store their text model, from the oldest spelling to the newest.
_WRAPPED = (
    (r"^(model\.)?language_model\.lm_head\.", "lm_head."),
    (r"^(model\.language_model|language_model)(\.model)*\.", "model."),
)

LLAMA = Family(
    types=(
        *("llama", "mistral", "ministral", "ministral3", "qwen2", "qwen3", "gemma", "smollm3", "cohere", "cohere2"),
        *("granite", "helium", "seed_oss", "cwm", "ernie4_5", "olmo", "internlm3", "iquestcoder", "arcee", "nemotron"),
        *("jais2", "cohere_compass_text", "qwen2_vl_text", "qwen2_5_vl_text", "qwen3_vl_text", "emu3_text_model"),
    ),
    prefix="model.",
    layer="model.layers.{i}.",
    outside={"embedding.token": "model.embed_tokens", "final_norm": "model.norm", "unembedding": "lm_head"},
    inside={
        "attention_norm": "input_layernorm",
        "attention.query": "self_attn.q_proj",
        "attention.key": "self_attn.k_proj",
        "attention.value": "self_attn.v_proj",
        "attention.output": "self_attn.o_proj",
        "attention.query_norm": "self_attn.q_norm",
        "attention.key_norm": "self_attn.k_norm",
        "mlp_norm": "post_attention_layernorm",
        "mlp.gate": "mlp.gate_proj",
        "mlp.up": "mlp.up_proj",
        "mlp.down": "mlp.down_proj",
    },
    older=_WRAPPED,
    buffers=_ANGLES,
)
_GATE_UP = Fused(("mlp.gate", "mlp.up"))

EXPERTS = Fused(("mlp.experts.gate", "mlp.experts.up"), "n_experts", bare=True)
SHARED = {"mlp.shared.gate": "gate_proj", "mlp.shared.up": "up_proj", "mlp.shared.down": "down_proj"}
_EACH = {"gate": "gate_proj", "up": "up_proj", "down": "down_proj"}


def mixture(*types: str, shared: str = "", inside: dict[str, str] | None = None, **changes: Any) -> Family:
    """Llama's names, and experts: in transformers' model one tensor for all, in its files one for each."""
    theirs = {
        "mlp.router": "mlp.gate",
        "mlp.experts.down.weight": "mlp.experts.down_proj",
        **({ours: f"mlp.{shared}.{name}" for ours, name in SHARED.items()} if shared else {}),
        **(inside or {}),
    }
    each = {f"mlp.experts.{ours}.weight": f"mlp.experts.{{h}}.{name}.weight" for ours, name in _EACH.items()}
    return LLAMA.but(*types, inside=theirs, fused={"mlp.experts.gate_up_proj": EXPERTS}, **{"each": each, **changes})


_OLD_MIXTRAL = {"gate": "w1", "up": "w3", "down": "w2"}
GRANITE_MOE = LLAMA.but(
    *("granitemoe", "granitemoeshared", "granitemoe_swa"),
    inside={
        "attention.sinks": "self_attn.sinks",
        "mlp.router": "block_sparse_moe.router",
        "mlp.experts.down.weight": "block_sparse_moe.experts.down_proj",
        "mlp.shared.down": "shared_mlp.output_linear",
    },
    fused={
        "block_sparse_moe.experts.gate_up_proj": EXPERTS,
        "shared_mlp.input_linear": Fused(("mlp.shared.gate", "mlp.shared.up")),
    },
    older=(
        *LLAMA.older,
        (r"block_sparse_moe\.input_linear\.weight", "block_sparse_moe.experts.gate_up_proj"),
        (r"block_sparse_moe\.output_linear\.weight", "block_sparse_moe.experts.down_proj"),
        (r"block_sparse_moe\.router\.layer\.", "block_sparse_moe.router."),
    ),
)
FAMILIES = (
    LLAMA,
    mixture("qwen3_moe", "olmoe"),
    mixture(
        "mixtral",
        each={f"mlp.experts.{ours}.weight": f"mlp.experts.{{h}}.{w}.weight" for ours, w in _OLD_MIXTRAL.items()},
        older=(*LLAMA.older, (r"\.block_sparse_moe\.", ".mlp.")),
    ),
    mixture(
        "minimax_m2",
        inside={"mlp.correction": "mlp.e_score_correction_bias"},
        each={f"mlp.experts.{ours}.weight": f"mlp.experts.{{h}}.{w}.weight" for ours, w in _OLD_MIXTRAL.items()},
        older=(*LLAMA.older, (r"\.block_sparse_moe\.", ".mlp.")),
    ),
    mixture(
        "flex_olmo",
        inside={
            "attention_post_norm": "post_attention_layernorm",
            "mlp_post_norm": "post_feedforward_layernorm",
        },
    ),
    GRANITE_MOE,
    mixture("qwen2_moe", shared="shared_expert", inside={"mlp.shared_gate": "mlp.shared_expert_gate"}),
    mixture(
        *("glm4_moe", "dots1", "glm4v_moe_text"),
        shared="shared_experts",
        inside={"mlp.correction": "mlp.gate.e_score_correction_bias"},
    ),
    mixture(
        "ernie4_5_moe",
        shared="shared_experts",
        inside={"mlp.correction": "mlp.gate.moe_statics.e_score_correction_bias"},
        lifted={"mlp.correction": (1, 0)},
        older=(*LLAMA.older, (r"\.mlp\.moe_statics\.", ".mlp.gate.moe_statics.")),
    ),
    mixture(
        "hunyuan_v1_moe",
        shared="shared_mlp",
        inside={
            "mlp.router": "mlp.gate.wg",
            "attention.query_norm": "self_attn.query_layernorm",
            "attention.key_norm": "self_attn.key_layernorm",
        },
    ),
    mixture(
        *("solar_open", "exaone_moe"),
        shared="shared_experts",
        inside={"mlp.correction": "mlp.gate.e_score_correction_bias"},
        older=(*LLAMA.older, (r"\.mlp\.e_score_correction_bias", ".mlp.gate.e_score_correction_bias")),
    ),
    mixture("cohere2_moe", shared="shared_experts"),
    mixture(
        "phimoe",
        inside={"mlp.router": "mlp.router"},
        each={f"mlp.experts.{ours}.weight": f"mlp.experts.{{h}}.{w}.weight" for ours, w in _OLD_MIXTRAL.items()},
        older=(
            *LLAMA.older,
            (r"\.block_sparse_moe\.gate\.", ".mlp.router."),
            (r"\.block_sparse_moe\.", ".mlp."),
        ),
    ),
    LLAMA.but(
        "qwen3_vl_moe_text",
        inside={"mlp.router": "mlp.gate", "mlp.experts.down.weight": "mlp.experts.down_proj"},
        fused={"mlp.experts.gate_up_proj": EXPERTS},
    ),
    mixture(
        "mimo_v2_flash",
        inside={
            "attention.sinks": "self_attn.sinks",
            "mlp.correction": "mlp.gate.e_score_correction_bias",
        },
        older=(*LLAMA.older, (r"\.self_attn\.attention_sink_bias", ".self_attn.sinks")),
    ),
    mixture(
        "afmoe",
        shared="shared_experts",
        inside={
            "attention.output_gate": "self_attn.gate_proj",
            "attention_post_norm": "post_attention_layernorm",
            "mlp_norm": "pre_mlp_layernorm",
            "mlp_post_norm": "post_mlp_layernorm",
            "mlp.router": "mlp.router.gate",
            "mlp.correction": "mlp.expert_bias",
        },
    ),
    mixture(
        "laguna",
        shared="shared_experts",
        inside={
            "attention.output_gate": "self_attn.g_proj",
            "mlp.correction": "mlp.gate.e_score_correction_bias",
        },
        older=(
            *LLAMA.older,
            (r"\.mlp\.experts\.e_score_correction_bias", ".mlp.gate.e_score_correction_bias"),
            (r"\.mlp\.shared_expert\.", ".mlp.shared_experts."),
        ),
    ),
    mixture(
        "hy_v3",
        shared="shared_experts",
        inside={"mlp.correction": "mlp.e_score_correction_bias"},
        older=(
            *LLAMA.older,
            (r"\.mlp\.router\.gate\.", ".mlp.gate."),
            (r"\.mlp\.expert_bias", ".mlp.e_score_correction_bias"),
            (r"\.mlp\.shared_mlp\.", ".mlp.shared_experts."),
        ),
    ),
    mixture("mellum"),
    mixture(
        "kolibri1",
        shared="shared_experts",
        inside={
            "attention_post_norm": "post_self_attn_layernorm",
            "mlp_post_norm": "post_mlp_layernorm",
            "mlp.correction": "mlp.gate.e_score_correction_bias",
        },
        older=(
            *LLAMA.older,
            (r"\.moe\.router\.expert_bias", ".mlp.gate.e_score_correction_bias"),
            (r"\.mlp\.moe\.router\.expert_bias", ".mlp.gate.e_score_correction_bias"),
            (r"\.post_attn_norm\.", ".post_self_attn_layernorm."),
            (r"\.post_ffn_norm\.", ".post_mlp_layernorm."),
        ),
    ),
    LLAMA.but("granite_swa", inside={"attention.sinks": "self_attn.sinks"}),
    mixture(
        "flint",
        shared="shared_expert",
        inside={"attention.sinks": "self_attn.sinks"},
        older=(*LLAMA.older, (r"\.self_attn\.softmax_offset", ".self_attn.sinks")),
    ),
    LLAMA.but(
        "llama4_text",
        inside={
            **{f"mlp.{ours}": f"feed_forward.{theirs}" for ours, theirs in _EACH.items()},
            **{ours: f"feed_forward.shared_expert.{theirs}" for ours, theirs in SHARED.items()},
            "mlp.router": "feed_forward.router",
            "mlp.experts.down.weight": "feed_forward.experts.down_proj",
        },
        fused={"feed_forward.experts.gate_up_proj": EXPERTS},
        turned=True,
    ),
    LLAMA.but(
        "gpt_oss",
        inside={
            "attention.sinks": "self_attn.sinks",
            "mlp.router": "mlp.router",
            "mlp.experts.down.weight": "mlp.experts.down_proj",
            "mlp.experts.down.bias": "mlp.experts.down_proj_bias",
        },
        fused={"mlp.experts.gate_up_proj": EXPERTS._replace(woven=True)},
        turned=True,
    ),
    LLAMA.but("phi3", fused={"self_attn.qkv_proj": Fused(QKV), "mlp.gate_up_proj": _GATE_UP}),
    LLAMA.but("glm", fused={"mlp.gate_up_proj": _GATE_UP}),
    LLAMA.but(
        "glm4",
        inside={"attention_post_norm": "post_self_attn_layernorm", "mlp_post_norm": "post_mlp_layernorm"},
        fused={"mlp.gate_up_proj": _GATE_UP},
    ),
    LLAMA.but(
        "hunyuan_v1_dense",
        inside={
            "attention.query_norm": "self_attn.query_layernorm",
            "attention.key_norm": "self_attn.key_layernorm",
        },
    ),
    LLAMA.but("hyperclovax", inside={"attention_post_norm": "post_norm1", "mlp_post_norm": "post_norm2"}),
    LLAMA.but(
        "stablelm",
        inside={
            "attention.query_norm": "self_attn.q_layernorm.norms.{h}",
            "attention.key_norm": "self_attn.k_layernorm.norms.{h}",
        },
    ),
    LLAMA.but("starcoder2", inside={"mlp.up": "mlp.c_fc", "mlp.down": "mlp.c_proj"}),
    LLAMA.but("nanochat", inside={"mlp.up": "mlp.fc1", "mlp.down": "mlp.fc2"}),
    LLAMA.but(
        *("apertus", "apertus1p5_text"),
        inside={
            "attention_norm": "attention_layernorm",
            "mlp_norm": "feedforward_layernorm",
            "mlp.alpha_p": "mlp.act_fn.alpha_p",
            "mlp.alpha_n": "mlp.act_fn.alpha_n",
        },
        buffers=(*_ANGLES, "act_fn.beta", "act_fn.eps"),
        constants={"mlp.act_fn.beta": 0.5, "mlp.act_fn.eps": -1e-6},
    ),
    LLAMA.but(
        "phi",
        outside={"final_norm": "model.final_layernorm"},
        inside={
            "attention.output": "self_attn.dense",
            "attention.query_norm": "self_attn.q_layernorm",
            "attention.key_norm": "self_attn.k_layernorm",
            "mlp.up": "mlp.fc1",
            "mlp.down": "mlp.fc2",
        },
    ),
    LLAMA.but(
        "persimmon",
        outside={"final_norm": "model.final_layernorm"},
        inside={
            "attention.output": "self_attn.dense",
            "attention.query_norm": "self_attn.q_layernorm",
            "attention.key_norm": "self_attn.k_layernorm",
            "mlp.up": "mlp.dense_h_to_4h",
            "mlp.down": "mlp.dense_4h_to_h",
        },
        fused={"self_attn.query_key_value": Fused(QKV, "n_kv_heads")},
    ),
    # LG's own names; transformers renames them to Llama's, and saves what it has read as it was.
    LLAMA.but(
        "exaone",
        older=(
            *_WRAPPED,
            (r"^(transformer\.)?wte\.", "model.embed_tokens."),
            (r"^(transformer\.)?h\.", "model.layers."),
            (r"^(transformer\.)?ln_f\.", "model.norm."),
            (r"\.attn\.attention\.", ".self_attn."),
            (r"\.self_attn\.out_proj\.", ".self_attn.o_proj."),
            (r"\.ln_1\.", ".input_layernorm."),
            (r"\.ln_2\.", ".post_attention_layernorm."),
            (r"\.mlp\.c_fc_0\.", ".mlp.gate_proj."),
            (r"\.mlp\.c_fc_1\.", ".mlp.up_proj."),
            (r"\.mlp\.c_proj\.", ".mlp.down_proj."),
        ),
        buffers=("rotary_emb.inv_freq", "rotary.inv_freq", "attn.bias", "attn.masked_bias"),
    ),
)
