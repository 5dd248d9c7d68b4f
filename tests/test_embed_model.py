"""A model's own vectors: a small GPT-2 with a trained tokenizer, tables of bytes, and folders that are broken."""

import math
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from command import ask
from space import rows


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory):
    """A random GPT-2 whose tokenizer knows the words ` king` and `queen`, and `king` by itself."""
    transformers, tokenizers = pytest.importorskip("transformers"), pytest.importorskip("tokenizers")
    torch = pytest.importorskip("torch")
    folder = tmp_path_factory.mktemp("gpt2")
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=300, initial_alphabet=sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet()), show_progress=False
    )
    tokenizer.train_from_iterator(["king king king\nqueen\nqueen\n", "a woman will want a wide way\n"] * 9, trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    torch.manual_seed(0)
    config = transformers.GPT2Config(vocab_size=300, n_positions=8, n_embd=6, n_layer=1, n_head=2)
    model = transformers.GPT2LMHeadModel(config)
    model.save_pretrained(folder)
    return SimpleNamespace(
        path=str(folder), tokenizer=tokenizer, table=model.transformer.wte.weight.detach().double().numpy()
    )


def test_a_models_tokens_have_vectors(gpt2):
    king, queen = (gpt2.tokenizer.token_to_id(token) for token in ("king", "queen"))
    told = ask("embed", gpt2.path, "king - queen", "--top", "3", "--rank", "king", "-f", "json").json
    assert (told["vectors"], told["dimensions"]) == (300, 6)
    found = {row["word"]: row for row in told["rows"]}
    difference = gpt2.table[king] - gpt2.table[queen]
    assert found["king"]["dot"] == pytest.approx(gpt2.table[king] @ difference)
    assert told["length"] == pytest.approx(math.hypot(*difference))


def test_it_is_said_which_token_was_used(gpt2):
    plain, spaced, woman = (gpt2.tokenizer.token_to_id(token) for token in ("king", "Ġking", "Ġwoman"))
    assert ask("embed", gpt2.path, "king", "-f", "json").json["tokens"] == [
        f"king is token {plain}, 'king'; ' king' is one too"
    ]
    assert ask("embed", gpt2.path, "' king'", "-f", "json").json["tokens"] == [f" king is token {spaced}, ' king'"]
    assert ask("embed", gpt2.path, "woman", "-f", "json").json["tokens"] == [f"woman is token {woman}, ' woman'"]
    assert "' woman'" in ask("embed", gpt2.path, "woman").out


def test_a_word_of_several_tokens_shows_them(gpt2):
    done = ask("embed", gpt2.path, "kingqueen")
    what = "is several tokens, 'king' + 'queen'; got 'kingqueen'; a word of one token has a vector"
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
        ({"x": np.ones((256, 2))}, 2, "{}/model.safetensors: has no token embedding; it would be transformer.wte.weight,"),
        ({"wte.weight": np.ones(256)}, 2, "{}/model.safetensors: wte.weight: must be a table of floats; got F64 of [256]"),
        ({"wte.weight": np.ones((256, 2), int)}, 2, "{}/model.safetensors: wte.weight: must be a table of floats; got I64"),
        ({"wte.weight": np.ones((300, 2))}, 3, "{}: has no tokenizer.json, and 300 rows are not those of 256 bytes"),
        ({"wte.weight": np.full((256, 2), np.nan)}, 2, "{}: row 97 has a number that is not finite"),
        ({"wte.weight": np.full((256, 2), 1e300)}, 2, "{}: row 97 has a number that is not finite"),
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
    assert done.err.startswith(f"{tmp_path}/tokenizer.json: is no tokenizer: ")
    (tmp_path / "model.safetensors").write_bytes(b"nothing")
    done = ask("embed", str(tmp_path), "a")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert done.err.startswith(f"{tmp_path}/model.safetensors: cannot be read: ")


def test_a_token_for_what_is_unknown_is_no_word(tmp_path):
    tokenizers = pytest.importorskip("tokenizers")
    tokenizer = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({"king": 0, "[UNK]": 1, "late": 9}, unk_token="[UNK]")  # noqa: S106  (no password)
    )
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    _save(tmp_path, {"wte.weight": np.eye(3)})
    assert list(rows(str(tmp_path), "king")) == ["king", "[UNK]", "row 2"]
    assert (
        ask("embed", str(tmp_path), "kin").err == f"EXPRESSION: is no word of {tmp_path}; got 'kin'; nearest: king\n"
    )
    assert ask("embed", str(tmp_path), "late").err == "EXPRESSION: 'late' is token 9; the table has 3 rows\n"


@pytest.mark.parametrize("package", ["safetensors", "tokenizers"])
def test_a_package_that_is_missing_is_named(gpt2, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    done = ask("embed", gpt2.path, "king")
    assert (done.code, done.out, done.err) == (
        3,
        "",
        f"embed: needs the package {package}; pip install 'archcalc[run]'\n",
    )


def test_a_tokenizer_that_knows_no_such_word_says_so(tmp_path):
    tokenizers = pytest.importorskip("tokenizers")
    tokenizers.Tokenizer(tokenizers.models.WordLevel({"king": 0}, unk_token="none")).save(  # noqa: S106  (no password)
        str(tmp_path / "tokenizer.json")
    )
    _save(tmp_path, {"wte.weight": np.eye(3)})
    assert ask("embed", str(tmp_path), "kin").err.startswith("EXPRESSION: is no token; got 'kin'")
