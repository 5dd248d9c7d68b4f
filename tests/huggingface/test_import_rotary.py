"""Rotary settings in every spelling are read as transformers' config classes standardize them."""

import json

import pytest
from examples import a_third
from published import COUNTED
from random_configs import INSIDE, config_class

from archcalc.errors import Invalid
from archcalc.huggingface.families import families
from archcalc.huggingface.importing import import_config
from archcalc.huggingface.rope import KEYS

FAMILIES = {family.model_type: family for family in families() if set(KEYS) <= set(family.defaults)}
NESTED = {"gemma3_text", "olmo3"}
# Settings that these must have, or no old ones: their classes keep those as they are, and do not read them.
OTHERS = {"phi3", "ministral3", "phimoe", "cohere2_moe", "mimo_v2_flash", "laguna", "mellum"}
OTHERS |= {"mistral4", "cohere_compass_text", "lfm3"}
OTHERS |= {"gemma4_text", "gemma4_unified_text", "step3p5"}
SMALL = {
    "vocab_size": 100,
    "hidden_size": 64,
    "num_hidden_layers": 8,
    "num_attention_heads": 4,
    "max_position_embeddings": 4096,
    "pad_token_id": 0,
}


MIXTURE = {"num_experts_per_tok": 2, "n_routed_experts": 16, "n_shared_experts": 1}
LATENT = {"num_key_value_heads": 4, "kv_lora_rank": 24, "qk_rope_head_dim": 10}  # key/value heads as many as heads
# What says which layers are attention, where the class says none are or has no default.
MIXED = {
    "bamba": {"attn_layer_indices": [1, 4]},
    "granitemoehybrid": {
        "layer_types": ["linear_attention", "full_attention"] * 4,
        "position_embedding_type": "rope",
    },
    "longcat_flash": {"head_dim": 10, "moe_topk": 2},
    "lfm2": {"full_attn_idxs": [1, 4]},
    "zamba2": {"layers_block_type": ["linear_attention", "hybrid"] * 4, "use_mem_rope": True},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"] * 4},
}


def small(model_type):
    """Sizes that fit each other, where a family has them."""
    defaults = FAMILIES[model_type].defaults
    heads = LATENT if "kv_lora_rank" in defaults else {"num_key_value_heads": 2}
    sizes = {
        key: value
        for key, value in {**SMALL, **MIXTURE, **heads, "head_dim": 16}.items()
        if key in {*defaults, "pad_token_id"} and (key != "head_dim" or defaults[key])
    }
    return sizes | MIXED.get(model_type, {})


LLAMA3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 1024}
YARN = {"factor": 4.0, "original_max_position_embeddings": 1024, "beta_fast": 16.0}
SAID = {
    "nothing": {},
    "an old base": {"rope_theta": 12345.0},
    "a new base": {"rope_parameters": {"rope_type": "default", "rope_theta": 5000.0}},
    "linear, old": {"rope_theta": 12345.0, "rope_scaling": {"type": "linear", "factor": 2.0}},
    "linear, new": {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 777.0}},
    "dynamic": {"rope_scaling": {"rope_type": "dynamic", "factor": 4.0}},
    "llama3": {"rope_theta": 5e5, "rope_scaling": {"rope_type": "llama3", **LLAMA3}},
    "yarn": {"rope_scaling": {"type": "yarn", **YARN}},
    "yarn without the context": {"rope_scaling": {"type": "yarn", "factor": 2.0}},
}


def variants(model_type):
    """The settings in the words of a family.

    transformers reads no flat `rope_parameters` where they are nested (we refuse them) and there takes no `type` of an
    old file; of GPT-NeoX it takes no `rope_theta`, which older versions wrote beside `rotary_emb_base`.
    """
    found = {}
    for name, said in SAID.items():
        if model_type in NESTED and "rope_parameters" in said:
            continue
        scaling = dict(said.get("rope_scaling", {}))
        if "type" in scaling:
            scaling["rope_type"] = scaling.pop("type")
        written = {**said, "rope_scaling": scaling} if scaling and model_type in NESTED else said
        renamed = {"rope_theta": "rotary_emb_base"} if model_type.startswith("gpt_neox") else {}
        found[name] = {renamed.get(key, key): value for key, value in written.items()}
    return found


OURS = {"original_max_position_embeddings": "original_context_length"}


def rotary(data):
    """Those of the first kinds of layers that have attention."""
    for group in data["layers"]:
        layers = list(group["kinds"].values()) if "kinds" in group else [group]
        branches = [
            branch
            for layer in layers
            for branch in layer.get("branches", ())
            if branch["name"] in ("attention", "attention_0")
        ]
        attentions = [layer["attention"] for layer in layers if "attention" in layer]
        attentions += [branch["mixer"] for branch in branches]
        if attentions:
            break
    return [attention["rotary"] for attention in attentions if "rotary" in attention]


