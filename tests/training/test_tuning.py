"""Tuning: weights from a Hugging Face folder learn on from texts that their own tokenizer cuts."""

import io
import json
import shutil
import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest
from command import Answer, ask
from outside import byte_level

import archcalc
from archcalc.spec import checkpoints

torch = pytest.importorskip("torch", reason="the reference is PyTorch")
transformers = pytest.importorskip("transformers", reason="the outside voice")
tokenizers = pytest.importorskip("tokenizers", reason="the extra `run`")
pytest.importorskip("safetensors", reason="the extra `run`")

from archcalc_reference.text.tokenizer import read_tokenizer  # noqa: E402
from archcalc_reference.training import data as texts  # noqa: E402
from archcalc_reference.training import locking  # noqa: E402
from archcalc_reference.training.data import own_words, pieces, read_stream  # noqa: E402
from archcalc_reference.training.trainer import Trainer  # noqa: E402
from archcalc_reference.weights.folder import load_weights, save_weights  # noqa: E402

SPEC = "tiny@n_layers=2,d_model=32,n_heads=2,d_ff=128,vocab_size=400,context_length=32"
FEW = ("--steps", "2", "--batch", "4", "--seq", "16", "-f", "json")
TEXT = "The quick brown fox jumps over the lazy dog.\n狐狸跳过了懒狗。🦊 It's early, isn't it?\n\n  def f(x):\n" * 40

OWN = own_words()[:60_000].decode(errors="ignore").encode()


@pytest.fixture(autouse=True)
def few_words(monkeypatch):
    """Where no data are given, the beginning of our own sources stands for all of them."""
    monkeypatch.setattr(texts, "own_words", lambda: OWN)


def trained(pattern=None):
    """A byte-level tokenizer of 400 tokens, which parts words as GPT-2's does or by another pattern."""
    tokenizer = byte_level([TEXT, OWN.decode()], 400, pattern=pattern)
    assert tokenizer.get_vocab_size() == 400
    return tokenizer


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    """A random GPT-2 as transformers saves it, whole and in shards, and a text; no spec lies there."""
    root = tmp_path_factory.mktemp("theirs")
    config = transformers.GPT2Config(vocab_size=400, n_positions=32, n_embd=32, n_layer=2, n_head=2)
    torch.manual_seed(0)
    model = transformers.GPT2LMHeadModel(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    tokenizer = trained()
    for name, shards in (("whole", "1GB"), ("shards", "40KB")):
        model.save_pretrained(root / name, max_shard_size=shards)
        tokenizer.save(str(root / name / "tokenizer.json"))
    assert len(list((root / "shards").glob("*.safetensors"))) > 2
    (root / "text.txt").write_text(TEXT, encoding="utf-8")
    return SimpleNamespace(
        whole=str(root / "whole"),
        shards=str(root / "shards"),
        text=str(root / "text.txt"),
        model=model,
        ids=tokenizer.encode(TEXT).ids,
    )


def held_out(theirs, ids):
    """What transformers loses, in nats a token, on the last tenth in sequences of 16, each with the token after it."""
    first = len(ids) - len(ids) // 10
    rows = torch.tensor([ids[i : i + 17] for i in range(first, len(ids) - 16, 16)])
    with torch.no_grad():
        logits = theirs.model(rows[:, :-1]).logits
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten()).item()


def tuned(theirs, *more, source=None):
    answer = ask("train", SPEC, "--from", source or theirs.whole, "--data", theirs.text, *FEW, *more)
    assert answer.code == 0, answer.err
    return answer


# What they learned is there


@pytest.mark.parametrize("source", ["whole", "shards"])
def test_before_the_first_step_it_loses_what_transformers_loses(theirs, source):
    answer = tuned(theirs, source=getattr(theirs, source))
    told = answer.json
    assert told["training"]["along"][0] == {
        "step": 0,
        "held_out": pytest.approx(held_out(theirs, theirs.ids), abs=1e-4),
    }
    assert told["conventions"]["loss"] == "nats per token"
    assert f"tokenizer: {getattr(theirs, source)}/tokenizer.json" in answer.err


