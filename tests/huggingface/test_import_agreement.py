"""What files say twice, in the words of other code, or as nothing: it is read, or refused with both values."""

import json

import pytest
from command import ask

import archcalc
from archcalc.huggingface.families import family
from archcalc.huggingface.importing import import_config
from archcalc.spec.catalogue import find

NONE_SHARED = {  # and the experts of a layer without a shared MLP
    "deepseek_v3": ("n_shared_experts", {"num_hidden_layers": 4}),
    "deepseek_v32": ("n_shared_experts", {"num_hidden_layers": 4}),
    "mistral4": ("n_shared_experts", {"num_hidden_layers": 2}),
    "bailing_hybrid": ("num_shared_experts", {"num_hidden_layers": 6}),
    "kimi_linear": ("n_shared_experts", {"num_hidden_layers": 4}),
    "axk1": ("n_shared_experts", {"num_hidden_layers": 4}),
    "solar_open": ("n_shared_experts", {"num_hidden_layers": 2}),
}


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
@pytest.mark.parametrize(("model_type", "said"), NONE_SHARED.items())
def test_no_shared_experts_are_none_as_in_transformers(model_type, said):
    """Its class makes matrices of no rows of them."""
    import torch
    import transformers

    key, more = said
    config = {"model_type": model_type, "hidden_size": 64, key: 0, **more}
    found = import_config(config, "config.json").data
    assert not _mixers(found, "shared")
    made = transformers.AutoConfig.for_model(**config)
    with torch.device("meta"):
        model = getattr(transformers, family(model_type).architectures[0])(made)
    theirs = sum(one.numel() for one in model.parameters())
    assert archcalc.params(archcalc.load(_file(config))).stored == theirs


def _mixers(part, name):
    """What stands under a name, however deep."""
    inside = part.values() if isinstance(part, dict) else part if isinstance(part, list) else ()
    mine = [part[name]] if isinstance(part, dict) and part.get(name) else []
    return mine + [found for inner in inside for found in _mixers(inner, name)]


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def _file(config):
    with open("c.json", "w") as file:
        json.dump(config, file)
    return "./c.json"


def test_null_for_single_layers_is_nothing_of_them():
    """transformers then gives full layers the width of the others, not global_head_dim."""
    import torch
    from transformers import Gemma4ForCausalLM, Gemma4TextConfig

    said = {"num_hidden_layers": 6, "vocab_size": 64, "vocab_size_per_layer_input": 64, "per_layer_config": None}
    with torch.device("meta"):
        theirs = sum(one.numel() for one in Gemma4ForCausalLM(Gemma4TextConfig(**said)).parameters())
    assert archcalc.params(archcalc.load(_file({"model_type": "gemma4_text", **said}))).stored == theirs


NEMOTRON = {"model_type": "nemotron_h", "hybrid_override_pattern": "M*"}
TWO = {"num_hidden_layers": 2}
CONTRADICTIONS = {
    "letters and a list": (
        {**NEMOTRON, "layers_block_type": ["mamba", "moe"]},
        "hybrid_override_pattern: contradicts layers_block_type, which has 'moe' for layer 1; got '*'",
    ),
    "a list and another number": (
        {**NEMOTRON, "num_hidden_layers": 3},
        "num_hidden_layers: contradicts hybrid_override_pattern, which has 2 layers; got 3",
    ),
    "letters and a list of modules": (
        {
            **NEMOTRON,
            "num_nextn_predict_layers": 1,
            "mtp_layers_block_type": ["attention", "mlp"],
            "mtp_hybrid_override_pattern": "*E",
        },
        "mtp_hybrid_override_pattern: contradicts mtp_layers_block_type, which has 'mlp' for layer 1; got 'E'",
    ),
    "numbers and types": (
        {"model_type": "lfm2", **TWO, "layer_types": ["conv", "full_attention"], "full_attn_idxs": [0]},
        "full_attn_idxs: contradicts layer_types, which has 'conv' for layer 0; got 'full_attention'",
    ),
    "switches and types": (
        {
            "model_type": "mimo_v2_flash",
            **TWO,
            "layer_types": ["full_attention", "sliding_attention"],
            "hybrid_layer_pattern": [0, 0],
        },
        "hybrid_layer_pattern: contradicts layer_types, which has 'sliding_attention' for layer 1; got 0",
    ),
    "switches and types of MLPs": (
        {
            "model_type": "mimo_v2_flash",
            **TWO,
            "mlp_layer_types": ["dense", "sparse"],
            "moe_layer_freq": [0, 0],
        },
        "moe_layer_freq: contradicts mlp_layer_types, which has 'sparse' for layer 1; got 0",
    ),
    "two lists in a mapping, and types": (
        {
            "model_type": "kimi_linear",
            **TWO,
            "layer_types": ["linear_attention", "full_attention"],
            "linear_attn_config": {"full_attn_layers": [1], "kda_layers": [2]},
        },
        "linear_attn_config: contradicts layer_types, which has 'linear_attention' for layer 0; got 'full_attention'",
    ),
    "MiniMax's switches and types": (
        {
            "model_type": "minimax",
            **TWO,
            "layer_types": ["full_attention", "linear_attention"],
            "attn_type_list": [1, 1],
        },
        "attn_type_list: contradicts layer_types, which has 'linear_attention' for layer 1; got 1",
    ),
}


