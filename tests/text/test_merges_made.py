"""Vocabularies whose merges are made of scores or ranks: bounded while they are made; and keys of another type."""

import base64
import random
import time
import tracemalloc

import pytest
from command import ask
from ggufs import gguf_file

pytest.importorskip("torch")
pytest.importorskip("tokenizers", reason="the extra `run`")
pytest.importorskip("gguf")

from archcalc.errors import Invalid
from archcalc_reference.text.tokenizer import named_tokenizer, read_tokenizer
from archcalc_reference.unpacking.parting import MOST_MERGED, MOST_MERGES, merges_of

SHORT = ["<unk>", "<s>", "</s>", "a", "b", "c", "ab", "bc", "abc", *"defgh"]


def keys(path, kind="llama", **more):
    tokens = more.get("tokens", SHORT)
    said = {
        "model": kind,
        "tokens": tokens,
        "scores": [-float(i) for i in range(len(tokens))],
        "token_type": [2, 3, 3] + [1] * (len(tokens) - 3),
        **more,
    }
    named = {f"tokenizer__ggml__{name}": value for name, value in said.items() if value is not None}
    return str(gguf_file(path, {"token_embd.weight": ((len(tokens), 32), "F32")}, **named))


def parts(length):
    """Every part of a text of random letters, at most 256 long: its merges have about length^4 / 12 letters."""
    drawn = random.Random(1)  # noqa: S311
    text = "".join(drawn.choices("abcdefghijklmnopqrstuvwxyz", k=length))
    return sorted({text[i:j] for i in range(length) for j in range(i + 1, min(length, i + 256) + 1)}, key=len)


def quickly(call):
    """The fault of a call, which is found in little time and memory."""
    tracemalloc.start()
    try:
        began = time.process_time()
        with pytest.raises(Invalid) as found:
            call()
        taken = time.process_time() - began
        assert tracemalloc.get_traced_memory()[1] < 200e6
    finally:
        tracemalloc.stop()
    assert taken < 10  # tracing takes most of it
    return str(found.value)


def test_all_parts_of_one_text_are_refused_before_their_merges_are_made(tmp_path):
    """Of 150 letters: 11,000 tokens in a file of 1 MB, 560,000 merges of 42 million letters."""
    tokens = parts(150)
    path = keys(tmp_path / "m.gguf", tokens=["<unk>", "<s>", "</s>", *tokens])
    said = quickly(lambda: read_tokenizer(path))
    assert said == (
        f"{path}: tokenizer.ggml.tokens: has tokens that are made of others in more than {MOST_MERGES:,} ways, or "
        f"{MOST_MERGED:,} characters"
    )
    path = tmp_path / "m.tiktoken"
    path.write_bytes(b"".join(base64.b64encode(one.encode()) + b" %d\n" % i for i, one in enumerate(tokens)))
    assert quickly(lambda: named_tokenizer(str(path))).startswith(
        f"{path}: has tokens that are made of others in more"
    )


def test_merges_are_in_the_order_of_what_they_make_and_of_their_parts():
    ranks = {b"c": 0, b"bc": 1, b"a": 2, b"ab": 3, b"b": 4, b"abc": 5}
    words = {one: one.decode() for one in ranks}
    in_order = sorted(ranks, key=ranks.get)
    # abc of a (2) and bc, and of ab (3) and c; ab of a and b before them, for its rank is 3.
    assert merges_of(in_order, ranks, words) == [("b", "c"), ("a", "b"), ("a", "bc"), ("ab", "c")]