def test_a_sample_is_text(theirs):
    first = len(theirs.ids) - len(theirs.ids) // 10
    prompt = read_tokenizer(theirs.whole).decode(theirs.ids[first : first + 16])
    assert tuned(theirs).json["training"]["sample"].startswith(prompt + "|")


def test_without_data_the_tokenizer_cuts_our_own_sources(theirs):
    tokenizer = read_tokenizer(theirs.whole)
    stream, kind = read_stream([], 400, tokenizer)
    assert kind == "tokens"
    assert stream.arrays[0].dtype == "uint16"
    assert stream.take(0, len(stream)).tolist() == tokenizer.encode(OWN.decode())


def test_what_save_weights_writes_in_gpt2s_layout_is_tuned_without_a_spec_named(theirs, tmp_path):
    ours = load_weights(archcalc.load(SPEC), theirs.whole)
    save_weights(ours, str(tmp_path / "w"), tokenizer_from=theirs.whole)
    answer = ask("train", "--from", str(tmp_path / "w"), "--data", theirs.text, *FEW)
    assert answer.json["training"]["along"] == tuned(theirs).json["training"]["along"]


def test_files_of_tokens_need_no_tokenizer(theirs, tmp_path):
    import numpy as np

    source, data = tmp_path / "w", tmp_path / "data.u16"
    shutil.copytree(theirs.whole, source)
    (source / "tokenizer.json").unlink()
    np.array(theirs.ids, "<u2").tofile(data)
    out = str(tmp_path / "out")
    answer = ask("train", SPEC, "--from", str(source), "--data", str(data), *FEW, "--out", out)
    assert answer.json["training"]["along"] == tuned(theirs).json["training"]["along"]
    texts = ask("train", "--from", out, "--data", theirs.text, "--out", str(tmp_path / "other"))
    assert (texts.code, "has no tokenizer, and the 400 tokens of " in texts.err) == (3, True)


def test_what_learned_bytes_in_a_larger_vocabulary_learns_on_from_bytes(theirs, tmp_path):
    out = str(tmp_path / "out")
    assert ask("train", SPEC, "--data", theirs.text, *FEW, "--out", out).code == 0
    answer = ask("train", "--from", out, "--data", theirs.text, *FEW, "--out", str(tmp_path / "other"))
    assert answer.json["conventions"]["loss"] == "nats per byte", answer.err


# What is kept


def test_the_tokenizer_goes_where_the_weights_go(theirs, tmp_path, monkeypatch):
    """And they go on from there to the same bytes as without a stop, although their first folder is gone."""
    source, whole, halves = (str(tmp_path / name) for name in ("source", "whole", "halves"))
    shutil.copytree(theirs.whole, source)
    asked = ["--data", theirs.text, "--batch", "4", "--seq", "16", "--warmup", "1", "-f", "json"]
    assert ask("train", SPEC, "--from", source, *asked, "--steps", "4", "--out", whole).code == 0
    step = Trainer.step

    def interrupted_at_two(trainer):
        heard = step(trainer)
        if trainer.done == 2:
            signal.raise_signal(signal.SIGINT)
        return heard

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", interrupted_at_two)
        done = ask("train", SPEC, "--from", source, *asked, "--steps", "4", "--out", halves)
    assert done.code == 130, done.err
    shutil.rmtree(source)
    answer = ask("train", "--from", halves, "-f", "json")
    assert answer.code == 0, answer.err
    one, other = (checkpoints.weights_in(folder).path for folder in (whole, halves))
    beside = {"tokenizer.json", "generation_config.json"}  # which token ends a text is told by the second
    assert {path.name for path in other.iterdir()} == {
        *beside,
        "model.safetensors",
        "optimizer.safetensors",
        "spec.yaml",
        "state.json",
    }
    for name in ("model.safetensors", *beside):
        assert (one / name).read_bytes() == (other / name).read_bytes()
    assert "data" in json.loads((other / "state.json").read_text())
    drawn = ask("generate", SPEC, "--weights", halves, "-p", "The quick 狐", "--max-tokens", "5")
    assert (drawn.code, drawn.out[:11]) == (0, "The quick 狐"), drawn.err


