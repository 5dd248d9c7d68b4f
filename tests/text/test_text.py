"""Tokenizers: what goes in comes out, byte by byte; expectations from `tokenizers` and transformers."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from outside import byte_level

from archcalc import Invalid, Missing
from archcalc.packages import install_command
from archcalc_reference.text.tokenizer import ByteTokenizer, byte_alphabet, read_tokenizer

tokenizers = pytest.importorskip("tokenizers", reason="the extra `run`")

CORPUS = [
    "the cat sat on the mat, and the dog sat by the cat",
    "naïve café 你好 世界",
    "a  b\n\n\tc's don't we'll",
] * 20
SAMPLE = "the cat's café: 你好 🦙\u200d\n\t <|endoftext|> done "


def trained():
    return byte_level(CORPUS, 300, "<|endoftext|>")


@pytest.fixture(scope="module")
def fast():
    return trained()


@pytest.fixture(scope="module")
def whole(fast, tmp_path_factory):
    """A folder with a tokenizer.json."""
    folder = tmp_path_factory.mktemp("whole")
    fast.save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture(scope="module")
def halves(fast, tmp_path_factory):
    """A folder with GPT-2's vocab.json and merges.txt."""
    folder = tmp_path_factory.mktemp("halves")
    fast.model.save(str(folder))
    return folder


@pytest.fixture(scope="module")
def every(whole, halves):
    return [ByteTokenizer(), read_tokenizer(str(whole)), read_tokenizer(str(halves))]


def test_without_files_each_byte_is_a_token(tmp_path):
    for tokenizer in (read_tokenizer(None), read_tokenizer(str(tmp_path))):
        assert (tokenizer.name, tokenizer.vocab_size) == ("bytes", 256)
        assert tokenizer.encode("é!") == [0xC3, 0xA9, 0x21]
        assert tokenizer.decode([0xC3, 0xA9, 0x21]) == "é!"


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_comes_back_and_its_tokens_are_its_bytes(every, text):
    for tokenizer in every:
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == text
        assert b"".join(map(tokenizer.token_bytes, ids)) == text.encode()
        assert all(0 <= token < tokenizer.vocab_size for token in ids)


def test_the_ids_are_those_of_tokenizers_and_of_transformers(fast, halves, every):
    transformers = pytest.importorskip("transformers", reason="the outside voice")
    expected = fast.encode(SAMPLE).ids
    assert len(expected) < len(SAMPLE.encode()), "tokens that are all bytes prove nothing"
    assert 0 in expected, "and the end of a text is one token"
    theirs = transformers.GPT2TokenizerFast(vocab=str(halves / "vocab.json"), merges=str(halves / "merges.txt"))
    assert theirs(SAMPLE)["input_ids"] == expected
    for tokenizer in every[1:]:
        assert tokenizer.encode(SAMPLE) == expected
        assert tokenizer.vocab_size == fast.get_vocab_size()
        assert tokenizer.token_bytes(0) == b"<|endoftext|>"


