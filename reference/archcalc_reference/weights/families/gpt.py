"""The names of the checkpoints of GPT and its kin, before Llama, as transformers' models have them."""

from __future__ import annotations

from archcalc_reference.weights.families.family import QKV, Family, Fused

_MASKS = ("attn.bias", "attn.masked_bias")
_GPT2_MLP = {"mlp.up": "mlp.c_fc", "mlp.down": "mlp.c_proj"}
_MEGATRON_MLP = {"mlp.up": "mlp.dense_h_to_4h", "mlp.down": "mlp.dense_4h_to_h"}
_BY_HEAD = Fused(QKV, "n_kv_heads")

GPT2 = Family(
    types=("gpt2",),
    prefix="transformer.",
    layer="transformer.h.{i}.",
    outside={
        "embedding.token": "transformer.wte",
        "embedding.position": "transformer.wpe",
        "final_norm": "transformer.ln_f",
        "unembedding": "lm_head",
    },
    inside={
        "attention_norm": "ln_1",
        "attention.output": "attn.c_proj",
        "mlp_norm": "ln_2",
        **_GPT2_MLP,
    },
    fused={"attn.c_attn": Fused(QKV)},
    transposed=True,
    buffers=_MASKS,
)
_SINGLE = {
    f"attention.{ours}": f"attn.{theirs}_proj"
    for ours, theirs in (("query", "q"), ("key", "k"), ("value", "v"), ("output", "out"))
}

_FAIRSEQ = {
    "attention_norm": "self_attn_layer_norm",
    "attention.query": "self_attn.q_proj",
    "attention.key": "self_attn.k_proj",
    "attention.value": "self_attn.v_proj",
    "attention.output": "self_attn.out_proj",
    "mlp_norm": "final_layer_norm",
    "mlp.up": "fc1",
    "mlp.down": "fc2",
}
_DBRX = {"gate": "w1", "up": "v1", "down": "w2"}

