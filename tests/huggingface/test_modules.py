"""Modules of multi-token prediction in config.json: how many, of what, and what transformers' own module has."""

import json
from pathlib import Path

import pytest

from archcalc.counts.mtp import modules
from archcalc.errors import Invalid
from archcalc.huggingface.exporting import export_config, shape
from archcalc.huggingface.importing import import_config
from archcalc.spec.dumping import plain
from archcalc.spec.model import Model
from archcalc.tape.run import Run

PUBLISHED = {
    name: entry["config"] for name, entry in json.loads((Path(__file__).parent / "configs.json").read_text())["counted"].items()
}  # fmt: skip


def data_of(config):
    return import_config(config, "c/config.json").data


def counted(config):
    return modules(Model.model_validate(data_of(config)), Run())


STEP = {
    "model_type": "step3p5",
    "num_hidden_layers": 6,
    "sliding_window": 8,
    "hidden_size": 64,
    "rope_parameters": {
        kind: {"rope_type": "default", "rope_theta": 10000.0} for kind in ("full_attention", "sliding_attention")
    },
}
PADDED = {
    "layer_types": ["full_attention", "sliding_attention"] * 3 + ["sliding_attention"] * 2,
    "mlp_layer_types": ["dense"] * 3 + ["sparse"] * 3 + ["dense"] * 2,
}
TYPED = {"layer_types": ["sliding_attention", "full_attention"] * 3, "mtp_layer_types": ["sliding_attention"] * 2}
# What a config says, how many modules that is, the kind of the layer's MLP, and whether it has a window or a recurrence.
READ = {
    "deepseek_v3, as its class": ({"model_type": "deepseek_v3"}, 1, "experts", None),
    "deepseek_v3, two": ({"model_type": "deepseek_v3", "num_mtp_layers": 2}, 2, "experts", None),
    "glm4_moe": ({"model_type": "glm4_moe", "head_dim": 128, "num_nextn_predict_layers": 1}, 1, "experts", None),
    "glm4_moe_lite": ({"model_type": "glm4_moe_lite", "num_nextn_predict_layers": 1}, 1, "experts", None),
    "qwen3_next": ({"model_type": "qwen3_next", "num_nextn_predict_layers": 1}, 1, "experts", None),
    "qwen3_5": ({"model_type": "qwen3_5_text", "mtp_num_hidden_layers": 1}, 1, "gated", None),
    "exaone_moe": ({"model_type": "exaone_moe", "num_nextn_predict_layers": 1}, 1, "gated", 4096),
    "mimo_v2_flash": ({"model_type": "mimo_v2_flash", "num_nextn_predict_layers": 3}, 3, "gated", 129),
    "mellum": ({"model_type": "mellum", "num_mtp_layers": 1}, 1, "experts", 1024),
    "step3p5, by its class": ({**STEP, "num_nextn_predict_layers": 2}, 2, "gated", None),
    "step3p5, lists that go on": ({**STEP, **PADDED, "num_nextn_predict_layers": 2}, 2, "gated", 8),
    "step3p5, lists of their own": ({**STEP, **TYPED, "num_nextn_predict_layers": 2}, 2, "gated", 8),
}


@pytest.mark.parametrize(("config", "n", "mlp", "window"), READ.values(), ids=READ)
def test_a_config_says_how_many_modules_there_are(config, n, mlp, window):
    data = data_of(config)
    model = Model.model_validate(data)
    layer = model.mtp.layer_in(model.layers)
    assert (model.mtp.n_modules, layer.mlp.kind, getattr(layer.attention, "window", None)) == (n, mlp, window)
    assert shape(data_of(export_config(data))) == shape(data)


LEFT_OUT = {
    "none are said": ({"model_type": "qwen3_next"}, None),
    "none": ({"model_type": "deepseek_v3", "num_nextn_predict_layers": 0}, None),
    "another kind of module": ({"model_type": "ernie4_5_moe", "num_nextn_predict_layers": 1}, "1 module"),
    "layers of one module": ({"model_type": "qwen3_5_text", "mtp_num_hidden_layers": 2}, "2 modules"),
    "a table of their own": (
        {"model_type": "qwen3_5_text", "mtp_num_hidden_layers": 1, "mtp_use_dedicated_embeddings": True},
        "1 module",
    ),
    "depths that share one": (
        {"model_type": "exaone_moe", "num_nextn_predict_layers": 2, "mtp_share_layers": True},
        "2 modules",
    ),
    "no type of theirs": ({**STEP, "layer_types": TYPED["layer_types"], "num_nextn_predict_layers": 3}, "3 modules"),
    "a family that has none": ({"model_type": "llama", "num_nextn_predict_layers": 1}, "1 module"),
    "modules that are not known": ({"model_type": "minimax_m2", "use_mtp": True, "num_mtp_modules": 3}, "3 modules"),
}


@pytest.mark.parametrize(("config", "said"), LEFT_OUT.values(), ids=LEFT_OUT)
def test_modules_of_another_kind_are_left_out_and_told(config, said):
    data = data_of(config)
    assert "mtp" not in data
    told = [text for text in data.get("assumptions", ()) if "multi-token" in text]
    assert [text.partition(" of ")[0] for text in told] == ([] if said is None else [said])


