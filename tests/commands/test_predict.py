"""The command predict: settings of the draw, the shown tokens at another temperature, whole words."""

import csv
import io
import json
import math

import pytest
from command import ask
from outside import byte_level

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

import archcalc  # noqa: E402
from archcalc.commands.prediction import MOST_WORDS  # noqa: E402
from archcalc_reference import Transformer  # noqa: E402
from archcalc_reference.model.generation import generate  # noqa: E402
from archcalc_reference.model.sampling import Sampling  # noqa: E402
from archcalc_reference.model.scoring import probabilities  # noqa: E402
from archcalc_reference.weights.folder import save_weights  # noqa: E402


def larger(spec):
    """Random weights, larger than at the start of training so that tokens differ."""
    torch.manual_seed(1)
    model = Transformer(archcalc.load(spec)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)
    return model


@pytest.fixture(scope="module")
def model():
    return larger("tiny")


@pytest.fixture(scope="module")
def weights(model, tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("predict") / "tiny")
    save_weights(model, folder)
    return folder


def told(weights, *flags, prompt="Hi"):
    done = ask("predict", "tiny", "--weights", weights, "-p", prompt, *flags, "-f", "json")
    assert done.code == 0, done.err
    return done.json


# Settings


def test_identities_change_nothing(weights):
    same = ("--top-k", "0", "--top-p", "1", "--min-p", "0.0", "--repetition-penalty", "1")
    assert told(weights, *same) == told(weights)


def test_what_cannot_be_drawn_has_no_probability_and_the_rest_have_all_of_it(weights):
    rows = told(weights, "--top", "256")["rows"]
    for flags, left in (
        (("--top-k", "3"), rows[:3]),
        (("--min-p", "0.4"), [row for row in rows if row["probability"] >= 0.4 * rows[0]["probability"]]),
        (("--top-p", str(rows[0]["probability"] * 1.001)), rows[:2]),
    ):
        found = told(weights, *flags, "--top", "256")["rows"]
        whole = math.fsum(row["probability"] for row in left)
        assert [row["token_id"] for row in found] == [row["token_id"] for row in rows]
        assert [row["probability"] for row in found if row["probability"]] == pytest.approx(
            [row["probability"] / whole for row in left]
        )
    shown = ask("predict", "tiny", "--weights", weights, "-p", "Hi", "--top-k", "3", "--min-p", "0.001").out
    assert "temperature 1, top-k 3, min-p 0.001\n" in shown
    assert "Left       3 tokens may be drawn\n" in shown


def test_a_penalty_bears_on_the_tokens_of_the_prompt(weights):
    plain = {row["token_id"]: row["logit"] for row in told(weights, "--top", "256")["rows"]}
    rows = told(weights, "--top", "256", "--repetition-penalty", "2")["rows"]
    for row in rows:
        x = plain[row["token_id"]]
        expected = x if row["token_id"] not in b"Hi" else x * 2 if x < 0 else x / 2
        assert row["logit"] == pytest.approx(expected, rel=1e-6)
    assert [row["probability"] for row in rows] == sorted((row["probability"] for row in rows), reverse=True)


# The shown tokens at another temperature


def test_the_shown_tokens_are_retempered_among_themselves_and_keep_their_words(weights):
    plain = told(weights, "--top", "20")
    found = told(weights, "--top", "20", "--retemper", "5,0", "--retemper", "1")
    powers = [row["probability"] ** (1 / 5) for row in plain["rows"]]
    at_5 = [row.pop("probability_at_5") for row in found["rows"]]
    assert at_5 == pytest.approx([power / math.fsum(powers) for power in powers], abs=1e-12)
    assert [row.pop("probability_at_0") for row in found["rows"]] == [1.0] + [0.0] * 19
    whole = math.fsum(row["probability"] for row in plain["rows"])
    at_1 = [row.pop("probability_at_1") for row in found["rows"]]
    assert at_1 == pytest.approx([row["probability"] / whole for row in plain["rows"]])
    assert found.pop("retempered") == [5, 0, 1]
    assert found == plain


def test_the_table_has_a_column_for_each_temperature(weights):
    out = ask("predict", "tiny", "--weights", weights, "-p", "Hi", "--top", "3", "--retemper", "5").out
    assert out.splitlines()[2].split() == ["token", "id", "probability", "T", "=", "5"]
    assert "Retemper   p^(1/T), divided by the sum over the 3 tokens shown\n" in out


# Words


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(seed=3),
        Sampling(1.7, top_k=50, seed=1),
        Sampling(0.7, 0, 0.9, 0.01, repetition_penalty=1.5),
        Sampling(0),
    ],
)
@pytest.mark.parametrize("spec", ["tiny", "tiny@n_kv_heads=2"])
def test_tokens_are_as_likely_as_generate_draws_them(spec, sampling):
    reference = larger(spec)
    steps = list(generate(reference, [72, 105], 9, sampling, never=[7]))
    drawn = [step.tokens_N[0] for step in steps]
    expected = [step.probabilities_NV[0, token].item() for step, token in zip(steps, drawn, strict=True)]
    assert probabilities(reference, [72, 105], drawn, sampling, never=[7]) == pytest.approx(expected, rel=1e-3)
    assert probabilities(reference, [72, 105], [7], sampling, never=[7]) == [0]
    for given in ([], [1]), ([1], []):
        with pytest.raises(ValueError, match=r"the prompt is empty|there are no tokens"):
            probabilities(reference, *given, sampling)


def chance(model, text, word):
    """A product of softmaxes, each by a pass of its own over bytes."""
    found, ids = 1.0, list(text.encode())
    for byte in word.encode():
        with torch.no_grad():
            found *= torch.softmax(model(torch.tensor([ids])).logits[0, -1].double(), -1)[byte].item()
        ids.append(byte)
    return found


