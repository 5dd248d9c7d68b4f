"""Small random configs of a family, made by transformers' config class, and what transformers builds of them."""

import random
import warnings
from collections import Counter

import pytest
import torch
import transformers
from transformers import AutoModelForCausalLM
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

if tuple(map(int, transformers.__version__.split(".")[:2])) < (5, 20):
    pytest.skip("the tables are those of transformers 5.24", allow_module_level=True)
transformers.logging.set_verbosity_error()

# Text models of others, which AutoModelForCausalLM does not build: the class that has them, if any is easy to build.
INSIDE = {"emu3_text_model": "Emu3ForCausalLM", "qwen2_vl_text": None, "qwen2_5_vl_text": None, "qwen3_vl_text": None}
INSIDE |= {"qwen3_vl_moe_text": None, "glm4v_moe_text": None, "mistral4": "Mistral4ForCausalLM"}
INSIDE |= {"step3p5": "Step3p7TextModel"}
# Their classes cannot be built without a size that has no default, or turn an odd number of features by default.
NO_DEFAULT = {"hunyuan_v1_dense", "ministral", "nemotron", "dots1", "glm4_moe", "glm4v_moe_text", "hunyuan_v1_moe"}
NO_DEFAULT |= {"deepseek_v2", "lfm2_moe", "dbrx", "cohere_compass_text"}
NEEDS_WINDOW = {
    "gemma2",
    "gemma3_text",
    "vaultgemma",
    "cohere2",
    "olmo3",
    "cwm",
    "gpt_oss",
    "exaone_moe",
    "cohere2_moe",
}
NEEDS_WINDOW |= {"mimo_v2_flash", "flint", "afmoe", "laguna", "mellum", "granite_swa", "granitemoe_swa", "kolibri1"}
NEEDS_WINDOW |= {"lfm3", "lara_mini", "step3p5", "gemma4_text", "gemma4_unified_text"}
# Weights that transformers keeps in one tensor and we in several, or in one for each head: only their sum is compared.
FUSED = {
    *("gpt2", "openai-gpt", "gpt_bigcode", "codegen", "gpt_neox", "gpt_neox_japanese", "bloom", "falcon", "mpt"),
    *("phi3", "glm", "glm4", "persimmon", "stablelm"),
    *("mixtral", "qwen2_moe", "qwen3_moe", "olmoe", "glm4_moe", "dots1", "minimax_m2", "flex_olmo"),
    *("granitemoe", "granitemoeshared", "gpt_oss", "ernie4_5_moe", "hunyuan_v1_moe", "solar_open", "exaone_moe"),
    *("cohere2_moe", "phimoe", "qwen3_vl_moe_text", "mimo_v2_flash", "flint", "llama4_text"),
    *("afmoe", "laguna", "hy_v3", "mellum", "kolibri1", "granitemoe_swa", "glm4v_moe_text"),
    *("falcon_h1", "mamba", "falcon_mamba", "mamba2", "jamba", "granitemoehybrid"),
    *("nemotron_h", "bamba", "lfm2", "lfm2_moe", "lfm3", "lara_mini", "qwen3_next", "qwen3_5_text"),
    *("qwen3_5_moe_text", "kimi_linear", "bailing_hybrid", "olmo_hybrid", "minimax", "gemma4_text", "step3p5"),
    "zamba2",
    *("deepseek_v3", "deepseek_v2", "sarvam_mla", "glm4_moe_lite", "youtu", "minicpm3"),
    *("deepseek_v32", "glm_moe_dsa", "longcat_flash"),
    *("sarvam_moe", "axk1", "mistral4", "aria_text", "dbrx", "modernbert-decoder"),
}

_QUERIES_OF_LATENTS = ("axk1", "deepseek_v32", "glm_moe_dsa", "longcat_flash")
_EXPERTS = {"num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"}
_CHOSEN = {"num_experts_per_tok", "moe_k", "moe_topk"}
_WIDTH = {"hidden_size", "n_embd", "d_model"}
_HIDDEN = {
    *("intermediate_size", "ffn_dim", "n_inner", "ffn_hidden_size"),
    *(
        "expert_ffn_hidden_size",
        "moe_intermediate_size",
        "shared_expert_intermediate_size",
        "shared_intermediate_size",
        "dff",
    ),
}
_LAYERS = {"num_hidden_layers", "n_layer", "n_layers", "num_layers"}
_HEADS = {"num_attention_heads", "n_head", "n_heads", "num_heads", "attention_heads"}
_CONTEXT = {"max_position_embeddings", "n_positions", "max_seq_len"}


