"""SmolLM2 against llama.cpp on the same weights in F32: the log-probabilities of what it generates."""

import pytest
from smollm2 import as_f32, by_llama_cpp, needs_llama_cpp, smollm2_path

torch = pytest.importorskip("torch")
pytest.importorskip("gguf")

import archcalc  # noqa: E402
from archcalc_reference.text.tokenizer import read_tokenizer  # noqa: E402
from archcalc_reference.weights.folder import load_weights  # noqa: E402

PROMPT = "A short history of the steam engine, from its inventors to the railways:"
TOP = 20

pytestmark = pytest.mark.film


@pytest.mark.parametrize("tokens", [40, pytest.param(200, marks=pytest.mark.prove)])
def test_log_probabilities_are_those_of_llama_cpp(tmp_path, tokens):
    """Within 3e-4, over the likeliest ids of each step; and the ids are the ones that we find likeliest."""
    needs_llama_cpp()
    path = smollm2_path()
    whole = as_f32(path, tmp_path / "f32.gguf")
    ids = read_tokenizer(path).encode(PROMPT)
    steps = by_llama_cpp(whole, ids, tokens, TOP)
    assert len(steps) == tokens
    model = load_weights(archcalc.load(path), path).eval()
    text = [*ids, *(token for token, _ in steps)]
    with torch.no_grad():
        ours = model(torch.tensor([text[:-1]]))[0][0, len(ids) - 1 :].log_softmax(-1)
    for logs, (token, theirs) in zip(ours, steps, strict=True):
        assert len(theirs) == TOP
        assert theirs == pytest.approx({one: logs[one].item() for one in theirs}, abs=3e-4)
        assert logs.argmax().item() == token
