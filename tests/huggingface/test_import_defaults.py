"""The tables hold what transformers' config classes have: defaults, spellings and names of classes."""

import dataclasses
from pathlib import Path

import pytest
import transformers
from random_configs import config_class

from archcalc.huggingface.families import MODULES, absent, families, wrappers
from archcalc.huggingface.rope import KEYS

FAMILIES = {family.model_type: family for family in families()}
# Keys that transformers reads without a field of the class, with the default that its code has for them.
BESIDE = {
    ("bloom", "seq_length"): None,
    ("gemma3_text", "sliding_window_pattern"): 6,
    ("cohere2", "sliding_window_pattern"): 4,
    ("gemma3_text", "rope_local_base_freq"): None,
    ("gpt_neo", "attention_layers"): None,
    ("qwen2_vl_text", "tie_word_embeddings"): False,
    ("qwen2_5_vl_text", "tie_word_embeddings"): False,
    **dict.fromkeys(
        [
            ("mimo_v2_flash", key)
            for key in ("sliding_window_size", "hybrid_layer_pattern", "moe_layer_freq", "swa_rope_theta")
        ]
    ),
    ("cohere2_moe", "first_k_dense_replace"): None,
    ("nemotron_h", "hybrid_override_pattern"): None,
    ("nemotron_h", "num_hidden_layers"): None,
    ("minimax_m2", "rotary_dim"): None,
    ("minimax", "rotary_dim"): None,
    ("minimax", "attn_type_list"): None,
    ("glm_moe_dsa", "index_topk_freq"): 1,
    ("dbrx", "attn_config.rope_theta"): None,
    **dict.fromkeys((name, "max_position_embeddings") for name in ("mamba", "falcon_mamba", "mamba2")),
    **dict.fromkeys((name, "intermediate_size") for name in ("mamba", "falcon_mamba")),
    ("dbrx", "max_position_embeddings"): 2048,  # an alias there
    ("modernbert-decoder", "global_attn_every_n_layers"): 3,
    ("modernbert-decoder", "global_rope_theta"): None,
    ("modernbert-decoder", "local_rope_theta"): None,
    **dict.fromkeys(
        [(name, "full_attention_interval") for name in ("qwen3_next", "qwen3_5_text", "qwen3_5_moe_text")], 4
    ),
    **{
        (name, key): default
        for name in ("gemma4_text", "gemma4_unified_text")
        for key, default in (
            ("global_head_dim", 512),
            ("num_global_key_value_heads", None),
            ("per_layer_config", None),
        )
    },
    **dict.fromkeys(
        [
            ("step3p5", key)
            for key in ("attention_other_setting", "moe_layers_enum", "partial_rotary_factors", "per_layer_config")
        ]
    ),
    ("step3p5", "num_nextn_predict_layers"): 0,
    ("qwen3_vl_text", "tie_word_embeddings"): False,
    **dict.fromkeys([("zamba2", name) for name in ("mamba_headdim", "attention_head_dim", "attention_hidden_size")]),
    ("kimi_linear", "linear_attn_config"): None,
    ("kimi_linear", "first_k_dense_replace"): 1,
    **dict.fromkeys([("bailing_hybrid", f"linear_{name}") for name in ("head_dim", "num_heads", "conv_kernel_dim")]),
}
# Null in transformers' class, which then takes what stands here.
FILLED = {("gpt_neo", "attention_types"): [[["global", "local"], 12]]}


def fields(family):
    kind = config_class(family)
    found = {name: value for name, value in vars(kind).items() if isinstance(value, bool)}  # of no type: no fields
    for field in dataclasses.fields(kind):
        if field.default is not dataclasses.MISSING:
            found[field.name] = field.default
        elif field.default_factory is not dataclasses.MISSING:
            found[field.name] = field.default_factory()
    for outer in family.nested:
        inner = kind.sub_configs[outer]
        own = (field for field in dataclasses.fields(inner) if field.name in vars(inner).get("__annotations__", {}))
        found |= {f"{outer}.{field.name}": field.default for field in own}
        del found[outer]
    return found


@pytest.mark.parametrize("model_type", FAMILIES)
def test_a_default_is_that_of_the_config_class(model_type):
    family = FAMILIES[model_type]
    theirs = fields(family)
    for key, default in family.defaults.items():
        if (model_type, key) in BESIDE:
            assert key not in theirs, key
            assert default == BESIDE[model_type, key], key
        elif key in KEYS and key not in theirs:
            assert default is None, key
        elif key == "head_dim" and key not in theirs:
            assert default is None
        elif (model_type, key) in FILLED:
            assert theirs[key] is None
            assert default == FILLED[model_type, key]
        else:
            assert default == theirs[key], key
            assert isinstance(default, bool) == isinstance(theirs[key], bool), key


@pytest.mark.parametrize("model_type", FAMILIES)
def test_a_field_of_the_config_class_is_read_or_listed(model_type):
    """A new version's key that no table knows fails here before it is missed in a count."""
    from archcalc.huggingface.ignored import matters_not

    family = FAMILIES[model_type]
    for key in fields(family):
        known = key in family.known or key in family.ignored or matters_not(key)
        assert known or key in ("is_encoder_decoder", "add_cross_attention", "use_bidirectional_attention"), key


@pytest.mark.parametrize("model_type", FAMILIES)
def test_other_spellings_of_the_config_class_are_known(model_type):
    family = FAMILIES[model_type]
    for other, key in config_class(family).attribute_map.items():
        if {other, key} & set(family.defaults):
            assert {other, key} <= family.known, (other, key)


@pytest.mark.parametrize("model_type", FAMILIES)
def test_the_classes_of_a_family_are_transformers_own(model_type):
    family = FAMILIES[model_type]
    assert config_class(family).__name__ == family.config_class
    assert hasattr(transformers, family.architectures[0]) or model_type in ("exaone", "internlm3", "iquestcoder")


def test_no_type_of_model_is_in_two_tables():
    assert not set(MODULES) & set(absent.FEATURES)
    assert not set(MODULES) & set(wrappers.WRAPPERS)
    assert not set(absent.FEATURES) & set(wrappers.WRAPPERS)


def test_every_decoder_of_transformers_is_read_or_said_to_be_absent():
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    known = {*MODULES, *absent.FEATURES, *wrappers.WRAPPERS, "gpt-sw3"}
    assert set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES) - known == set()


def test_the_page_lists_every_type_that_is_read():
    page = (Path(__file__).parents[2] / "docs" / "huggingface.md").read_text()
    assert [name for name in (*MODULES, *wrappers.WRAPPERS) if f"`{name}`" not in page] == []
