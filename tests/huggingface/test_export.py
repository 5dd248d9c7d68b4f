"""A spec becomes a config.json of the first family that has its architecture, or is told what no family has."""

import json
from functools import cache

import pytest
import yaml
from examples import a_third
from random_configs import tensors, total
from transformers import AutoConfig

from archcalc.counts.parameters import params
from archcalc.errors import Invalid
from archcalc.huggingface.exporting import export_config, shape
from archcalc.huggingface.importing import import_config
from archcalc.spec.catalogue import load, names
from archcalc.spec.dumping import plain
from archcalc.spec.model import Model

SPEC = yaml.safe_load(
    """
    schema: 0
    name: mine
    source: here
    vocab_size: 100
    context_length: 64
    d_model: 32
    embedding: {positions: none}
    layers:
      - repeat: 3
        norm: {kind: rmsnorm, epsilon: 1.0e-5}
        attention:
          {kind: multi_head, n_heads: 4, n_kv_heads: 2, d_head: 8, bias: false, rotary: {d_rotary: 8, theta: 10000.0}}
        mlp: {kind: gated, d_ff: 48, activation: silu, bias: false}
    final_norm: {kind: rmsnorm, epsilon: 1.0e-5}
    unembedding: {tied: false, bias: false}
    """
)


def spec(change=lambda _: None):
    """The spec with one thing changed, as plain data of a model."""
    data = json.loads(json.dumps(SPEC))
    change(data)
    return plain(Model.model_validate(data))


@pytest.mark.parametrize("name", names())
def test_a_spec_of_the_catalogue_is_written_and_read_back_as_the_same_shape(name):
    data = plain(load(name))
    loaded = AutoConfig.for_model(**json.loads(json.dumps(export_config(data))))
    written = json.loads(loaded.to_json_string(use_diff=True))
    assert shape(import_config(written, "config.json").data) == shape(data)


# The families that the catalogue is written as.
WRITTEN = [
    "bloom", "cohere", "dbrx", "deepseek_v2", "deepseek_v3", "deepseek_v32", "exaone4", "falcon", "falcon_h1",
    "falcon_mamba", "gemma", "gemma2", "gemma3_text", "gemma4_text", "glm", "glm_moe_dsa", "gpt2", "gpt_neo",
    "gpt_neox", "gpt_oss", "gptj", "granite", "granitemoehybrid", "jamba", "lfm2", "llama", "llama4_text", "mamba",
    "mimo_v2_flash", "minimax_m2", "mistral", "mixtral", "mpt", "nemotron", "nemotron_h", "olmo", "olmo2",
    "openai-gpt", "opt", "phi", "qwen2", "qwen3", "qwen3_5_text", "qwen3_moe", "qwen3_next", "smollm3", "stablelm",
    "starcoder2",
]  # fmt: skip


@cache
def smallest():
    """The spec of fewest layers for each family that the catalogue is written as."""
    found = {}
    for name in names():
        model = load(name)
        family = export_config(plain(model))["model_type"]
        if family not in found or model.n_layers < found[family].n_layers:
            found[family] = model
    return found


def test_no_family_that_the_catalogue_is_written_as_is_forgotten():
    assert set(smallest()) == set(WRITTEN)


@pytest.mark.parametrize("family", a_third(WRITTEN))
def test_a_spec_of_the_catalogue_builds_the_same_parameters_in_transformers(family):
    model = smallest()[family]
    config = AutoConfig.for_model(**json.loads(json.dumps(export_config(plain(model)))))
    assert total(tensors(config)) == params(model).stored


def test_what_is_written_is_read_back_as_the_same_shape():
    config = export_config(spec())
    assert config["model_type"] == "llama"
    assert config["_name_or_path"] == "mine"
    again = import_config(config, "config.json").data
    assert shape(again) == shape(spec())
    assert again["name"] == "mine"


