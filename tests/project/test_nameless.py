"""Ids that stand for no token are never drawn: rows beyond a vocabulary, and holes in it."""

import json

import pytest
from command import ask
from hypothesis import given, settings
from hypothesis import strategies as st
from outside import byte_level

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")
pytest.importorskip("tokenizers")

import archcalc  # noqa: E402
from archcalc_reference import Transformer  # noqa: E402
from archcalc_reference.model.sampling import Sampling, distribution, draw, masked  # noqa: E402
from archcalc_reference.text.tokenizer import ByteTokenizer, read_tokenizer  # noqa: E402
from archcalc_reference.training.trainer import sample  # noqa: E402
from archcalc_reference.weights.folder import save_weights  # noqa: E402

ROWS = 400
SPEC = f"tiny@vocab_size={ROWS},context_length=128"
HOT = ["--temperature", "1000"]  # every id is about as likely as any other


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Weights of 400 rows, and a tokenizer of 257 tokens: every second id from 0, and none above 340."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("nameless")
    save_weights(Transformer(archcalc.load(SPEC)), str(path))
    data = json.loads(byte_level(["a b"], 256).to_str())
    words = list(data["model"]["vocab"])
    ids = [2 * i if i < 85 else i + 84 for i in range(256)]
    data["model"]["vocab"] = dict(zip(words, ids, strict=True))
    data["model"]["merges"] = []
    (path / "tokenizer.json").write_text(json.dumps(data))
    return str(path)


@pytest.fixture(scope="module")
def never(folder):
    named = {2 * i if i < 85 else i + 84 for i in range(256)}
    found = [i for i in range(ROWS) if i not in named]
    assert read_tokenizer(folder).nameless(ROWS) == found
    return set(found)


def test_bytes_are_the_first_256():
    assert ByteTokenizer().nameless(300) == list(range(256, 300))
    assert ByteTokenizer().nameless(100) == []


@given(st.data())
@settings(max_examples=60)
def test_what_is_masked_has_no_probability_and_the_rest_keep_their_ratios(data):
    size = data.draw(st.integers(2, 30))
    never = data.draw(st.lists(st.integers(0, size - 1), unique=True, max_size=size - 1))
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 99)))
    logits = torch.randn(1, size, generator=generator) * data.draw(st.sampled_from([0.1, 1, 50]))
    heat = data.draw(st.sampled_from([0, 0.5, 1, 100]))
    sampling = Sampling(heat, data.draw(st.sampled_from([0, 1, 5])), data.draw(st.sampled_from([0.5, 1.0])))
    p = distribution(masked(logits, never), sampling)
    rest = [i for i in range(size) if i not in never]
    assert p[0, never].sum() == 0
    assert torch.allclose(p[0, rest], distribution(logits[:, rest], sampling)[0])
    assert draw(p, generator)[0] in rest


def test_generate_never_draws_them(folder, never, tmp_path):
    trace = tmp_path / "trace"
    asked = ("--weights", folder, "-p", "a", "--max-tokens", "99", *HOT, "--trace", str(trace))
    answer = ask("generate", SPEC, *asked)
    assert answer.code == 0, answer.err
    drawn = [json.loads(line) for line in trace.read_text().splitlines()]
    assert len(drawn) == 99
    assert never.isdisjoint(one["token_id"] for one in drawn)
    assert never.isdisjoint(likely["token_id"] for one in drawn for likely in one["top"])
    assert f"{len(never)} of the {ROWS} token ids are not in the tokenizer and are never sampled\n" in answer.err


def test_predict_shows_none_of_them_and_says_how_many_there_are(folder, never):
    answer = ask("predict", SPEC, "--weights", folder, "-p", "a", "--top", str(ROWS), "-f", "json").json
    assert {row["token_id"] for row in answer["rows"]} == set(range(ROWS)) - never
    assert sum(row["probability"] for row in answer["rows"]) == pytest.approx(1)
    assert answer["ids_without_a_token"] == len(never)
    table = ask("predict", SPEC, "--weights", folder, "-p", "a").out
    assert f"No token   {len(never)} ids without a token, never drawn\n" in table


def test_a_chat_never_draws_them(folder, never, monkeypatch):
    import io
    import sys

    from archcalc_reference.text import talk

    drawn = []

    def watched(*arguments, **settings):
        for step in generate(*arguments, **settings):
            drawn.extend(step.tokens_N)
            yield step

    generate = talk.generate
    monkeypatch.setattr(talk, "generate", watched)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a\n")))
    answer = ask("chat", SPEC, "--weights", folder, "--system", "", *HOT, "--max-tokens", "60")
    assert answer.code == 0, answer.err
    assert len(drawn) == 60
    assert never.isdisjoint(drawn)


def test_a_sample_of_training_never_draws_them(never):
    torch.manual_seed(0)
    model = Transformer(archcalc.load(SPEC))
    found = sample(model, [0], 60, seed=0, temperature=1000.0, never=sorted(never))
    assert never.isdisjoint(found)
    assert not never.isdisjoint(sample(model, [0], 60, seed=0, temperature=1000.0))
