"""A model's own vectors: a small GPT-2 with a trained tokenizer, tables of bytes, and folders that are broken."""

import json
import math
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from command import ask
from outside import byte_level
from space import rows

from archcalc.packages import install_command
from archcalc_reference.text.tokenizer import byte_alphabet


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory):
    """A random GPT-2 whose tokenizer knows the words ` king` and `queen`, and `king` by itself."""
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    folder = tmp_path_factory.mktemp("gpt2")
    words = ["king king king\nqueen\nqueen\n", "a woman will want a wide way\n"] * 9
    tokenizer = byte_level(words, 300)
    tokenizer.save(str(folder / "tokenizer.json"))
    torch.manual_seed(0)
    config = transformers.GPT2Config(vocab_size=300, n_positions=8, n_embd=6, n_layer=1, n_head=2)
    model = transformers.GPT2LMHeadModel(config)
    model.save_pretrained(folder)
    table = model.transformer.wte.weight.detach().double().numpy()
    return SimpleNamespace(path=str(folder), tokenizer=tokenizer, model=model, table=table)


def test_a_models_tokens_have_vectors(gpt2):
    king, queen = (gpt2.tokenizer.token_to_id(token) for token in ("king", "queen"))
    asked = ("'king' - 'queen'", "--top", "3", "--rank", "'king'")
    told = ask("embed", gpt2.path, *asked, "-f", "json").json
    assert (told["vectors"], told["dimensions"]) == (300, 6)
    found = {row["word"]: row for row in told["rows"]}
    difference = gpt2.table[king] - gpt2.table[queen]
    assert found["king"]["dot"] == pytest.approx(gpt2.table[king] @ difference)
    assert told["length"] == pytest.approx(math.hypot(*difference))


def test_it_is_said_which_token_was_used(gpt2):
    plain, spaced, woman = (gpt2.tokenizer.token_to_id(token) for token in ("king", "Ġking", "Ġwoman"))
    both = {
        "king": f"king is token {spaced}, ' king', preferred to 'king'",
        "'king'": f"king is token {plain}, 'king', preferred to ' king'",
    }
    for written, said in both.items():
        assert ask("embed", gpt2.path, written, "-f", "json").json["tokens"] == [said]
    assert ask("embed", gpt2.path, "' king'", "-f", "json").json["tokens"] == [f" king is token {spaced}, ' king'"]
    assert ask("embed", gpt2.path, "woman", "-f", "json").json["tokens"] == [f"woman is token {woman}, ' woman'"]
    assert "' woman'" in ask("embed", gpt2.path, "woman").out


def test_a_word_of_several_tokens_shows_them(gpt2):
    done = ask("embed", gpt2.path, "kingqueen")
    what = "is several tokens, ' king' + 'queen'; got 'kingqueen'; only a word of one token has a vector"
    what += "; --average takes the mean"
    assert (done.code, done.err) == (2, f"EXPRESSION: {what}\n")


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "float64"])
@pytest.mark.parametrize("name", ["embedding.token.weight", "wte.weight"])
def test_a_model_of_bytes_needs_no_tokenizer(tmp_path, name, dtype):
    torch = pytest.importorskip("torch")
    safetensors = pytest.importorskip("safetensors.torch")
    table = torch.arange(512).view(256, 2) % 7 + 1.0
    safetensors.save_file({name: table.to(getattr(torch, dtype))}, tmp_path / "model.safetensors")
    found = rows(str(tmp_path), "a", "--rank", "b")
    a, b = table[ord("a")], table[ord("b")]
    assert found["b"]["dot"] == a @ b
    assert ask("embed", str(tmp_path), "é").err.startswith(
        "EXPRESSION: is several tokens, '\\\\xc3' + '\\\\xa9'; got 'é'"
    )


def _save(folder, tensors):
    pytest.importorskip("safetensors")
    from safetensors.numpy import save_file

    save_file(tensors, folder / "model.safetensors")


@pytest.mark.parametrize(
    ("table", "code", "line"),
    [
        ({"x": np.ones((256, 2))}, 2, "{}: has no token embedding; its tensors are named as in no known family of models"),
        ({"wte.weight": np.ones(256)}, 2, "{}/model.safetensors: wte.weight: must be a table of floats; got F64 of [256]"),
        ({"wte.weight": np.ones((256, 2), int)}, 2, "{}/model.safetensors: wte.weight: must be a table of floats; got I64"),
        ({"wte.weight": np.ones((300, 2))}, 3, "{}: has no tokenizer, and the 300 tokens of its table are not bytes; "),
        ({"wte.weight": np.full((256, 2), np.nan)}, 2, "{}/model.safetensors: wte.weight: row 97 has a number that is not finite in float32"),
        ({"wte.weight": np.full((256, 2), 1e300)}, 2, "{}/model.safetensors: wte.weight: row 97 has a number that is not finite in float32"),
    ],
)  # fmt: skip
def test_a_bad_folder_of_weights_is_one_line(tmp_path, table, code, line):
    _save(tmp_path, table)
    done = ask("embed", str(tmp_path), "a")
    assert (done.code, done.out) == (code, "")
    assert done.err.startswith(line.format(tmp_path))
    assert done.err.count("\n") == 1


