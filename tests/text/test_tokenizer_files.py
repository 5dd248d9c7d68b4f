"""A tokenizer's file is not trusted: what is not known is refused by name, and no text is changed in silence."""

import base64
import json
import os
import time

import pytest
from command import ask
from hypothesis import given, settings
from hypothesis import strategies as st
from outside import byte_level

from archcalc import Invalid
from archcalc_reference.text import bpe
from archcalc_reference.text.special import MOST_IDS
from archcalc_reference.text.tokenizer import read_tokenizer

tokenizers = pytest.importorskip("tokenizers", reason="the extra `run`")

TEXTS = ["the cat sat on the mat", "The Cat's café 3 1234", "a  b\n\n\tc"] * 9
BYTES = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)


@pytest.fixture(scope="module")
def plain():
    """The JSON of a byte-level tokenizer."""
    return json.loads(byte_level(TEXTS, 300, "<|end|>").to_str())


def folder_of(path, data):
    (path / "tokenizer.json").write_text(data if isinstance(data, str) else json.dumps(data))
    return str(path)


def split(pattern, behavior="Isolated"):
    step = {"type": "Split", "pattern": pattern, "behavior": behavior, "invert": False}
    byte = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    return {"type": "Sequence", "pretokenizers": [step, byte]}


def replace(pattern, content):
    return {"normalizer": {"type": "Replace", "pattern": pattern, "content": content}}


def nested(depth, kind="Sequence", inner="normalizers"):
    slot = {"type": "NFC"}
    for _ in range(depth):
        slot = {"type": kind, inner: [slot]}
    return slot


def model(**fields):
    return lambda data: {"model": {**data["model"], **fields}}


