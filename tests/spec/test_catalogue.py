"""Published models: their shapes are those that transformers builds, and their counts those that somebody printed."""

import json
import re
from collections import Counter
from pathlib import Path

import pytest
from command import ask

import archcalc
from archcalc.checks.audit import audit
from archcalc.huggingface.exporting import export_config
from archcalc.huggingface.importing import import_config
from archcalc.spec.catalogue import names
from archcalc.spec.dumping import plain
from archcalc.spec.model import Model

COUNTED = json.loads((Path(__file__).parents[1] / "huggingface" / "configs.json").read_text())["counted"]
NAMES = [name for name in names() if name != "tiny"]
OTHERWISE = {
    "gpt2": "gpt2-124m",
    "gpt2-medium": "gpt2-355m",
    "gpt2-large": "gpt2-774m",
    "gpt2-xl": "gpt2-1558m",
    "gpt3-xl": "gpt3-xl-16x128-variant",
    "gpt3-13b": "gpt3-13b-5120-variant",
    "llama3.1-8b": "llama3-8b",
    "llama3.1-70b": "llama3-70b",
}
"""What the configs beside their counts call these; Llama 3.1 has the shapes of Llama 3."""
COUNTS = {name: OTHERWISE.get(name, name) for name in NAMES if OTHERWISE.get(name, name) in COUNTED}

# Parameters beside the token table, as papers print them to the last digit: Gemma (arXiv:2403.08295, Table 2),
# Gemma 2 (arXiv:2408.00118, Table 2) and Pythia (arXiv:2304.01373, Table 1).
NON_EMBEDDING = {
    "gemma-2b": 1_981_884_416,
    "gemma-7b": 7_751_248_896,
    "gemma2-2b": 2_024_517_888,
    "gemma2-9b": 8_324_201_984,
    "gemma2-27b": 26_047_480_320,
    "pythia-70m": 18_915_328,
    "pythia-160m": 85_056_000,
    "pythia-410m": 302_311_424,
    "pythia-1b": 805_736_448,
    "pythia-1.4b": 1_208_602_624,
    "pythia-2.8b": 2_517_652_480,
    "pythia-6.9b": 6_444_163_072,
    "pythia-12b": 11_327_027_200,
}


def shapes(model):
    found = Counter()
    for weight in archcalc.params(model).tensors:
        found[weight.shape] += weight.layers
    return found


def test_there_are_a_hundred_models_of_every_family_that_is_supported():
    assert len(NAMES) >= 100
    assert len(COUNTS) >= 60
    told = {export_config(plain(archcalc.load(name)))["model_type"] for name in NAMES}
    assert told >= {
        *("bloom", "cohere", "falcon", "gemma", "gemma2", "gemma3_text", "glm", "gpt2", "gpt_neo", "gpt_neox", "gptj"),
        *("granite", "llama", "mistral", "mpt", "nemotron", "olmo", "olmo2", "openai-gpt", "opt", "phi", "qwen2"),
        *("qwen3", "smollm3", "stablelm", "starcoder2", "exaone4"),
    }


@pytest.mark.parametrize("name", NAMES)
def test_a_model_has_a_source_a_printed_name_and_a_count_that_holds(name):
    assert re.fullmatch(r"[a-z]+[0-9.]*(-[a-z0-9.]+)*", name)
    model = archcalc.load(name)
    assert re.search(
        r"arXiv:\d{4}\.\d{5}|config\.json of [\w-]+/[\w.-]+ on the Hugging Face Hub|Table 2$", model.source
    )
    verdict = audit(model)
    assert verdict.passed
    assert any(check.required and check.equal for check in verdict.checks)
    assert all(entry.source for entry in model.published)
    exact = [entry for entry in model.published if entry.digits is None and entry.status == "counted"]
    assert archcalc.params(model).stored in [entry.figure for entry in exact]


@pytest.mark.parametrize("name", COUNTS)
def test_a_model_is_what_transformers_builds_of_its_config(name):
    """Every tensor's shape, and the count that transformers 5.23 made of the config."""
    there = COUNTED[COUNTS[name]]
    model = archcalc.load(name)
    built = Model.model_validate(import_config(there["config"], "config.json").data)
    assert archcalc.params(model).stored == there["parameters"]
    assert shapes(model) == shapes(built)
    assert (model.n_layers, model.d_model, model.vocab_size) == (built.n_layers, built.d_model, built.vocab_size)


@pytest.mark.parametrize(("name", "parameters"), NON_EMBEDDING.items())
def test_parameters_beside_the_embeddings_are_those_of_the_papers(name, parameters):
    assert archcalc.params(archcalc.load(name)).non_embedding == parameters


def test_a_llama_3_1_is_the_config_that_meta_published():
    config = COUNTED["meta-llama/Meta-Llama-3.1-8B"]["config"]
    ours, theirs = plain(archcalc.load("llama3.1-8b")), import_config(config, "config.json").data
    for field in ("vocab_size", "context_length", "d_model", "embedding", "layers", "final_norm", "unembedding"):
        assert ours[field] == theirs[field]


@pytest.mark.parametrize(
    ("name", "hub"), [("qwen3-0.6b", "Qwen/Qwen3-0.6B"), ("qwen3-32b", "Qwen/Qwen3-32B-FP8-Static-PerTensor")]
)
def test_a_qwen_3_is_the_config_that_its_authors_published(name, hub):
    ours, theirs = plain(archcalc.load(name)), import_config(COUNTED[hub]["config"], "config.json").data
    for field in ("vocab_size", "context_length", "d_model", "embedding", "layers", "final_norm", "unembedding"):
        assert ours[field] == theirs[field]


@pytest.mark.prove
@pytest.mark.parametrize("name", NAMES)
def test_a_model_that_is_exported_has_its_count_in_transformers(name):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    config = transformers.AutoConfig.for_model(**export_config(plain(archcalc.load(name))))
    with torch.device("meta"):
        built = transformers.AutoModelForCausalLM.from_config(config)
    assert sum(weight.numel() for weight in built.parameters()) == archcalc.params(archcalc.load(name)).stored


def test_kinds_that_alternate_are_one_group():
    (group,) = archcalc.load("gemma2-9b").layers
    assert (group.repeat, group.pattern, sorted(group.kinds)) == (42, ("local", "global"), ["global", "local"])
    for name in NAMES:
        first, *rest = archcalc.load(name).layers
        dense_first = len(rest) == 1 and (first.mlp.kind, rest[0].mlp.kind) == ("gated", "experts")
        assert not rest or dense_first


def test_check_without_names_takes_them_all():
    payload = ask("check", "-f", "json").json
    assert payload["passed"] is True
    assert {check["spec"] for check in payload["checks"]} == set(NAMES)
