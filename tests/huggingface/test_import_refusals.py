"""What a config.json may not say, and the line that tells it."""

import re

import pytest
from published import REFUSED

from archcalc.errors import Invalid
from archcalc.huggingface.importing import import_config

LLAMA = {
    "model_type": "llama",
    "hidden_size": 64,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "intermediate_size": 128,
}
WINDOWS = {
    "model_type": "gemma2",
    "num_hidden_layers": 2,
    "head_dim": 16,
    "layer_types": ["full_attention", "sliding_attention"],
}


GLM4_MOE = {"model_type": "glm4_moe", "head_dim": 16, "n_routed_experts": 8, "num_experts_per_tok": 2}


def lines(config):
    with pytest.raises(Invalid) as caught:
        import_config(config, "a/config.json")
    return str(caught.value).split("\n")


@pytest.mark.parametrize("name", REFUSED)
def test_a_published_model_is_refused_by_the_feature_that_is_not_built(name):
    (line,) = lines(REFUSED[name])
    feature = "hyper-connections, and keys that stand for several positions,"
    assert re.fullmatch(
        rf"a/config\.json: (text_config\.)?model_type: ({feature})( with ({feature}))? (are|is) not supported yet; "
        rf"got '{REFUSED[name]['model_type']}(_text)?'",
        line,
    )


