"""What `verify` compares numbers on, and with whom."""

import sys

import pytest
from command import ask
from examples import few
from hypothesis import given, settings
from pydantic import BaseModel

import archcalc
from archcalc import strategies
from archcalc.packages import pip_install
from archcalc.proof.miniature import miniature
from archcalc.spec.catalogue import names

torch = pytest.importorskip("torch", reason="the reference is PyTorch")

from archcalc.proof.numerics import compare_numbers  # noqa: E402

GROUPED = "tiny@n_layers=2,n_heads=6,n_kv_heads=2,d_head=5"


@settings(max_examples=few(3, prove=60))
@given(strategies.models())
def test_any_architecture_has_the_same_numbers_as_the_family_that_can_say_it(model):
    pytest.importorskip("transformers", reason="the outside voice")
    checks, not_compared = compare_numbers(miniature(model))
    assert all(said.startswith("logits with ") for said in not_compared)
    assert [check for check in checks if not check.equal] == []


@given(strategies.models())
def test_a_miniature_has_the_same_architecture(model):
    small = miniature(model)
    assert archcalc.Model.model_validate(small.model_dump(by_alias=True)) == small
    for name in ("embedding", "final_norm", "unembedding"):
        assert features(getattr(small, name)) == features(getattr(model, name))
    old = [features(kind.layer.residual_branches) for group in model.layers for kind in group.kinds_in()]
    for group in small.layers:
        assert all(features(kind.layer.residual_branches) in old for kind in group.kinds_in())


def features(part):
    """What a part of a model is, sizes apart: kinds, words and booleans; factors that may follow a size too."""
    if isinstance(part, BaseModel):
        return (
            type(part),
            *(features(inner) for name, inner in part if name not in ("repeat", "scaling", "scale", "alibi_scale")),
        )
    if isinstance(part, tuple):
        return tuple(map(features, part))
    return "size" if type(part) is int else part


@pytest.mark.parametrize(
    ("spec", "voice"), [("tiny@n_layers=2", "GPT2LMHeadModel"), (GROUPED, "Starcoder2ForCausalLM")]
)
def test_verify_says_who_spoke_and_about_what(spec, voice):
    transformers = pytest.importorskip("transformers", reason="the outside voice")
    answer = ask("verify", spec, "-f", "json")
    assert (answer.code, answer.json["not_compared"]) == (0, [])
    sources = {check["what"]: check["source"] for check in answer.json["checks"]}
    assert sources["logits, math attention"] == f"{voice} of transformers {transformers.__version__}"
    (proven,) = answer.json["proven_with"]
    assert f"logits by {voice} of transformers" in proven
    assert "with a model of the same architecture with 2 layers and d_model" in proven
    assert set(sources) >= {
        "logits with the cache, flash attention",
        "cache, bf16",
        "weights to serve, bf16",
        "forward FLOPs, causal exact",
        "forward FLOPs, causal half",
        "FLOPs of one more token, math attention",
        "saved bytes, layers recomputed",
    }


def test_without_transformers_the_rest_is_compared_and_what_is_not_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    answer = ask("verify", "tiny@n_layers=1")
    assert answer.code == 0
    line = f"logits with another implementation's: transformers is not installed; {pip_install('transformers')}"
    assert line in " ".join(answer.out.split())
    assert "logits with the cache, math attention" in answer.out
    assert "\nlogits, math attention" not in answer.out


def test_tensors_alone_say_nothing_of_numbers():
    payload = ask("verify", *names()[:2], "--tensors", "-f", "json").json
    assert payload["not_compared"] == []
    assert not [check for check in payload["checks"] if "logits" in check["what"]]