def agrees(ours, rope, d_head, context):
    """Whether a spec's rotary positions are those of a standardized mapping."""
    assert ours["theta"] == rope["rope_theta"]
    assert ours["d_rotary"] == int(d_head * rope.get("partial_rotary_factor", 1.0))
    scaling = ours.get("scaling", {})
    assert scaling.get("kind", "default") == rope["rope_type"]
    for key, value in rope.items():
        name = OURS.get(key, key)
        if scaling and name in (
            "factor",
            "low_freq_factor",
            "high_freq_factor",
            "beta_fast",
            "original_context_length",
        ):
            assert scaling[name] == value, key
    if rope["rope_type"] == "dynamic":
        assert scaling["original_context_length"] == context


@pytest.mark.parametrize("model_type", a_third(sorted(set(FAMILIES) - OTHERS)))
def test_settings_are_those_that_transformers_standardizes(model_type):
    for said in variants(model_type).values():
        config = config_class(FAMILIES[model_type])(**small(model_type), **json.loads(json.dumps(said)))
        ours = rotary(import_config({"model_type": model_type, **small(model_type), **said}, "config.json").data)
        settings = config.rope_parameters
        nested = [settings[kind] for kind in dict.fromkeys(config.layer_types)] if model_type in NESTED else None
        assert ours
        for found, wanted in zip(ours, nested or [settings] * len(ours), strict=True):
            agrees(found, wanted, getattr(config, "head_dim", None) or 16, 4096)


@pytest.mark.parametrize("model_type", a_third(sorted(set(FAMILIES) - set(INSIDE) - OTHERS)))
def test_what_transformers_writes_is_read_as_what_it_was_given(model_type):
    for said in variants(model_type).values():
        given = {"model_type": model_type, **small(model_type), **said}
        config = config_class(FAMILIES[model_type])(**small(model_type), **json.loads(json.dumps(said)))
        written = json.loads(config.to_json_string())
        first, second = (rotary(import_config(config, "config.json").data) for config in (given, written))
        assert first == second


def test_one_mapping_for_all_layers_is_refused_where_each_type_has_its_own():
    said = {"model_type": "gemma3_text", "rope_parameters": {"rope_type": "default", "rope_theta": 5000.0}}
    with pytest.raises(Invalid, match="must have a mapping for each of full_attention, sliding_attention"):
        import_config(said, "config.json")


PHI3 = {
    "model_type": "phi3",
    **SMALL,
    "original_max_position_embeddings": 1024,
    "partial_rotary_factor": 0.5,
    "rope_scaling": {"type": "su", "short_factor": [1.0] * 4, "long_factor": [2.0] * 4},
}


def test_phi3_has_factors_for_each_pair_of_the_features_that_are_turned():
    (found,) = rotary(import_config(PHI3, "config.json").data)
    assert found["d_rotary"] == 8
    assert found["scaling"] == {
        "kind": "longrope",
        "original_context_length": 1024,
        "short_factor": [1.0] * 4,
        "long_factor": [2.0] * 4,
    }


def test_ministral3_grows_its_queries_in_steps_of_its_first_context():
    data = import_config({"model_type": "ministral3"}, "config.json").data
    attention = data["layers"][0]["attention"]
    assert attention["query_growth"] == {"rate": 0.1, "interval": 16384}
    assert attention["rotary"]["scaling"] == {
        "kind": "yarn",
        "original_context_length": 16384,
        "factor": 16.0,
        "beta_fast": 32.0,
        "beta_slow": 1.0,
        "mscale": 1.0,
        "mscale_all_dim": 1.0,
    }


def test_hunyuan_grows_its_base_once():
    """transformers' compute_ntk_alpha_rope_parameters: base * alpha ** (dim / (dim - 2))."""
    config = {"model_type": "hunyuan_v1_dense", **SMALL, "head_dim": 16}
    config["rope_scaling"] = {"type": "dynamic", "alpha": 1000.0, "factor": 1.0, "beta_fast": 32, "beta_slow": 1}
    (found,) = rotary(import_config(config, "config.json").data)
    assert found == {"d_rotary": 16, "theta": 10_000.0 * 1000.0 ** (16 / 14)}


def test_gemma3_scales_the_angles_of_its_global_layers_alone():
    config = {"model_type": "gemma3_text", "rope_scaling": {"rope_type": "linear", "factor": 8.0}}
    kinds = import_config(config, "config.json").data["layers"][0]["kinds"]
    assert kinds["local"]["attention"]["rotary"] == {"d_rotary": 256, "theta": 10_000.0}
    assert kinds["global"]["attention"]["rotary"] == {
        "d_rotary": 256,
        "theta": 1_000_000.0,
        "scaling": {"kind": "linear", "factor": 8.0},
    }


