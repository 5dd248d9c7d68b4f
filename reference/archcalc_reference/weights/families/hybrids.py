"""The names of checkpoints with recurrent layers, as transformers has them."""

from __future__ import annotations

from dataclasses import replace

from archcalc_reference.weights.families.family import Family, Fused
from archcalc_reference.weights.families.llama import EXPERTS, GRANITE_MOE, LLAMA, mixture


def _mamba2(ours: str, theirs: str) -> tuple[dict[str, str], dict[str, Fused]]:
    """The names of a Mamba-2 mixer: one matrix makes gate, values, keys, queries and steps, in this order."""
    inside = {
        f"{ours}.step_bias": f"{theirs}.dt_bias",
        f"{ours}.decay": f"{theirs}.A_log",
        f"{ours}.skip": f"{theirs}.D",
        f"{ours}.norm": f"{theirs}.norm",
        f"{ours}.output": f"{theirs}.out_proj",
    }
    projections = ("output_gate", "value", "key", "query", "step")
    fused = {
        f"{theirs}.in_proj": Fused(tuple(f"{ours}.{name}" for name in projections)),
        f"{theirs}.conv1d": Fused(tuple(f"{ours}.{name}_conv" for name in ("value", "key", "query"))),
    }
    return inside, fused


def _mamba(ours: str, theirs: str) -> tuple[dict[str, str], dict[str, Fused]]:
    """The names of a Mamba mixer, of which Jamba alone has norms that learn."""
    inside = {
        f"{ours}.value_conv": f"{theirs}.conv1d",
        f"{ours}.step": f"{theirs}.dt_proj",
        f"{ours}.step_bias": f"{theirs}.dt_proj.bias",
        f"{ours}.decay": f"{theirs}.A_log",
        f"{ours}.skip": f"{theirs}.D",
        f"{ours}.step_norm": f"{theirs}.dt_layernorm",
        f"{ours}.key_norm": f"{theirs}.b_layernorm",
        f"{ours}.query_norm": f"{theirs}.c_layernorm",
        f"{ours}.output": f"{theirs}.out_proj",
    }
    fused = {
        f"{theirs}.in_proj": Fused((f"{ours}.value", f"{ours}.output_gate")),
        f"{theirs}.x_proj": Fused((f"{ours}.low_step", f"{ours}.key", f"{ours}.query")),
    }
    return inside, fused


_MIXER, _MIXER_FUSED = _mamba2("mamba2", "mixer")
NEMOTRON_H = Family(
    types=("nemotron_h",),
    prefix="model.",
    layer="model.layers.{i}.",
    outside={"embedding.token": "model.embeddings", "final_norm": "model.norm_f", "unembedding": "lm_head"},
    inside={
        **dict.fromkeys(("mamba2_norm", "attention_norm", "mlp_norm"), "norm"),
        **_MIXER,
        **{f"attention.{name}": f"mixer.{name[0]}_proj" for name in ("query", "key", "value", "output")},
        "mlp.up": "mixer.up_proj",
        "mlp.down": "mixer.down_proj",
        "mlp.router": "mixer.gate",
        "mlp.correction": "mixer.gate.e_score_correction_bias",
        "mlp.experts.up.weight": "mixer.experts.up_proj",
        "mlp.experts.down.weight": "mixer.experts.down_proj",
        "mlp.latent": "mixer.fc1_latent_proj",
        "mlp.from_latent": "mixer.fc2_latent_proj",
        "mlp.shared.up": "mixer.shared_experts.up_proj",
        "mlp.shared.down": "mixer.shared_experts.down_proj",
    },
    fused=_MIXER_FUSED,
    each={f"mlp.experts.{name}.weight": f"mixer.experts.{{h}}.{name}_proj.weight" for name in ("up", "down")},
    older=((r"^language_model\.", ""), (r"^backbone\.", "model.")),
)
_LINEAR = "linear_attention"
_DELTA = {
    f"{_LINEAR}_norm": "input_layernorm",
    f"{_LINEAR}.step_bias": "linear_attn.dt_bias",
    f"{_LINEAR}.decay": "linear_attn.A_log",
    f"{_LINEAR}.norm": "linear_attn.norm",
    f"{_LINEAR}.output": "linear_attn.out_proj",
}


