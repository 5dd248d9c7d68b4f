"""Modules of multi-token prediction: by arithmetic, by what the Hub says of a checkpoint, and beside everything else."""

import pytest
from command import ask
from hypothesis import given

import archcalc
from archcalc import strategies
from archcalc.counts.lettered import lettered, lettered_run
from archcalc.counts.mtp import modules
from archcalc.spec.dumping import plain
from archcalc.spec.model import Model
from archcalc.tape.run import Run

# DeepSeek-V3's layer with experts, matrix by matrix (arXiv:2412.19437, section 4.2).
D, HEADS, TABLE = 7_168, 128, 129_280 * 7_168
LATENT = D * 1_536 + 1_536 * HEADS * 192 + D * (512 + 64) + 512 * HEADS * (128 + 128) + HEADS * 128 * D
EXPERT, ROUTER, NORMS = 3 * D * 2_048, 256 * D, 2 * D + 1_536 + 512
LAYER = LATENT + 257 * EXPERT + ROUTER + NORMS
AROUND = 2 * D * D + 3 * D  # the projection of two vectors, and three norms


def test_a_module_of_deepseek_v3_is_one_layer_a_projection_and_three_norms():
    found = modules(archcalc.load("deepseek-v3"), Run(sequence=8))
    assert found.parameters == LAYER + AROUND == 11_610_067_968
    assert found.active == LAYER - 248 * EXPERT + AROUND


def test_the_model_and_its_module_with_copies_of_table_and_head_are_what_the_hub_counts():
    """huggingface.co/api/models/deepseek-ai/DeepSeek-V3, safetensors: 3,918,786,560 BF16 and 680,571,043,840 F8_E4M3."""
    model = archcalc.load("deepseek-v3")
    stored = archcalc.params(model).stored + modules(model, Run()).parameters + 2 * TABLE
    assert stored == 3_918_786_560 + 680_571_043_840


def test_readme_weights_of_deepseek_v3_counts_the_layer_alone():
    """README_WEIGHTS.md: "11.5B unique parameters", 2.4B active with the shared embedding and head, 0.9B each."""
    found = modules(archcalc.load("deepseek-v3"), Run(sequence=8))
    alone, active = found.parameters - AROUND, found.active - AROUND
    assert (round(alone / 1e9, 1), round((active + 2 * TABLE) / 1e9, 1)) == (11.5, 2.4)


def test_flops_are_three_times_those_of_every_product_the_head_included():
    """Of 100 positions; scores and mixing are of all pairs, 128 heads of 192 and of 128 features."""
    matrices = LATENT + 9 * EXPERT + ROUTER + 2 * D * D + TABLE
    forward = 2 * 100 * matrices + 2 * 100 * 100 * HEADS * (192 + 128)
    assert modules(archcalc.load("deepseek-v3"), Run(sequence=100)).training == 3 * forward


SMALL = {
    "schema": 0,
    "name": "small",
    "source": "this test",
    "vocab_size": 50,
    "context_length": 16,
    "d_model": 8,
    "embedding": {"positions": "learned"},
    "layers": [
        {
            "repeat": 3,
            "norm": {"kind": "layernorm", "bias": True},
            "attention": {"kind": "multi_head", "n_heads": 2, "n_kv_heads": 2, "d_head": 4, "bias": False},
            "mlp": {"kind": "plain", "d_ff": 32, "activation": "gelu", "bias": False},
        }
    ],
    "final_norm": {"kind": "layernorm", "bias": True},
    "unembedding": {"tied": True, "bias": False},
}
ATTENTION, PLAIN, NORM = 4 * 8 * 8, 2 * 8 * 32, 2 * 8


def small(**mtp):
    return Model.model_validate({**SMALL, "mtp": mtp})


def test_two_modules_are_twice_one_and_have_no_table_of_their_own():
    one = ATTENTION + PLAIN + 2 * NORM + 2 * 8 * 8 + 3 * NORM
    assert modules(small(n_modules=1), Run()).parameters == one
    assert modules(small(n_modules=2), Run()).parameters == 2 * one


