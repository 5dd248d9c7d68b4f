"""Known terms that a spec cannot have, so that messages can name what is not supported yet.

The tables list features that are not supported yet, other names of fields that are, settings that are flags, model
families and file formats. They are used in messages only: what a spec may contain is decided by its blocks.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any

_FEATURES: dict[str, str] = {
    "rotary positions in several dimensions are": "mrope mrope_section xpos",
    "relative positions are": "relative",
    "this activation is": "tanh sigmoid mish elu selu softplus relu6 leaky_relu hardswish",
    "DeepNorm is": "deepnorm",
    "norms other than LayerNorm and RMSNorm are": ("scalenorm batchnorm batch_norm groupnorm dyt dynamic_tanh l2norm"),
    "sparse attention is": "sparse block_sparse strided banded bigbird longformer nsa",
    "linear attention of this kind is": "retention retnet gla",
    "state-space layers of this kind are": "ssm s4 state_space hyena",
    "recurrent layers are": "rwkv recurrent recurrence rnn lstm gru rg_lru",
    "cross-attention is": "cross cross_attention",
    "bidirectional attention is": "bidirectional noncausal non_causal",
    "encoder-decoder models are": "encoder encoder_decoder",
    "token types are": "token_type type_vocab_size segment",
    "LoRA adapters are": "lora adapter dora",
    "quantized weights are": "quantization quantization_config quant quantized",
    "vision and audio encoders are": "vision audio image vision_config audio_config",
}
"""What is not supported yet, with its verb, and the words it is known by. The first row that has a word is taken."""

_OTHER_NAMES: dict[str, str] = {
    "vocab_size": "n_vocab vocab vocabulary vocabulary_size padded_vocab_size",
    "context_length": (
        "max_position_embeddings n_positions n_ctx block_size seq_length max_seq_len max_seq_length sequence_length "
        "max_sequence_length context_size seq_len n_seq"
    ),
    "d_model": "hidden_size n_embd dim hidden_dim embed_dim model_dim emb_dim width",
    "repeat": "num_hidden_layers n_layer n_layers num_layers depth",
    "n_heads": "num_attention_heads n_head num_heads",
    "n_kv_heads": "num_key_value_heads num_kv_heads n_head_kv kv_heads n_query_groups",
    "d_head": "head_dim head_size d_kv kv_channels",
    "d_value": "v_head_dim d_v value_dim",
    "sinks": "sink attention_sink attention_sinks s_aux",
    "value_scale": "attention_value_scale",
    "shared_kv": "kv_sharing share_kv cla cross_layer_attention num_kv_shared_layers",
    "values_are_keys": "attention_k_eq_v k_eq_v",
    "per_layer": "ple per_layer_embeddings per_layer_input hidden_size_per_layer_input",
    "scalar": "layer_scalar",
    "gate": "attn_output_gate attention_gate head_wise_attn_gate",
    "cut": "swiglu_limit",
    "top_k": "index_topk",
    "indexer": "dsa lightning_indexer",
    "d_ff": "intermediate_size n_inner ffn_dim ffn_hidden_size mlp_dim",
    "activation": "hidden_act hidden_activation activation_function act_fn afn",
    "epsilon": "layer_norm_epsilon layer_norm_eps norm_eps eps norm_epsilon",
    "mtp": "nextn multi_token_prediction",
    "n_modules": "num_nextn_predict_layers num_mtp_layers mtp_num_hidden_layers mtp_num_layers",
    "tied": "tie_word_embeddings tie_embeddings weight_tying share_embeddings tied_embeddings",
    "std": "initializer_range init_std",
    "bias": "attention_bias mlp_bias qkv_bias use_bias enable_bias add_bias_linear",
    "unembedding": "lm_head output_head",
    "final_norm": "ln_f norm_f",
    "multi_head": (
        "mha gqa mqa grouped_query grouped_query_attention multi_query multi_query_attention multihead "
        "multi_head_attention self_attention causal full"
    ),
    "latent": "mla multi_head_latent multi_head_latent_attention",
    "q_rank": "q_lora_rank",
    "kv_rank": "kv_lora_rank",
    "d_nope": "qk_nope_head_dim",
    "d_rope": "qk_rope_head_dim",
    "plain": "mlp ffn dense feed_forward feedforward ungated standard vanilla",
    "experts": "moe mixture_of_experts mixture routed switch sparse_moe",
    "gated_delta": "gated_deltanet gated_delta_net gdn deltanet delta_net linear_attention kda kimi_delta",
    "mamba": "mamba1 mamba_1 selective_scan",
    "mamba2": "mamba_2 ssd",
    "lightning": "lightning_attention lightning_attn",
    "d_inner": "mamba_d_ssm d_ssm",
    "step_rank": "time_step_rank mamba_dt_rank dt_rank",
    "gate_scale": "gate_multiplier",
    "input_scale": "ssm_in_multiplier attention_in_multiplier",
    "short_conv": "conv shortconv short_convolution lfm2",
    "d_state": "ssm_state_size state_size mamba_d_state linear_key_head_dim",
    "d_conv": "conv_kernel conv_kernel_size conv_l_cache mamba_d_conv linear_conv_kernel_dim d_convolution",
    "n_groups": "ngroups mamba_n_groups linear_num_key_heads",
    "n_experts": "num_experts num_local_experts n_routed_experts moe_num_experts",
    "capacity_factor": "capacity expert_capacity moe_expert_capacity_factor expert_capacity_factor",
    "n_identity": "zero_expert_num n_zero_experts num_zero_experts zero_experts",
    "n_experts_per_token": "num_experts_per_tok n_experts_per_tok experts_per_token moe_topk num_selected_experts",
    "shared": "n_shared_experts shared_expert shared_experts",
    "gated": "swiglu geglu reglu glu gated_mlp gate_proj bilinear",
    "layernorm": "ln layer_norm",
    "rmsnorm": "rms rms_norm t5_layernorm",
    "rotary": "rope rope_parameters rotary_embedding",
    "theta": "rope_theta rotary_emb_base rope_base",
    "d_rotary": "rotary_dim rotary_ndims rotary_dims",
    "scaling": "rope_scaling",
    "window": "sliding_window sliding_window_size window_size swa local_attention_window",
    "chunk": "attention_chunk_size",
    "qk_norm": "use_qk_norm q_norm k_norm qk_layernorm q_layernorm k_layernorm query_norm key_norm qk_ln",
    "softcap": "attn_logit_softcapping final_logit_softcapping softcapping logit_cap logit_softcap",
    "scale": "logit_scale embed_scale embedding_multiplier residual_multiplier attention_multiplier",
    "clip": "clip_qkv",
    "parallel": "parallel_residual use_parallel_residual parallel_attn",
    "post_norm": "postnorm post_ln postln sandwich_norm post_attention_norm post_feedforward_norm",
    "sub_norm": "attn_sub_norm ffn_sub_norm sub_layernorm subln",
    "d_latent": "moe_latent_size",
    "pattern": "layer_types layer_pattern block_pattern sliding_window_pattern",
    "rows": "output_vocab_size",
    "d_embedding": "word_embed_proj_dim embedding_size d_embed embed_proj",
    "sinusoidal": "sinusoid sine",
    "none": "nope nopos no_positions",
    "learned": "absolute learnable trained trainable wpe learned_absolute",
    "gelu_tanh": "gelu_new gelu_pytorch_tanh gelu_fast gelu_approx gelu_approximate gelu_accurate",
    "gelu": "gelu_python gelu_erf gelu_exact gelu_none",
    "gelu_quick": "quick_gelu",
    "silu": "swish",
    "relu2": "relu_squared squared_relu sqrelu",
}
"""A word of a spec, and what it is called elsewhere."""

_FLAGS: dict[str, str] = {
    "--batch": "batch batch_size micro_batch_size",
    "--dropout": "dropout resid_pdrop attn_pdrop embd_pdrop dropout_rate attn_dropout attention_dropout "
    "hidden_dropout resid_dropout embd_dropout",
    "--precision": "dtype precision torch_dtype",
    "--optimizer": "optimizer",
    "--recompute": "recompute gradient_checkpointing activation_checkpointing",
}
"""What a flag says, since it is not of the architecture."""

_FAMILIES: dict[str, str] = {
    "mixtures of experts of this kind are": "grok arctic glam switch",
    "Mamba with several heads is": "zamba-7b",
    "recurrent layers are": "rwkv recurrentgemma griffin",
    "bidirectional attention is": "bert roberta distilbert albert electra deberta modernbert",
    "encoder-decoder models are": "t5 flan-t5 bart ul2 whisper pegasus",
}
"""What keeps a family of models out of the catalogue: one feature that all its members have."""

_FORMATS = {
    ".gguf": "GGUF",
    ".safetensors": "safetensors",
    ".pt": "PyTorch",
    ".pth": "PyTorch",
    ".bin": "PyTorch",
    ".onnx": "ONNX",
    ".npz": "numpy",
    ".toml": "TOML",
    ".py": "Python",
}

LONGEST = 100  # characters of a term that are looked at
_CONFIG_ALONE = {"model_type", "architectures", "transformers_version", "_name_or_path", "torch_dtype"}
SPEC = "`archcalc schema` describes a spec, `archcalc list` shows the catalogue"


@cache
def _table(which: str) -> dict[str, tuple[int, str]]:
    """The row of each name in a table, and the row's number."""
    rows = {"feature": _FEATURES, "name": _OTHER_NAMES, "flag": _FLAGS}[which]
    found: dict[str, tuple[int, str]] = {}
    for number, (what, names) in enumerate(rows.items()):
        for name in names.split():
            for spelled in (name, name.replace("_", "")):
                found.setdefault(spelled, (number, what))
    return found