WRONG = {
    "no number": ({"num_nextn_predict_layers": "1"}, "must be an integer from 0 to 64; got '1'"),
    "too many": ({"num_nextn_predict_layers": 65}, "must be an integer from 0 to 64; got 65"),
    "two numbers": (
        {"num_nextn_predict_layers": 1, "num_mtp_layers": 2},
        "contradicts num_nextn_predict_layers, which is 1; got 2",
    ),
}


@pytest.mark.parametrize(("said", "text"), WRONG.values(), ids=WRONG)
def test_a_number_of_modules_that_cannot_be_is_one_line(said, text):
    with pytest.raises(Invalid, match=text):
        data_of({"model_type": "deepseek_v3", **said})


def test_what_is_in_a_module_of_nemotron_3_super_is_what_its_letters_say():
    """Its 120,668,687,360 parameters and these are the 123.6B of its files: attention, experts, and what is around."""
    config = PUBLISHED["nvidia/NVIDIA-Nemotron-3-Super-120B-A12B-BF16"]
    model = Model.model_validate(data_of(config))
    assert [branch.mixer.kind for branch in model.mtp.layer.residual_branches] == ["multi_head", "experts"]
    d, d_latent, shared, heads = 4_096, 1_024, 5_376, 32 * 128
    attention = 2 * d * heads + 2 * d * 2 * 128
    experts = 512 * 2 * d_latent * 2_688 + 2 * d * d_latent + 2 * d * shared + 512 * d
    assert counted(config).parameters == attention + experts + 2 * d + 2 * d * d + 3 * d
    said = export_config(plain(model))
    assert (said["num_nextn_predict_layers"], said["mtp_layers_block_type"]) == (1, ["full_attention", "moe"])


TINY = {
    "deepseek_v3": {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "n_routed_experts": 8,
        "n_group": 2,
        "topk_group": 1,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 16,
        "vocab_size": 60,
        "kv_lora_rank": 8,
        "q_lora_rank": 12,
        "qk_rope_head_dim": 4,
        "qk_nope_head_dim": 6,
        "v_head_dim": 10,
        "first_k_dense_replace": 1,
        "num_mtp_layers": 2,
    },
    "glm4_moe": {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "n_routed_experts": 8,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 16,
        "vocab_size": 60,
        "num_mtp_layers": 1,
    },
}


@pytest.mark.parametrize("model_type", TINY)
def test_a_module_has_the_parameters_and_the_flops_of_the_one_in_transformers(model_type):
    """transformers.modeling_layers.MtpModel: what it adds to the model, and a step of training of each module with the head."""
    torch = pytest.importorskip("torch")
    from torch.utils.flop_counter import FlopCounterMode
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.modeling_layers import MtpModel

    config = AutoConfig.for_model(model_type, **TINY[model_type])
    config._experts_implementation = "batched_mm"
    main = AutoModelForCausalLM.from_config(config, attn_implementation="eager", experts_implementation="batched_mm")
    theirs = MtpModel(main, config.num_mtp_layers)
    theirs.config._attn_implementation = "eager"
    theirs.config._experts_implementation = "batched_mm"
    model = Model.model_validate(data_of(json.loads(config.to_json_string(use_diff=False))))
    assert model.mtp.n_modules == config.num_mtp_layers
    own = sum(p.numel() for name, p in theirs.named_parameters() if name.startswith("layers."))
    assert modules(model, Run()).parameters == own
    n = 6
    hidden, token = (torch.randn(1, n, 32, requires_grad=True) for _ in range(2))
    positions = torch.arange(n)[None]
    turned = theirs.rotary_emb(hidden, positions)
    with FlopCounterMode(display=False) as counter:
        for layer in theirs.layers:
            out = layer(token, hidden, turned, torch.zeros(1, 1, n, n), positions, None)
            theirs.shared_head(out).sum().backward()
    assert modules(model, Run(sequence=n)).training == counter.get_total_flops()


_SMALL = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "head_dim": 8,
    "num_key_value_heads": 2,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
    "vocab_size": 60,
}
MORE = {
    "mellum": {**_SMALL, "num_experts": 8, "num_mtp_layers": 1},
    "sarvam_moe": {**_SMALL, "n_routed_experts": 8, "num_mtp_layers": 2},
}


@pytest.mark.parametrize("model_type", [pytest.param(name, marks=pytest.mark.prove) for name in MORE])
def test_modules_of_others_have_the_parameters_of_those_in_transformers(model_type):
    torch = pytest.importorskip("torch")
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.modeling_layers import MtpModel

    config = AutoConfig.for_model(model_type, **MORE[model_type])
    with torch.device("meta"):
        theirs = MtpModel(AutoModelForCausalLM.from_config(config), config.num_mtp_layers)
    own = sum(p.numel() for name, p in theirs.named_parameters() if name.startswith("layers."))
    assert counted({"model_type": model_type, **MORE[model_type]}).parameters == own
