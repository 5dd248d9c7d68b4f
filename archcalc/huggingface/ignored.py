"""Keys of a config.json that bear on no count and no result: tokens, dropout, training, caches, generation, names."""

from __future__ import annotations

from archcalc.errors import LONGEST_PLACE
from archcalc.huggingface.modules import NUMBERS

_SHARED = """
    _name_or_path name_or_path _commit_hash transformers_version architectures auto_map model_type custom_pipelines
    torch_dtype dtype use_bfloat16 torchscript use_cache initializer_range init_std initializer_factor
    embedding_initializer_range
    gradient_checkpointing pretraining_tp attn_implementation _attn_implementation _attn_implementation_autoset
    _attn_implementation_internal _experts_implementation experts_implementation
    _flash_attn_2_enabled use_flash_attn use_flash_attention use_flash_attention_2 flash_attn flash_attention
    attention_softmax_in_fp32 scale_attention_softmax_in_fp32 softmax_in_fp32
    use_sdpa fused_mlp fused_bias_fc fused_dropout_add_ln use_memory_efficient_attention use_xformers
    output_attentions output_hidden_states return_dict output_past return_dict_in_generate output_scores
    id2label label2id num_labels problem_type finetuning_task classifier_activation classifier_bias
    summary_type summary_use_proj summary_activation summary_proj_to_labels summary_first_dropout
    task_specific_params prefix tokenizer_class tf_legacy_loss ignore_index predict_special_tokens
    max_length min_length do_sample early_stopping num_beams num_beam_groups diversity_penalty temperature top_k top_p
    typical_p repetition_penalty length_penalty no_repeat_ngram_size encoder_no_repeat_ngram_size bad_words_ids
    num_return_sequences remove_invalid_values exponential_decay_length_penalty suppress_tokens begin_suppress_tokens
    max_new_tokens cache_implementation generation_config eos_token bos_token pad_token vocab_file
    tie_encoder_decoder cross_attention_hidden_size is_decoder chunk_size_feed_forward chunk_size_lm_head
    unsloth_fixed unsloth_version unsloth_tiled_mlp transformers.js_config use_parallel_embedding
    tie_last_hidden_states model_max_length max_sequence_length tokenizer_type language languages license
    quantization_config compression_config quantization
"""
SHARED = frozenset(_SHARED.split())
"""Keys that matter to no family. `is_encoder_decoder` and its like are not here: they are refused where on."""

_PARTS = ("dropout", "pdrop", "layerdrop")
_ENDS = ("_token_id", "_token_ids", "_token_index", "_token_type_ids", "_pdrop")


def matters_not(key: str) -> bool:
    """Whether a key matters to no family, by its name; of modules of multi-token prediction others tell."""
    return key in SHARED or key in NUMBERS or key.endswith(_ENDS) or any(part in key for part in _PARTS)


OFF: dict[str, str] = {
    "is_encoder_decoder": "encoder-decoder models are not supported yet",
    "add_cross_attention": "cross-attention is not supported yet",
    "pruned_heads": "pruned heads are not supported yet",
    "per_layer_config": "layers that differ by per_layer_config are not supported yet",
    "use_bidirectional_attention": "bidirectional attention is not supported yet",
    "kv_lora_rank": "multi-head latent attention is not supported yet",
    "q_lora_rank": "multi-head latent attention is not supported yet",
    "vision_config": "vision encoders are not supported yet",
    "audio_config": "audio encoders are not supported yet",
    "attention_sinks": "attention sinks are not supported in this family",
    "ssm_cfg": "recurrent layers are not supported yet",
    "mamba_d_state": "recurrent layers are not supported yet",
    "linear_num_value_heads": "recurrent layers are not supported yet",
    "num_kv_shared_layers": "key/value heads that layers share are not supported yet",
    "cross_attention_layers": "cross-attention is not supported yet",
}
"""Keys that say a feature which is not built yet, where they are on."""

_ONE = ("num_experts", "num_local_experts", "n_routed_experts", "num_experts_per_tok", "moe_topk")
EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "n_shared_experts", "num_experts_per_tok", "moe_")


def feature_of(key: str, *, mixes: bool) -> str | None:
    """The feature that an unknown key is about; experts are known to a family that `mixes`."""
    if key.startswith(EXPERTS) and not mixes:
        return "mixtures of experts are not supported in this family"
    return OFF.get(key)


def is_off(key: str, value: object) -> bool:
    """Whether an unknown key's value says that there is nothing: null, false, an empty list; 0 or 1 expert."""
    if isinstance(value, list | dict | str):
        return not value
    return value is None or value is False or (key in _ONE and value in (0, 1))


def near(key: str, known: set[str]) -> str | None:
    """What an unknown key may be a slip of: a letter or two, since most keys are alike."""
    from difflib import get_close_matches

    found = get_close_matches(key[:LONGEST_PLACE], sorted(known), 1, 0.87)
    return f"did you mean {found[0]!r}?" if found else None