def _parts(*names: str) -> tuple[str, ...]:
    return tuple(f"{_LINEAR}.{name}" for name in names)


_CONVOLVED = {"linear_attn.conv1d": Fused(_parts("query_conv", "key_conv", "value_conv"))}
_GATED_QUERY = {"self_attn.q_proj": Fused(("attention.query", "attention.output_gate"), "n_heads")}
_WITH_EXPERTS = {"mlp.experts.gate_up_proj": EXPERTS}
_JOINED = Fused(_parts("query", "key", "value"))
_APART = {
    "linear_attn.in_proj_qkv": _JOINED,
    **_CONVOLVED,
    **_GATED_QUERY,
}
_SHARED = {"mlp.shared_gate": "mlp.shared_expert_gate"}
QWEN3_NEXT = mixture("qwen3_next", shared="shared_expert", inside={**_DELTA, **_SHARED}).but(
    "qwen3_next",
    fused={
        "linear_attn.in_proj_qkvz": Fused(_parts("query", "key", "value", "output_gate"), "n_groups"),
        "linear_attn.in_proj_ba": Fused(_parts("share", "step"), "n_groups"),
        **_CONVOLVED,
        **_GATED_QUERY,
        **_WITH_EXPERTS,
    },
)
_OLMO = {
    **_DELTA,
    **{f"{_LINEAR}.{name}": f"linear_attn.{name[0]}_proj" for name in ("query", "key", "value", "output")},
    f"{_LINEAR}.output_gate": "linear_attn.g_proj",
    f"{_LINEAR}.share": "linear_attn.b_proj",
    f"{_LINEAR}.step": "linear_attn.a_proj",
    f"{_LINEAR}.norm": "linear_attn.o_norm",
    "attention_post_norm": "post_attention_layernorm",
    "mlp_post_norm": "post_feedforward_layernorm",
}
_QWEN3_5 = {
    **_DELTA,
    f"{_LINEAR}.output_gate": "linear_attn.in_proj_z",
    f"{_LINEAR}.share": "linear_attn.in_proj_b",
    f"{_LINEAR}.step": "linear_attn.in_proj_a",
}
_CONVOLVING = {
    **dict.fromkeys(("conv_norm", "attention_norm"), "operator_norm"),
    "mlp_norm": "ffn_norm",
    "conv.value_conv": "conv.conv",
    "conv.output": "conv.out_proj",
    "attention.output": "self_attn.out_proj",
    "attention.query_norm": "self_attn.q_layernorm",
    "attention.key_norm": "self_attn.k_layernorm",
    "mlp.gate": "feed_forward.w1",
    "mlp.up": "feed_forward.w3",
    "mlp.down": "feed_forward.w2",
}
_LFM2 = {"conv.in_proj": Fused(("conv.input_gate", "conv.output_gate", "conv.value"))}
_PROJECTIONS = ("gate", "up", "down")
_W = {"gate": "w1", "up": "w3", "down": "w2"}
_BAMBA, _BAMBA_FUSED = _mamba2("mamba2", "mamba")
_FEED_FORWARD = {
    "mamba2_norm": "input_layernorm",
    "mlp_norm": "pre_ff_layernorm",
    "mlp.gate": "feed_forward.gate_proj",
    "mlp.up": "feed_forward.up_proj",
    "mlp.down": "feed_forward.down_proj",
}
_EXPERTS = {"feed_forward.experts.gate_up_proj": EXPERTS}
_MAMBA, _MAMBA_FUSED = _mamba("mamba", "mixer")
_JAMBA, _JAMBA_FUSED = _mamba("mamba", "mamba")
_ALONE = Family(
    types=("mamba", "falcon_mamba"),
    prefix="backbone.",
    layer="backbone.layers.{i}.",
    outside={"embedding.token": "backbone.embeddings", "final_norm": "backbone.norm_f", "unembedding": "lm_head"},
    inside={"mamba_norm": "norm", **_MAMBA},
    fused=_MAMBA_FUSED,
    older=((r"^backbone\.embedding\.", "backbone.embeddings."),),
)
_ZAMBA2, _ZAMBA2_FUSED = _mamba2("mamba2", "mamba")
_HYBRID, _HYBRID_FUSED = _mamba2("hybrid", "mamba_decoder.mamba")
_TRANSFORMER, _ADAPTERS = "shared_transformer", "gate_up_proj_adapter_list.{use}"
_QKV_ADAPTERS = {
    f"hybrid_added.attention.{name}_adapter.{ours}": (
        f"{_TRANSFORMER}.self_attn.linear_{name[0]}_adapter_list.{{use}}.{n}"
    )
    for name in ("query", "key", "value")
    for n, ours in enumerate(("down", "up"))
}
FAMILIES = (
    LLAMA.but(
        "zamba2",
        outside={"final_norm": "model.final_layernorm"},
        inside={
            **_ZAMBA2,
            **_HYBRID,
            **_QKV_ADAPTERS,
            "mamba2_norm": "input_layernorm",
            "hybrid_norm": "mamba_decoder.input_layernorm",
            "hybrid_added.projection": "linear",
            "hybrid_added.mlp.adapter.down": f"{_TRANSFORMER}.feed_forward.{_ADAPTERS}.0",
            "shared.norm": f"{_TRANSFORMER}.input_layernorm",
            "shared.mlp_norm": f"{_TRANSFORMER}.pre_ff_layernorm",
            "shared.mlp.down": f"{_TRANSFORMER}.feed_forward.down_proj",
            **{
                f"shared.attention.{name}": f"{_TRANSFORMER}.self_attn.{name[0]}_proj"
                for name in ("query", "key", "value", "output")
            },
        },
        fused={
            **_ZAMBA2_FUSED,
            **_HYBRID_FUSED,
            f"{_TRANSFORMER}.feed_forward.gate_up_proj": Fused(("shared.mlp.gate", "shared.mlp.up")),
            f"{_TRANSFORMER}.feed_forward.{_ADAPTERS}.1": Fused(
                tuple(f"hybrid_added.mlp.adapter.{name}" for name in ("gate", "up"))
            ),
        },
    ),
    GRANITE_MOE.but(
        "granitemoehybrid",
        inside={
            **_BAMBA,
            "mamba2_norm": "input_layernorm",
            "mlp.down": "shared_mlp.output_linear",
        },
        fused={
            **GRANITE_MOE.fused,
            **_BAMBA_FUSED,
            "mlp.input_linear": Fused(  # where there are no experts the MLP for all tokens is alone
                ("mlp.gate", "mlp.up"), needs="mlp.router", otherwise="shared_mlp.input_linear"
            ),
        },
    ),
    _ALONE,
    replace(_ALONE, types=("mamba2",), inside={"mamba2_norm": "norm", **_MIXER}, fused=_MIXER_FUSED),
    LLAMA.but(
        "jamba",
        outside={"final_norm": "model.final_layernorm"},
        inside={
            **_JAMBA,
            **_FEED_FORWARD,
            "mamba_norm": "input_layernorm",
            "mlp.router": "feed_forward.router",
            "mlp.experts.down.weight": "feed_forward.experts.down_proj",
        },
        fused={**_JAMBA_FUSED, **_EXPERTS},
        each={f"mlp.experts.{name}.weight": f"feed_forward.experts.{{h}}.{name}_proj.weight" for name in _PROJECTIONS},
    ),
    NEMOTRON_H,
    LLAMA.but("lfm2", outside={"final_norm": "model.embedding_norm"}, inside=_CONVOLVING, fused=_LFM2),
    LLAMA.but(
        "lfm2_moe",
        outside={"final_norm": "model.embedding_norm"},
        inside={
            **_CONVOLVING,
            "mlp.router": "feed_forward.gate",
            "mlp.correction": "feed_forward.expert_bias",
            "mlp.experts.down.weight": "feed_forward.experts.down_proj",
        },
        fused={**_LFM2, **_EXPERTS},
        each={f"mlp.experts.{ours}.weight": f"feed_forward.experts.{{h}}.{w}.weight" for ours, w in _W.items()},
    ),
    LLAMA.but(
        "lfm3",
        outside={"final_norm": "model.embedding_norm"},
        inside={
            **{name: theirs for name, theirs in _CONVOLVING.items() if not name.startswith("attention.")},
            **dict.fromkeys(("conv_post_norm", "attention_post_norm"), "post_operator_norm"),
            "mlp_post_norm": "post_ffn_norm",
            "attention.output_gate": "self_attn.g_proj",
        },
        fused=_LFM2,
        older=(*LLAMA.older, (r"\.self_attn\.gate_proj\.", ".self_attn.g_proj.")),
    ),
    LLAMA.but(
        "bamba",
        outside={"final_norm": "model.final_layernorm"},
        inside={**_BAMBA, **_FEED_FORWARD},
        fused=_BAMBA_FUSED,
    ),
    LLAMA.but(
        "falcon_h1",
        outside={"final_norm": "model.final_layernorm"},
        inside={**_BAMBA, **_FEED_FORWARD},
        fused=_BAMBA_FUSED,
    ),
    mixture(
        "minimax",
        inside={
            f"{_LINEAR}_norm": "input_layernorm",
            f"{_LINEAR}.norm": "self_attn.norm",
            f"{_LINEAR}.output_gate": "self_attn.output_gate",
            f"{_LINEAR}.output": "self_attn.out_proj",
        },
        each={f"mlp.experts.{ours}.weight": f"mlp.experts.{{h}}.{w}.weight" for ours, w in _W.items()},
        older=(*LLAMA.older, (r"\.block_sparse_moe\.", ".mlp.")),
        buffers=(*LLAMA.buffers, *("slope_rate", "query_decay", "key_decay", "diagonal_decay")),
    ).but("minimax", fused={**_WITH_EXPERTS, "self_attn.qkv_proj": Fused(_parts("query", "key", "value"), "n_heads")}),
    QWEN3_NEXT,
    LLAMA.but(
        "olmo_hybrid",
        inside=_OLMO,
        fused=_CONVOLVED,
        each={
            f"{_LINEAR}.{name}_conv.weight": f"linear_attn.{name[0]}_conv1d.weight"
            for name in ("query", "key", "value")
        },
        older=(
            *LLAMA.older,
            (r"\.attention_layer_norm\.", ".input_layernorm."),
            (r"\.feedforward_layer_norm\.", ".post_attention_layernorm."),
        ),
    ),
    LLAMA.but("qwen3_5_text", inside=_QWEN3_5, fused=_APART),
    mixture("qwen3_5_moe_text", shared="shared_expert", inside={**_QWEN3_5, **_SHARED}).but(
        "qwen3_5_moe_text", fused={**_APART, **_WITH_EXPERTS}
    ),
    # Files have one tensor for all that is made of a vector, the model four; experts are one tensor in both.
    replace(
        mixture("lara_mini", shared="shared_expert", inside=_QWEN3_5),
        fused={"linear_attn.in_proj_qkv": _JOINED, **_CONVOLVED, **_WITH_EXPERTS},
        each={},
        packed={"linear_attn.in_proj": Fused((*_JOINED.parts, *_parts("output_gate", "share", "step")))},
        older=(*LLAMA.older, (r"\.linear_attn\.out_norm\.", ".linear_attn.norm.")),
    ),
)