def test_broken_weights_and_tokenizers_are_one_line(tmp_path):
    pytest.importorskip("tokenizers")
    _save(tmp_path, {"wte.weight": np.ones((3, 2))})
    (tmp_path / "tokenizer.json").write_text("{")
    done = ask("embed", str(tmp_path), "a")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert done.err.startswith(f"{tmp_path}/tokenizer.json:1:2: is not JSON: ")
    (tmp_path / "tokenizer.json").write_text('{"decoder": {"type": "ByteLevel"}}')
    done = ask("embed", str(tmp_path), "a")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert done.err.startswith(f"{tmp_path}/tokenizer.json: is not a tokenizer: ")
    (tmp_path / "model.safetensors").write_bytes(b"nothing")
    done = ask("embed", str(tmp_path), "a")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert done.err.startswith(f"{tmp_path}/model.safetensors: is not a complete safetensors file: ")


def _vocabulary(folder, ids, merges=()):
    (folder / "vocab.json").write_text(json.dumps(ids))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{pair}\n" for pair in merges))


def test_rows_that_are_no_token_are_not_taken_for_the_replacement_character(tmp_path):
    pytest.importorskip("tokenizers")
    _vocabulary(tmp_path, {**byte_alphabet(), "ï¿": 257, "ï¿½": 258}, ["ï ¿", "ï¿ ½"])  # its UTF-8: ef bf bd
    _save(tmp_path, {"wte.weight": np.arange(1.0, 521).reshape(260, 2)})
    found = rows(str(tmp_path), "a", "--top", "260", "--rank", "\N{REPLACEMENT CHARACTER}")
    assert {"row 256", "row 259", "\N{REPLACEMENT CHARACTER}", r"\xef\xbf"} < set(found)
    assert found["\N{REPLACEMENT CHARACTER}"]["dot"] == 517 * 195 + 518 * 196


def test_a_vocabulary_may_lack_a_space_or_have_more_tokens_than_the_table_rows(tmp_path):
    pytest.importorskip("tokenizers")
    _vocabulary(tmp_path, {"a": 0, "b": 9})
    _save(tmp_path, {"wte.weight": np.eye(3)})
    assert ask("embed", str(tmp_path), "a", "-f", "json").json["tokens"] == ["a is token 0, 'a'"]
    for word, line in {
        "b": "EXPRESSION: 'b' is token 9; the table has 3 rows",
        "c": f"{tmp_path}/vocab.json: has no token for a byte of the text; got 0x63",
        "\udcff": r"EXPRESSION: is not UTF-8; got '\udcff'",
    }.items():
        done = ask("embed", str(tmp_path), word)
        assert (done.code, done.out, done.err) == (2, "", line + "\n")


def test_a_word_that_a_tokenizer_drops_is_no_token(gpt2, tmp_path):
    tokenizers = pytest.importorskip("tokenizers")
    tokenizer = tokenizers.Tokenizer.from_str(gpt2.tokenizer.to_str())
    tokenizer.normalizer = tokenizers.normalizers.Strip()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    _save(tmp_path, {"wte.weight": np.ones((300, 2))})
    assert ask("embed", str(tmp_path), "' '").err.startswith("EXPRESSION: is not a token; got ' '")
    tokenizer.normalizer = tokenizers.normalizers.Lowercase()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    line = f"is changed by {tmp_path}/tokenizer.json: its tokens have 'a' where the text has 'A'; got 'A'\n"
    assert ask("embed", str(tmp_path), "A").err == f"EXPRESSION: {line}"


def test_the_words_of_a_tokenizer_of_whole_words_are_looked_up(tmp_path):
    tokenizers = pytest.importorskip("tokenizers")
    words = {"king": 0, "queen": 1, "cabbage": 2}
    tokenizers.Tokenizer(tokenizers.models.WordLevel(words)).save(str(tmp_path / "tokenizer.json"))
    _save(tmp_path, {"wte.weight": np.array([[2.0, 1, 0], [1, 2, 0], [0, 0, 1]])})
    rows = ask("embed", str(tmp_path), "king", "-f", "json").json["rows"]
    others = [row for row in rows if row["rank"]]
    assert [(row["word"].strip(), round(row["cosine"], 6)) for row in others] == [("queen", 0.8), ("cabbage", 0.0)]