def test_the_alphabet_is_that_of_the_package():
    assert set(byte_alphabet()) == set(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    assert sorted(byte_alphabet().values()) == list(range(256))


def test_half_a_character_and_an_id_that_is_no_token_are_replaced(every):
    for tokenizer in every:
        half = tokenizer.encode("🦙")[:-1]
        assert tokenizer.decode(half) == "\ufffd"
        for token in (tokenizer.vocab_size, 10**9, -1):
            assert tokenizer.token_bytes(token) == "\ufffd".encode()


def test_added_tokens_are_written_as_they_are(whole, tmp_path):
    fast = tokenizers.Tokenizer.from_file(str(whole / "tokenizer.json"))
    fast.add_tokens(["é é"])
    fast.save(str(tmp_path / "tokenizer.json"))
    tokenizer = read_tokenizer(str(tmp_path))
    assert tokenizer.encode("é é") == [fast.get_vocab_size() - 1]
    assert tokenizer.token_bytes(fast.get_vocab_size() - 1) == "é é".encode()


def test_what_a_training_set_to_cut_or_pad_is_left(whole, tmp_path):
    fast = tokenizers.Tokenizer.from_file(str(whole / "tokenizer.json"))
    fast.enable_truncation(2)
    fast.enable_padding(length=50)
    fast.save(str(tmp_path / "tokenizer.json"))
    assert read_tokenizer(str(tmp_path)).encode(SAMPLE) == read_tokenizer(str(whole)).encode(SAMPLE)


def test_a_text_without_utf8_is_refused(every):
    for tokenizer in every:
        with pytest.raises(Invalid, match=r"^text: cannot be encoded as UTF-8; got '\\ud800'$"):
            tokenizer.encode("a\ud800")


def test_a_byte_that_has_no_token_is_refused_and_not_dropped(halves, tmp_path):
    vocab = json.loads((halves / "vocab.json").read_text())
    del vocab["~"]
    (tmp_path / "vocab.json").write_text(json.dumps(vocab))
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = read_tokenizer(str(tmp_path))
    assert tokenizer.decode(tokenizer.encode("cat")) == "cat"
    with pytest.raises(Invalid, match=r"has no token for a byte of the text; got 0x7e$"):
        tokenizer.encode("a~b")


DAMAGE = {
    "truncated": ("tokenizer.json", lambda text: text[: len(text) // 2], "tokenizer.json:", "is not JSON"),
    "empty": ("tokenizer.json", lambda _: "", "tokenizer.json: is empty", ""),
    "a list": ("tokenizer.json", lambda _: "[]", "tokenizer.json: is not a JSON object; got list", ""),
    "nested without end": ("tokenizer.json", lambda _: '{"a":' + "[" * 200_000, "tokenizer.json:", "JSON"),
    "no decoder": (
        "tokenizer.json",
        lambda _: "{}",
        "tokenizer.json: is not a tokenizer: it has no model",
        "",
    ),
    "another kind": (
        "tokenizer.json",
        lambda text: json.dumps({**json.loads(text), "decoder": {"type": "CTC"}}),
        "tokenizer.json: decoder: CTC is not supported yet; supported: BPEDecoder, ByteFallback, ByteLevel, Fuse,",
        "",
    ),
    "no model": (
        "tokenizer.json",
        lambda _: '{"decoder": {"type": "ByteLevel"}}',
        "tokenizer.json: is not a tokenizer: it has no model",
        "",
    ),
    "vocab truncated": ("vocab.json", lambda text: text[:100], "vocab.json:1:", "is not JSON"),
    "an id that is none": ("vocab.json", lambda _: '{"a": -1}', "vocab.json: 'a': is not a token id; got -1", ""),
    "merge that is none": (
        "merges.txt",
        lambda _: "#version: 0.2\na b\nabc",
        "merges.txt:3:1: is not a merge",
        "got 'abc'",
    ),
    "merge of no tokens": ("merges.txt", lambda _: "zz zzz", "merges.txt: is not a valid tokenizer: ", "zz"),
}


@pytest.mark.parametrize(("file", "damage", "start", "within"), DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_file_is_one_clear_line(whole, halves, tmp_path, file, damage, start, within):
    source = whole if file == "tokenizer.json" else halves
    for path in source.iterdir():
        (tmp_path / path.name).write_text(path.read_text())
    (tmp_path / file).write_text(damage((tmp_path / file).read_text()))
    with pytest.raises(Invalid) as error:
        read_tokenizer(str(tmp_path))
    line = str(error.value)
    assert line.startswith(f"{tmp_path}/{start}")
    assert within in line
    assert "\n" not in line


def test_a_file_that_is_no_text_is_told(tmp_path):
    (tmp_path / "tokenizer.json").write_bytes(b"\xff\xfe")
    with pytest.raises(Invalid, match="is not UTF-8; got byte 0xff"):
        read_tokenizer(str(tmp_path))


def test_what_is_not_there_is_missing(halves, tmp_path):
    (tmp_path / "vocab.json").write_text("{}")
    for folder, line in (
        (tmp_path, f"{tmp_path}/merges.txt: no such file"),
        (tmp_path / "no", f"{tmp_path}/no: no such directory"),
    ):
        with pytest.raises(Missing) as error:
            read_tokenizer(str(folder))
        assert str(error.value) == line
    with pytest.raises(Invalid, match="is not a directory; give the directory that it is in"):
        read_tokenizer(str(halves / "vocab.json"))


def test_without_the_package_the_extra_is_named(whole, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "tokenizers", None)
    with pytest.raises(
        Missing, match="^" + re.escape(f"tokenizer: needs the package tokenizers; {install_command('run')}") + "$"
    ):
        read_tokenizer(str(whole))
