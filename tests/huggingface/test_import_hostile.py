"""Whatever a config.json says, it is a spec or lines of problems: no other exception, and no spec that is not valid."""

import random

import pytest
from examples import a_third

from archcalc.errors import Invalid
from archcalc.huggingface.exporting import export_config
from archcalc.huggingface.families import families
from archcalc.huggingface.importing import import_config
from archcalc.spec.dumping import plain
from archcalc.spec.model import Model

FAMILIES = list(families())
VALUES = (
    *(None, True, False, 0, 1, -1, 2, 3, 7, 64, 2**33, 10**400, 0.0, 0.5, -0.5, 1e300, float("nan"), float("inf")),
    *("", "x", "gelu", "full_attention", [], [1], [[]], {}, {"a": 1}, [{"x": 1}], [["global"], 1]),
    *(["full_attention"] * 4, ["sliding_attention", "full_attention"] * 2, [0, 1, 1, 0], [[["global"], 2]]),
    *([[["local"], 4]], {"type": "yarn"}, {"rope_type": "linear", "factor": 2}, {"full_attention": {"rope_theta": 1}}),
    *({"rope_type": []}, {"rope_type": "longrope", "short_factor": [1], "long_factor": [2]}),
    *({"rope_type": "dynamic", "alpha": 5, "factor": 2}, {"rope_type": "yarn", "factor": None}),
    {"rope_type": "llama3", "factor": 8, "low_freq_factor": 1, "high_freq_factor": 1e-5},
)
SMALL = {"vocab_size": 50, "num_hidden_layers": 4, "n_layer": 4, "num_layers": 4, "n_layers": 4}
SMALL["attention_types"] = [[["global", "local"], 2]]
SMALL |= {"n_routed_experts": 8, "n_shared_experts": 1, "num_experts_per_tok": 2}
NEEDED = {name: {"head_dim": 16} for name in ("glm4_moe", "glm4v_moe_text")}
NEEDED["lfm2_moe"] = {"layer_types": ["conv", "full_attention", "conv", "conv"]}  # without a default
NEEDED["longcat_flash"] = {"moe_topk": 2}
NEEDED["zamba2"] = {"layers_block_type": ["linear_attention", "hybrid"] * 2}  # by default there are 54
NEEDED["cohere_compass_text"] = {"rope_parameters": {"full_attention": None, "sliding_attention": {}}}
NEEDED["deepseek_v3"] = NEEDED["deepseek_v32"] = NEEDED["axk1"] = {
    "n_group": 2,
    "topk_group": 1,
}  # the default of 8 is of more experts than are here


@pytest.mark.parametrize("family", a_third(list(FAMILIES)))
def test_any_value_of_any_key_gives_a_valid_spec_or_a_line(family):
    rng = random.Random(family.model_type)  # noqa: S311
    keys = [*family.known, *family.ignored, "attn_config", "layer_types", "_name_or_path", "quantization_config"]
    keys.sort()
    imported = 0
    for _ in range(60):
        config = {"model_type": family.model_type} | {k: v for k, v in SMALL.items() if k in family.defaults}
        config |= NEEDED.get(family.model_type, {})
        for key in rng.sample(keys, rng.randint(0, 4)):
            config[key] = rng.choice(VALUES)
        if rng.random() < 0.1:
            config = {"model_type": "mistral3", "text_config": config}
        try:
            data = import_config(config, rng.choice(("config.json", "", "a/b_config.json", "\x00"))).data
        except Invalid as error:
            assert str(error).isprintable() or "\n" in str(error)
            continue
        assert plain(Model.model_validate(data)) == data
        assert export_config(data)["model_type"]
        imported += 1
    assert imported


STEP = {"model_type": "step3p5", "num_hidden_layers": 4, "vocab_size": 50}
UNLIKELY = {
    "types that are lists": {"layer_types": [[]] * 4},
    "types that are objects": {"layer_types": [{}] * 4},
    "a number of 5,000 digits": {"moe_layers_enum": "9" * 5_000},
    "a number in other digits": {"moe_layers_enum": "\u0663"},
}


@pytest.mark.parametrize("said", UNLIKELY.values(), ids=UNLIKELY)
def test_lists_of_layers_that_hold_anything_are_told(said):
    with pytest.raises(Invalid, match=next(iter(said))):
        import_config(STEP | said, "config.json")


def test_a_further_module_of_no_type_is_as_one_of_an_unknown_type():
    unknown, none = (
        import_config(STEP | {"num_nextn_predict_layers": 1, "layer_types": [*["full_attention"] * 4, kind]}, "c").data
        for kind in ("x", [])
    )
    assert unknown == none