def _words(term: str) -> list[str]:
    """The words of a term: `slidingWindow`, `sliding-window` and `sliding_window` have the same two."""
    parted = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", term[:LONGEST])
    return re.findall(r"[a-z0-9]+", parted.lower())


def feature(term: object) -> str | None:
    """What is not supported yet and goes by this name: "rotary positions are not supported yet"; None if not known.

    Names of fields and of values are read alike, in any case, in one or several words: `RMSNorm`, `n_experts`.
    """
    if not isinstance(term, str) or term in _OTHER_NAMES or other_name(term):
        return None
    table, words = _table("feature"), _words(term)
    runs = ["_".join(words[i:j]) for i in range(len(words)) for j in range(i + 1, min(i + 5, len(words) + 1))]
    rows = [table[name] for run in (*runs, "".join(words)) for name in (run, run.removesuffix("s")) if name in table]
    return f"{min(rows)[1]} not supported yet" if rows else None


def other_name(term: object) -> str | None:
    """The word of a spec that means what other programs call `term`; None if there is none."""
    found = _table("name").get("_".join(_words(term))) if isinstance(term, str) else None
    return found[1] if found else None


def flag(term: object) -> str | None:
    """The flag that sets what a field of this name would; None if there is none."""
    found = _table("flag").get("_".join(_words(term))) if isinstance(term, str) else None
    return found[1] if found else None