# Texts in pieces

CL100K = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
LINES = [
    "word", "3", "point.", "。", "_", " ", "  ", "\u3000", "\t", "\n", "\n\n", "\r\n", "\r", "It's", "🦊", "\n  deep", "x  \n"
]  # fmt: skip


@pytest.mark.parametrize("pattern", [None, CL100K], ids=["gpt2", "cl100k"])
def test_pieces_have_the_tokens_of_the_whole(pattern):
    import random

    tokenizer, draw = trained(pattern), random.Random(0)  # noqa: S311
    cut = 0
    for _ in range(300):
        text = "".join(draw.choices(LINES, k=60))
        found = list(pieces(io.StringIO(text, newline=""), 20))
        assert "".join(found) == text
        assert [i for piece in found for i in tokenizer.encode(piece).ids] == tokenizer.encode(text).ids, found
        cut += len(found) - 1
    assert cut > 1000, "few pieces prove little"


@pytest.mark.parametrize("settings", [{"add_prefix_space": True}, {"add_prefix_space": False, "use_regex": False}])
def test_a_text_whose_words_hang_together_is_cut_as_a_whole(settings, tmp_path, monkeypatch):
    """A blank before each text, or no words at all: in pieces it would have other tokens."""
    from archcalc_reference.training import data

    monkeypatch.setattr(data, "_PIECE", 20)
    fast = trained()
    fast.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(**settings)
    fast.save(str(tmp_path / "tokenizer.json"))
    path = tmp_path / "text.txt"
    path.write_text(TEXT, encoding="utf-8")
    found, kind = read_stream([str(path)], 400, read_tokenizer(str(tmp_path)))
    assert kind == "tokens"
    assert found.take(0, len(found)).tolist() == fast.encode(TEXT).ids


def test_what_learned_already_learns_at_a_rate_of_its_own(theirs, tmp_path):
    """5e-5, as transformers' TrainingArguments has it; what goes on keeps the rate that it began with."""
    assert transformers.TrainingArguments.__dataclass_fields__["learning_rate"].default == 5e-5
    out = str(tmp_path / "out")
    told = ask("train", SPEC, "--from", theirs.whole, "--data", theirs.text, "--out", out, *FEW)
    assert told.json["conventions"]["rate"] == 5e-5
    more = ask("train", "--from", out, "--steps", "3", "-f", "json")
    assert more.json["conventions"]["rate"] == 5e-5
    new = ask("train", SPEC, "--steps", "1", "--batch", "4", "--seq", "16", "-f", "json")
    assert new.json["conventions"]["rate"] == 3e-3


def test_what_will_not_be_kept_is_told_at_once(theirs, tmp_path):
    done = ask("train", SPEC, "--from", theirs.whole, "--data", theirs.text, *FEW)
    assert "nothing will be saved: --out DIR saves checkpoints\n" in done.err
    out = tmp_path / "out"
    ask("train", SPEC, "--from", theirs.whole, "--data", theirs.text, "--out", str(out), *FEW)
    step = out / "step-00000002"
    done = ask("train", "--from", str(step), "--steps", "3")
    assert done.code == 2
    assert done.err == (
        f"--from: is a single checkpoint of a training; got {archcalc.errors.shown(str(step))}; "
        f"--from {out} continues it, --out DIR fine-tunes its weights\n"
    )


def test_a_text_without_lines_is_cut_where_it_is_too_long():
    assert [len(piece) for piece in pieces(io.StringIO("x" * 100), 10, 30)] == [30, 30, 30, 10]