@pytest.mark.parametrize("bound", ["MOST_LETTERS", "MOST_MERGES", "MOST_MERGED"])
def test_each_bound_holds(monkeypatch, bound):
    """Of a, b, ab: 4 letters, 1 merge, 2 letters of merges."""
    ranks = {"a": 0, "b": 1, "ab": 2}
    exact = {"MOST_LETTERS": 4, "MOST_MERGES": 1, "MOST_MERGED": 2}[bound]
    monkeypatch.setattr(f"archcalc_reference.unpacking.parting.{bound}", exact)
    assert merges_of(ranks, ranks, {one: one for one in ranks}) == [("a", "b")]
    monkeypatch.setattr(f"archcalc_reference.unpacking.parting.{bound}", exact - 1)
    with pytest.raises(Invalid, match=r"^F: K: has tokens "):
        merges_of(ranks, ranks, {one: one for one in ranks}, at=("F", "K"))


def test_a_tokenizer_that_is_too_large_is_of_the_file_that_is_there(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("archcalc_reference.files", fromlist=["LARGEST"]).LARGEST, "tokenizer.json", 100)
    path = keys(tmp_path / "m.gguf")
    with pytest.raises(Invalid) as found:
        read_tokenizer(path)
    assert str(found.value).startswith(f"{path}: is larger than 100 bytes")


@pytest.mark.parametrize("name", ["add_bos_token", "add_eos_token", "add_space_prefix"])
@pytest.mark.parametrize("value", [1, "true"])
def test_what_is_true_or_false_is_of_no_other_type(tmp_path, name, value):
    """llama.cpp does not load such a file: the key has the wrong type."""
    path = keys(tmp_path / "m.gguf", **{name: value})
    with pytest.raises(Invalid, match=rf"tokenizer\.ggml\.{name}: must be of the type bool, true or false; got "):
        read_tokenizer(path)
    read_tokenizer(keys(tmp_path / "t.gguf", **{name: True}))


@pytest.mark.parametrize("kinds", [["1"] * len(SHORT), [99] * len(SHORT), [1.0] * len(SHORT), [0] * len(SHORT)])
def test_kinds_of_tokens_are_those_of_the_format(tmp_path, kinds):
    path = keys(tmp_path / "m.gguf", token_type=kinds)
    said = r"tokenizer\.ggml\.token_type: must be kinds of tokens, integers from 1 to 6; got "
    with pytest.raises(Invalid, match=said):
        read_tokenizer(path)


@pytest.mark.parametrize("name", ["bos_token", "eos_token"])
def test_a_token_that_is_added_and_not_named_is_refused(tmp_path, name):
    """llama.cpp adds 11 (src/llama-vocab.cpp: special_bos_id and special_eos_id of "gpt2"), here the letter f."""
    said = {"kind": "gpt2", "pre": "gpt-2", "merges": ["a b"], "scores": None}
    path = keys(tmp_path / "m.gguf", **said, **{f"add_{name}": True})
    with pytest.raises(Invalid) as found:
        read_tokenizer(path)
    what = f"is missing, although add_{name} has one added to each text; llama.cpp would add 11, 'f'"
    assert str(found.value).startswith(f"{path}: tokenizer.ggml.{name}_id: {what}; name the token's id here, or set")
    read_tokenizer(keys(tmp_path / "f.gguf", **said, **{f"add_{name}": False}))
    named = read_tokenizer(keys(tmp_path / "n.gguf", **said, **{f"add_{name}": True, f"{name}_id": 1}))
    assert (1,) in named.around


RIGHT = "a line is as in: IHRoZQ== 262"


@pytest.mark.parametrize("name", ["m.tiktoken", "tokenizer.model"])
@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"\xef\xbb\xbfYQ== 0\n", ":1:1: begins with a byte order mark; write it without"),
        (b"YQ== -1\n", ":1:1: is not a token of 1 to 256 bytes in base64 and its rank, from 0 to 1,048,575; got"),
        (b"\nYQ== 0\nYg==\n", ":3:1: is not a token of 1 to 256 bytes in base64 and its rank"),
    ],
)
def test_a_damaged_file_of_ranks_is_told_as_one(tmp_path, name, data, said):
    path = tmp_path / name
    path.write_bytes(data)
    answer = ask("tokens", "x", "--tokenizer", str(path))
    assert (answer.code, answer.err.count("\n")) == (2, 1)
    assert answer.err.startswith(f"{path}{said}")