def family(name: str) -> str | None:
    """Why a model of this name is not in the catalogue, where its family is known to need what is not supported."""
    words = name.lower().replace("_", "-")
    for what, names in _FAMILIES.items():
        for one in names.split():
            if re.match(rf"{re.escape(one)}(?![a-z])", words):
                return f"is not in the catalogue: {what} not supported yet"
    return None


def config(data: Any) -> str | None:
    """What plain data is if it is a Hugging Face config.json; None for anything else."""
    if not isinstance(data, dict) or isinstance(data.get("layers"), list) or {"d_model", "schema"} <= data.keys():
        return None
    sure = _CONFIG_ALONE & data.keys()
    foreign = [key for key in list(data)[:200] if isinstance(key, str) and other_name(key)]
    if not sure and len(foreign) < 2:
        return None
    kind = data.get("model_type")
    of = f" of model_type {kind[:40]!r}" if isinstance(kind, str) else ""
    looks = "is" if sure else "has the fields of"
    return f"{looks} a Hugging Face config.json{of}, but not in JSON, as those are read"


def format_of(path: str) -> str | None:
    """What a file of another format is, by its suffix; None where it may be a spec."""
    suffix = path[path.rfind(".") :].lower() if "." in path else ""
    found = _FORMATS.get(suffix)
    if found in ("GGUF", "safetensors"):
        return f"is a {found} file and not a spec; `archcalc params` counts its weights"
    article = "an" if found == "ONNX" else "a"  # spoken letter by letter
    return f"is {article} {found} file; importing those is not supported yet" if found else None
