"""T5's tokenizer in a GGUF file: ids of llama.cpp and of SentencePiece, on a vocabulary that SentencePiece trained."""

import io

import pytest
from command import ask
from ggufmodels import LLAMA, made_of
from ggufs import converted
from smollm2 import cut_by_llama_cpp, needs_llama_cpp

sentencepiece = pytest.importorskip("sentencepiece", reason="the extra `sentencepiece`")
pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("tokenizers")
pytest.importorskip("gguf")

from archcalc_reference.text.tokenizer import named_tokenizer  # noqa: E402

V = 320
CORPUS = [
    "The cat sat on the mat, and the dog sat by the cat.",
    "A naive cafe in 2024 costs 1234567 yen; the rest is 3.14159.",
    "unbelievable, unlikely, walking, talking, walked, talked",
    "banana bandana cabana nab aban abab baba abba, then the other mother bathed them; here, there, where",
] * 25
TEXTS = [
    "The cat sat on the mat.",
    "THE cat's cafe\u0301, unwalked",
    "\u732b\u306f \u30de\u30c3\u30c8 and the cat",
    "  two  blanks,   three   ",
    "a\r\nb\n\n\tc\u3000d",
    "\ufb01ne \uff21 \u00bd",
    "12345 1 22",
    "the</s>cat",
    "\U0001f999\U0001f999 walked",
    "a",
]


@pytest.fixture(scope="module")
def trained():
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS),
        model_writer=written,
        vocab_size=V,
        model_type="unigram",
        hard_vocab_limit=False,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )
    return written.getvalue()


def fields(data):
    """The length-delimited fields of a protobuf message, by their numbers: the last of each."""
    at, found = 0, {}

    def number():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(data):
        key = number()
        if key & 7 == 2:
            size = number()
            found[key >> 3] = data[at : at + size]
            at += size
        elif key & 7 == 0:
            number()
        else:
            at += {1: 8, 5: 4}[key & 7]
    return found


def keys_of(proto, **more):
    """What llama.cpp's converter writes of T5's tokenizer."""
    model = sentencepiece.SentencePieceProcessor(model_proto=proto)
    count = model.get_piece_size()
    kinds = [2 if model.is_unknown(i) else 3 if model.is_control(i) else 1 for i in range(count)]
    said = {
        "model": "t5",
        "pre": "default",
        "tokens": [model.id_to_piece(i) for i in range(count)],
        "scores": [model.get_score(i) for i in range(count)],
        "token_type": kinds,
        "add_space_prefix": True,
        "remove_extra_whitespaces": True,
        "precompiled_charsmap": fields(fields(proto)[3])[2],
        **more,
    }
    return {f"tokenizer.ggml.{key}": value for key, value in said.items()}


def stored(tmp_path, proto, **more):
    """A model of that vocabulary, whose file a llama.cpp reads too."""
    said = keys_of(proto, **more)
    model = made_of({"model_type": "llama", **LLAMA, "vocab_size": len(said["tokenizer.ggml.tokens"])})
    return converted(model, tmp_path / "m.gguf", "llama", texts={k: v for k, v in said.items() if v is not None})


SETTINGS = [
    {},
    {"remove_extra_whitespaces": False},
    {"precompiled_charsmap": None},
    {"add_space_prefix": False},
    {"add_space_prefix": False, "remove_extra_whitespaces": False},
    {"add_eos_token": False},
]


@pytest.mark.parametrize("more", SETTINGS, ids=lambda more: ",".join(more) or "T5's own")
def test_ids_are_those_of_llama_cpp(more, tmp_path, trained):
    needs_llama_cpp()
    path = stored(tmp_path, trained, **more)
    tokenizer = named_tokenizer(str(path))
    # The package `tokenizers` looks CR LF up as one character: of two blanks, where both stay, it makes one.
    texts = [text for text in TEXTS if "remove_extra_whitespaces" not in more or "\r\n" not in text]
    theirs = cut_by_llama_cpp(path, texts)
    for text, ids in zip(texts, theirs, strict=True):
        around = tokenizer.around
        assert [*around.before, *tokenizer.cut(text)[0], *around.after] == ids, text


def test_ids_are_those_of_sentencepiece(tmp_path, trained):
    """Where a text has no special tokens, which SentencePiece does not see in one."""
    tokenizer = named_tokenizer(str(stored(tmp_path, trained)))
    model = sentencepiece.SentencePieceProcessor(model_proto=trained)
    for text in TEXTS:
        if "</s>" not in text:
            assert tokenizer.cut(text)[0] == model.encode(text), text
    assert tokenizer.decode(tokenizer.encode("The cat sat")) == "The cat sat"


def test_the_command_names_what_it_cannot_read(tmp_path, trained):
    good = stored(tmp_path, trained)
    assert ask("tokens", "The cat", "--tokenizer", str(good)).code == 0
    count = len(keys_of(trained)["tokenizer.ggml.tokens"])
    for more, said in (
        ({"scores": [0.0]}, f"scores: must have one value for each of {count:,} tokens"),
        ({"scores": ["x"] * count}, "scores: must be an array of finite numbers"),
        ({"scores": [float("nan")] * count}, "scores: must be an array of finite numbers"),
        ({"precompiled_charsmap": ["a"]}, "precompiled_charsmap: must be an array of bytes"),
        ({"precompiled_charsmap": b"\x07"}, "normalizer.precompiled_charsmap: is not a table of SentencePiece"),
        ({"model": "rwkv"}, "model: RWKV's tokenizers are not supported yet; got 'rwkv'; supported: gpt2, llama, "),
    ):
        answer = ask("tokens", "x", "--tokenizer", str(stored(tmp_path, trained, **more)))
        assert answer.code == 2
        assert said in answer.err
