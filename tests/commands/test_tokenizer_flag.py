"""`--tokenizer` wherever a text meets a spec: without weights, and in place of the tokenizer beside them."""

import io
import json
import shutil
import sys

import pytest
from command import ask
from outside import byte_level

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")
tokenizers = pytest.importorskip("tokenizers")

import archcalc  # noqa: E402
from archcalc_reference import Transformer  # noqa: E402
from archcalc_reference.text.tokenizer import read_tokenizer  # noqa: E402
from archcalc_reference.weights.folder import save_weights  # noqa: E402

CORPUS = ["the cat sat on the mat and the dog sat by the cat\n", "naïve café 你好\n"] * 30
SPEC = "tiny@vocab_size=292"


@pytest.fixture(scope="module")
def cuts(tmp_path_factory):
    """A folder with a tokenizer of 292 tokens, and the tokenizer."""
    folder = tmp_path_factory.mktemp("cuts")
    fast = byte_level(CORPUS, 292, "<|end|>")
    assert fast.get_vocab_size() == 292
    fast.save(str(folder / "tokenizer.json"))
    return str(folder), fast


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Weights of 292 rows, without a tokenizer."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("weights")
    save_weights(Transformer(archcalc.load(SPEC)), str(folder))
    return str(folder)


def test_a_spec_without_weights_is_traced_with_the_tokens_of_a_text(cuts):
    folder, fast = cuts
    text = "the cat sat"
    count = len(fast.encode(text).ids)
    assert count < len(text)
    answer = ask("trace", SPEC, "-p", text, "--tokenizer", folder)
    assert answer.code == 0, answer.err
    assert f"{count} tokens pass through the running model" in answer.out
    assert f"{len(text)} tokens pass" in ask("trace", SPEC, "-p", text).out, "by bytes"
    assert f"{len(text)} tokens pass" in ask("trace", SPEC, "-p", text, "--tokenizer", "bytes").out


def test_one_that_is_too_large_for_the_spec_is_one_line(cuts):
    folder, _ = cuts
    line = f"{folder}: its tokenizer has 292 tokens; tiny has rows for 256; say tiny@vocab_size=292\n"
    assert ask("trace", "tiny", "-p", "a", "--tokenizer", folder) == (2, "", line)
    assert ask("train", "tiny", "--steps", "1", "--tokenizer", folder)[::2] == (2, line)


def test_weights_without_a_tokenizer_take_the_one_that_is_named(cuts, weights):
    folder, fast = cuts
    answer = ask("predict", SPEC, "--weights", weights, "-p", "the cat")
    assert answer.code == 3
    assert "has no tokenizer, and the 292 tokens of" in answer.err
    assert "--tokenizer DIR names one" in answer.err
    answer = ask("predict", weights, "-p", "the cat", "--tokenizer", folder)
    assert answer.code == 0, answer.err
    answer = ask("trace", weights, "-p", "the cat", "--tokenizer", folder)
    assert f"{len(fast.encode('the cat').ids)} tokens pass" in answer.out
    answer = ask(
        "generate", weights, "-p", "the cat", "--max-tokens", "4", "--tokenizer", folder, "--temperature", "0"
    )
    assert answer.code == 0, answer.err
    assert answer.out.startswith("the cat")


def test_it_takes_the_place_of_the_one_beside_the_weights(cuts, tmp_path):
    other = byte_level(CORPUS, 256)
    torch.manual_seed(0)
    save_weights(Transformer(archcalc.load(SPEC)), str(tmp_path))
    other.save(str(tmp_path / "tokenizer.json"))
    folder, fast = cuts
    assert "7 tokens pass" in ask("trace", str(tmp_path), "-p", "the cat").out
    count = len(fast.encode("the cat").ids)
    assert count < 7
    assert f"{count} tokens pass" in ask("trace", str(tmp_path), "-p", "the cat", "--tokenizer", folder).out


def test_a_chat_takes_it(cuts, weights, monkeypatch):
    folder, _ = cuts
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("café\n".encode())))
    answer = ask("chat", weights, "--max-tokens", "3", "--tokenizer", folder, "--system", "")
    assert answer.code == 0, answer.err
    assert "1 turn;" in answer.err


def test_a_chat_takes_its_template_or_else_that_of_the_weights(cuts, weights, tmp_path, monkeypatch):
    folder, _ = cuts
    copies = {}
    for name, source in (("weights", weights), ("tokenizer", folder)):
        copies[name] = tmp_path / name
        shutil.copytree(source, copies[name])

    def told():
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a\n")))
        flags = ("--max-tokens", "1", "--tokenizer", str(copies["tokenizer"] / "tokenizer.json"))
        answer = ask("chat", str(copies["weights"]), *flags)
        assert answer.code == 0, answer.err
        return next(line for line in answer.err.splitlines() if ": conversation " in line)

    assert "conversation as a plain dialogue," in told()
    for name in ("weights", "tokenizer"):
        path = copies[name] / "chat_template.jinja"
        path.write_text("{{ messages[-1].content }}")
        assert f"conversation with the template of {path}," in told()