# A config, and every line that is told of it.
SAID = {
    "a type that is not known": (
        {"model_type": "lama"},
        ["model_type: is not a known type of model; got 'lama'; nearest: llama, mllama, llama4"],
    ),
    "no type": ({}, ["model_type: is missing"]),
    "a class that is not known": (
        {"architectures": ["FooForCausalLM"]},
        ["architectures: does not name a known class; got ['FooForCausalLM']"],
    ),
    "as many factors as features": (
        {
            **LLAMA,
            "rope_scaling": {"rope_type": "longrope", "short_factor": [1.0], "long_factor": [1.0] * 8, "factor": 2.0},
        },
        [
            "rope_scaling: short_factor must have 8 numbers, one for each pair of d_rotary (16); got [1.0]",
        ],
    ),
    "a division by zero": (
        {
            **LLAMA,
            "rope_scaling": {"rope_type": "llama3", "factor": 2.0, "low_freq_factor": 4.0, "high_freq_factor": 2.0},
        },
        ["rope_scaling: high_freq_factor must be at least low_freq_factor (4.0); got 2.0"],
    ),
    "a type that is not text": ({"model_type": 3}, ["model_type: must be text; got 3"]),
    "an encoder": ({"model_type": "bert"}, ["model_type: bidirectional encoders are not supported yet; got 'bert'"]),
    "a mixture that is not built": (
        {"model_type": "jetmoe"},
        ["model_type: mixtures of attention heads are not supported yet; got 'jetmoe'"],
    ),
    "a weight of experts by another norm": (
        {"model_type": "dbrx", "ffn_config": {"moe_normalize_expert_weights": 2.0}},
        [
            "ffn_config.moe_normalize_expert_weights: must be 1 or null; scores divided by another norm are not "
            "supported; got 2.0"
        ],
    ),
    "a key of a nested mapping that is not known": (
        {"model_type": "dbrx", "attn_config": {"kv_heads": 8}},
        [
            "attn_config.kv_heads: unknown key; it may bear on the counts; got 8; did you mean 'attn_config.kv_n_heads'?"
        ],
    ),
    "a base beside another one": (
        {"model_type": "dbrx", "attn_config": {"rope_theta": 5e5}, "rope_parameters": {"rope_theta": 1e4}},
        ["rope_parameters: rope_theta contradicts attn_config.rope_theta beside it, which is 500000.0; got 10000.0"],
    ),
    "a pattern of indexers that is no list": (
        {"model_type": "glm_moe_dsa", "num_hidden_layers": 2, "index_topk_pattern": True},
        ["index_topk_pattern: must have full or shared for each of 2 layers; got true"],
    ),
    "a choice that layers share": (
        {"model_type": "glm_moe_dsa", "num_hidden_layers": 2, "indexer_types": ["full", "shared"]},
        ["indexer_types: positions that layers share the choice of are not supported yet; got ['full', 'shared']"],
    ),
    "more layers that share than there are": (
        {"model_type": "gemma4_text", "num_hidden_layers": 4, "num_kv_shared_layers": 5},
        ["num_kv_shared_layers: must be less than num_hidden_layers (4); got 5"],
    ),
    "a layer twice in one list": (
        {
            "model_type": "kimi_linear",
            "num_hidden_layers": 4,
            "linear_attn_config": {"kda_layers": [1, 1, 2], "full_attn_layers": [3, 4]},
        },
        ["linear_attn_config: must have each layer from 1 to 4 in one list, and once; got [1, 1, 2]"],
    ),
    "no shared expert where the class makes a whole MLP of none": (
        {"model_type": "hy_v3", "num_shared_experts": 0},
        ["num_shared_experts: must be from 1 to 4,294,967,296; got 0"],
    ),
    "a part of the head that is not that with positions": (
        {"model_type": "mistral4", "rope_parameters": {"partial_rotary_factor": 0.25, "llama_4_scaling_beta": 0.1}},
        ["rope_parameters: partial_rotary_factor must be qk_rope_head_dim / head_dim (64 / 128); got 0.25"],
    ),
    "sizes of wrong types": (
        {**LLAMA, "hidden_size": "64", "vocab_size": 100.0, "intermediate_size": [128]},
        [
            "vocab_size: must be an integer; got 100.0",
            "hidden_size: must be an integer; got '64'",
            "intermediate_size: must be an integer; got [128]",
        ],
    ),
    "a boolean for a size": ({**LLAMA, "vocab_size": True}, ["vocab_size: must be an integer; got true"]),
    "a size of nothing": (
        {**LLAMA, "num_hidden_layers": 0},
        ["num_hidden_layers: must be from 1 to 10,000; got 0"],
    ),
    "a size beyond reason": (
        {**LLAMA, "vocab_size": 2**33},
        ["vocab_size: must be from 1 to 4,294,967,296; got 8,589,934,592"],
    ),
    "layers beyond reason": (
        {**LLAMA, "num_hidden_layers": 10**9},
        ["num_hidden_layers: must be from 1 to 10,000; got 1,000,000,000"],
    ),
    "a number of thousands of digits": (
        {**LLAMA, "vocab_size": 10**5000},
        ["vocab_size: must be from 1 to 4,294,967,296; got an integer of 16,610 bits"],
    ),
    "a width that heads do not divide": (
        {**LLAMA, "num_attention_heads": 5},
        ["hidden_size: must be a multiple of num_attention_heads (5); got 64"],
    ),
    "key/value heads that do not divide": (
        {**LLAMA, "num_key_value_heads": 3},
        ["num_key_value_heads: must divide num_attention_heads (4); got 3"],
    ),
    "an activation that is not known": (
        {**LLAMA, "hidden_act": "mish"},
        [
            "hidden_act: is not a supported activation; got 'mish'; supported: gelu_new, gelu_pytorch_tanh, "
            "gelu_python_tanh, gelu_accurate, gelu_fast, gelu, gelu_python, quick_gelu, relu, relu2, silu, swish, xielu"
        ],
    ),
    "an epsilon that is none": (
        {**LLAMA, "rms_norm_eps": 0.0},
        ["rms_norm_eps: must be more than 0 and at most 1; got 0.0"],
    ),
    "windows that are not used": (
        {"model_type": "qwen2", "num_hidden_layers": 1, "sliding_window": 16, "layer_types": ["sliding_attention"]},
        ["use_sliding_window: must be true, since layers are of type sliding_attention; got false"],
    ),
    "windows that may be used": (
        {
            "model_type": "qwen3",
            "num_hidden_layers": 1,
            "layer_types": ["full_attention"],
            "use_sliding_window": "yes",
        },
        ["use_sliding_window: must be true or false; got 'yes'"],
    ),
    "more than a head": (
        {"model_type": "gpt_neox", "rotary_pct": 1.5},
        ["rotary_pct: must be at most 1, the whole head; got 1.5"],
    ),
    "more than a head, among settings": (
        {"model_type": "stablelm", "rope_parameters": {"partial_rotary_factor": 1.5}},
        ["rope_parameters: partial_rotary_factor must be at most 1, the whole head; got 1.5"],
    ),
    "two bases": (
        {**LLAMA, "rope_theta": 5.0, "rope_parameters": {"rope_type": "default", "rope_theta": 5e5}},
        ["rope_parameters: rope_theta contradicts rope_theta beside it, which is 5.0; got 500000.0"],
    ),
    "two bases of layers with windows": (
        {
            **WINDOWS,
            "model_type": "gemma3_text",
            "rope_local_base_freq": 5.0,
            "rope_parameters": {
                "full_attention": {"rope_theta": 1e6},
                "sliding_attention": {"rope_theta": 1e4},
            },
        },
        ["rope_parameters: rope_theta contradicts rope_local_base_freq beside it, which is 5.0; got 10000.0"],
    ),
    "two kinds of scaling": (
        {**LLAMA, "rope_scaling": {"type": "linear", "factor": 2.0}, "rope_parameters": {"rope_type": "default"}},
        ["rope_scaling: rope_type contradicts rope_parameters, which have 'default'; got 'linear'"],
    ),
    "two factors": (
        {
            **LLAMA,
            "rope_scaling": {"type": "linear", "factor": 2.0},
            "rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 1e4},
        },
        ["rope_scaling: factor contradicts rope_parameters, which have 4.0; got 2.0"],
    ),
    "a base that the older settings would forget": (
        {**LLAMA, "rope_scaling": {"type": "linear", "factor": 2.0}, "rope_parameters": {"rope_theta": 5e5}},
        ["rope_scaling: rope_theta contradicts rope_parameters, which have 500000.0; got 10000.0"],
    ),
    **{
        f"{kind} without its factor": (
            {**LLAMA, "rope_parameters": {"rope_type": kind, "low_freq_factor": 1.0, "high_freq_factor": 4.0}}
            if kind == "llama3"
            else {**LLAMA, "rope_parameters": {"rope_type": kind}},
            [f"rope_parameters: factor {what}; got null"],
        )
        for kind, what in {
            "yarn": "is missing; null would mean the context / the original one",
            **dict.fromkeys(("linear", "dynamic", "llama3"), "must be a number"),
        }.items()
    },
    "no number": (
        {**LLAMA, "rms_norm_eps": float("nan")},
        ["rms_norm_eps: must be more than 0 and at most 1; got nan"],
    ),
    "a tie that is no boolean": (
        {**LLAMA, "tie_word_embeddings": "yes"},
        ["tie_word_embeddings: must be true or false; got 'yes'"],
    ),
    "unknown keys": (
        {**LLAMA, "n_streams": 2, "num_key_valu_heads": 2},
        [
            "n_streams: unknown key; it may bear on the counts; got 2",
            "num_key_valu_heads: unknown key; it may bear on the counts; got 2; did you mean 'num_key_value_heads'?",
        ],
    ),
    "experts": (
        {**LLAMA, "num_experts": 8},
        ["num_experts: mixtures of experts are not supported in this family; got 8"],
    ),
    "cross-attention": (
        {"model_type": "gpt2", "add_cross_attention": True},
        ["add_cross_attention: cross-attention is not supported yet; got true"],
    ),
    "pruned heads": (
        {"model_type": "gpt2", "pruned_heads": {"1": [2]}},
        ["pruned_heads: pruned heads are not supported yet; got {'1': [2]}"],
    ),
    "scores without scale": (
        {"model_type": "gpt2", "scale_attn_weights": False},
        ["scale_attn_weights: attention without the scale of its scores is not supported; got false"],
    ),
    "scores scaled by layer": (
        {"model_type": "gpt2", "scale_attn_by_inverse_layer_idx": True},
        ["scale_attn_by_inverse_layer_idx: scores that are scaled by the layer's index are not supported; got true"],
    ),
    "two spellings of one thing": (
        {"model_type": "gpt2", "n_embd": 768, "hidden_size": 1024},
        ["hidden_size: contradicts n_embd, which is 768; got 1024"],
    ),
    "biases that a family does not have": (
        {"model_type": "mistral", "attention_bias": True},
        ["attention_bias: unknown key; it may bear on the counts; got true"],
    ),
    "a window that a family does not have": (
        {**LLAMA, "sliding_window": 4096},
        ["sliding_window: unknown key; it may bear on the counts; got 4096"],
    ),
    "types of layers that a family does not have": (
        {**LLAMA, "layer_types": ["sliding_attention", "full_attention"]},
        [
            "layer_types: is not read by this family, whose layers are all full_attention; "
            "got ['sliding_attention', 'full_attention']"
        ],
    ),
    "a list of layers that is too short": (
        {**WINDOWS, "num_hidden_layers": 3},
        [
            "layer_types: must be a list with a type for each of 3 layers; got ['full_attention', 'sliding_attention']",
        ],
    ),
    "a type of layer that is not built": (
        {**WINDOWS, "layer_types": ["full_attention", "linear_attention"]},
        ["layer_types: recurrent layers are not supported in this family; got 'linear_attention'"],
    ),
    "a type of layer that is not known": (
        {**WINDOWS, "layer_types": ["full_attention", {}]},
        ["layer_types: has an unknown type of layer; got {}"],
    ),
    "windows of no width": (
        {**WINDOWS, "sliding_window": None},
        ["sliding_window: must be an integer, since layers are of type sliding_attention; got null"],
    ),
    "rotary positions that are not built": (
        {**LLAMA, "rope_scaling": {"type": "longer", "factor": 2.0}},
        [
            "rope_scaling: rotary positions of type 'longer' are not supported yet; got 'longer'; "
            "supported: default, linear, dynamic, yarn, llama3, longrope"
        ],
    ),
    "a factor that is missing": (
        {**LLAMA, "rope_scaling": {"type": "linear"}},
        ["rope_scaling: factor must be a number; got null"],
    ),
    "a setting of angles that is not known": (
        {**LLAMA, "rope_scaling": {"type": "linear", "factor": 2.0, "warp": 3}},
        ["rope_scaling: warp is not known in rotary positions of type 'linear'; it may bear on the results; got 3"],
    ),
    "a part of a head in a family that turns whole ones": (
        {**LLAMA, "partial_rotary_factor": 0.5},
        ["partial_rotary_factor: must be 1, since this family turns whole heads; got 0.5"],
    ),
    "an odd part of a head": (
        {"model_type": "phi", "partial_rotary_factor": 0.05},
        [
            "rope_parameters: turns 3 of 64 features of a head; only an even number of them is supported; got 0.05",
        ],
    ),
    "angles that are a list": ({**LLAMA, "rope_scaling": [2]}, ["rope_scaling: must be a mapping; got [2]"]),
    "an MPT that transformers would read as another": (
        {"model_type": "mpt", "expansion_ratio": 2, "no_bias": False, "attn_config": {"alibi": False}},
        [
            "expansion_ratio: is not read by transformers, whose MLP is 4 x d_model wide; got 2",
            "no_bias: biases are not read by transformers; got false",
            "attn_config: alibi: positions other than ALiBi are not read by transformers; got false",
        ],
    ),
    "a Falcon of no form": (
        {"model_type": "falcon", "new_decoder_architecture": True, "parallel_attn": False},
        ["parallel_attn: must be true, since new_decoder_architecture is; got false"],
    ),
    "GPT-Neo's types of fewer layers": (
        {"model_type": "gpt_neo", "num_layers": 3},
        ["attention_types: must say the type of each of 3 layers; got [[['global', 'local'], 12]]"],
    ),
    "groups that leave too few experts": (
        {**GLM4_MOE, "n_group": 4, "topk_group": 1, "num_experts_per_tok": 3},
        ["topk_group: must leave at least num_experts_per_tok (3) experts; got 1"],
    ),
    "more groups than there are": (
        {**GLM4_MOE, "n_group": 2, "topk_group": 3},
        ["topk_group: must be at most n_group (2); got 3"],
    ),
    "windows that Qwen2-MoE does not use": (
        {"model_type": "qwen2_moe", "num_hidden_layers": 1, "layer_types": ["sliding_attention"]},
        ["use_sliding_window: must be true, since layers are of type sliding_attention; got false"],
    ),
    "a text model that is missing": ({"model_type": "mistral3"}, ["text_config: is missing, or null"]),
    "a text model that is no mapping": (
        {"model_type": "mistral3", "text_config": "mistral"},
        ["text_config: must be a mapping; got 'mistral'"],
    ),
    "a text model that is not built": (
        {"model_type": "llava", "text_config": {"model_type": "jetmoe"}},
        ["text_config.model_type: mixtures of attention heads are not supported yet; got 'jetmoe'"],
    ),
    "a fault inside a text model": (
        {"model_type": "mistral3", "text_config": {"vocab_size": 0}},
        ["text_config.vocab_size: must be from 1 to 4,294,967,296; got 0"],
    ),
    "a text model whose type is no text": (
        {"model_type": "mistral3", "text_config": {"model_type": {"a": 1}}},
        ["text_config.model_type: must be text; got {'a': 1}"],
    ),
    "Phi's norms of heads of another width": (  # transformers makes them hidden_size / num_attention_heads wide
        {"model_type": "phi", "qk_layernorm": True, "head_dim": 128},
        ["head_dim: must be hidden_size / num_attention_heads (64), since qk_layernorm is true; got 128"],
    ),
    "a part of a head where all of it turns": (
        {"model_type": "llama", "rope_scaling": {"rope_type": "default", "partial_rotary_factor": 0.5}},
        ["rope_scaling: partial_rotary_factor must be 1, since this family turns whole heads; got 0.5"],
    ),
    "a head that is not what is left": (
        {"model_type": "gpt_neox", "head_dim": 128},
        ["head_dim: must be hidden_size / num_attention_heads (96) in this family; got 128"],
    ),
}


@pytest.mark.parametrize("name", SAID)
def test_a_line_says_what_is_wrong(name):
    config, expected = SAID[name]
    assert lines(config) == [f"a/config.json: {line}" for line in expected]


def test_every_wrong_key_is_told_once():
    told = lines({**LLAMA, "hidden_size": -1, "num_attention_heads": "four", "foo": 1, "rms_norm_eps": -2})
    assert [line.split(": ")[1] for line in told] == ["foo", "hidden_size", "rms_norm_eps", "num_attention_heads"]


def test_what_is_nested_without_end_is_refused():
    deep = []
    for _ in range(100_000):
        deep = [deep]
    assert lines({**LLAMA, "foo": deep}) == ["a/config.json: is nested too deeply"]