# What a file may try. Each is one line, soon, and in little memory; nothing is written to standard error by the library.
HOSTILE = {
    "WordPiece without its unknown token": (model(type="WordPiece"), "is not a valid tokenizer: WordPiece error"),
    "WordPiece of endless words": (
        model(type="WordPiece", unk_token="a", max_input_chars_per_word=10**9),
        "model.max_input_chars_per_word: must be from 1 to 1,000; got 1000000000",
    ),
    "a prefix that is none": (
        model(type="WordPiece", continuing_subword_prefix=7),
        "model.continuing_subword_prefix: must be a text of at most 4,096 characters; got 7",
    ),
    "Unigram of ids": (model(type="Unigram"), "model.vocab: must be a list of tokens with their scores; got dict"),
    "Unigram of nothing": (model(type="Unigram", vocab=[]), "model.vocab: must have 1 to 1,048,576 tokens; got 0"),
    "Unigram without scores": (model(type="Unigram", vocab=["a"]), "model.vocab.0: must be a token and its score; got 'a'"),
    "a score that is no number": (
        model(type="Unigram", vocab=[["a", float("nan")]]), "model.vocab.0: must be a token and its score; got ['a', nan]"
    ),
    "an unknown token that is none": (
        model(type="Unigram", vocab=[["a", 0.0]], unk_id=1), "model.unk_id: must be the id of one of 1 tokens; got 1"
    ),
    "Unigram that lacks a letter": (model(type="Unigram", vocab=[["<|end|>", 0.0]], unk_id=None), "is not a valid tokenizer: "),
    "a fallback that is none": (
        model(type="Unigram", vocab=[["a", 0.0]], byte_fallback=3), "model.byte_fallback: must be true or false; got 3"
    ),
    "a kind that nobody knows": (model(type={"a": 1}), "model.type: {'a': 1} tokenizers are not supported yet"),
    "an id of 2^31": (model(vocab={"a": 2**31}), "'a': is not a token id; got 2147483648"),
    "an id that is true": (model(vocab={"a": True}), "'a': is not a token id; got True"),
    "an id of 0.5": (model(vocab={"a": 0.5}), "'a': is not a token id; got 0.5"),
    "two tokens of one id": (model(vocab={"a": 1, "b": 1}), "'b': has the id 1 of 'a'"),
    "no tokens": (model(vocab={}), "has no tokens"),
    "a suffix that is none": (model(end_of_word_suffix=["</w>"]), "model.end_of_word_suffix: must be a text of at most"),
    "merges that are none": (model(merges=[["zz", "yy"]]), "is not a valid tokenizer: "),
    "merges of another kind": (model(merges=7), "is not a valid tokenizer: "),
    "a precompiled table": (
        {"normalizer": {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(b"\xff" * 99).decode()}},
        "normalizer.precompiled_charsmap: is not a table of SentencePiece",
    ),
    "a table that is no base64": (
        {"normalizer": {"type": "Precompiled", "precompiled_charsmap": "???"}}, "precompiled_charsmap: is not base64; got '???'"
    ),
    "a table of nothing": ({"normalizer": {"type": "Precompiled"}}, "precompiled_charsmap: must be a text of at most"),
    "a table that puts in a book": (
        {"normalizer": {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(b"\4\0\0\0" + b"\0" * 4 + b"x" * 10**5 + b"\0").decode()}},
        "normalizer: can make a text more than 64 times as long",
    ),
    "a table that leads nowhere": (
        {"normalizer": {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(b"\4\0\0\0" + b"\xff" * 4 + b"x\0").decode()}},
        "is not a valid tokenizer: ",
    ),
    "a normalizer that nobody knows": ({"normalizer": {"type": "Other"}}, "normalizer: Other is not supported yet"),
    "a megabyte for nothing": (replace({"String": ""}, "x" * 2**20), "normalizer.content: must be a text of at most 64"),
    "something for nothing": (replace({"String": ""}, "xy"), "normalizer.pattern: must be a String or a Regex of 1 to"),
    "a chain of replacements": (
        {"normalizer": {"type": "Sequence", "normalizers": [replace({"String": "a"}, "a" * 60)["normalizer"]] * 9}},
        "normalizer: can make a text more than 64 times as long",
    ),
    "a long beginning": ({"normalizer": {"type": "Prepend", "prepend": "x" * 10**6}}, "normalizer.prepend: must be a text"),
    "sequences in sequences": ({"normalizer": nested(50)}, "normalizer: is nested deeper than 4 sequences"),
    "sequences without end": (lambda _: '{"normalizer":' + '{"normalizers":[' * 20_000, "nested too deep"),
    "very many steps": (
        {"normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"}] * 10_000}},
        "normalizer: has more than 16 steps",
    ),
    "a step without a type": ({"normalizer": {"normalizers": []}}, "normalizer: must be an object with a type"),
    "a pattern that never ends": ({"pre_tokenizer": split({"Regex": "(a+)+$"})}, "its pattern "),
    "a pattern that takes squares": ({"pre_tokenizer": split({"Regex": r"\w+\d"})}, "its pattern "),
    "a pattern that is none": ({"pre_tokenizer": split({"Regex": "("})}, "its pattern "),
    "a pattern as long as a book": ({"pre_tokenizer": split({"Regex": "a|" * 10**5 + "b"})}, "pattern: must be a String or a Regex of"),
    "a pattern of both kinds": ({"pre_tokenizer": split({"Regex": "a", "String": "b"})}, "pattern: must be a String"),
    "a repetition of repetitions": ({"pre_tokenizer": split({"Regex": "((a{9999}){9999}){9999}"})}, "its pattern "),
    "a pre-tokenizer that nobody knows": (
        {"pre_tokenizer": {"type": "Other"}},
        "pre_tokenizer: Other is not supported yet",
    ),
    "an added token of nothing": ({"added_tokens": [{"id": 0, "content": ""}]}, "added_tokens.0: must be a token of 1 to"),
    "a huge added token": ({"added_tokens": [{"id": 0, "content": "x" * 10**6}]}, "added_tokens.0: must be a token of 1 to"),
    "an added token elsewhere": (
        {"added_tokens": [{"id": 3_000, "content": "<far>", "special": True}]},
        "'<far>' has the id ",
    ),
    "added tokens that are no list": ({"added_tokens": {"a": 1}}, "added_tokens: must be a list of at most"),
    "200,000 added tokens": ({"added_tokens": [{}] * 200_000}, "added_tokens: must be a list of at most 100,000 tokens"),
    "a decoder that does more": (
        {"decoder": {"type": "Sequence", "decoders": [{"type": "ByteLevel"}, {"type": "Strip"}]}},
        "decoder: Strip beside ByteLevel is not supported yet",
    ),
    "a decoder of SentencePiece": (
        {"decoder": {"type": "Metaspace"}},
        "decoder: Metaspace beside ByteLevel is not supported yet",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_tokenizer_is_one_line_and_soon(name, plain, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(bpe, "SECONDS", 0.5)
    change, line = HOSTILE[name]
    change = change(plain) if callable(change) else change
    folder = folder_of(tmp_path, change if isinstance(change, str) else {**plain, **change})
    since = time.perf_counter()
    answer = ask("tokens", "a" * 30_000 + "!", "--weights", folder)
    assert answer.code == 2, answer
    assert answer.err.startswith(f"{folder}/tokenizer.json")
    assert line in answer.err
    assert answer.err.count("\n") == 1
    assert len(answer.err) < 600
    assert time.perf_counter() - since < 20  # by the clock of a busy machine
    assert capfd.readouterr().err == ""


def test_what_the_library_cannot_do_is_no_traceback(plain, tmp_path, capfd):
    """A panic of Rust's is a BaseException, around loading and around every call; an interruption is none of them."""
    tokenizer = read_tokenizer(folder_of(tmp_path, plain))
    panic = type("PanicException", (BaseException,), {})

    def raises(error):
        def call(*_args, **_kwargs):
            os.write(2, b"thread panicked, and its stack is long\n")
            raise error

        return call

    with pytest.raises(Invalid, match=r"tokenizer.json: is not a valid tokenizer: index out of bounds$"):
        bpe.guarded(tokenizer.name, raises(panic("index out of bounds")))
    with pytest.raises(KeyboardInterrupt):
        bpe.guarded(tokenizer.name, raises(KeyboardInterrupt()))
    assert capfd.readouterr().err == ""
    os.write(2, b"it is there again\n")
    assert capfd.readouterr().err == "it is there again\n"


def test_a_real_panic_is_one_line(plain, tmp_path, capfd, monkeypatch):
    """`Replace` of nothing makes tokenizers 0.23 panic; it is let through here to see that."""
    from archcalc_reference.text import tokenfile

    monkeypatch.setattr(tokenfile, "_shortest", lambda *_: 1)
    folder = folder_of(tmp_path, {**plain, **replace({"String": ""}, "xy")})
    answer = ask("tokens", "abc", "--weights", folder)
    assert answer.code == 2
    assert answer.err.startswith(f"{folder}/tokenizer.json: is not a valid tokenizer: ")
    assert capfd.readouterr().err == ""


@given(st.data())
@settings(max_examples=60)
def test_a_tokenizer_with_anything_in_it_is_an_answer_or_one_line(plain, tmp_path_factory, data):
    """Any value in any place: Invalid, or tokens."""
    places = [(key,) for key in plain] + [("model", key) for key in plain["model"]]
    places += [("pre_tokenizer", key) for key in plain["pre_tokenizer"]] + [
        ("added_tokens", 0, k) for k in plain["added_tokens"][0]
    ]
    values = [
        None,
        True,
        -1,
        2**40,
        0.5,
        float("inf"),
        "",
        "ByteLevel",
        "\ud800",
        [],
        {},
        [[]],
        {"type": "Sequence"},
        {"a": 0},
    ]
    changed = json.loads(json.dumps(plain))
    *way, last = data.draw(st.sampled_from(places))
    slot = changed
    for key in way:
        slot = slot[key]
    slot[last] = data.draw(st.sampled_from(values))
    folder = folder_of(tmp_path_factory.mktemp("any"), changed)
    try:
        read_tokenizer(folder).cut("The cat's café\n")
    except Invalid as error:
        assert "\n" not in str(error)


# What a tokenizer changes

n, p = tokenizers.normalizers, tokenizers.pre_tokenizers
KINDS = {
    "GPT-2's": (None, BYTES),
    "with a first blank": (None, p.ByteLevel(add_prefix_space=True)),
    "without words": (None, p.ByteLevel(add_prefix_space=False, use_regex=False)),
    "digits apart": (None, p.Sequence([p.Digits(individual_digits=True), BYTES])),
    "NFC": (n.NFC(), BYTES),
    "NFD": (n.NFD(), BYTES),
    "NFKC": (n.NFKC(), BYTES),
    "lower case": (n.Lowercase(), BYTES),
    "stripped": (n.Strip(), BYTES),
    "without accents": (n.Sequence([n.NFD(), n.StripAccents()]), BYTES),
    "with a beginning": (n.Prepend("_"), BYTES),
    "with another letter": (n.Replace("a", "bb"), BYTES),
    "no byte-level step": (None, p.Punctuation()),
    "blanks dropped": (None, p.Sequence([p.Whitespace(), BYTES])),
    "blanks dropped alone": (None, p.WhitespaceSplit()),
    "a blank for a mark": (None, p.Metaspace()),
    "a pattern that drops": (None, p.Sequence([p.Split("a", "removed"), BYTES])),
    "bytes in the normalizer": (n.ByteLevel(), None),
    "a pattern of its own": (None, p.Sequence([p.Split(tokenizers.Regex(r"\w+|\W"), "isolated"), p.ByteLevel(add_prefix_space=False, use_regex=False)])),
}  # fmt: skip
FAITHFUL = {"GPT-2's", "without words", "digits apart", "bytes in the normalizer", "a pattern of its own"}


@pytest.fixture(scope="module")
def kinds(tmp_path_factory):
    found = {}
    for name, (normalizer, parts) in KINDS.items():
        fast = byte_level(TEXTS, 300, "<|end|>")
        if normalizer is not None:
            fast.normalizer = normalizer
        data = json.loads(fast.to_str())
        data["pre_tokenizer"] = None
        if parts is not None:
            fast.pre_tokenizer = parts
            data["pre_tokenizer"] = json.loads(fast.to_str())["pre_tokenizer"]
        found[name] = read_tokenizer(folder_of(tmp_path_factory.mktemp("kind"), data))
    return found


LETTERS = st.text(st.sampled_from("aAbcé e\u0301ﬁ ½\n\t 3你.'_"), max_size=12)


@pytest.mark.parametrize("name", KINDS)
@given(text=LETTERS)
@settings(max_examples=30)
def test_tokens_stand_for_the_text_or_the_difference_is_told(kinds, name, text):
    import unicodedata

    tokenizer = kinds[name]
    ids, change = tokenizer.cut(text)
    said = b"".join(map(tokenizer.token_bytes, ids))
    if name in FAITHFUL:
        assert change is None
    if change is None:
        assert said == text.encode()
        assert tokenizer.encode(text) == ids
        return
    assert said != text.encode()
    assert change.what
    if change.loses:
        with pytest.raises(Invalid, match="its tokens have "):
            tokenizer.encode(text)
    else:  # a first blank, or another normal form of the same characters
        assert tokenizer.encode(text) == ids
        told = unicodedata.normalize("NFC", said.decode())
        assert told.removeprefix(" ") == unicodedata.normalize("NFC", text).removeprefix(" ")


LOSES = {
    "lower case": ("The Cat", "its tokens have 'the cat' where the text has 'The Cat'"),
    "NFKC": ("a ﬁ", "its tokens have 'a fi' where the text has 'a ﬁ'"),
    "stripped": (" a ", "its tokens have 'a' where the text has ' a '"),
    "blanks dropped": ("a b", "its tokens have 'ab' where the text has 'a b'"),
    "with a beginning": ("a", "its tokens have '_a' where the text has 'a'"),
}  # fmt: skip


@pytest.mark.parametrize("name", LOSES)
def test_tokens_shows_the_difference_and_what_runs_a_model_refuses_it(kinds, name):
    text, line = LOSES[name]
    folder = os.path.dirname(kinds[name].name)
    answer = ask("tokens", text, "--weights", folder)
    assert answer.code == 0
    assert " ".join(line.split()) in " ".join(answer.out.split())
    assert ask("tokens", text, "--weights", folder, "-f", "json").json["tokenizer"]["differs"] == line
    with pytest.raises(Invalid, match=r"tokenizer\.json: its tokens have "):
        kinds[name].encode(text)


def test_a_first_blank_and_a_normal_form_are_told_and_lose_nothing(kinds):
    for name, line in (
        ("with a first blank", "a space is added before the text"),
        ("NFD", "the text is changed to another Unicode normal form"),
    ):
        answer = ask("tokens", "é", "--weights", os.path.dirname(kinds[name].name), "-f", "json")
        assert answer.json["tokenizer"]["differs"] == line
        assert answer.err.count("\n") == 1
        kinds[name].encode("é")


def test_settings_of_training_are_off(plain, tmp_path):
    """Dropout cuts a text anew each time, truncation and padding cut it short or fill it up."""
    fast = tokenizers.Tokenizer.from_str(json.dumps(plain))
    expected = fast.encode("the cat sat on the mat").ids
    fast.enable_truncation(2)
    fast.enable_padding(length=50)
    data = json.loads(fast.to_str())
    data["model"]["dropout"] = 0.9
    tokenizer = read_tokenizer(folder_of(tmp_path, data))
    assert all(tokenizer.encode("the cat sat on the mat") == expected for _ in range(5))


def test_what_a_vocabulary_may_have_is_bounded(tmp_path):
    (tmp_path / "vocab.json").write_text(json.dumps({"a": MOST_IDS}))
    (tmp_path / "merges.txt").write_text("")
    with pytest.raises(Invalid, match=r"'a': is not a token id; got 1048576; ids are from 0 to 1,048,575$"):
        read_tokenizer(str(tmp_path))


BOUNDS = {
    "tokenizer.json": 64 * 2**20,
    "vocab.json": 64 * 2**20,
    "tokenizer_config.json": 4 * 2**20,
    "special_tokens_map.json": 4 * 2**20,
    "added_tokens.json": 4 * 2**20,
}


@pytest.mark.parametrize("name", BOUNDS)
def test_a_file_that_is_too_large_is_one_line(name, plain, tmp_path):
    if name != "vocab.json":
        folder_of(tmp_path, plain)
    with open(tmp_path / name, "wb") as file:
        file.truncate(BOUNDS[name] + 1)
    (tmp_path / "merges.txt").write_text("")
    with pytest.raises(Invalid, match=f"{name}: is larger than {BOUNDS[name]:,} bytes$"):
        read_tokenizer(str(tmp_path))


def test_a_file_of_very_many_small_values_is_not_parsed(tmp_path):
    """Five million empty lists are 15 MB of text and 400 MB in memory."""
    (tmp_path / "tokenizer.json").write_text('{"a": [' + "[]," * 2_500_000 + "[]]}")
    with pytest.raises(Invalid, match=r"tokenizer\.json: has more than 4,000,000 values$"):
        read_tokenizer(str(tmp_path))


def test_a_pipe_in_place_of_a_file_is_one_line(tmp_path):
    if not hasattr(os, "mkfifo"):
        pytest.skip("pipes of Unix")
    os.mkfifo(tmp_path / "tokenizer.json")
    with pytest.raises(Invalid, match=r"tokenizer\.json: is a pipe, not a file; save its content to a file first$"):
        read_tokenizer(str(tmp_path))


def test_half_a_character_is_no_special_token(tmp_path):
    (tmp_path / "vocab.json").write_text(json.dumps({chr(256 + i) if i < 33 else chr(i): i for i in range(256)}))
    (tmp_path / "merges.txt").write_text("")
    (tmp_path / "tokenizer_config.json").write_text('{"eos_token": "\\ud800"}')
    done = ask("tokens", "x", "--tokenizer", str(tmp_path))
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "tokenizer_config.json: eos_token: must be a token of 1 to 4,096 characters of Unicode" in done.err


def test_added_tokens_are_bounded_together_and_pieces_alone(tmp_path):
    path = tmp_path / "tokenizer.json"
    added = [{"id": 1 + i, "content": f"{i:04}" * 1_000} for i in range(300)]
    path.write_text(
        json.dumps({"model": {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"}, "added_tokens": added})
    )
    assert (
        ask("tokens", "a", "--tokenizer", str(path)).err
        == f"{path}: has more than 1,048,576 characters of added tokens; got 1,200,000\n"
    )
    for piece, line in (
        (["a" * 257, -1.0], "has more than 256 characters"),
        (["a", 10**400], "must be a token and its score"),
    ):
        path.write_text(json.dumps({"model": {"type": "Unigram", "unk_id": 0, "vocab": [piece]}}))
        done = ask("tokens", "a", "--tokenizer", str(path))
        assert (done.code, done.err.count("\n")) == (2, 1)
        assert done.err.startswith(f"{path}: model.vocab.0: {line}")
