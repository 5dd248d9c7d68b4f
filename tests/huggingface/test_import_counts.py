"""A config.json gives exactly the parameters that transformers makes of it: published ones, and small random ones."""

import json
from collections import Counter

import pytest
from examples import a_third
from published import COUNTED, OLDER
from random_configs import FUSED, NO_DEFAULT, config_class, overrides, tensors, total
from transformers import AutoConfig

from archcalc.counts.parameters import params
from archcalc.huggingface.exporting import export_config
from archcalc.huggingface.families import families
from archcalc.huggingface.importing import import_config
from archcalc.spec.dumping import plain
from archcalc.spec.model import Model

FAMILIES = {family.model_type: family for family in families()}


def imported(config):
    """A config's model; the data that the import makes is what a spec would be written as."""
    data = import_config(config, "some/config.json").data
    model = Model.model_validate(data)
    assert plain(model) == data
    return model


def shapes(model):
    found = Counter()
    for weight in params(model).tensors:
        found[weight.shape] += weight.layers
    return found


@pytest.mark.parametrize("name", COUNTED)
def test_a_published_config_has_its_exact_count(name):
    assert params(imported(COUNTED[name]["config"])).stored == COUNTED[name]["parameters"]


@pytest.mark.parametrize("name", OLDER)
def test_a_config_in_older_spellings_has_its_exact_count(name):
    assert params(imported(OLDER[name]["config"])).stored == OLDER[name]["parameters"]


@pytest.mark.parametrize("name", [name for name in COUNTED if "/" not in name])
def test_a_published_config_that_transformers_wrote_in_short_form_has_the_same_count(name):
    short = json.loads(AutoConfig.for_model(**COUNTED[name]["config"]).to_json_string(use_diff=True))
    assert len(short) < len(COUNTED[name]["config"])
    assert params(imported(short)).stored == COUNTED[name]["parameters"]


@pytest.mark.parametrize("model_type", a_third([name for name in FAMILIES if name not in NO_DEFAULT]))
def test_the_defaults_of_a_family_are_those_of_its_config_class(model_type):
    """A config.json that says its model_type alone is the model that transformers builds without arguments."""
    config = config_class(FAMILIES[model_type])()
    there = tensors(config)
    if there is not None:
        assert params(imported({"model_type": model_type})).stored == total(there)
    full = json.loads(config.to_json_string(use_diff=False))
    without_names = {"name", "source", "assumptions"}
    ours, theirs = (
        {key: value for key, value in import_config(said, "c/config.json").data.items() if key not in without_names}
        for said in ({"model_type": model_type}, full)
    )
    assert ours == theirs


def test_flints_first_layers_are_dense_beside_its_step_between_mixtures():
    """Of 8 layers 0 and 1 by default, and 2, 4 and 6 by the step: transformers' own model of the same config."""
    said = {"model_type": "flint", "num_hidden_layers": 8, "decoder_sparse_step": 2}
    assert params(imported(said)).stored == total(tensors(AutoConfig.for_model(**said)))


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.prove) for seed in (1, 2, 3))])
@pytest.mark.parametrize("model_type", FAMILIES)
def test_a_random_config_has_the_parameters_that_transformers_makes(model_type, seed):
    family = FAMILIES[model_type]
    config = config_class(family)(**overrides(family, seed))
    there = tensors(config)
    for diff in (False, True):
        model = imported(json.loads(config.to_json_string(use_diff=diff)))
        if there is None:
            continue
        if model_type in FUSED:
            assert params(model).stored == total(there)
        else:
            assert shapes(model) == there


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.prove) for seed in (1, 2))])
@pytest.mark.parametrize("model_type", a_third(list(FAMILIES)))
def test_an_import_that_is_exported_builds_the_same_parameters(model_type, seed):
    family = FAMILIES[model_type]
    config = config_class(family)(**overrides(family, seed))
    model = imported(json.loads(config.to_json_string(use_diff=False)))
    said = json.loads(json.dumps(export_config(plain(model))))
    loaded = AutoConfig.for_model(**said)
    there = tensors(loaded)
    assert there is not None
    assert total(there) == params(model).stored
    again = imported(json.loads(loaded.to_json_string(use_diff=True)))
    assert shapes(again) == shapes(model)
