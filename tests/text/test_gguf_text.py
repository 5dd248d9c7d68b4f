"""Tokenizers, templates and ends that a GGUF file has in its keys: ids as transformers cuts, a chat on the file alone."""

import io
import json
import sys

import pytest
from command import ask
from ggufs import converted, gguf_file

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
tokenizers = pytest.importorskip("tokenizers")
pytest.importorskip("jinja2")
pytest.importorskip("gguf")

from archcalc.errors import Invalid  # noqa: E402
from archcalc_reference.text.template import Message, read_template  # noqa: E402
from archcalc_reference.text.tokenizer import read_ends, read_tokenizer, tokenizer_of  # noqa: E402

TEXTS = [
    "The cat sat on the mat; it's 12345 o'clock.",
    "  blanks   and\r\nlines\n\n\tof\ttabs  ",
    "\ufeff猫は マット and 🐈\u200d⬛ 3.14159",
    "<|im_start|>user\nHi<|im_end|>\n",
    "I'LL say WE'RE 1000000 naïve façades",
]
CUT = {
    "gpt-2": tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False),
    "smollm": tokenizers.pre_tokenizers.Sequence(
        [
            tokenizers.pre_tokenizers.Digits(individual_digits=True),
            tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    ),
}
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def trained(pre):
    """A byte-level tokenizer of the package, learned from a few texts, that cuts them into words so."""
    found = tokenizers.Tokenizer(tokenizers.models.BPE())
    found.pre_tokenizer = CUT[pre]
    found.decoder = tokenizers.decoders.ByteLevel()
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=400, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    found.train_from_iterator(TEXTS * 3 + ["12 12 123 1234 12345"] * 9, trainer)
    return found


def keys_of(found, pre, **more):
    """What llama.cpp's converter writes of a tokenizer."""
    data = json.loads(found.to_str())
    vocab = data["model"]["vocab"]
    tokens = sorted(vocab, key=vocab.get)
    said = {
        "model": "gpt2",
        "pre": pre,
        "tokens": tokens,
        "token_type": [3 if token in SPECIAL else 1 for token in tokens],
        "merges": [pair if isinstance(pair, str) else " ".join(pair) for pair in data["model"]["merges"]],
        "bos_token_id": vocab["<|im_start|>"],
        "eos_token_id": vocab["<|im_end|>"],
        **more,
    }
    return {f"tokenizer.ggml.{key}": value for key, value in said.items()} | {"tokenizer.chat_template": TEMPLATE}


def stored(path, texts):
    return str(
        gguf_file(
            path, {"token_embd.weight": ((400, 32), "F32")}, **{k.replace(".", "__"): v for k, v in texts.items()}
        )
    )


@pytest.mark.parametrize("pre", CUT)
def test_ids_are_those_of_the_tokenizer_that_the_file_was_made_of(pre, tmp_path):
    theirs = trained(pre)
    ours = read_tokenizer(stored(tmp_path / "m.gguf", keys_of(theirs, pre)))
    for text in TEXTS:
        assert ours.encode(text) == theirs.encode(text).ids, text
        assert ours.decode(ours.encode(text)) == text


def test_the_way_of_parting_words_is_seen(tmp_path):
    """Digits one by one, or not: another key gives other ids."""
    found = trained("gpt-2")
    paths = [stored(tmp_path / f"{pre}.gguf", keys_of(found, pre)) for pre in CUT]
    one, other = (read_tokenizer(path).encode("12345") for path in paths)
    assert one != other
    assert len(other) == 5


def test_steps_of_other_kinds_are_those_that_published_tokenizers_have(tmp_path):
    """Llama 3 parts digits by three and ignores merges of whole words; Qwen 2 parts them one by one, after NFC."""
    found = trained("gpt-2")
    three = read_tokenizer(stored(tmp_path / "l.gguf", keys_of(found, "llama-bpe")))
    assert [three.token_bytes(i) for i in three.encode("12345678")][-1][-1:] == b"8"
    assert three.encode("1234567")[-1:] == three.encode("7")  # 123 456 7
    one = read_tokenizer(stored(tmp_path / "q.gguf", keys_of(found, "qwen2")))
    assert len(one.encode("1234567")) == 7
    assert one.cut("e\u0301")[0] == one.cut("\u00e9")[0]


def test_template_words_and_ends_come_from_the_keys(tmp_path):
    found = trained("smollm")
    path = stored(tmp_path / "m.gguf", keys_of(found, "smollm"))
    text = read_template(path).render([Message("user", "Hi")])
    assert text == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    tokenizer = tokenizer_of(path, "m", 400)
    assert tokenizer.name == path
    ends = {found.token_to_id("<|im_end|>"), found.token_to_id("<|endoftext|>")}
    assert read_ends(path, tokenizer) == ends  # the key's, and the other that llama.cpp stops at by its name


def test_what_is_not_read_is_named(tmp_path):
    found = trained("smollm")
    path = stored(tmp_path / "a.gguf", keys_of(found, "smollm", model="rwkv"))
    said = (
        "tokenizer.ggml.model: RWKV's tokenizers are not supported yet; got 'rwkv'; supported: gpt2, llama, bert, t5"
    )
    assert ask("tokens", "x", "--weights", path)[::2] == (2, f"{path}: {said}\n")
    path = stored(tmp_path / "s.gguf", keys_of(found, "smollm", model="llama", scores=[0.0, -1.0]))
    said = "tokenizer.ggml.scores: must have one value for each of 351 tokens"
    assert ask("tokens", "x", "--weights", path)[::2] == (2, f"{path}: {said}\n")
    path = stored(tmp_path / "b.gguf", keys_of(found, "tekken"))
    assert (
        "tokenizer.ggml.pre: is a way of parting words that is not supported yet; got 'tekken'"
        in ask("tokens", "x", "--weights", path).err
    )
    path = stored(tmp_path / "c.gguf", keys_of(found, "smollm", eos_token_id=4_000))
    with pytest.raises(Invalid, match=r"tokenizer\.ggml\.eos_token_id: must be the id of one of 351 tokens; got 4000"):
        read_tokenizer(path)


def test_a_chat_needs_the_file_alone(tmp_path, monkeypatch):
    config = transformers.AutoConfig.for_model(
        "llama",
        vocab_size=400,
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        intermediate_size=64,
        max_position_embeddings=256,
    )
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config)
    path = converted(model, tmp_path / "m.gguf", "llama", "Q8_0", texts=keys_of(trained("smollm"), "smollm"))
    for named in (path, tmp_path):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"Hi\nAnd you?\n")))
        answer = ask("chat", str(named), "--max-tokens", "4")
        assert answer.code == 0, answer.err
        assert f"conversation with the template of {path}" in answer.err
        assert "2 turns" in answer.err
    answer = ask("predict", str(path), "-p", "The cat", "--top", "3")
    assert answer.code == 0, answer.err
    answer = ask("generate", str(path), "-p", "The cat", "--max-tokens", "3", "--temperature", "0")
    assert answer.code == 0, answer.err
    assert answer.out.startswith("The cat")
