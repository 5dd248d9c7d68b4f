"""Files of ranks (tiktoken's): ids of the package tiktoken, special tokens of a config alone, damaged lines."""

import base64
import json
import random

import pytest
from command import ask

tokenizers = pytest.importorskip("tokenizers", reason="the extra `run`")
pytest.importorskip("torch")

from outside import byte_level  # noqa: E402

from archcalc.errors import Invalid  # noqa: E402
from archcalc_reference.text.spelling import byte_alphabet  # noqa: E402
from archcalc_reference.text.tokenizer import named_tokenizer, read_tokenizer, tokenizer_files  # noqa: E402

CORPUS = [
    "The cat sat on the mat, and the dog sat by the cat; 12345 67 890.",
    "A na\u00efve caf\u00e9 costs 1234567 yen.\n\n  They'll say WE'RE walking, talked, aaa aaaa aaaaaaaa abababab",
    "\u732b\u306f \u30de\u30c3\u30c8 \u4f60\u597d\uff0c\u4e16\u754c\uff01\r\n\tx = f(x) // 2",
] * 20
TEXTS = [
    *CORPUS[:3],
    "",
    " ",
    "  two  blanks,   three   ",
    "\ufeffThe \U0001f431\u200d\u2b1b cat",
    "<|begin_of_text|>Hi",
    "aaaaaaaaaaaaa ababababa aabaab",
    "I'LL say 1234567890",
]
# Meta's for Llama 3 (github.com/meta-llama/llama3, llama/tokenizer.py).
PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)


def ranks():
    """Those of a vocabulary that the package tokenizers learned: a token's id is its rank, for ids follow merges."""
    alphabet = byte_alphabet()
    vocab = byte_level(CORPUS, 420).get_vocab()
    return {bytes(alphabet[one] for one in word): rank for word, rank in vocab.items()}


def written(path, found):
    lines = [
        f"{base64.b64encode(token).decode()} {rank}\n" for token, rank in sorted(found.items(), key=lambda x: x[1])
    ]
    path.write_text("".join(lines))
    return str(path)


@pytest.mark.parametrize("name", ["tokenizer.model", "own.tiktoken", "other.model"])
def test_ids_are_those_of_tiktoken(name, tmp_path):
    tiktoken = pytest.importorskip("tiktoken", reason="the outside voice")
    found = ranks()
    theirs = tiktoken.Encoding("own", pat_str=PATTERN, mergeable_ranks=found, special_tokens={})
    ours = named_tokenizer(written(tmp_path / name, found))
    drawn = random.Random(0)  # noqa: S311
    some = ["".join(drawn.choices("ab cats'12\n\u732b\u00e9", k=30)) for _ in range(300)]
    for text in (*TEXTS, *some):
        assert ours.encode(text) == theirs.encode_ordinary(text), text
        assert ours.decode(ours.encode(text)) == text
    assert all(ours.token_bytes(rank) == token for token, rank in found.items())


def test_words_of_the_vocabulary_stay_whole(tmp_path):
    """As in tiktoken, where no merges lead to one: of x, y and xyz alone the text xyz is one token."""
    found = {bytes([byte]): byte for byte in range(256)} | {b" xyz": 256}
    ours = named_tokenizer(written(tmp_path / "tokenizer.model", found))
    assert ours.encode(" xyz") == [256]
    assert ours.encode(" xyzw") == list(b" xyzw")