def with_settings(theirs, folder, **settings):
    """Their weights, with a tokenizer that has other settings."""
    shutil.copytree(theirs.whole, folder)
    data = json.loads((folder / "tokenizer.json").read_text())
    dropout = settings.pop("dropout", None)
    (folder / "tokenizer.json").write_text(
        json.dumps({**data, **settings, "model": {**data["model"], "dropout": dropout}})
    )
    return str(folder)


def test_a_tokenizer_with_dropout_cuts_as_without_and_its_training_goes_on(theirs, tmp_path):
    source, out = with_settings(theirs, tmp_path / "w", dropout=0.5), str(tmp_path / "out")
    answer = tuned(theirs, "--out", out, source=source)
    assert answer.json["training"]["along"] == tuned(theirs).json["training"]["along"]
    assert ask("train", "--from", out, "--steps", "3").code == 0


def test_a_tokenizer_that_makes_another_text_is_one_line_wherever_a_model_runs(theirs, tmp_path):
    source = with_settings(theirs, tmp_path / "w", normalizer={"type": "Lowercase"})
    line = f"{source}/tokenizer.json: its tokens have 'the' where the text has 'The'; `archcalc tokens` shows all of them\n"
    told = f"{source}/tokenizer.json: texts are changed first: Lowercase\n"
    for command in ("generate", "predict"):
        answer = ask(command, SPEC, "--weights", source, "-p", "The")
        assert (answer.code, answer.out) == (2, "")
        assert answer.err.startswith(told)  # then what else the folder's files say, such as an id without a token
        assert answer.err.endswith(line)
    (tmp_path / "text").write_text("The\n" * 999)
    answer = ask("train", SPEC, "--from", source, "--data", str(tmp_path / "text"), *FEW)
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith(f"{source}/tokenizer.json: its tokens have 'the\\nth")


# What cannot be


def refused(source, *more, spec=SPEC):
    return ask("train", *([spec] if spec else []), "--from", str(source), *FEW, *more)


def test_without_a_spec_it_is_what_config_json_says_or_one_is_to_be_named(theirs, tmp_path):
    answer = refused(theirs.whole, "--out", str(tmp_path / "out"), spec=None)
    assert answer.code == 0
    assert next((tmp_path / "out").glob("step-*/spec.yaml")).exists()
    bare = tmp_path / "bare"
    shutil.copytree(theirs.whole, bare, ignore=shutil.ignore_patterns("config.json"))
    value = archcalc.errors.shown(str(bare))
    line = (
        f"--from: has weights but no spec and no config.json; got {value}; name one: archcalc train SPEC --from DIR\n"
    )
    assert refused(bare, spec=None) == Answer(2, "", line)


def test_a_spec_of_other_weights_is_one_line_and_nothing_is_read(theirs, monkeypatch):
    monkeypatch.setattr("archcalc_reference.weights.folder._opened", None)
    longer = refused(theirs.whole, spec=SPEC.replace("context_length=32", "context_length=64"))
    assert (longer.code, longer.err.count("\n")) == (2, 1)
    assert "model.safetensors: transformer.wpe.weight: has another shape; got 32 x 32; " in longer.err
    heads = refused(theirs.whole, spec=SPEC.replace("n_heads=2", "n_heads=4"))
    assert (heads.code, heads.err.count("\n")) == (2, 1)
    assert "config.json: n_head: must be 4" in heads.err


def test_a_text_for_weights_without_their_tokenizer_is_one_line(theirs, tmp_path):
    source = tmp_path / "w"
    shutil.copytree(theirs.whole, source)
    (source / "tokenizer.json").unlink()
    fix = "--tokenizer DIR names one, --tokenizer bytes takes bytes"
    line = f"{source}: has no tokenizer, and the 400 tokens of {SPEC} are not bytes; {fix}\n"
    assert refused(source, "--data", theirs.text) == Answer(3, "", line)
    assert refused(source) == Answer(3, "", line)