def test_blanks_of_any_kind_part_a_token_and_its_rank_as_in_tiktoken(tmp_path):
    """tiktoken takes `line.split()` (tiktoken/load.py)."""
    path = tmp_path / "m.tiktoken"
    path.write_bytes(b"YQ==\t0\r\nYg==  1\n")
    assert named_tokenizer(str(path)).encode("ab") == [0, 1]


def test_a_file_without_a_token_and_one_of_no_model_are_told(tmp_path):
    pytest.importorskip("sentencepiece", reason="the extra `sentencepiece`")
    path = tmp_path / "m.tiktoken"
    for data in (b"", b"\n\n  \n"):
        path.write_bytes(data)
        assert ask("tokens", "x", "--tokenizer", str(path)).err == f"{path}: has no tokens; {RIGHT}\n"
    path = tmp_path / "m.model"
    for data, said in ((b"\0\1\2nothing", "is not a SentencePiece model"), (b"", "is empty")):
        path.write_bytes(data)
        assert ask("tokens", "x", "--tokenizer", str(path)).err == f"{path}: {said}\n"


@pytest.mark.parametrize("name", ["missing.tiktoken", "missing.model", "missing.gguf", "tokenizer.json"])
def test_a_file_that_is_not_there_is_not_called_a_directory(tmp_path, name):
    path = tmp_path / name
    answer = ask("tokens", "x", "--tokenizer", str(path))
    assert (answer.code, answer.err) == (3, f"{path}: no such file\n")


@pytest.mark.parametrize(
    ("asked", "right"),
    [
        ("tiny", "tiny@vocab_size=300"),
        ("tiny@vocab_size=64", "tiny@vocab_size=300"),
        ("tiny@d_ff=64,vocab_size=64", "tiny@d_ff=64,vocab_size=300"),
        ("tiny@d_ff=64", "tiny@d_ff=64,vocab_size=300"),
    ],
)
def test_rows_that_a_question_asks_for_are_suggested_in_it(tmp_path, asked, right):
    path = tmp_path / "m.tiktoken"
    ranks = [bytes([i]) for i in range(256)] + [b"#%d" % i for i in range(256, 300)]
    path.write_bytes(b"".join(base64.b64encode(one) + b" %d\n" % i for i, one in enumerate(ranks)))
    answer = ask("train", asked, "--tokenizer", str(path), "--steps", "1")
    assert (answer.code, answer.err.splitlines()[-1].endswith(f"; say {right}")) == (2, True), answer.err


def test_a_training_that_goes_on_with_another_tokenizer_names_both(tmp_path, monkeypatch):
    """And not its data, which are the same; the same tokenizer may be named again."""
    monkeypatch.chdir(tmp_path)
    paths = {}
    for name, more in (("a", b"th"), ("b", b"he")):
        ranks = [bytes([i]) for i in range(256)] + [more]
        paths[name] = tmp_path / f"{name}.tiktoken"
        paths[name].write_bytes(b"".join(base64.b64encode(one) + b" %d\n" % i for i, one in enumerate(ranks)))
    (tmp_path / "text.txt").write_text("the path there " * 200)
    flags = ("--batch", "1", "--seq", "8", "--data", str(tmp_path / "text.txt"), "--steps", "1")
    spec = "tiny@n_layers=1,vocab_size=257"
    done = ask("train", spec, *flags, "--tokenizer", "a.tiktoken", "--out", "run")
    assert done.code == 0, done.err
    for place in ("b.tiktoken", "bytes"):
        answer = ask("train", "--from", "run", "--steps", "2", "--tokenizer", place)
        what = f"--tokenizer: is not the tokenizer of the checkpoint, run/step-00000001/tokenizer.model; got '{place}'; leave it out"
        assert answer.code == 2
        assert answer.err.splitlines()[-1].startswith(what)
    assert ask("train", "--from", "run", "--steps", "2", "--tokenizer", "a.tiktoken").code == 0
