"""Training does what was counted, and what it keeps stands whole: from YAML to weights, whatever comes between."""

import io
import json
import math
import os
import re
import subprocess
import sys
from collections import Counter, defaultdict

import pytest
from command import Answer, ask, spawn

import archcalc
from archcalc.errors import Invalid
from archcalc.packages import install_command
from archcalc.proof.learning import expected, promised
from archcalc.proof.watching import Seen, watch
from archcalc.report.progress import Pace, Progress, tell_sample
from archcalc.spec import checkpoints
from archcalc.spec.settings import Settings

torch = pytest.importorskip("torch", reason="the reference is PyTorch")
pytest.importorskip("safetensors", reason="checkpoints are safetensors")

from archcalc_reference.model.transformer import Transformer  # noqa: E402
from archcalc_reference.text.around import Around  # noqa: E402
from archcalc_reference.training import resuming  # noqa: E402
from archcalc_reference.training.data import Data, Stream, begin_of, own_words, read_stream  # noqa: E402
from archcalc_reference.training.trainer import Trainer, rate_of, sample  # noqa: E402

SMALL = "tiny@n_layers=2,d_model=32,n_heads=2,d_ff=64,context_length=32"
FEW = Settings(steps=4, batch=4, sequence=16, rate=1e-2, warmup=1)


def few(**settings):
    return Settings(**{**FEW.model_dump(), **settings})