def test_a_word_has_the_product_of_its_tokens_after_each_other(weights, model):
    (row,) = told(weights, "--word", "cat")["rows"]
    forms = {form: chance(model, "Hi", form) for form in ("cat", " cat")}
    best = max(forms, key=forms.get)
    (other,) = set(forms) - {best}
    assert (row["word"], row["text"]) == ("cat", best)
    assert row["probability"] == pytest.approx(forms[best], rel=1e-4)
    assert [token["text"] for token in row["tokens"]] == list(best)
    assert math.prod(token["probability"] for token in row["tokens"]) == row["probability"]
    assert row["other_forms"] == [{"text": other, "probability": pytest.approx(forms[other], rel=1e-4)}]


def test_a_word_of_one_token_is_as_likely_as_its_token(weights):
    rows = {row["text"]: row["probability"] for row in told(weights, "--top", "256", prompt="Hi ")["rows"]}
    (word,) = told(weights, "--word", "x", prompt="Hi ")["rows"]  # a blank stands before it
    assert word["probability"] == pytest.approx(rows["x"])
    assert word["other_forms"] == []
    (cold,) = told(weights, "--word", "x", "--temperature", "0", prompt="Hi ")["rows"]
    assert cold["probability"] == float(max(rows, key=rows.get) == "x")


def test_several_words_stand_in_the_order_of_their_probabilities(weights):
    flags = ("--word", "aa", "--word", "b", "--word", " c", "--word", "b")
    found = told(weights, *flags)["rows"]
    assert sorted(row["word"] for row in found) == [" c", "aa", "b"]
    shares = [row["probability"] for row in found]
    assert shares == sorted(shares, reverse=True)
    out = ask("predict", "tiny", "--weights", weights, "-p", "Hi", *flags).out
    assert out.startswith(f"tiny: after 2 tokens the most likely of 3 words is {found[0]['text']!r} (")
    lines = ask("predict", "tiny", "--weights", weights, "-p", "Hi", *flags, "-f", "csv").out
    assert [row["word"] for row in csv.DictReader(io.StringIO(lines))] == [row["word"] for row in found]


@pytest.fixture(scope="module")
def merged(tmp_path_factory):
    """A tokenizer with tokens of several letters, ' cat' among them, where a byte alone is a token too."""
    pytest.importorskip("tokenizers")
    folder = tmp_path_factory.mktemp("merged")
    tokenizer = byte_level(["the cat and the cat\n"] * 9, 265)
    save_weights(larger("tiny@vocab_size=265"), str(folder))
    tokenizer.save(str(folder / "tokenizer.json"))
    return str(folder), tokenizer


def test_a_word_is_cut_as_the_tokenizer_cuts_it_behind_the_prompt(merged):
    folder, tokenizer = merged
    done = ask("predict", folder, "-p", "the", "--word", "cat", "-f", "json")
    rows = [done.json["rows"][0], *done.json["rows"][0]["other_forms"]]
    assert {row["text"] for row in rows} == {"cat", " cat"}
    ids = [token["token_id"] for token in rows[0]["tokens"]]
    assert tokenizer.encode("the").ids + ids == tokenizer.encode("the" + rows[0]["text"]).ids


@pytest.mark.parametrize("word", ["cat", "cattle"])
def test_a_word_that_makes_a_token_with_the_prompt_s_end_is_refused(merged, word):
    folder, tokenizer = merged
    assert tokenizer.encode("the ").ids != tokenizer.encode("the cat").ids[: len(tokenizer.encode("the ").ids)]
    done = ask("predict", folder, "-p", "the ", "--word", word)
    assert (done.code, done.out, done.err) == (
        2,
        "",
        "--word: is joined with the end of the prompt by the tokenizer; "
        f"got {word!r}; end the prompt without a blank\n",
    )


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (["--word", ""], "--word: is empty\n"),
        (["--word", "x" * 63], "--word: takes 64 tokens after the 2 of the prompt; the context holds 64; got 'xxx"),
        ([part for n in range(MOST_WORDS + 1) for part in ("--word", f"w{n}")],
         f"--word: can be given at most {MOST_WORDS} times; got {MOST_WORDS + 1}\n"),
        (["--retemper", "1,2,3,4"], "--retemper: takes at most 3 numbers; got 4\n"),
        (["--retemper", "2,2.0"], "--retemper: has a number twice; got 2\n"),
        (["--retemper", "-1"], "--retemper: must be a number of at least 0; got '-1'\n"),
        (["--retemper", "inf"], "--retemper: must be a number of at least 0; got 'inf'\n"),
        (["--top-k", "1.5"], "--top-k: must be an integer"),
        (["--top-p", "0"], "--top-p: must be more than 0 and at most 1; got '0'\n"),
        (["--min-p", "2"], "--min-p: must be from 0 to 1; got '2'\n"),
        (["--repetition-penalty", "0"], "--repetition-penalty: must be more than 0; got '0'\n"),
    ],
)  # fmt: skip
def test_what_cannot_be_predicted_is_one_line(weights, flags, line):
    done = ask("predict", "tiny", "--weights", weights, "-p", "Hi", *flags)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(line)
    assert done.err.count("\n") == 1


def test_a_word_of_other_letters_is_one_too(weights):
    found = told(weights, "--word", "模型")
    assert json.dumps(found, ensure_ascii=False).count("模型") == 3  # typed, in its form, and with a blank
    assert sum(len(row["tokens"]) for row in found["rows"]) in (6, 7)
