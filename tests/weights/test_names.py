"""Names and layouts: of each family every tensor that transformers has is used once, and every one of ours is filled."""

from collections import Counter

import pytest
from examples import a_third
from samples import SAMPLES, WRAPPERS, built

import archcalc
from archcalc.huggingface.families import MODULES
from archcalc.huggingface.importing import import_config
from archcalc.spec.source import Document
from archcalc.spec.validation import validate

torch = pytest.importorskip("torch", reason="the reference is PyTorch")
pytest.importorskip("transformers", reason="the outside voice")

from archcalc_reference.weights.families import BY_TYPE, FAMILIES  # noqa: E402
from archcalc_reference.weights.layouts import of_modules  # noqa: E402


def spec_of(model):
    """The spec that the config of transformers' model describes, as its config.json would."""
    imported = import_config(model.config.to_dict(), "config.json", "sample")
    return validate(Document("config.json", imported.data), archcalc.Model)


def parameters_of(spec):
    """Our parameters and their shapes, read off the tape."""
    found = {}
    for stored in archcalc.params(spec).tensors:
        layers = [None] if stored.within is None else stored.within.indices()
        found |= {stored.name.replace("{i}", str(i)): tuple(stored.shape) for i in layers}
    return found


@pytest.mark.parametrize("name", a_third(SAMPLES))  # what loads one that was saved finds every name, too
def test_every_tensor_is_used_once_and_every_parameter_is_filled(name):
    theirs = built(name, meta=True)
    family = BY_TYPE[SAMPLES[name][0]]
    spec = spec_of(theirs)
    parameters = parameters_of(spec)
    entries = family.entries(spec, parameters)
    expected = {n: tuple(p.shape) for n, p in theirs.named_parameters() if p.requires_grad}  # else it is a correction
    if family.spare:  # transformers' model has rows that it never reads for experts without weights
        whole, own = theirs.config.n_routed_experts + theirs.config.zero_expert_num, theirs.config.n_routed_experts
        expected |= {
            n: (own, *shape[1:]) for n, shape in expected.items() if "experts.gate_up" in n and shape[0] == whole
        }
    assert {entry.name: entry.shape for entry in entries} == expected
    rows = Counter(
        (piece.parameter, row) for e in entries for piece in e.pieces for row in range(piece.start, piece.stop)
    )
    assert rows == Counter((n, row) for n, shape in parameters.items() for row in range(shape[0]))
    # A module that layers share is there under the name of each.
    rest = set(theirs.state_dict()) - {
        n for n, p in theirs.named_parameters(remove_duplicate=False) if p.requires_grad
    }
    routed = set(family.inside.values()) & {n.split(".", 3)[-1] for n in rest}  # corrections, which are loaded
    rest = {n for n in rest if n.split(".", 3)[-1] not in routed}
    assert all(family.is_buffer(n) or (n == family.head and spec.unembedding.tied) for n in rest)


def test_every_family_that_is_imported_has_names_and_a_sample():
    assert set(BY_TYPE) == set(MODULES)
    sampled = {kind for kind, _ in SAMPLES.values()} | {text for text, _, _ in WRAPPERS.values()}
    assert set(BY_TYPE) - sampled == {"emu3_text_model"}  # its weights are Llama's, beside an encoder of images


def test_no_type_belongs_to_two_families():
    assert len(BY_TYPE) == sum(len(family.types) for family in FAMILIES)


@pytest.mark.parametrize(
    ("config", "name", "there"),
    [
        ({"model_type": "glm4_moe", "num_hidden_layers": 46}, "model.layers.46.mlp.gate.weight", True),  # by the class
        (
            {"model_type": "glm4_moe", "num_hidden_layers": 46, "num_nextn_predict_layers": 0},
            "model.layers.46.x",
            False,
        ),
        (
            {
                "model_type": "deepseek_v3",
                "num_hidden_layers": 61,
                "num_nextn_predict_layers": None,
                "num_mtp_layers": 1,
            },
            "model.layers.61.mlp.gate.weight",
            True,
        ),
        (
            {"model_type": "kimi_k25", "text_config": {"num_hidden_layers": 61, "num_nextn_predict_layers": 1}},
            "language_model.model.layers.61.mlp.gate.weight",
            True,
        ),
    ],
)
def test_tensors_of_further_tokens_are_as_many_as_the_spec_has_modules(config, name, there):
    family = BY_TYPE["deepseek_v3" if config["model_type"] == "kimi_k25" else config["model_type"]]
    assert of_modules([name, "model.layers.0.mlp.gate.weight"], config, family) == ({name} if there else set())