def config_class(family):
    if family.model_type in CONFIG_MAPPING:
        return CONFIG_MAPPING[family.model_type]
    return getattr(transformers, family.config_class)


def overrides(family, seed):  # noqa: PLR0912, PLR0915  (a line for each kind of key)
    """Arguments of the config class: sizes of which few coincide, and every switch either way."""
    rng = random.Random(f"{family.model_type} {seed}")  # noqa: S311
    heads, d_head, layers = rng.choice((2, 4, 6)), rng.choice((8, 16, 32)), rng.choice((1, 2, 3, 5, 7))
    own_head = hasattr(config_class(family), "head_dim") and family.model_type not in ("falcon", "helium")
    pads = ("emu3_text_model", "step3p5", "modernbert-decoder")
    found = {"pad_token_id": 1 if family.model_type in pads else None}
    for key, default in family.defaults.items():
        if key == "vocab_size":
            found[key] = rng.randint(50, 300)
        elif key in _WIDTH:
            found[key] = heads * d_head
        elif key in _HIDDEN and rng.random() < 0.8:
            found[key] = rng.randint(20, 200)
        elif key in _LAYERS:
            found[key] = layers
        elif key in _HEADS:
            found[key] = heads
        elif key in ("num_key_value_heads", "num_kv_heads"):
            found[key] = rng.choice([n for n in (1, 2, 3, 6) if heads % n == 0])
        elif key in _CONTEXT:
            found[key] = rng.randint(32, 100)
        elif key == "head_dim" and family.model_type == "helium":
            found[key] = d_head
        elif key == "head_dim" and own_head:
            found[key] = rng.choice((8, 16, 24))
        elif key in _EXPERTS:
            found[key] = 12
        elif key in _CHOSEN:
            found[key] = rng.randint(1, 6)
        elif key in ("n_group", "n_shared_experts", "num_shared_experts", "moe_num_shared_experts"):
            found[key] = rng.choice((1, 2, 3))
        elif key in ("first_k_dense_replace", "num_dense_layers"):
            found[key] = rng.randint(0, layers)
        elif key == "decoder_sparse_step":
            found[key] = rng.choice((1, 1, 2))
        elif key == "mlp_only_layers":
            found[key] = rng.choice(([], [0], [1, 2]))
        elif key == "rotary_dim":
            found[key] = 8
        elif key == "sliding_window":
            found[key] = 16 if family.model_type in NEEDS_WINDOW else rng.choice((None, 16))
        elif isinstance(default, bool) and key != "parallel_attn" and "." not in key:
            found[key] = rng.random() < 0.5
    if "kv_lora_rank" in family.defaults:
        found["num_key_value_heads"] = heads
        for key in ("kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim"):
            found[key] = 2 * rng.randint(2, 12)
        found["q_lora_rank"] = 20 if family.model_type in _QUERIES_OF_LATENTS else rng.choice((None, 20))
    if family.model_type == "longcat_flash":
        found |= {"head_dim": found["qk_rope_head_dim"], "zero_expert_num": rng.choice((0, 3, 6))}
    if "mlp_layer_types" in family.defaults:
        found["mlp_layer_types"] = [rng.choice(("dense", "sparse")) for _ in range(layers)]
    if "topk_method" in family.defaults:
        found["topk_method"] = rng.choice(("greedy", "group_limited_greedy"))
    found |= _mixed(family.model_type, rng, heads, layers, d_head)
    if "topk_group" in family.defaults:
        groups = found["n_group"]  # of which those that are left have enough experts to choose from
        fewest = -(-found["num_experts_per_tok"] * groups // found[next(key for key in found if key in _EXPERTS)])
        found["topk_group"] = rng.randint(fewest, groups)
    if family.model_type == "mimo_v2_flash":
        found["num_key_value_heads"] = 1  # layers with windows have twice as many
    if family.model_type == "internlm3":
        found["mlp_bias"] = found["attention_bias"]
    if family.model_type == "gpt_neo":
        found["attention_types"] = [[rng.choice((["global", "local"], ["local"], ["global"])), layers]]
        found["num_layers"] = layers * len(found["attention_types"][0][0])
    if family.model_type == "exaone4" and found["sliding_window"] is None:
        found["layer_types"] = ["full_attention"] * layers  # the class divides by 0 where it has to make the list
    if family.model_type == "opt" and rng.random() < 0.5:
        found["word_embed_proj_dim"] = 12
    if family.model_type == "falcon" and not found["new_decoder_architecture"]:
        found["parallel_attn"] = rng.random() < 0.5
    if family.model_type == "deepseek_v3" and found["first_k_dense_replace"] >= layers:
        found["num_nextn_predict_layers"] = 0  # a module has a layer with experts, of which no layer says any key
    return found


def _mixed(model_type, rng, heads, layers, d_head):
    """What says which layers have another mixer than attention, and its sizes."""
    some = [i for i in range(1, layers) if rng.random() < 0.5]
    kinds = ["full_attention" if i in some else "conv" for i in range(layers)]
    delta = {
        "layer_types": [{"conv": "linear_attention"}.get(kind, kind) for kind in kinds],
        "linear_num_key_heads": heads,
        "linear_num_value_heads": 2 * heads,
        "linear_key_head_dim": rng.choice((8, 12)),
    }
    wide = {
        "global_head_dim": rng.choice((16, 24)),
        "num_global_key_value_heads": rng.choice((None, 1)),
        "layer_types": [*(["sliding_attention", "full_attention"] * layers)[: layers - 1], "full_attention"],
        "num_kv_shared_layers": rng.choice((0, 1)) if layers > 2 else 0,  # of three the second is full
    }
    vectors = {
        "hidden_size_per_layer_input": rng.choice((0, 6)),
        "vocab_size_per_layer_input": rng.choice((40, 70)),
        "top_k_experts": 3,
        "moe_intermediate_size": 28,
    }
    return {
        "gemma4_text": {**wide, **vectors},
        "gemma4_unified_text": wide,
        "step3p5": {
            "num_sliding_attention_heads": 2 * heads,
            "layer_types": [rng.choice(("sliding_attention", "full_attention")) for _ in range(layers)],
            "swiglu_limits": [0.0] * (layers - 1) + [7.0],
        },
        "nemotron_h": {
            "layers_block_type": rng.choices(["linear_attention", "moe", "full_attention", "mlp"], k=layers),
            "mamba_num_heads": 3 * heads,
            "mamba_head_dim": rng.choice((8, 10)),
            "n_groups": rng.choice((1, 3, heads)),
            "conv_kernel": rng.choice((2, 4)),
        },
        "cohere_compass_text": {
            "layer_types": [rng.choice(("full_attention", "sliding_attention")) for _ in range(layers)],
            "rope_parameters": {
                "full_attention": None,
                "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
            },
            "sliding_window": 16,
        },
        "dbrx": {
            "attn_config": {
                "kv_n_heads": rng.choice((1, heads)),
                "clip_qkv": rng.choice((None, 8)),
                "rope_theta": 1e4,
            },
            "ffn_config": {"ffn_hidden_size": 44, "moe_num_experts": 6, "moe_top_k": rng.choice((1, 3))},
        },
        "bamba": {
            "attn_layer_indices": some,
            "mamba_n_heads": heads,
            "mamba_n_groups": rng.choice((1, heads)),
            "mamba_d_state": rng.choice((6, 16)),
        },
        "mamba": {"time_step_rank": 5, "state_size": 6},
        "falcon_mamba": {"time_step_rank": "auto", "state_size": 8},
        "mamba2": {"head_dim": 8, "num_heads": heads * d_head // 4, "state_size": 6, "n_groups": rng.choice((1, 2))},
        "jamba": {
            "attn_layer_period": (period := rng.choice((1, 2, 4))),
            "attn_layer_offset": rng.randrange(period),
            "expert_layer_period": (other := rng.choice((1, 2, 4))),
            "expert_layer_offset": rng.randrange(other),
            "mamba_d_state": 6,
            "mamba_dt_rank": rng.choice((5, "auto")),
        },
        "granitemoehybrid": {
            "layer_types": [{"conv": "linear_attention"}.get(kind, kind) for kind in kinds],
            "mamba_n_heads": heads,
            "mamba_d_state": 6,
            "num_local_experts": rng.choice((0, 12)),
            "position_embedding_type": rng.choice((None, "rope", "nope")),
        },
        "falcon_h1": {
            "mamba_d_ssm": rng.choice((6, 10)) * heads,
            "mamba_n_heads": heads,
            "mamba_n_groups": rng.choice((1, heads)),
            "mamba_d_state": rng.choice((6, 16)),
            "projectors_bias": (bias := rng.random() < 0.5),
            "mamba_proj_bias": bias,
        },
        "lfm2": {"full_attn_idxs": some, "conv_L_cache": rng.choice((2, 4)), "block_multiple_of": 7},
        "lfm2_moe": {"layer_types": kinds, "num_dense_layers": len(some)},
        "apertus1p5_text": {"output_vocab_size": rng.choice((None, 40)), "tie_word_embeddings": False},
        "lfm3": {
            "layer_types": [rng.choice(("conv", "sliding_attention", "full_attention")) for _ in range(layers)],
            "conv_L_cache": rng.choice((2, 4)),
        },
        "lara_mini": {
            **delta,
            "layer_types": [rng.choice((*delta["layer_types"], "sliding_attention")) for _ in range(layers)],
        },
        **dict.fromkeys(("qwen3_next", "qwen3_5_text", "qwen3_5_moe_text"), delta),
        "minimax": {"layer_types": delta["layer_types"], "block_size": rng.choice((8, 20))},
        "olmo_hybrid": {
            **delta,
            "layer_types": rng.choice(
                (None, ["linear_attention", *delta["layer_types"][2:], "full_attention"][-layers:])
            )
            if layers > 1
            else None,
            "linear_key_head_dim": rng.choice((None, 8)),
            "linear_num_value_heads": heads,
        },
        "kimi_linear": {
            "layer_types": delta["layer_types"],
            "linear_num_heads": heads + 1,
            "linear_head_dim": rng.choice((8, 12)),
        },
        "zamba2": {
            "layers_block_type": [rng.choice(("linear_attention", "hybrid")) for _ in range(layers)],
            "num_mem_blocks": rng.choice((1, 2, 3)),
            "use_shared_attention_adapter": (adapted := rng.random() < 0.5),
            **({"num_key_value_heads": heads} if adapted else {}),
            "adapter_rank": rng.choice((3, 7)),
            "n_mamba_heads": heads,
            "mamba_ngroups": rng.choice((1, heads)),
            "mamba_d_state": rng.choice((6, 16)),
        },
        "bailing_hybrid": {"layer_group_size": rng.choice((2, 3)), "kda_safe_gate": rng.random() < 0.5},
    }.get(model_type, {})


def tensors(config):
    """The shapes of the parameters that transformers makes of a config, each once; None where it has no such class."""
    with warnings.catch_warnings(), torch.device("meta"):
        warnings.simplefilter("ignore")
        if config.model_type in INSIDE:
            if INSIDE[config.model_type] is None:
                return None
            model = getattr(transformers, INSIDE[config.model_type])(config)
            if config.model_type == "step3p5":  # the head is outside the text model
                head = torch.nn.Linear(config.hidden_size, config.vocab_size, bias=False)
                head.weight = model.embed_tokens.weight if config.tie_word_embeddings else head.weight
                model = torch.nn.ModuleList([model, head])
        else:
            model = AutoModelForCausalLM.from_config(config)
    learned = {id(p): p for p in model.parameters() if p.requires_grad}  # others correct scores: buffers, as we count
    found = Counter(tuple(parameter.shape) for parameter in learned.values())
    if config.model_type == "longcat_flash":  # rows for experts without weights, which its forward pass never reads
        rows = config.n_routed_experts + config.zero_expert_num
        there = (rows, 2 * config.expert_ffn_hidden_size, config.hidden_size)
        times = found.pop(there)
        found[(config.n_routed_experts, *there[1:])] += times
    return found


def total(shapes):
    return sum(times * torch.Size(shape).numel() for shape, times in shapes.items())