def test_layers_of_branches_are_written_as_the_short_form_that_they_are():
    def branches(data):
        layer = data["layers"][0]
        norm = layer.pop("norm")
        layer["branches"] = [
            {"name": "attention", "norm": norm, "mixer": layer.pop("attention")},
            {"name": "mlp", "norm": norm, "mixer": layer.pop("mlp")},
        ]

    assert export_config(spec(branches)) == export_config(spec())


def test_groups_are_written_as_the_layers_that_they_are():
    def two_groups(data):
        data["layers"] = [{**data["layers"][0], "repeat": 1}, {**data["layers"][0], "repeat": 2}]

    assert export_config(spec(two_groups)) == export_config(spec())


def test_one_word_for_biases_is_the_same_as_one_for_each():
    def each(data):
        data["layers"][0]["attention"]["bias"] = dict.fromkeys(("query", "key", "value", "output"), False)
        data["layers"][0]["mlp"]["bias"] = dict.fromkeys(("gate", "up", "down"), False)

    assert export_config(spec(each)) == export_config(spec())


def _set(**fields):
    return lambda data: data["layers"][0]["attention"].update(fields)


CHOSEN = {
    "windows in all layers": (_set(window=16), "mistral"),
    "biases of query, key and value": (
        _set(bias={"query": True, "key": True, "value": True, "output": False}),
        "qwen2",
    ),
    "norms of queries and keys": (_set(qk_norm={"kind": "rmsnorm", "epsilon": 1e-5}), "qwen3"),
    "neighbours in pairs": (_set(rotary={"d_rotary": 8, "theta": 1e4, "pairing": "neighbours"}), "helium"),
    "half of each head": (_set(rotary={"d_rotary": 4, "theta": 1e4}), "phi3"),
}


@pytest.mark.parametrize("name", CHOSEN)
def test_the_family_is_one_that_has_the_feature(name):
    change, family = CHOSEN[name]
    assert export_config(spec(change))["model_type"] == family


def _groups(data):
    data["layers"] = [
        {**data["layers"][0], "repeat": 1},
        {**data["layers"][0], "repeat": 2, "mlp": {**data["layers"][0]["mlp"], "d_ff": 64}},
    ]


NONE = {
    "a window and a clip": (
        _set(window=16, clip=8.0),
        "mine: no family of transformers has this architecture; nearest: mistral, which cannot have attention.clip",
    ),
    "layers of two widths": (
        _groups,
        "mine: no family of transformers has this architecture; nearest: llama, which cannot have mlp.d_ff",
    ),
    "chunks": (
        _set(chunk=16),
        "mine: no family of transformers has this architecture; nearest: llama, which cannot have attention.chunk",
    ),
}


@pytest.mark.parametrize("name", NONE)
def test_a_spec_that_no_family_has_is_told_with_the_nearest(name):
    change, line = NONE[name]
    with pytest.raises(Invalid) as caught:
        export_config(spec(change))
    assert str(caught.value) == line


def test_other_branches_are_told():
    def three(data):
        layer = data["layers"][0]
        norm, mlp = layer.pop("norm"), layer.pop("mlp")
        layer["branches"] = [
            {"name": "attention", "norm": norm, "mixer": layer.pop("attention")},
            {"name": "mlp", "norm": norm, "mixer": mlp},
            {"name": "more", "norm": norm, "mixer": mlp},
        ]

    with pytest.raises(Invalid, match="no family of transformers has this architecture"):
        export_config(spec(three))


def test_an_export_loads_from_a_folder(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(export_config(spec())))
    config = AutoConfig.from_pretrained(tmp_path)
    assert (config.model_type, config.hidden_size, config.pad_token_id) == ("llama", 32, None)
    assert total(tensors(config)) == params(Model.model_validate(SPEC)).stored


def test_a_width_that_the_heads_do_not_divide_is_said_by_a_class_that_takes_it():
    """transformers' LlamaConfig refuses such a width; MistralConfig does not."""
    from archcalc.spec.catalogue import find

    said = export_config(plain(find("llama2-13b@n_layers=1,d_model=64").model))
    assert said["hidden_size"] % said["num_attention_heads"]
    assert AutoConfig.for_model(**said).model_type == "mistral"