def test_old_and_new_spellings_that_agree_are_read_together():
    scaling = {"rope_type": "linear", "factor": 2.0}
    config = {"model_type": "llama", **SMALL, "rope_theta": 5e5, "rope_scaling": scaling}
    config["rope_parameters"] = {**scaling, "rope_theta": 5e5}
    (found,) = rotary(import_config(config, "config.json").data)
    assert found == {"d_rotary": 16, "theta": 5e5, "scaling": {"kind": "linear", "factor": 2.0}}


def test_minimax_counts_the_features_that_are_turned_unless_a_setting_says_their_part():
    """MiniMaxM2Config.convert_rope_params_to_dict; MiniMax-M2.5 turns 64 of the 128 features of a head."""
    published = COUNTED["MiniMaxAI/MiniMax-M2.5"]["config"]
    assert published["rotary_dim"] == 64
    assert rotary(import_config(published, "config.json").data) == [{"d_rotary": 64, "theta": 5e6}]
    for more in ({}, {"partial_rotary_factor": 0.25}, {"rope_parameters": {"partial_rotary_factor": 0.75}}):
        said = {"head_dim": 16, "rotary_dim": 8, **more}
        theirs = config_class(FAMILIES["minimax_m2"])(**json.loads(json.dumps(said))).rope_parameters
        (found,) = rotary(import_config({"model_type": "minimax_m2", **said}, "config.json").data)
        assert found["d_rotary"] == int(16 * theirs["partial_rotary_factor"])


def test_minimax_turns_an_even_number_of_features_of_a_head():
    for turned in (7, 130):
        with pytest.raises(Invalid, match="rotary_dim: must be even and at most 128"):
            import_config({"model_type": "minimax_m2", "rotary_dim": turned}, "config.json")


def test_gemma4_turns_a_part_of_the_pairs_at_the_frequencies_of_a_whole_head():
    """transformers' _compute_proportional_rope_parameters, which Gemma4TextConfig has for full layers by default."""
    torch = pytest.importorskip("torch")
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    from archcalc.blocks.rotary import Rotary
    from archcalc_reference.model.rotary import frequencies

    (local, full) = (kind["attention"]["rotary"] for kind in _kinds_of_gemma4())
    assert local == {"d_rotary": 256, "theta": 10_000.0}
    assert full == {"d_rotary": 512, "theta": 1e6, "scaling": {"kind": "proportional", "share": 0.25}}
    config = config_class(FAMILIES["gemma4_text"])()
    theirs, _ = ROPE_INIT_FUNCTIONS["proportional"](config, "cpu", layer_type="full_attention")
    ours = frequencies(Rotary.model_validate(full), 1, 1)
    assert torch.equal(ours.of_pairs, theirs)
    assert (theirs > 0).sum() == 64


def _kinds_of_gemma4(**said):
    data = import_config({"model_type": "gemma4_text", "hidden_size_per_layer_input": 0, **said}, "config.json").data
    return data["layers"][0]["kinds"].values()


@pytest.mark.parametrize("said", [{"rope_theta": 5e5}, {"rope_scaling": {"rope_type": "linear", "factor": 2.0}}])
def test_gemma4_refuses_settings_that_its_class_does_not_read(said):
    with pytest.raises(Invalid, match="is not read by this family"):
        _kinds_of_gemma4(**said)


def test_step_reads_a_base_and_a_part_for_each_layer():
    types = ["full_attention", "sliding_attention"]
    said = {"layer_types": types, "num_hidden_layers": 2, "sliding_window": 8, "mlp_layer_types": ["dense"] * 2}
    said |= {"rope_theta": [5e6, 1e4], "partial_rotary_factors": [0.5, 1.0]}
    theirs = config_class(FAMILIES["step3p5"])(**json.loads(json.dumps(said))).rope_parameters
    groups = import_config({"model_type": "step3p5", **said}, "config.json").data["layers"]
    found = [group["attention"]["rotary"] for group in groups]
    for ours, kind in zip(found, types, strict=True):
        agrees(ours, theirs[kind], 128, 4096)


def test_youtu_draws_its_weights_by_its_width():
    """YoutuConfig: 2 / sqrt(5 x hidden_size), which is 0.05 for 320."""
    data = import_config({"model_type": "youtu", "hidden_size": 320}, "config.json").data
    assert data["initialization"]["std"] == pytest.approx(0.05)


def test_lfm2_is_refused_in_a_line_where_no_feature_is_left_of_its_mlp():
    with pytest.raises(Invalid, match="intermediate_size: must be from 1 to"):
        import_config({"model_type": "lfm2", "intermediate_size": 1}, "config.json")