def test_ids_are_those_of_merges_that_a_trainer_made(tmp_path):
    """Without tiktoken: the words of a text are parted by one pattern, and the merges are the trainer's own."""
    trained = byte_level(CORPUS, 420)
    trained.pre_tokenizer = tokenizers.pre_tokenizers.Sequence(
        [
            tokenizers.pre_tokenizers.Split(tokenizers.Regex(PATTERN), "isolated"),
            tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    ours = named_tokenizer(written(tmp_path / "tokenizer.model", ranks()))
    for text in CORPUS[:3]:
        assert ours.encode(text) == trained.encode(text).ids


def test_special_tokens_are_those_that_a_config_says(tmp_path):
    """Meta's code adds some by itself; the file has none, and a folder's tokenizer_config.json names them."""
    found = ranks()
    path = written(tmp_path / "tokenizer.model", found)
    bare = read_tokenizer(str(tmp_path))
    assert len(bare.encode("<|begin_of_text|>")) > 1
    assert (bare.vocab_size, bare.around.before) == (len(found), ())
    first, last = len(found), len(found) + 1
    decoder = {str(first): {"content": "<|begin_of_text|>", "special": True}, str(last): {"content": "<|eot_id|>"}}
    settings = {"added_tokens_decoder": decoder, "bos_token": "<|begin_of_text|>", "add_bos_token": True}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    whole = read_tokenizer(str(tmp_path))
    assert whole.encode("<|begin_of_text|>Hi<|eot_id|>") == [first, *bare.encode("Hi"), last]
    assert whole.around.before == (first,)
    assert named_tokenizer(path).encode("<|eot_id|>") == [last]
    del decoder[str(first)]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    with pytest.raises(Invalid, match=r"has the id .* here and another one in tokenizer_config\.json"):
        read_tokenizer(str(tmp_path))


def test_published_files_are_known_by_how_many_ranks_they_have(tmp_path):
    """GPT-2 takes a blank to a number, Qwen parts its digits, and GPT-4o before a capital; of another file it is told."""
    bytes_ = {bytes([byte]): byte for byte in range(256)} | {b" 12": 256, b"12": 257, b"aB": 258}
    cuts = {}
    for count in (128_000, 50_256, 151_643, 199_998, 200_000):
        more = {b"#" + str(i).encode(): i for i in range(259, count)}
        ours = named_tokenizer(written(tmp_path / f"{count}.tiktoken", bytes_ | more))
        assert not ours.told
        cuts[count] = [len(ours.encode(text)) for text in (" 12", "12", "aB")]
    assert cuts == {
        128_000: [2, 1, 1],
        50_256: [1, 1, 1],
        151_643: [3, 2, 1],
        199_998: [2, 1, 2],
        200_000: [2, 1, 2],
    }
    ours = named_tokenizer(written(tmp_path / "few.tiktoken", bytes_))
    said = "parts a text into words as Llama 3 does: the file does not say how, and no known one has 259 ranks"
    assert ours.told == (said,)


def test_a_training_keeps_it_under_the_name_that_is_read(tmp_path):
    path = written(tmp_path / "own.tiktoken", ranks())
    assert list(tokenizer_files(path)) == ["tokenizer.model"]


def test_commands_take_one_and_name_what_is_wrong(tmp_path):
    good = written(tmp_path / "a.tiktoken", ranks())
    answer = ask("tokens", "The cat", "--tokenizer", good)
    assert answer.code == 0, answer.err
    assert "parts a text into words as Llama 3 does" in answer.err
    for line, said in (
        ("!!!! 1", "is not a token of 1 to 256 bytes in base64 and its rank, from 0 to 1,048,575; got '!!!! 1'"),
        ("YQ==", "is not a token of 1 to 256 bytes in base64 and its rank"),
        ("YQ== 9999999999999999999999", "is not a token of 1 to 256 bytes in base64 and its rank"),
        (f"{'YWFh' * 100} 300", "is not a token of 1 to 256 bytes in base64 and its rank"),
        ("YQ== 1\nYQ== 2", "has this token twice; got 'YQ== 2'"),
        ("YQ== 1\nYg== 1", "has the id 1 of 'a'"),
    ):
        path = tmp_path / "b.tiktoken"
        path.write_text(f"Yw== 0\n{line}\n")
        answer = ask("tokens", "x", "--tokenizer", str(path))
        assert answer.code == 2, line
        assert said in answer.err
    path.write_text("")
    assert ask("tokens", "x", "--tokenizer", str(path)).code == 2


def test_a_file_that_may_be_meant_is_named(tmp_path):
    """Of a folder that has one under another name, of a slip, of a file beside one, and of the word bytes."""
    good = written(tmp_path / "own.tiktoken", ranks())
    (tmp_path / "readme.txt").write_text("x")
    for place, said in (
        (tmp_path, "has no tokenizer"),
        (tmp_path / "own.tiktokn", "no such file or directory"),
        (tmp_path / "readme.txt", "is not a tokenizer's file"),
    ):
        assert ask("tokens", "x", "--tokenizer", str(place)).err == f"{place}: {said}; did you mean {good}?\n"
    assert ask("tokens", "x", "--tokenizer", "byts").err == "byts: no such file or directory; did you mean bytes?\n"