def test_a_training_learns_its_tokens_and_keeps_it(cuts, tmp_path):
    folder, fast = cuts
    (tmp_path / "book.txt").write_text("".join(CORPUS))
    out = tmp_path / "run"
    flags = ["--data", str(tmp_path / "book.txt"), "--out", str(out), "--steps", "1", "--seq", "16", "--batch", "2"]
    answer = ask("train", SPEC, "--tokenizer", f"{folder}/tokenizer.json", *flags)
    assert answer.code == 0, answer.err
    kept = json.loads((out / "step-00000001" / "state.json").read_text())
    assert kept["data"]["kind"] == "tokens"
    ours = read_tokenizer(str(out / "step-00000001"))
    assert ours.encode(CORPUS[1]) == fast.encode(CORPUS[1]).ids
    assert ask("tokens", "the cat", "--tokenizer", str(out), "-f", "json").json["tokenizer"]["vocab_size"] == 292


def test_a_training_on_bytes_is_known_as_such_from_its_own_files(tmp_path):
    (tmp_path / "book.txt").write_text("".join(CORPUS))
    out = tmp_path / "run"
    flags = ["--data", str(tmp_path / "book.txt"), "--out", str(out), "--steps", "1", "--seq", "16", "--batch", "2"]
    assert ask("train", "tiny", *flags).code == 0
    for flag in ("--weights", "--tokenizer"):
        answer = ask("tokens", "é", flag, str(out))
        assert answer.code == 0, answer.err
        assert answer.out.startswith("2 tokens of 2 bytes")


def test_a_file_by_another_name_is_a_tokenizer_by_itself(cuts, tmp_path):
    _, fast = cuts
    path = tmp_path / "mine.json"
    fast.save(str(path))
    (tmp_path / "added_tokens.json").write_text('{"<x>": 292}')
    assert ask("tokens", "a", "--tokenizer", str(path), "-f", "json").json["tokenizer"]["vocab_size"] == 292
    out = tmp_path / "run"
    flags = ["--out", str(out), "--steps", "1", "--seq", "16", "--batch", "2"]
    assert ask("train", SPEC, "--tokenizer", str(path), *flags).code == 0
    assert (out / "step-00000001" / "tokenizer.json").exists()


def test_what_a_tokenizer_changes_is_told_and_the_text_is_taken(tmp_path):
    """WordPiece writes small letters, and [UNK] for what it lacks: so were the texts that its model learned from."""
    fast = tokenizers.Tokenizer(
        tokenizers.models.WordPiece({"[UNK]": 0, "the": 1, "cat": 2, "##s": 3}, unk_token="[UNK]")
    )
    fast.normalizer = tokenizers.normalizers.BertNormalizer()
    fast.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    fast.save(str(tmp_path / "tokenizer.json"))
    answer = ask("trace", "tiny", "-p", "The cats 猫", "--tokenizer", str(tmp_path))
    assert answer.code == 0
    assert "4 tokens pass" in answer.out
    lines = answer.err.splitlines()
    assert lines[0].endswith("tokenizer.json: texts are changed first: BertNormalizer")
    assert lines[1].endswith("tokenizer.json: characters that it lacks become '[UNK]'")
    assert lines[2].endswith("its tokens have ' the cats [UNK]' where the text has 'The cats 猫'")


def test_two_codes_of_a_character_are_one_where_text_streams(tmp_path):
    """SentencePiece's byte tokens: a character is printed when it is whole."""
    pieces = {"<unk>": 0, **{f"<0x{i:02X}>": i + 1 for i in range(256)}, "\u2581a": 257}
    fast = tokenizers.Tokenizer(
        tokenizers.models.BPE(pieces, [], unk_token="<unk>", byte_fallback=True, fuse_unk=True)
    )
    n, d = tokenizers.normalizers, tokenizers.decoders
    fast.normalizer = n.Sequence([n.Prepend("\u2581"), n.Replace(" ", "\u2581")])
    fast.decoder = d.Sequence([d.Replace("\u2581", " "), d.ByteFallback(), d.Fuse(), d.Strip(" ", 1, 0)])
    fast.save(str(tmp_path / "tokenizer.json"))
    ours = read_tokenizer(str(tmp_path))
    ids = ours.encode("猫")
    assert ids == fast.encode("猫").ids
    from archcalc.report.live import Console
    from archcalc.report.tokens import Token

    class Session:
        ends = frozenset()

        def token(self, token):
            return Token(token, ours.token_bytes(token))

    class Step:
        def __init__(self, token):
            self.tokens_N = [token]

    console = Console(Session(), "x", 2, None, None, "")
    seen = []
    for token in [257, *ids]:
        console.take(Step(token))
        seen.append(console.texts[0])
    assert seen[0] == " a"
    assert seen[-1].endswith("猫")
    assert "\ufffd" not in "".join(seen)
    answer = Console(Session(), "Assistant: ", 1, None, None, "", answers=True)
    for token in [257, 257]:
        answer.take(Step(token))
    assert answer.texts == ["a a"], "the label has a blank already"