@pytest.mark.parametrize(("config", "told"), CONTRADICTIONS.values(), ids=CONTRADICTIONS)
def test_two_spellings_of_one_fact_that_differ_are_refused_with_both(config, told):
    assert ask("params", _file(config)).err == f"./c.json: {told}\n"


def test_two_spellings_that_agree_are_one():
    one = find(_file({**NEMOTRON, "layers_block_type": ["mamba", "attention"], "num_hidden_layers": 2}))
    assert one.model.layers == find(_file(NEMOTRON)).model.layers


# config.json of MiniMaxAI/MiniMax-Text-01, with the keys that its own code reads.
FACTORS = {f"layernorm_{name}_alpha": 3.5565588200778455 for name in ("full_attention", "linear_attention", "mlp")}
MINIMAX = {
    "architectures": ["MiniMaxText01ForCausalLM"],
    "model_type": "minimax_text_01",
    "attn_type_list": ([0] * 7 + [1]) * 10,
    "head_dim": 128,
    "hidden_act": "silu",
    "hidden_size": 6144,
    "intermediate_size": 9216,
    **FACTORS,
    **{name.replace("alpha", "beta"): 1.0 for name in FACTORS},
    "max_position_embeddings": 10_240_000,
    "num_attention_heads": 64,
    "num_experts_per_tok": 2,
    "num_hidden_layers": 80,
    "num_key_value_heads": 8,
    "num_local_experts": 32,
    "postnorm": True,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10_000_000,
    "rotary_dim": 64,
    "shared_intermediate_size": 0,
    "shared_moe_mode": "sigmoid",
    "sliding_window": None,
    "tie_word_embeddings": False,
    "vocab_size": 200_064,
}


def test_the_published_file_of_minimax_text_01_is_read():
    """arXiv:2501.08313, abstract: 456 billion parameters, of which 45.9 billion for each token; the embedding and the
    head, which are counted here too, are 2 x 200,064 x 6,144."""
    model = archcalc.load(_file(MINIMAX))
    counts = archcalc.params(model)
    assert round(counts.stored / 1e9) == 456
    assert round((counts.active - 2 * 200_064 * 6_144) / 1e8) == 459
    group = model.layers[0]
    assert group.pattern == ("linear_attention",) * 7 + ("attention",)
    mixer = group.kinds["attention"].branches[0]
    assert (mixer.mixer.rotary.d_rotary, mixer.residual_scale) == (64, 3.5565588200778455)
    assert "rotary_dim is obeyed" in ask("report", "./c.json").out


def test_what_minimax_s_class_cannot_say_is_not_exported():
    assert ask("export", _file(MINIMAX)).code == 2  # it turns whole heads
    assert ask("export", _file({**MINIMAX, "rotary_dim": 128})).code == 0


@pytest.mark.parametrize(
    "config",
    [{"model_type": "jamba", "hidden_act": "quick_gelu"}, {"model_type": "mamba2", "hidden_act": "quick_gelu"}],
)
def test_what_a_block_refuses_is_told_by_the_key_of_the_file_and_its_value(config):
    assert ask("params", _file(config)).err == (
        "./c.json: hidden_act: must be silu or gelu or gelu_tanh or relu; got 'quick_gelu'\n"
    )


def test_a_decay_is_limited_to_what_fp32_can_tell_from_none():
    """exp(-104) is 0 in fp32, whose smallest number is 2^-149 = exp(-103.3)."""
    said = {"model_type": "bailing_hybrid", "num_hidden_layers": 6}
    assert ask("params", _file({**said, "kda_lower_bound": -1000.0})).code == 0
    told = "kda_lower_bound: must be a number from -1,000 to below 0; got -1000000000.0\n"
    assert ask("params", _file({**said, "kda_lower_bound": -1e9})).err == f"./c.json: {told}"


def test_small_models_of_these_families_are_ones_that_transformers_has():
    """A miniature keeps what a family ties: twice as many key/value heads under a window, one width of heads."""
    from archcalc.huggingface.exporting import export_config
    from archcalc.proof.miniature import miniature
    from archcalc.spec.dumping import plain

    for name in ("mimo-v2-flash", "minimax-m2.5", _file({"model_type": "minimax", "num_hidden_layers": 4})):
        assert export_config(plain(miniature(archcalc.load(name))))["model_type"].startswith(("mimo", "minimax"))


@pytest.mark.prove
def test_no_shared_experts_are_verified_against_transformers():
    """Its class has matrices of no rows there, which the reference has not."""
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "first_k_dense_replace": 1, "n_shared_experts": 0}
    told = ask(
        "verify", _file({"model_type": "deepseek_v3", "vocab_size": 64, "max_position_embeddings": 64, **sizes})
    )
    assert told.code == 0
    assert "logits by DeepseekV3ForCausalLM" in " ".join(told.out.split())