def test_a_module_may_have_a_layer_of_its_own():
    layer = {name: value for name, value in SMALL["layers"][0].items() if name != "repeat"}
    layer["mlp"] = {"kind": "gated", "d_ff": 5, "activation": "silu", "bias": False}
    found = modules(small(n_modules=1, layer=layer), Run())
    assert found.parameters == found.active == ATTENTION + 3 * 8 * 5 + 2 * NORM + 2 * 8 * 8 + 3 * NORM


def test_without_a_final_norm_a_module_has_no_norms_around_its_layer():
    found = modules(Model.model_validate({**SMALL, "final_norm": None, "mtp": {"n_modules": 1}}), Run())
    assert found.parameters == ATTENTION + PLAIN + 2 * NORM + 2 * 8 * 8


def test_three_modules_of_mimo_v2_flash_have_a_third_of_a_billion_each():
    """Its model card: 0.33B parameters per block; attention in a window with sinks, and a dense MLP."""
    data = plain(archcalc.load("mimo-v2-flash"))
    kinds = data["layers"][0]["kinds"]
    mtp = {"n_modules": 3, "layer": {**kinds["local_experts"], "mlp": kinds["dense"]["mlp"]}}
    found = modules(Model.model_validate({**data, "mtp": mtp}), Run())
    attention = 4_096 * (64 * 192 + 8 * 192 + 8 * 128 + 64 * 128) + 64
    assert found.parameters == 3 * (attention + 3 * 4_096 * 16_384 + 2 * 4_096**2 + 5 * 4_096)
    assert round(found.parameters / 3e9, 2) == 0.33


@given(strategies.models())
def test_no_other_count_depends_on_modules(model):
    without = model.model_copy(update={"mtp": None})
    run = Run(sequence=1)
    assert archcalc.params(model) == archcalc.params(without)
    assert archcalc.flops(model, run)[:4] == archcalc.flops(without, run)[:4]
    assert modules(without, run) == (0, 0, 0)
    assert (modules(model, run).parameters > 0) == (model.mtp is not None)


@given(strategies.models())
def test_formulas_give_the_numbers(model):
    run = Run(sequence=min(model.context_length, 3))
    letters = modules(lettered(model), lettered_run(run))
    assert [getattr(n, "value", n) for n in letters] == [*modules(model, run)]


def test_modules_are_shown_explained_and_found():
    for command, text in (
        ("params", "11,610,067,968 more in 1 module of multi"),
        ("flops", "each with the head; no other"),
    ):
        assert text in " ".join(ask(command, "deepseek-v3").out.split())
    told = ask("explain", "deepseek-v3", "parameters.mtp", "-f", "json").json
    assert told["value"] == 11_610_067_968
    fields = {field["field"] for one in told["letters"] for field in one["fields"]}
    assert {"mtp.n_modules", "d_model", "layers.1.mlp.n_experts"} <= fields
    listed = [one["name"] for one in ask("list", "--feature", "mtp", "-f", "json").json["specs"]]
    assert {"deepseek-v3", "qwen3.5-27b", "glm-5"} <= {*listed}
    assert "gpt2" not in listed


def test_a_sweep_counts_modules_as_one_spec_does():
    columns = ["--columns", "parameters.mtp,flops.mtp", "--seq", "32", "-f", "json"]
    rows = ask("sweep", "deepseek-v3", "--vary", "n_modules=1,2", "--vary", "d_model=1024,7168", *columns).json["rows"]
    for n, d_model, parameters, training in rows:
        model = archcalc.load(f"deepseek-v3@n_modules={n},d_model={d_model}")
        found = modules(model, Run(sequence=32))
        assert (parameters, training) == (found.parameters, found.training)


SHARING = {**SMALL["layers"][0], "attention": {**SMALL["layers"][0]["attention"], "shared_kv": True}}


@pytest.mark.parametrize("layer", [None, {name: SHARING[name] for name in ("norm", "attention", "mlp")}])
def test_a_module_cannot_read_what_other_layers_made(layer):
    groups = [SMALL["layers"][0], SHARING] if layer is None else SMALL["layers"]
    with pytest.raises(ValueError, match="must be one that does not"):
        Model.model_validate({**SMALL, "layers": groups, "mtp": {"n_modules": 1, "layer": layer}})