def test_a_tokenizer_with_more_tokens_than_rows_is_one_line(theirs):
    spec = SPEC.replace("vocab_size=400", "vocab_size=399")
    answer = refused(theirs.whole, spec=spec)
    line = f"{theirs.whole}: its tokenizer has 400 tokens; {spec} has rows for 399\n"
    assert answer == Answer(2, "", line)
    drawn = ask("generate", spec, "--weights", theirs.whole, "-p", "x").err
    assert drawn.startswith(
        f"{theirs.whole}: has weights of another shape than {spec}: its config.json says vocab_size 400; say "
    )


def test_a_text_that_is_no_text_is_one_line(theirs, tmp_path):
    (tmp_path / "latin").write_bytes(b"caf\xe9 " * 100)
    (tmp_path / "empty").touch()
    line = f"{tmp_path}/latin: is not UTF-8, which its tokenizer needs; got byte 0xe9\n"
    assert refused(theirs.whole, "--data", str(tmp_path / "latin")) == Answer(2, "", line)
    assert refused(theirs.whole, "--data", str(tmp_path / "empty")) == Answer(2, "", f"{tmp_path}/empty: is empty\n")
    assert refused(theirs.whole, "--data", str(tmp_path / "none")).code == 3
    assert refused(theirs.whole, "--data", str(tmp_path)).err == f"{tmp_path}: is a directory\n"


def test_a_folder_without_weights_says_what_is_there(tmp_path):
    (tmp_path / "pytorch_model.bin").touch()
    answer = refused(tmp_path)
    assert answer.code == 2
    assert answer.err.startswith(f"{tmp_path}: holds pytorch_model.bin and no model.safetensors; pickles ")
    (tmp_path / "pytorch_model.bin").unlink()
    assert refused(tmp_path).code == 3


def test_a_folder_of_weights_is_never_written_into(theirs):
    assert refused(theirs.shards, "--out", theirs.shards).err.startswith("--out: has weights; got '")


# One at a time

HOLD = """
import sys, time
from pathlib import Path
from archcalc_reference.training.locking import alone
with alone(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(300)
"""


def test_two_trainings_never_write_into_one_folder(theirs, tmp_path):
    """The lock dies with its process: after kill -9 nothing is in the way, although the file is there."""
    pytest.importorskip("fcntl")
    out = tmp_path / "out"
    asked = ["train", SPEC, "--from", theirs.whole, "--data", theirs.text, *FEW, "--out", str(out)]
    with subprocess.Popen([sys.executable, "-c", HOLD, str(out)], stdout=subprocess.PIPE, text=True) as other:
        try:
            assert other.stdout.readline() == "held\n"
            line = f"{out}: another training is writing there; choose another --out\n"
            assert ask(*asked) == Answer(2, "", line)
        finally:
            other.kill()
    assert (out / ".lock").exists()
    assert ask(*asked).code == 0
    assert sorted(path.name for path in out.iterdir()) == [".lock", "step-00000001", "step-00000002"]


def test_a_checkpoint_that_came_while_the_flags_were_read_is_not_overwritten(theirs, tmp_path, monkeypatch):
    from contextlib import contextmanager

    held = locking.alone

    @contextmanager
    def slow(folder):
        shutil.copytree(theirs.whole, folder / "step-00000009")
        with held(folder):
            yield

    monkeypatch.setattr(locking, "alone", slow)
    out = tmp_path / "out"
    answer = ask("train", SPEC, "--from", theirs.whole, "--data", theirs.text, *FEW, "--out", str(out))
    assert answer == Answer(2, "", f"{out}: another training just wrote there; try again\n")
    assert (out / "step-00000009").exists()


def test_where_there_are_no_locks_it_trains_all_the_same(theirs, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "fcntl", None)
    tuned(theirs, "--out", str(tmp_path / "out"))
