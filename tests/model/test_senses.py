"""One word in groups of texts: cosines and neighbours by hand, and from the hidden states of transformers' models."""

import math
import re
from itertools import combinations

import pytest
from command import ask
from docblocks import ROOT
from hypothesis import given
from hypothesis import strategies as st
from outside import TINY_GPT2, tiny_gpt2
from smollm2 import by_transformers, smollm2_path

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

import archcalc  # noqa: E402
from archcalc.commands.groups import MOST_TEXTS  # noqa: E402
from archcalc.words.occurrences import last_occurrence  # noqa: E402
from archcalc.words.senses import by_chance, likeness  # noqa: E402
from archcalc_reference import Transformer  # noqa: E402
from archcalc_reference.text.tokenizer import read_tokenizer  # noqa: E402
from archcalc_reference.weights.folder import save_weights  # noqa: E402

TEXTS = {"ml": ["a model learns", "train the model"], "fashion": ["the model walks", "a model in silk", "my model"]}
# Five texts of each sense, which is clear before the word: a model that writes has not seen what comes after it.
MODELS = {name: (ROOT / "docs" / "film" / f"{name}.txt").read_text().splitlines() for name in ("learning", "fashion")}


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory):
    return tiny_gpt2(tmp_path_factory.mktemp("gpt2"))


def flags(texts):
    return [part for name, group in texts.items() for text in group for part in ("--group", f"{name}={text}")]


def asked(*arguments):
    done = ask("trace", *arguments)
    assert done.code == 0, done.err
    return done


def spaced(text):
    """It on one line."""
    return " ".join(text.split())


def by_hand(vectors, names):
    """Means over pairs and nearest neighbours, one pair after the other."""
    pairs = {
        (i, j): torch.cosine_similarity(vectors[i], vectors[j], dim=0).item()
        for i, j in combinations(range(len(names)), 2)
    }
    within = [cosine for (i, j), cosine in pairs.items() if names[i] == names[j]]
    between = [cosine for (i, j), cosine in pairs.items() if names[i] != names[j]]
    nearest = 0
    for i in range(len(names)):
        others = {j: pairs[min(i, j), max(i, j)] for j in range(len(names)) if j != i}
        best = [j for j, cosine in others.items() if cosine > max(others.values()) - 1e-6]
        nearest += sum(names[j] == names[i] for j in best) / len(best)
    return sum(within) / len(within), sum(between) / len(between), nearest


def test_groups_are_compared_as_transformers_has_them(gpt2):
    model, folder = gpt2
    told = asked(TINY_GPT2, "--weights", folder, "--word", "model", *flags(TEXTS), "-f", "json").json
    texts = [(name, text) for name, group in TEXTS.items() for text in group]
    assert [(text["group"], text["prompt"]) for text in told["texts"]] == texts
    assert [text["position"] for text in told["texts"]] == [text.index("model") + 4 for _, text in texts]
    with torch.no_grad():
        ways = [model(torch.tensor([list(t.encode())]), output_hidden_states=True).hidden_states for _, t in texts]
    at = {row["after"]: row for row in told["senses"]}
    for layer, place in enumerate(["embedding", "layers.0.mlp", "layers.1.mlp", "final_norm"]):
        vectors = [way[layer][0, text.index("model") + 4] for way, (_, text) in zip(ways, texts, strict=True)]
        within, between, nearest = by_hand(vectors, [name for name, _ in texts])
        assert at[place]["within"] == pytest.approx(within, abs=1e-5)
        assert at[place]["between"] == pytest.approx(between, abs=1e-5)
        assert at[place]["nearest_in_group"] == pytest.approx(nearest)
        pair = torch.cosine_similarity(*vectors[:2], dim=0).item()
        assert at[place]["within_each"]["ml"] == pytest.approx(pair, abs=1e-5)
    # Before a layer all are the same: of 2 texts each has 1 of 4 others in its group, of 3 each has 2 of 4.
    assert at["token"]["nearest_in_group"] == pytest.approx(2 * 1 / 4 + 3 * 2 / 4) == told["nearest_by_chance"]