def text(n=4000):
    return (b"the quick brown fox jumps over the lazy dog. " * (n // 45 + 1))[:n]


@pytest.fixture
def words(tmp_path):
    path = tmp_path / "words.txt"
    path.write_bytes(text())
    return str(path)


def trainer(settings=FEW, spec=SMALL):
    stream = Stream((torch.frombuffer(bytearray(text()), dtype=torch.uint8).numpy(),))
    return Trainer(archcalc.load(spec), settings, Data(stream, settings.sequence, settings.seed, "bytes"))


def last_line(answer):
    return answer.err.strip().splitlines()[-1]


# The whole way


class Trigram:
    """Interpolated by Witten and Bell (1991, method C): each context backs off in the share of new words it saw."""

    def __init__(self, learned, order=3):
        self.counts = [defaultdict(Counter) for _ in range(order)]
        for i, byte in enumerate(learned):
            for n in range(min(order, i + 1)):
                self.counts[n][learned[i - n : i]][byte] += 1

    def chance(self, before, byte):
        chance = 1 / 256
        for n, contexts in enumerate(self.counts):
            seen = contexts.get(before[len(before) - n :])
            if seen:
                chance = (seen[byte] + len(seen) * chance) / (seen.total() + len(seen))
        return chance

    def loss(self, told):
        return -sum(math.log(self.chance(told[max(i - 2, 0) : i], told[i])) for i in range(len(told))) / len(told)


def test_the_trigram_is_a_distribution_and_a_good_one():
    learned = own_words()[:50_000]
    model = Trigram(learned)
    for before in (b"", b"d", b"de", b"\0\0"):
        assert sum(model.chance(before, byte) for byte in range(256)) == pytest.approx(1)
    assert model.loss(own_words()[50_000:60_000]) < Trigram(learned, 2).loss(own_words()[50_000:60_000])


@pytest.mark.prove  # a minute and a half; a page of README trains a smaller model in each run of the tests
def test_with_nothing_said_it_learns_more_than_a_trigram_knows():
    answer = spawn("train", "-f", "json", timeout=900)
    assert answer.code == 0, answer.err
    told, spec = json.loads(answer.out)["training"], archcalc.load("tiny")
    data = own_words()
    kept = len(data) - len(data) // 10
    assert told["held_out"] < Trigram(data[:kept]).loss(data[kept:])
    assert told["tokens_per_parameter"] == told["tokens"] / archcalc.params(spec).stored


# What a step does and holds


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_step_does_the_flops_that_were_counted(accumulate):
    from torch.utils.flop_counter import FlopCounterMode

    settings = few(accumulate=accumulate, attention="math")
    run = trainer(settings)
    with FlopCounterMode(display=False) as counter:
        run.step()
    assert counter.get_total_flops() == expected(run.model.spec, settings, "cpu").flops


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("spec", ["tiny@n_layers=2", "tiny@n_layers=2,vocab_size=3000"])
def test_a_step_holds_the_bytes_that_were_counted(accumulate, precision, spec):
    """As archcalc.proof.allocator records a step of a bare loop, with the data, the clipping and the loss of a real one."""
    settings = few(sequence=64, rate=1e-3, accumulate=accumulate, precision=precision)
    run = trainer(settings, spec)
    run.step()
    _, seen = watch(run.step, run.held, "cpu")
    counted = expected(run.model.spec, settings, "cpu")
    assert seen.flops == counted.flops
    inside = seen.peak_bytes - counted.memory.total
    # A kernel that works in bf16 may need some bytes inside, for each thread; see archcalc.proof.allocator.Recorded.
    assert 0 <= inside <= (0 if precision == "fp32" else 4096)


def test_the_output_says_what_the_calculator_says(words):
    answer = ask("train", SMALL, "--data", words, "--steps", "2", "--batch", "4", "--seq", "16", "-f", "json")
    told, model = answer.json["training"], archcalc.load(SMALL)
    run = archcalc.Run(batch=4, sequence=16, attention="flash")
    assert told["step_flops"] == archcalc.flops(model, run).training
    assert told["step_peak_bytes"] == archcalc.memory(model, run, archcalc.Keeping("fp32")).total
    assert told["step_flops_measured"] == told["step_flops"]
    assert told["step_peak_measured_bytes"] == told["step_peak_bytes"]
    shown = ask("train", SMALL, "--data", words, "--steps", "2", "--batch", "4", "--seq", "16").out
    assert "counted per step; PyTorch's FLOP counter agrees" in shown
    assert "counted at the peak of a step; the CPU's allocator agrees" in " ".join(shown.split())


def test_of_one_step_nothing_is_said_but_the_count(words):
    told = ask("train", SMALL, "--data", words, "--steps", "1", "--seq", "16", "-f", "json").json["training"]
    assert (told["step_flops_measured"], told["step_peak_measured_bytes"]) == (None, None)


def test_what_differs_is_told(words, monkeypatch):
    from archcalc.commands import training

    monkeypatch.setattr(training, "watch", lambda step, *_: (step(), Seen(7, 2 * 10**9)))
    shown = " ".join(ask("train", SMALL, "--data", words, "--steps", "2", "--seq", "16").out.split())
    assert "per step; PyTorch's FLOP counter counts 7" in shown
    assert "allocator records 2,000,000,000 (+" in shown


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_step_that_is_watched_computes_what_it_would_unseen(precision):
    settings = few(sequence=64, rate=1e-3, accumulate=2, precision=precision)
    seen, unseen = trainer(settings, "tiny@n_layers=2"), trainer(settings, "tiny@n_layers=2")
    for run in (seen, unseen):
        run.step()
    watch(seen.step, seen.held, "cpu")
    unseen.step()
    for a, b in zip(seen.held, unseen.held, strict=True):
        assert torch.equal(a, b)


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("columns", [50, 80, 120])
@pytest.mark.parametrize("steps", [300, 300_000])
def test_the_bar_is_one_line_with_room_for_what_ctrl_c_writes(steps, columns, monkeypatch):
    """A terminal writes ^C where the cursor is: at a full line's end that begins another, and the bar stands twice."""
    cells = pytest.importorskip("rich.cells")
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    for name, value in {"TERM": "xterm", "COLUMNS": str(columns), "LINES": "30"}.items():
        monkeypatch.setenv(name, value)
    pace = Pace(512, 10**9, 10**9, None)
    pace.add(0.015)
    with Progress(steps, 0, pace) as progress:
        progress.step(226, 2.56)
        tell_sample(226, 2.5, "漢字と仮名 🦊\nthe end")
    lines = re.split(r"[\r\n]+", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.getvalue()))
    bars = [line for line in lines if f"/{steps}" in line]
    assert {cells.cell_len(line.rstrip()) <= columns - 5 for line in bars} == {True}, "room for two of them"
    assert not [line for line in lines if "…" in line]
    assert f"226/{steps}" in bars[-1]
    assert bars[-1].rstrip().endswith("loss 2.560" if columns == 50 else "loss 2.560, 34,133 tokens/s, 66.67B FLOP/s")
    assert "  | 漢字と仮名 🦊" in [line.rstrip() for line in lines]


def test_a_dumb_terminal_has_lines_and_no_bar(monkeypatch):
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    monkeypatch.setenv("TERM", "dumb")
    with Progress(2, 0, Pace(512, 10**9, 10**9, None)) as progress:
        progress.step(1, 2.56)
    assert terminal.getvalue() == "step 1 of 2: loss 2.5600, no steps\n"


def test_devices_are_known_by_what_their_driver_calls_them():
    assert promised("NVIDIA H100 80GB HBM3", "bf16") == 989 * 10**12
    assert promised("NVIDIA A100-SXM4-80GB", "fp32") == archcalc.hardware.devices.find_device("a100-80gb").peak("fp32")
    assert promised("NVIDIA H200", "bf16") == 989 * 10**12
    assert promised("Quadro 600", "bf16") is None


def test_parts_of_a_batch_learn_what_the_batch_learns():
    whole, parts = trainer(), trainer(few(accumulate=4))
    for _ in range(3):
        assert whole.step().loss == pytest.approx(parts.step().loss, abs=1e-5)


def test_the_rate_climbs_along_a_line_and_falls_along_a_cosine():
    settings = Settings(steps=110, batch=1, sequence=1, rate=1.0, warmup=10)
    rates = [rate_of(step, settings) for step in range(111)]
    assert rates[:10] == [pytest.approx((step + 1) / 10) for step in range(10)]
    assert rates[10] == 1.0
    assert rates[60] == pytest.approx(0.55), "half way between all of it and a tenth"
    assert rates[110] == pytest.approx(0.1)


def test_bf16_is_the_type_of_everything():
    run = trainer(few(precision="bf16"))
    run.step()
    assert {p.dtype for p in run.model.parameters()} == {torch.bfloat16}
    assert {s["exp_avg"].dtype for s in run.optimizer.state.values()} == {torch.bfloat16}


def test_a_sample_is_decided_by_its_seed():
    model = Transformer(archcalc.load(SMALL))
    one, again, other = (sample(model, [1, 2], 40, seed=seed) for seed in (0, 0, 1))
    assert one == again != other
    assert len(one) == 40, "longer than the context"


# The data


def test_every_sequence_comes_once_in_an_epoch_and_the_held_out_ones_never():
    import numpy as np

    data = Data(Stream((np.arange(1000),)), 10, 0, "tokens")
    tokens, targets = data.batch(0, data.per_epoch)
    assert torch.equal(tokens + 1, targets)
    assert tokens.flatten().unique().numel() == data.per_epoch * 10
    assert max(data.batch(0, 5 * data.per_epoch)[1].flatten()) < 900
    kept = [row for batch in data.held_out(3, 100) for row in batch[0]]
    assert torch.equal(torch.cat(kept), torch.arange(900, 990))
    assert [int(batch[0][0, 0]) for batch in data.held_out(1, 3)] == [900, 930, 960]


@pytest.mark.parametrize("before", [(1001,), (1001, 1002)])
def test_sequences_begin_with_what_a_prompt_begins_with(before):
    import numpy as np

    stream, many = Stream((np.arange(1000),)), len(before)
    data, plain = Data(stream, 10, 0, "tokens", before), Data(stream, 10, 0, "tokens")
    for (tokens, targets), (own, _) in (
        (data.batch(0, 7), plain.batch(0, 7)),
        (next(data.held_out(7, 100)), next(plain.held_out(7, 100))),
    ):
        assert tokens.shape == targets.shape == own.shape == (7, 10)
        assert tokens[:, :many].tolist() == [list(before)] * 7
        assert torch.equal(tokens[:, many:], own[:, :-many])
        assert torch.equal(targets[:, :-1], tokens[:, 1:])
        assert torch.equal(targets[:, -1], own[:, 0] + 10 - many)
    assert data.fingerprint() != plain.fingerprint()


def test_a_sequence_has_room_for_what_it_begins_with():
    import numpy as np

    stream = Stream((np.arange(1000),))
    assert Data(stream, 2, 0, "tokens", (1001, 1002)).batch(0, 1)[1][0, 0] == 1002
    with pytest.raises(
        Invalid, match="--seq: must be at least the 2 tokens that the tokenizer puts before a text; got 1"
    ):
        Data(stream, 1, 0, "tokens", (1001, 1002))


def test_files_of_tokens_are_learned_as_they_are(tmp_path):
    class Cuts:
        around = Around((7,), (8,))

    text, tokens = (str(tmp_path / name) for name in ("a.txt", "a.u16"))
    (tmp_path / "a.txt").write_bytes(b"ab")
    (tmp_path / "a.u16").write_bytes(b"ab")
    assert begin_of([text], Cuts()) == begin_of([], Cuts()) == (7,)
    assert begin_of([tokens], Cuts()) == begin_of([text], None) == ()


def test_the_order_is_decided_by_the_seed_and_differs_between_epochs():
    import numpy as np

    stream = Stream((np.arange(1000),))
    first, again, other = (Data(stream, 10, seed, "tokens").batch(0, 80)[0] for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    data = Data(stream, 10, 0, "tokens")
    assert not torch.equal(data.batch(0, 80)[0], data.batch(data.per_epoch, 80)[0])
    assert torch.equal(data.batch(0, 80)[0][40:], data.batch(40, 40)[0]), "a place is a number of sequences"


def test_tokens_are_read_across_the_ends_of_files(tmp_path):
    import numpy as np

    files = [tmp_path / "a.u16", tmp_path / "b.u32"]
    np.arange(100, dtype="<u2").tofile(files[0])
    np.arange(100, 300, dtype="<u4").tofile(files[1])
    stream, kind = read_stream([str(file) for file in files], 300)
    assert kind == "tokens"
    assert list(stream.take(95, 105)) == list(range(95, 105))
    assert all(isinstance(array, np.memmap) for array in stream.arrays)


def test_our_own_words_are_the_sources_in_order():
    assert own_words().startswith(b'"""Count what a transformer is made of')
    assert b"def own_words" in own_words()


# What cannot be


@pytest.mark.parametrize(
    ("arguments", "code", "line"),
    [
        (("--steps", "0"), 2, "--steps: must be from 1 to 1,000,000,000; got 0"),
        (("--steps", "ten"), 2, "--steps: must be an integer; 32k is 32,768; got 'ten'"),
        (("--batch", "-1"), 2, "--batch: must be from 1 to 4,294,967,296; got -1"),
        (("--seq", "65"), 2, "--seq: must be from 1 to 64; got 65"),
        (("--lr", "0"), 2, "--lr: must be above 0 and at most 1; got '0'"),
        (("--lr", "nan"), 2, "--lr: must be above 0 and at most 1; got 'nan'"),
        (("--lr", "true"), 2, "--lr: must be above 0 and at most 1; got 'true'"),
        (("--warmup", "x"), 2, "--warmup: must be an integer; 32k is 32,768; got 'x'"),
        (("--warmup", "9", "--steps", "8"), 2, "--warmup: must be at most the steps, 8; got 9"),
        (("--accumulate", "3", "--batch", "8"), 2, "--accumulate: must divide the batch, 8; got 3; nearest: 2"),
        (("--accumulate", "0"), 2, "--accumulate: must be from 1 to 4,294,967,296; got 0"),
        (("--seed", "-1"), 2, "--seed: must be from 0 to 4,294,967,296; got -1"),
        (("--every", "0"), 2, "--every: must be from 1 to 1,000,000,000; got 0"),
        (("--precision", "fp8"), 2, "--precision: 'fp8' is not one of 'fp32', 'bf16'"),
        (("--attention", "none"), 2, "--attention: 'none' is not one of 'math', 'flash'"),
        (("--device", "tpu"), 2, "--device: 'tpu' is not one of 'cpu', 'cuda'"),
        (("--out", ""), 2, "--out: is empty"),
        (("--from", "nowhere"), 3, "--from: no such directory; got 'nowhere'"),
        (("nonsense",), 2, "nonsense: is not in the catalogue; `archcalc list` shows the catalogue"),
        (("--data", "nowhere.txt"), 3, "nowhere.txt: no such file"),
        (("--data", "nowhere.u16"), 3, "nowhere.u16: no such file"),
        (("--data", "."), 2, ".: is a directory"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_bad_value_is_one_line(arguments, code, line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert ask("train", *arguments) == Answer(code, "", line + "\n")


@pytest.mark.parametrize(
    ("name", "content", "line"),
    [
        ("empty.txt", b"", "empty.txt: is empty"),
        ("empty.u16", b"", "empty.u16: is empty"),
        ("odd.u32", b"12345", "odd.u32: is not a whole number of 4-byte tokens; got '5 bytes'"),
        ("large.u16", b"\1\0\0\1", "large.u16: token 1: is outside the vocabulary of 256; got 256"),
        (
            "short.txt",
            b"x" * 100,
            "--data: 100 bytes are too few for sequences of 64 with a tenth held out; give at least 550 more, or a shorter --seq",
        ),
    ],
)
def test_bad_data_is_one_line(name, content, line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_bytes(content)
    assert ask("train", "tiny", "--data", name) == Answer(2, "", line.replace("got '5 bytes'", "got 5 bytes") + "\n")


def test_a_text_needs_a_vocabulary_of_bytes_and_no_tokens_beside_it(words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    few = ask("train", "tiny@vocab_size=100", "--data", words)
    assert (
        few.err
        == "--data: a text without a tokenizer needs 256 tokens; the vocabulary has 100; give token files (.u16, .u32)\n"
    )
    assert ask("train", "--data", "words.txt", "--data", "x.u16").err == (
        "--data: must be either all texts or all token files; got ['words.txt', 'x.u16']\n"
    )


def test_a_model_that_the_machine_cannot_hold_is_one_line():
    answer = ask("train", "gpt3-175b", "--device", "cpu")
    assert (answer.code, len(answer.err.splitlines())) == (2, 1)
    assert answer.err.startswith("gpt3-175b: a step takes 3,")


def test_cuda_that_is_not_there_is_missing():
    if torch.cuda.is_available():
        pytest.skip("it is there")
    line = "--device: no CUDA device is visible; got 'cuda'; use --device cpu\n"
    assert ask("train", "--device", "cuda") == Answer(3, "", line)


# What is no number


def ruined(words, out, every="1"):
    return ask("train", SMALL, "--data", words, "--seq", "16", "--steps", "9", "--every", every, "--out", str(out))


@pytest.mark.parametrize("every", ["1", "9"])
def test_a_loss_that_is_no_number_ends_it_with_one_line_and_the_last_good_one_stands(
    every, words, tmp_path, monkeypatch
):
    """At such a rate the weights grow until no loss can be told: whichever loss it is, nothing of it is kept."""
    monkeypatch.setattr("archcalc_reference.training.trainer.rate_of", lambda *_: 1e30)
    answer = ruined(words, tmp_path / "out", every)
    assert (answer.code, answer.out) == (2, "")
    assert re.match(r"--lr: the (held-out )?loss is not finite after step \d; got 0.003; ", last_line(answer))
    good = checkpoints.weights_in(tmp_path / "out").path
    assert last_line(answer).endswith(f"; {good} is intact")
    monkeypatch.undo()
    assert ask("train", "--from", str(tmp_path / "out"), "--steps", "9", "--every", "9").code == 0


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_gradients_that_are_no_numbers_move_no_weight(bad, words, tmp_path, monkeypatch):
    """Clipping would make all of them NaN, and the step every weight."""
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", lambda *_: torch.tensor(bad))
    run = trainer()
    before = [parameter.clone() for parameter in run.model.parameters()]
    assert not run.step().finite
    assert run.done == 0
    assert all(map(torch.equal, before, run.model.parameters()))
    assert "the gradients are not finite" in last_line(ruined(words, tmp_path / "out"))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("where", ["weight", "moment"])
def test_what_is_no_number_is_never_kept(where, bad, tmp_path):
    run = trainer()
    learned = checkpoints.Learned(files=[], data_as=None, kind="bytes", fingerprint=run.data.fingerprint())
    good = run.save(tmp_path, learned)
    run.step()
    weight = next(iter(run.model.parameters()))
    with torch.no_grad():
        (weight if where == "weight" else run.optimizer.state[weight]["exp_avg"])[0, 0] = bad
    with pytest.raises(Invalid, match=r"is not finite after step 1; no checkpoint .*; step-00000000 is kept"):
        run.save(tmp_path, learned)
    assert [path for path in tmp_path.iterdir() if path.is_dir()] == [good]


def test_a_sample_of_what_is_no_number_is_refused():
    model = Transformer(archcalc.load(SMALL))
    with torch.no_grad():
        model.final_norm.bias[0] = math.nan
    with pytest.raises(Invalid, match="weights: give logits that are not finite"):
        sample(model, [1, 2], 4, seed=0)


def test_tiny_as_trained_is_the_tiny_of_the_catalogue(words, tmp_path):
    out = str(tmp_path / "out")
    step = ("--data", words, "--steps", "1", "--batch", "1")
    assert ask("train", *step, "--out", out).code == 0
    for spec, flags in (("tiny", ["--weights", out]), (out, [])):
        drawn = ask("generate", spec, *flags, "-p", "x", "--max-tokens", "2")
        assert (drawn.code, drawn.out[:1]) == (0, "x"), drawn.err
    assert f"{out}: only its spec is used; --from {out} continues from its weights\n" in ask("train", out, *step).err


def test_without_safetensors_it_says_what_to_install():
    code = "import sys\nsys.modules['safetensors'] = None\nfrom archcalc.cli import main\nmain(['train'])\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (3, f"train: needs the package safetensors; {install_command('run')}\n")


# What is kept

ASKED = ["train", SMALL, "--steps", "6", "--batch", "2", "--seq", "16", "--every", "2", "-f", "json"]


def kept(folder):
    """The bytes of the weights and of the optimizer's state."""
    where = checkpoints.weights_in(folder).path
    return [(where / name).read_bytes() for name in ("model.safetensors", "optimizer.safetensors")]


def test_a_checkpoint_goes_on_bit_for_bit_and_is_asked_for_nothing_else(words, tmp_path):
    whole, halves = str(tmp_path / "whole"), str(tmp_path / "halves")
    asked = [*ASKED, "--data", words, "--warmup", "1"]
    assert ask(*asked, "--out", whole).code == 0
    run = trainer(few(steps=6, batch=2, rate=3e-3))
    for _ in range(3):
        run.step()
    learned = checkpoints.Learned(files=[words], data_as=None, kind="bytes", fingerprint=run.data.fingerprint())
    run.save(resuming.Path(halves), learned)
    answer = ask("train", "--from", halves, "-f", "json")
    assert answer.code == 0, answer.err
    assert answer.json["training"]["steps"] == 6
    assert kept(whole) == kept(halves)
    again = ask("train", "--from", whole, "-f", "json")
    assert (again.code, again.json["training"]["steps_timed"]) == (0, 0), "there is nothing left to do"


def test_what_goes_on_keeps_its_settings_and_another_out_tunes(words, tmp_path):
    out, other = str(tmp_path / "out"), str(tmp_path / "other")
    asked = [*ASKED, "--data", words]
    assert ask(*asked, "--out", out).code == 0
    fix = "leave it out, or say another --out to fine-tune"
    assert (
        ask("train", "--from", out, "--lr", "1e-4").err
        == f"--lr: was 0.003 when the training began; got 0.0001; {fix}\n"
    )
    assert (
        ask("train", "--from", out, "--steps", "5").err
        == "--steps: is less than the 6 that the checkpoint has done; got 5\n"
    )
    assert ask("train", "tiny", "--from", out).err.startswith("tiny: is not the architecture of ")
    line = ask(*asked, "--out", out).err
    assert line.startswith("--out: has a checkpoint, step-00000006; got ")
    (tmp_path / "more.txt").write_bytes(text(5000))
    answer = ask("train", "--from", out, "--data", str(tmp_path / "more.txt"))
    assert "--data: differs from the data of the checkpoint; got " in answer.err
    tuned = ask("train", "--from", out, "--out", other, *asked[2:], "--lr", "1e-4")
    assert tuned.code == 0, tuned.err
    assert tuned.json["training"]["along"][0]["held_out"] == pytest.approx(
        ask("train", "--from", out, "-f", "json").json["training"]["held_out"]
    )


def test_a_checkpoint_is_a_folder_of_weights_by_their_names_and_the_spec(words, tmp_path):
    from safetensors.torch import load_file

    assert ask(*ASKED, "--data", words, "--out", str(tmp_path / "out")).code == 0
    folder = checkpoints.weights_in(tmp_path / "out").path
    assert sorted(os.listdir(tmp_path / "out")) == [".lock", "step-00000004", "step-00000006"]
    model = archcalc.load(folder / "spec.yaml")
    assert model == archcalc.load(SMALL)
    shapes = {name: parameter.shape for name, parameter in Transformer(model).named_parameters()}
    assert {name: tensor.shape for name, tensor in load_file(folder / "model.safetensors").items()} == shapes


HARNESS = """
import io, contextlib, json, os, resource, signal, sys
import torch
import torch._dynamo  # what an optimizer's first step would load, in each child again
torch.set_num_threads(1)
import archcalc.commands.training
from archcalc.cli import _main
from archcalc.spec import checkpoints
from archcalc_reference.training import resuming
from archcalc_reference.training import trainer as training

training.sample = lambda *_, **__: []

def die_at(what, moment):
    '''End this process at a moment: `what` is a step, a flush, before or after a rename, half of a file.'''
    count = 0
    def counted(function, before, after):
        def call(*arguments, **rest):
            nonlocal count
            count += 1
            if count == moment and before:
                before(*arguments)
            found = function(*arguments, **rest)
            if count == moment and after:
                after(*arguments)
            return found
        return call
    kill = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
    def half(tensors, path):
        resuming.Path(path).write_bytes(b'half')
        kill()
    if what == 'step':
        training.Trainer.step = counted(training.Trainer.step, None, kill)
    elif what == 'interrupt':
        training.Trainer.step = counted(training.Trainer.step, None, lambda *_: os.kill(os.getpid(), signal.SIGINT))
    elif what == 'flush':
        os.fsync = counted(os.fsync, kill, None)
    elif what == 'before':
        os.replace = counted(os.replace, kill, None)
    elif what == 'after':
        os.replace = counted(os.replace, None, kill)
    elif what == 'half':
        resuming.save_file = counted(resuming.save_file, half, None)
    elif what == 'full':
        resource.setrlimit(resource.RLIMIT_FSIZE, (moment, moment))

def run(arguments, what=None, moment=0):
    '''A command in a process of its own, forked so that PyTorch is loaded once; its code, and what it said last.'''
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        said = io.StringIO()
        if what:
            die_at(what, moment)
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said):
            code = _main(arguments)
        os.write(writer, said.getvalue().encode()[-2000:])
        os._exit(code)
    os.close(writer)
    said = os.fdopen(reader).read()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), said

def whole(folder):
    '''Each checkpoint that stands is as it was written.'''
    for path in checkpoints.steps_in(folder).values():
        checkpoints.intact(path)

def finish(asked, folder):
    '''The same command again, with --from where there is a checkpoint.'''
    whole(folder)
    there = checkpoints.weights_in(folder) is not None
    return run([*asked, '--out', folder, *(['--from', folder] if there else [])])
"""


MOMENTS = [
    *(("step", n) for n in range(1, 7)),
    *(("flush", n) for n in (1, 2, 5, 6, 7, 12)),
    *(("before", n) for n in (1, 2, 3, 4)),
    *(("after", n) for n in (2, 3)),
    *(("half", n) for n in (1, 4)),
]
FEW_MOMENTS = [("flush", 7), ("half", 4)]  # and after a step, in `many`
DEATHS = """
asked, root, moments = json.loads(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
assert run([*asked, '--out', root + '/whole'])[0] == 0
killed = []
for what, moment in moments:
    folder = f'{root}/{what}-{moment}'
    code, _ = run([*asked, '--out', folder], what, moment)
    killed.append((what, moment, code, *finish(asked, folder)))
    whole(folder)
folder = root + '/many'
run([*asked, '--out', folder], 'step', 3)
for n in (1, 2):
    run([*asked, '--out', folder, '--from', folder], 'step', n)
killed.append(('many', 0, -9, *finish(asked, folder)))

folder = root + '/interrupted'
interrupted = [*run([*asked, '--out', folder], 'interrupt', 3), *finish(asked, folder)]

folder = root + '/full'
run([*asked, '--out', folder], 'step', 3)
full = run([*asked, '--out', folder, '--from', folder], 'full', 20_000)
full = [*full, sorted(os.listdir(folder)), *finish(asked, folder)]
print(json.dumps([killed, interrupted, full]))
"""


@pytest.fixture(
    scope="module", params=[FEW_MOMENTS, pytest.param(MOMENTS, marks=pytest.mark.prove)], ids=["few", "all"]
)
def deaths(request, tmp_path_factory):
    """Trainings that end before their time, and what became of each; one process loads PyTorch for all of them."""
    root = tmp_path_factory.mktemp("deaths")
    (root / "words.txt").write_bytes(text())
    asked = json.dumps([*ASKED, "--data", str(root / "words.txt")])
    done = subprocess.run(
        [sys.executable, "-c", HARNESS + DEATHS, asked, str(root), json.dumps(request.param)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return root, *json.loads(done.stdout)


def test_killed_at_any_moment_it_comes_to_the_same_weights(deaths):
    root, killed, _, _ = deaths
    for what, moment, code, finished, said in killed:
        assert (code, finished) == (-9, 0), (what, moment, said)
        folder = root / (f"{what}-{moment}" if moment else what)
        assert kept(folder) == kept(root / "whole"), (what, moment)
        assert sorted(os.listdir(folder)) == [".lock", "step-00000004", "step-00000006"], (what, moment)


def test_interrupted_it_keeps_the_step_at_hand_and_goes_on(deaths):
    root, _, (code, said, again, _), _ = deaths
    assert (code, again) == (130, 0)
    out = root / "interrupted"
    assert said.splitlines()[-1] == f"interrupted after step 3; saved in {out}/step-00000003; --from {out} continues"
    assert kept(out) == kept(root / "whole")


def test_a_full_disk_is_one_line_and_loses_nothing(deaths):
    root, _, _, (code, said, left, again, _) = deaths
    assert (code, again, left) == (2, 0, [".lock", "step-00000000", "step-00000002"])
    line = said.splitlines()[-1]
    assert line.startswith(f"{root}/full/step-00000004: cannot be written: ")
    assert line.endswith("; step-00000002 is kept")
    assert kept(root / "full") == kept(root / "whole")


def test_a_refused_training_leaves_nothing_behind(tmp_path):
    (tmp_path / "short.txt").write_text("too short")
    (tmp_path / "there").mkdir()
    for folder in ("new/and/deep", "there"):
        answer = ask("train", "--data", str(tmp_path / "short.txt"), "--out", str(tmp_path / folder))
        assert answer.code == 2
        assert "are too few for sequences of" in answer.err
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["short.txt", "there"]