FAMILIES = (
    GPT2,
    Family(
        types=("dbrx",),
        prefix="transformer.",
        layer="transformer.blocks.{i}.",
        outside={"embedding.token": "transformer.wte", "final_norm": "transformer.norm_f", "unembedding": "lm_head"},
        inside={
            "attention_norm": "norm_attn_norm.norm_1",
            "attention.output": "norm_attn_norm.attn.out_proj",
            "mlp_norm": "norm_attn_norm.norm_2",
            "mlp.router": "ffn.router.layer",
            **{f"mlp.experts.{ours}.weight": f"ffn.experts.mlp.{theirs}" for ours, theirs in _DBRX.items()},
        },
        fused={"norm_attn_norm.attn.Wqkv": Fused(QKV)},
        flat={f"mlp.experts.{ours}.weight": ours == "down" for ours in _DBRX},
    ),
    GPT2.but(
        "openai-gpt",
        outside={"embedding.token": "transformer.tokens_embed", "embedding.position": "transformer.positions_embed"},
        inside={"attention_stream_norm": "ln_1", "mlp_stream_norm": "ln_2"},
    ),
    # With one key/value head it is query, key and value one after the other.
    GPT2.but("gpt_bigcode", fused={"attn.c_attn": _BY_HEAD}, transposed=False),
    GPT2.but(
        "gpt_neo",
        inside={ours: theirs.replace("attn.", "attn.attention.") for ours, theirs in _SINGLE.items()},
        fused={},
        transposed=False,
        buffers=("attn.attention.bias", "attn.attention.masked_bias"),
    ),
    GPT2.but(
        "gptj",
        inside={**_SINGLE, "mlp.up": "mlp.fc_in", "mlp.down": "mlp.fc_out"},
        fused={},
        transposed=False,
        buffers=(*_MASKS, "attn.embed_positions"),
    ),
    # Trained on four machines, each with a quarter of the heads: queries, values, keys of the first, then the second.
    GPT2.but(
        "codegen",
        inside={"attention.output": "attn.out_proj", "mlp.up": "mlp.fc_in", "mlp.down": "mlp.fc_out"},
        fused={"attn.qkv_proj": Fused(("attention.query", "attention.value", "attention.key"), 4)},
        transposed=False,
        buffers=(*_MASKS, "attn.causal_mask", "attn.embed_positions"),
    ),
    Family(
        types=("gpt_neox",),
        prefix="gpt_neox.",
        layer="gpt_neox.layers.{i}.",
        outside={
            "embedding.token": "gpt_neox.embed_in",
            "final_norm": "gpt_neox.final_layer_norm",
            "unembedding": "lm_head",
        },
        inside={
            "attention_norm": "input_layernorm",
            "attention.output": "attention.dense",
            "mlp_norm": "post_attention_layernorm",
            **_MEGATRON_MLP,
        },
        fused={"attention.query_key_value": _BY_HEAD},
        older=((r"^embed_out\.", "lm_head."),),
        buffers=("attention.bias", "attention.masked_bias", "rotary_emb.inv_freq"),
    ),
    Family(
        types=("gpt_neox_japanese",),
        prefix="gpt_neox_japanese.",
        layer="gpt_neox_japanese.layers.{i}.",
        outside={
            "embedding.token": "gpt_neox_japanese.embed_in",
            "final_norm": "gpt_neox_japanese.final_layer_norm",
            "unembedding": "embed_out",
        },
        inside={
            "attention_norm": "input_layernorm",
            "attention.output": "attention.dense",
            "attention.output.bias": "attention.dense_bias",
            "mlp_norm": "post_attention_layernorm",
            **_MEGATRON_MLP,
        },
        fused={"attention.query_key_value": _BY_HEAD},
        buffers=("attention.bias", "attention.masked_bias", "rotary_emb.inv_freq", "attention.rotary_emb.inv_freq"),
    ),
    Family(
        types=("bloom",),
        prefix="transformer.",
        layer="transformer.h.{i}.",
        outside={
            "embedding.token": "transformer.word_embeddings",
            "embedding.norm": "transformer.word_embeddings_layernorm",
            "final_norm": "transformer.ln_f",
            "unembedding": "lm_head",
        },
        inside={
            "attention_norm": "input_layernorm",
            "attention.output": "self_attention.dense",
            "mlp_norm": "post_attention_layernorm",
            **_MEGATRON_MLP,
        },
        fused={"self_attention.query_key_value": _BY_HEAD},
    ),
    Family(
        types=("falcon",),
        prefix="transformer.",
        layer="transformer.h.{i}.",
        outside={
            "embedding.token": "transformer.word_embeddings",
            "final_norm": "transformer.ln_f",
            "unembedding": "lm_head",
        },
        inside={
            "attention_norm": "input_layernorm",
            "attention.output": "self_attention.dense",
            "mlp_norm": "post_attention_layernorm",
            **_MEGATRON_MLP,
        },
        own_norms={"attention_norm": "ln_attn", "mlp_norm": "ln_mlp"},
        fused={"self_attention.query_key_value": _BY_HEAD},
        buffers=("inv_freq",),
    ),
    Family(
        types=("mpt",),
        prefix="transformer.",
        layer="transformer.blocks.{i}.",
        outside={
            "embedding.token": "transformer.wte",
            "final_norm": "transformer.norm_f",
            "unembedding": "lm_head",
        },
        inside={
            "attention_norm": "norm_1",
            "attention.output": "attn.out_proj",
            "mlp_norm": "norm_2",
            "mlp.up": "ffn.up_proj",
            "mlp.down": "ffn.down_proj",
        },
        fused={"attn.Wqkv": Fused(QKV)},
    ),
    Family(
        types=("opt",),
        prefix="model.",
        layer="model.decoder.layers.{i}.",
        outside={
            "embedding.token": "model.decoder.embed_tokens",
            "embedding.position": "model.decoder.embed_positions",
            "embedding.projection": "model.decoder.project_in",
            "unembedding.projection": "model.decoder.project_out",
            "final_norm": "model.decoder.final_layer_norm",
            "unembedding": "lm_head",
        },
        inside={
            **_FAIRSEQ,
            "attention_stream_norm": "self_attn_layer_norm",
            "mlp_stream_norm": "final_layer_norm",
        },
    ),
    Family(
        types=("modernbert-decoder",),
        prefix="model.",
        layer="model.layers.{i}.",
        outside={
            "embedding.token": "model.embeddings.tok_embeddings",
            "embedding.norm": "model.embeddings.norm",
            "final_norm": "model.final_norm",
            "unembedding.transform.dense": "lm_head.dense",
            "unembedding.transform.norm": "lm_head.norm",
            "unembedding": "decoder",
        },
        inside={
            "attention_norm": "attn_norm",
            "attention.query": "attn.q_proj",
            "attention.key": "attn.k_proj",
            "attention.value": "attn.v_proj",
            "attention.output": "attn.Wo",
            "mlp_norm": "mlp_norm",
            "mlp.down": "mlp.Wo",
        },
        fused={"mlp.Wi": Fused(("mlp.gate", "mlp.up"))},
    ),
    Family(
        types=("xglm",),
        prefix="model.",
        layer="model.layers.{i}.",
        outside={
            "embedding.token": "model.embed_tokens",
            "final_norm": "model.layer_norm",
            "unembedding": "lm_head",
        },
        inside=_FAIRSEQ,
    ),
    Family(
        types=("ctrl",),
        prefix="transformer.",
        layer="transformer.h.{i}.",
        outside={
            "embedding.token": "transformer.w",
            "final_norm": "transformer.layernorm",
            "unembedding": "lm_head",
        },
        inside={
            "attention_norm": "layernorm1",
            **{f"attention.{name}": f"multi_head_attention.W{name[0]}" for name in ("query", "key", "value")},
            "attention.output": "multi_head_attention.dense",
            "mlp_norm": "layernorm2",
            "mlp.up": "ffn.0",
            "mlp.down": "ffn.2",
        },
    ),
    Family(
        types=("biogpt",),
        prefix="biogpt.",
        layer="biogpt.layers.{i}.",
        outside={
            "embedding.token": "biogpt.embed_tokens",
            "embedding.position": "biogpt.embed_positions",
            "final_norm": "biogpt.layer_norm",
            "unembedding": "output_projection",
        },
        inside=_FAIRSEQ,
    ),
)