@pytest.mark.film
@pytest.mark.prove
def test_smollm2_tells_a_model_that_learns_from_one_that_walks():
    """The word starts the same in all texts; a few layers on, nearly all have a neighbour of the same sense."""
    path = smollm2_path()
    told = asked(path, "--word", "model", *flags(MODELS), "-f", "json").json
    tokenizer, model = read_tokenizer(path), by_transformers(path)
    texts = [(name, text) for name, group in MODELS.items() for text in group]
    ways = []
    for (_, text), ours in zip(texts, told["texts"], strict=True):
        ids = tokenizer.encode(text)
        place = ids.index(tokenizer.encode(" model")[0])
        assert ours["position"] == place
        with torch.no_grad():
            hidden = model(torch.tensor([ids]), output_hidden_states=True).hidden_states
        ways.append([state[0, place].double() for state in hidden])
    at = {row["after"]: row for row in told["senses"]}
    names = [name for name, _ in texts]
    for layer in range(1, 31):
        place = f"layers.{layer - 1}.mlp" if layer < 30 else "final_norm"  # transformers' last state is normed
        within, between, nearest = by_hand([way[layer] for way in ways], names)
        row = at[place]
        assert (row["within"], row["between"]) == (pytest.approx(within, abs=1e-4), pytest.approx(between, abs=1e-4))
        assert row["nearest_in_group"] == pytest.approx(nearest)
    assert (at["token"]["within"], at["token"]["between"]) == (pytest.approx(1), pytest.approx(1))
    assert at["token"]["nearest_in_group"] == pytest.approx(10 * 4 / 9)
    assert all(at[f"layers.{layer}.mlp"]["nearest_in_group"] >= 9 for layer in range(4, 30))
    assert at["final_norm"]["nearest_in_group"] == 10
    assert at["layers.6.mlp"]["within"] > at["layers.6.mlp"]["between"] + 0.1
    assert at["final_norm"]["within"] > at["final_norm"]["between"] + 0.2


@given(st.lists(st.sampled_from("ab"), min_size=3, max_size=8).filter(lambda names: len(set(names)) == 2), st.data())
def test_likeness_does_not_depend_on_order_or_length(names, data):
    numbers = data.draw(st.lists(st.lists(st.integers(-3, 3), min_size=3, max_size=3).filter(any),
                                 min_size=len(names), max_size=len(names)))  # fmt: skip
    vectors = [torch.tensor(vector, dtype=torch.float64) for vector in numbers]
    once = likeness(vectors, names)
    order = data.draw(st.permutations(range(len(names))))
    again = likeness([7.0 * vectors[i] for i in order], [names[i] for i in order])
    assert again.between == pytest.approx(once.between)
    assert again.nearest == pytest.approx(once.nearest)
    assert again.within == pytest.approx(once.within)
    assert 0 <= once.nearest <= len(names)
    assert likeness([vectors[0]] * len(names), names).nearest == pytest.approx(by_chance(names))


def test_groups_of_one_have_no_pair_within():
    alike = likeness([torch.tensor([1.0, 0]), torch.tensor([0, 2.0]), torch.zeros(2)], ["a", "b", "c"])
    assert alike == (None, 0.0, {"a": None, "b": None, "c": None}, 0.0)


@pytest.mark.parametrize(
    ("parts", "word", "found"),
    [
        ([b"Professor", b" Sn", b"ape", b"!"], "Snape", (2, 2, 1)),
        ([b"a", b" model", b", a", b" model", b" re", b"model"], "model", (3, 1, 2)),
        ([b"re", b"mod", b"elled"], "model", (2, 2, 1)),
        (["模".encode(), "型".encode()[:1], "型".encode()[1:]], "模型", (2, 3, 1)),
        ([b"nothing"], "model", None),
        ([b"nothing"], "", None),
    ],
)
def test_the_last_token_of_the_last_occurrence_is_followed(parts, word, found):
    assert last_occurrence(parts, word) == found


def test_what_is_followed_is_said(gpt2):
    out = spaced(asked(TINY_GPT2, "--weights", gpt2[1], "--word", "at", "-p", "a cat at", "-p", "at").out)
    assert "A: token 8 of 8, 't', the last of the word's 2, in 'a cat at' B: " in out
    assert "B: token 2 of 2, 't', the last of the word's 2, in 'at'" in out
    assert "one pair proves little" in out
    out = spaced(asked(TINY_GPT2, "--weights", gpt2[1], "--word", "at", "-p", "at at at", "-p", "at").out)
    assert "in 'at at at', where the word occurs for the last of 3 times" in out
    out = spaced(asked(TINY_GPT2, "--weights", gpt2[1], "--word", "a", "-p", "a b", "-p", "b a").out)
    assert "A: the first token of the text, whose vector is unlike all others (an attention sink)" in out


@pytest.mark.parametrize("form", ["table", "markdown", "csv"])
def test_every_format_has_a_row_for_each_place(gpt2, form):
    done = asked(TINY_GPT2, "--weights", gpt2[1], "--word", "model", *flags(TEXTS), "-f", form)
    for place in ("token", "embedding", "layers.0.attention", "layers.2.mlp", "final_norm"):
        assert len(re.findall(rf"^(\| )?{place}[ ,]", done.out, re.MULTILINE)) == 1
    if form == "csv":
        assert done.out.splitlines()[0] == "after,within,between,nearest_in_group"
    if form == "table":
        assert max(map(len, done.out.splitlines())) <= 100