def test_vocab_and_merges_answer_as_tokenizer_json_does(gpt2, tmp_path):
    _save(tmp_path, {"wte.weight": gpt2.table})
    gpt2.tokenizer.model.save(str(tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["merges.txt", "model.safetensors", "vocab.json"]
    asked = ("king - queen", "--rank", "woman", "-f", "json")
    ours, theirs = (ask("embed", path, *asked).json for path in (str(tmp_path), gpt2.path))
    assert ours["tokens"] == theirs["tokens"]
    assert [row["word"] for row in ours["rows"]] == [row["word"] for row in theirs["rows"]]


# Where the weights lie


@pytest.fixture
def sharded(gpt2, tmp_path):
    """The same model in shards; the table and another tensor are not in one."""
    gpt2.model.save_pretrained(tmp_path / "s", max_shard_size="3KB")
    gpt2.tokenizer.save(str(tmp_path / "s" / "tokenizer.json"))
    assert not (tmp_path / "s" / "model.safetensors").exists()
    assert len(list((tmp_path / "s").glob("*.safetensors"))) > 1
    return tmp_path / "s"


def test_shards_answer_as_the_whole_does(gpt2, sharded):
    whole, done = (
        ask("embed", folder, "king - queen", "--rank", "woman", "-f", "json") for folder in (gpt2.path, str(sharded))
    )
    assert (done.code, done.err) == (0, "")
    assert done.json["rows"] == whole.json["rows"]


def test_a_missing_or_cut_shard_is_one_line(sharded):
    index = json.loads((sharded / "model.safetensors.index.json").read_text())
    shard = sharded / index["weight_map"]["transformer.wte.weight"]
    shard.write_bytes(shard.read_bytes()[:-10])
    done = ask("embed", str(sharded), "king")
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert done.err.startswith(f"{shard}: is not a complete safetensors file: ")
    shard.unlink()
    done = ask("embed", str(sharded), "king")
    line = f"{shard}: no such file, although model.safetensors.index.json names it\n"
    assert (done.code, done.out, done.err) == (3, "", line)


def test_a_folder_of_training_answers_with_its_newest_weights(tmp_path):
    pytest.importorskip("torch")
    asked = ("--steps", "1", "--batch", "1", "--seq", "8", "--every", "1", "--warmup", "0")
    (tmp_path / "text").write_text("a king and a queen " * 99)
    done = ask("train", "tiny", "--data", str(tmp_path / "text"), "--out", str(tmp_path / "out"), *asked)
    assert done.code == 0, done.err
    kept = tmp_path / "out" / "step-00000001"
    ours, theirs = (ask("embed", str(folder), "k - q", "-f", "json") for folder in (kept.parent, kept))
    assert (ours.code, ours.err) == (0, "")
    assert ours.out == theirs.out


def test_no_table_needs_torch(gpt2, tmp_path, monkeypatch):
    torch, safetensors = pytest.importorskip("torch"), pytest.importorskip("safetensors.torch")
    table = torch.from_numpy(gpt2.table)
    for dtype in (torch.float32, torch.bfloat16):
        (tmp_path / str(dtype)).mkdir()
        gpt2.tokenizer.save(str(tmp_path / str(dtype) / "tokenizer.json"))
        safetensors.save_file({"wte.weight": table.to(dtype)}, tmp_path / str(dtype) / "model.safetensors")
    monkeypatch.setitem(sys.modules, "torch", None)
    full, half = (
        ask("embed", str(tmp_path / f"torch.{name}"), "king", "-f", "json") for name in ("float32", "bfloat16")
    )
    row = gpt2.tokenizer.token_to_id("Ġking")
    assert full.json["length"] == pytest.approx(table[row].norm().item())
    assert half.json["length"] == pytest.approx(table[row].to(torch.bfloat16).double().norm().item())
    done = ask("embed", str(tmp_path / "torch.float32" / "model.safetensors"), "king", "-f", "json")  # the file alone
    assert done.json["rows"] == full.json["rows"]


@pytest.mark.parametrize(("package", "where"), [("safetensors", "weights"), ("tokenizers", "tokenizer")])
def test_a_package_that_is_missing_is_named(gpt2, monkeypatch, package, where):
    monkeypatch.setitem(sys.modules, package, None)
    done = ask("embed", gpt2.path, "king")
    assert (done.code, done.out, done.err) == (
        3,
        "",
        f"{where}: needs the package {package}; {install_command('run')}\n",
    )


def test_a_sum_without_blanks_is_told_where_they_stand(gpt2, tmp_path):
    (tmp_path / "w.txt").write_text("king 1 2\nqueen 3 4\n")
    for asked in ((gpt2.path, "--average"), (str(tmp_path / "w.txt"),)):
        done = ask("embed", *asked, "king-queen+king")
        assert (done.code, done.out) == (2, "")
        assert done.err.endswith("; blanks stand around + and -, as in 'king - man + woman'\n")