def test_files_have_a_text_on_each_line(gpt2, tmp_path):
    (tmp_path / "ml").write_bytes(b"\xef\xbb\xbfa model learns\r\n\r\ntrain the model")
    (tmp_path / "fashion").write_text("the model walks\na model in silk\nmy model\n")
    files = ["--group", f"ml=@{tmp_path}/ml", "--group", f" fashion =@{tmp_path}/fashion"]
    whole = asked(TINY_GPT2, "--weights", gpt2[1], "--word", "model", *flags(TEXTS), "-f", "json").json
    assert asked(TINY_GPT2, "--weights", gpt2[1], "--word", "model", *files, "-f", "json").json == whole


def test_one_text_of_a_group_is_said_to_prove_little(gpt2):
    done = asked(TINY_GPT2, "--weights", gpt2[1], "--word", "a", "--group", "x=a b", "--group", "y=b a")
    assert "one text proves little: x, y have no pair within" in spaced(done.out)
    rows = asked(TINY_GPT2, "--weights", gpt2[1], "--word", "a", *flags({"x": ["ba"], "y": ["ca"]}), "-f", "json").json
    assert {row["within"] for row in rows["senses"]} == {None}
    assert all(math.isfinite(row["between"]) for row in rows["senses"])


REFUSED = {
    "one group": (["--group", "x=a", "--group", "x=b"], "--group: needs two groups or more; got 'x'; "),
    "no name": (["--group", "=a", "--group", "x=b"], "--group: must be NAME=TEXT or NAME=@FILE; got '=a'\n"),
    "no text": (["--group", "x= ", "--group", "y=b"], "--group: has no text; got 'x= '\n"),
    "no equals sign": (["--group", "a", "--group", "y=b"], "--group: must be NAME=TEXT or NAME=@FILE; got 'a'\n"),
    "a prompt too": (
        ["--group", "x=a", "-p", "a"],
        "--prompt: cannot be combined with --group, which has the texts\n",
    ),
    "no such word": (["--group", "x=a", "--group", "y=b"], "--word: is not in --group y; got 'a'\n"),
    "too long": (["--group", "x=a", "--group", f"y={'a' * 65}"], "--group y: has 65 tokens; the context holds 64\n"),
    "a file for a text": (["--group", "x=FILE", "--group", "y=b"], "--group: has a file where a text belongs; got"),
    "a line without it": (["--group", "x=@FILE", "--group", "y=a"], "--word: is not in FILE: line 2; got 'a'\n"),
    "an empty file": (["--group", "x=@EMPTY", "--group", "y=a"], "EMPTY: has no text\n"),
    "a folder": (["--group", "x=@.", "--group", "y=a"], ".: is a directory\n"),
    "bytes": (["--group", "x=@BYTES", "--group", "y=a"], "BYTES:1:2: is not UTF-8; got b'\\xff'\n"),
    "too many": (
        [part for n in range(MOST_TEXTS + 1) for part in ("--group", f"{n}=a")],
        f"--group: takes at most {MOST_TEXTS} texts in all; got {MOST_TEXTS + 1}\n",
    ),
    "a batch": (["--group", "x=a", "--batch", "2"], "--batch: must be 1 with --group; got '2'\n"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_is_one_line(gpt2, tmp_path, monkeypatch, case):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "FILE").write_text("a\nb\n")
    (tmp_path / "EMPTY").write_text("\n \n")
    (tmp_path / "BYTES").write_bytes(b"a\xff")
    arguments, line = REFUSED[case]
    done = ask("trace", TINY_GPT2, "--weights", gpt2[1], "--word", "a", *arguments)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(line)
    assert done.err.count("\n") == 1


def test_groups_need_a_word_and_files_that_are_there(gpt2):
    done = ask("trace", TINY_GPT2, "--weights", gpt2[1], "--group", "x=a", "--group", "y=a")
    assert (done.code, done.err) == (2, "--word: must say which word the texts of --group share\n")
    done = ask("trace", TINY_GPT2, "--weights", gpt2[1], "--word", "a", "--group", "x=@none", "--group", "y=a")
    assert (done.code, done.err) == (3, "none: no such file\n")


def test_standard_input_is_a_file(gpt2, monkeypatch):
    import io
    import sys
    from types import SimpleNamespace

    monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: False, buffer=io.BytesIO(b"a cat\na dog\n")))
    told = asked(
        TINY_GPT2, "--weights", gpt2[1], "--word", "a", "--group", "x=@-", "--group", "y=a", "-f", "json"
    ).json
    assert [text["prompt"] for text in told["texts"]] == ["a cat", "a dog", "a"]


def test_weights_that_give_no_numbers_are_refused(tmp_path):
    spec = "tiny@n_layers=1"
    model = Transformer(archcalc.load(spec))
    with torch.no_grad():
        model.embedding.token.weight[ord("a")] = 3e38
    save_weights(model, str(tmp_path))
    done = ask("trace", spec, "--weights", str(tmp_path), "--word", "a", "--group", "x=a", "--group", "y=ba")
    assert (done.code, done.out) == (2, "")
    assert "not finite" in done.err
