"""Training under a plan: ranks learn what one process learns, and go on from checkpoints on any number of ranks."""

import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from command import ask
from ranked import losses, trained

import archcalc
from archcalc.errors import Invalid
from archcalc.plan.description import Plan
from archcalc.plan.reading import find_plan
from archcalc.proof.miniature import miniature
from archcalc.spec.settings import Settings

torch = pytest.importorskip("torch", minversion="2.13", reason="FSDP2 and DTensor are those of PyTorch 2.13")
pytest.importorskip("safetensors", reason="the end of a training is safetensors")

from archcalc_reference.parallel import asking, checkpoints  # noqa: E402
from archcalc_reference.parallel.command import main  # noqa: E402
from archcalc_reference.parallel.learning import RankTrainer  # noqa: E402
from archcalc_reference.training.data import Data, read_stream  # noqa: E402
from archcalc_reference.training.trainer import Trainer  # noqa: E402
from archcalc_reference.weights.folder import load_weights  # noqa: E402

SPEC = "gpt2@n_layers=2,vocab_size=257,d_model=32,n_heads=4,d_ff=64,context_length=32"
TALE = str(Path(__file__).parents[2] / "docs" / "tale.txt")
HOW = ["--data", TALE, "--steps", "8", "--every", "4", "--warmup", "2"]
SHARDED = ["--zero", "3", "--sharding", "per-tensor"]
BATCH = 8
CLOSE = 1e-5  # of a loss, as sums of fp32 in another order differ
OLD, NEW = "step-00000004", "step-00000008"

QUICK = {
    "one": (1, ["--micro-batch", "8"]),
    "fully_shard": (2, [*SHARDED, "--dp", "2", "--micro-batch", "2", "--accumulation", "2"]),
    "averaged": (2, ["--dp", "2", "--micro-batch", "2", "--accumulation", "2"]),
    "tensor parallel": (2, ["--tp", "2", "--micro-batch", "8"]),
}
LONG = {
    "fully_shard, one rank": (1, [*SHARDED, "--micro-batch", "4", "--accumulation", "2"]),
    "fully_shard, four ranks": (4, [*SHARDED, "--dp", "4", "--micro-batch", "2", "--recompute", "--prefetch", "both"]),
    "averaged, tensor parallel": (4, ["--dp", "2", "--tp", "2", "--micro-batch", "4"]),
    "fully_shard, tensor parallel": (
        4,
        [*SHARDED, "--dp", "2", "--tp", "2", "--micro-batch", "2", "--accumulation", "2"],
    ),
    "positions cut": (2, ["--tp", "2", "--sequence-parallel", "--micro-batch", "8"]),
    "fully_shard, positions cut": (
        4,
        [*SHARDED, "--dp", "2", "--tp", "2", "--sequence-parallel", "--micro-batch", "4"],
    ),
}


def far(found, right):
    """The largest difference of the losses of the same steps."""
    return max(abs(found[step] - right[step]) for step in found)


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """Each quick plan's training; that of fully_shard left checkpoints in `out`."""
    root, names = tmp_path_factory.mktemp("plans"), list(QUICK)
    jobs = [(ranks, [SPEC, *HOW, *plan, "--losses", str(root / name)]) for name, (ranks, plan) in QUICK.items()]
    jobs[names.index("fully_shard")][1].extend(["--out", str(root / "out")])
    found = dict(zip(names, trained(*jobs), strict=True))
    for one in found.values():
        assert set(one.codes) == {0}, one.said
    return root, found


@pytest.fixture
def out(ran, tmp_path):
    """The folder of a training that ended after step 4 of 8, and its newest checkpoint."""
    shutil.copytree(ran[0] / "out", tmp_path / "out")
    shutil.rmtree(tmp_path / "out" / NEW)
    shutil.rmtree(tmp_path / "out" / "ranks" / NEW)
    return tmp_path / "out"


@pytest.fixture
def both(ran, tmp_path):
    """Both checkpoints that ranks wrote."""
    shutil.copytree(ran[0] / "out" / "ranks", tmp_path / "ranks")
    return tmp_path / "ranks"


def run(capsys, *arguments):
    """The exit code of a training in this process, alone, and what it said."""
    code = main([str(one) for one in arguments])
    return code, capsys.readouterr().err


# --- what a plan says of the step ---


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("optimizer: muon", "mine: optimizer: is not in the reference; got muon; only adamw"),
        ("precision: mixed-18", "mine: precision: is not in the reference; got mixed-18; one of fp32, bf16"),
        (
            "dp: 1\nzero: 3\nsharding: per-tensor\nprecision: bf16",
            "mine: precision: is not in the reference; got bf16; one of fp32, fsdp-bf16",
        ),
        ("recompute: selective", "mine: recompute: is not in the reference; got selective; none or full"),
        ("offload_optimizer: true", "mine: offload_optimizer: is not in the reference; got true"),
    ],
)
def test_a_plan_of_another_step_is_refused(capsys, tmp_path, said, told):
    path = tmp_path / "mine.yaml"
    path.write_text(f"schema: 0\nname: mine\n{said}\n")
    assert run(capsys, SPEC, "--plan", path) == (2, f"{told}\n")


def test_a_plan_s_precision_and_recomputation_are_obeyed(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("schema: 0\nname: mine\nprecision: bf16\nrecompute: full\nrecompute_layers: 1\n")
    asked = asking.read([SPEC, "--plan", str(path)])
    assert (asked.plan.recompute_layers, asked.numbers["precision"]) == (1, "bf16")
    assert asking.read([SPEC, "--plan", str(path), "--precision", "fp32"]).numbers["precision"] == "fp32"
    assert asking.read([SPEC, "--recompute", "--recompute-layers", "2"]).plan.recompute == "full"


# --- what is learned ---


def test_one_rank_learns_what_the_trainer_of_one_process_learns(ran):
    model = archcalc.load(SPEC)
    settings = Settings(steps=8, batch=BATCH, sequence=32, rate=3e-3, warmup=2)
    stream, kind = read_stream([TALE], 257)
    trainer = Trainer(model, settings, Data(stream, 32, 0, kind))
    right = [trainer.step() for _ in range(8)]
    found = [json.loads(line) for line in (ran[0] / "one").read_text().splitlines()]
    assert [one["loss"] for one in found] == pytest.approx([heard.loss for heard in right], abs=1e-6)
    assert [one["norm"] for one in found] == pytest.approx([heard.norm for heard in right], rel=1e-5)
    assert [one["rate"] for one in found] == [heard.rate for heard in right]
    assert f"held-out loss {trainer.held_out():.4f} after 8 steps" in ran[1]["one"].said[0]


@pytest.mark.parametrize("name", [name for name in QUICK if name != "one"])
def test_ranks_learn_what_one_process_learns(ran, name):
    root, found = ran
    right, there = losses(root / "one"), losses(root / name)
    assert there.keys() == right.keys()
    assert far(there, right) < CLOSE
    assert far(losses(root / name, "norm"), losses(root / "one", "norm")) < CLOSE, "which Adam does not see in full"
    first, *others = found[name].said
    ends = [line for line in found["one"].said[0].splitlines() if "held-out" in line]
    assert ends[0] in first
    assert not any(others), "only the first rank tells"


@pytest.mark.prove
@pytest.mark.parametrize(
    "spec", [SPEC, "llama3-8b@n_layers=2,vocab_size=258,d_model=32,n_heads=4,n_kv_heads=2,d_ff=64"]
)
def test_more_ranks_learn_what_one_process_learns(tmp_path, spec):
    plans = {"one": QUICK["one"], **LONG}
    if "llama" in spec:  # its norms are kernels of the reference
        plans = {name: plan for name, plan in plans.items() if "positions" not in name}
    for name, (ranks, plan) in plans.items():
        (one,) = trained((ranks, [spec, *HOW, "--seq", "32", *plan, "--losses", str(tmp_path / name)]))
        assert set(one.codes) == {0}, one.said
        for what in ("loss", "norm"):
            assert far(losses(tmp_path / name, what), losses(tmp_path / "one", what)) < CLOSE, name


@pytest.mark.prove
def test_bf16_weights_are_gathered_from_wider_ones(tmp_path):
    plans = {"fp32": [], "bf16": ["--precision", "bf16", "--out", str(tmp_path / "out")]}
    for name, more in plans.items():
        plan = [*SHARDED, "--dp", "2", "--micro-batch", "4"]
        (one,) = trained((2, [SPEC, *HOW, *plan, *more, "--losses", str(tmp_path / name)]))
        assert set(one.codes) == {0}, one.said
    off = far(losses(tmp_path / "bf16"), losses(tmp_path / "fp32"))
    assert 1e-5 < off < 0.05, "bf16 has 8 binary digits"
    assert ask("check", str(tmp_path / "out"), "--weights", str(tmp_path / "out")).out.count("F32") == 1


# --- checkpoints ---


def test_a_checkpoint_says_what_it_is_and_two_are_kept(ran):
    ranks = ran[0] / "out" / "ranks"
    assert sorted(os.listdir(ranks)) == [OLD, NEW]
    state = checkpoints.intact(ranks / NEW)
    assert (state.step, state.sequences, state.settings.batch) == (8, 8 * BATCH, BATCH)
    assert state.files.keys() == {"__0_0.distcp", "__1_0.distcp", ".metadata", "plan.yaml", "spec.yaml"}
    plan = Plan(dp=2, zero=3, sharding="per-tensor", micro_batch=2, accumulation=2)
    assert find_plan(str(ranks / NEW / "plan.yaml"), {}) == plan
    assert archcalc.load(str(ranks / NEW / "spec.yaml")) == archcalc.load(SPEC)


def test_the_end_is_what_archcalc_reads(ran):
    root, found = ran
    out = str(root / "out")
    assert ask("check", out, "--weights", out).code == 0
    model = archcalc.load(SPEC)
    weights = load_weights(model, str(root / "out" / NEW), dtype=torch.float32, device="cpu")
    stream, kind = read_stream([TALE], 257)
    settings = Settings(steps=8, batch=BATCH, sequence=32, rate=3e-3, warmup=2)
    trainer = Trainer(model, settings, Data(stream, 32, 0, kind), model=weights)
    assert f"held-out loss {trainer.held_out():.4f}" in found["fully_shard"].said[0]


def test_one_process_goes_on_with_the_end(ran, tmp_path):
    shutil.copytree(ran[0] / "out", tmp_path / "out")
    answer = ask("train", "--from", str(tmp_path / "out"), "--steps", "9", "--device", "cpu")
    assert answer.code == 0
    assert "continuing after step 8" in answer.err
    assert "step-00000009" in "".join(answer.out.split())


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("one", "after step 4 with 1 rank "),
        pytest.param(
            "tensor parallel", "after step 4 with 2 ranks on the CPU (dp 1 x tp 2, ZeRO 0)", marks=pytest.mark.prove
        ),
    ],
)
def test_other_ranks_go_on_with_a_checkpoint_under_torchrun(ran, out, tmp_path, name, told):
    ranks, plan = QUICK[name]
    said = torchrun(ranks, SPEC, *HOW, *plan, "--out", out, "--losses", tmp_path / "losses")
    assert f"continuing {told}" in said
    found = losses(tmp_path / "losses")
    assert list(found) == [5, 6, 7, 8]
    assert far(found, losses(ran[0] / "one")) < CLOSE
    assert (out / NEW / "model.safetensors").exists()


@pytest.mark.prove
@pytest.mark.parametrize("name", [*QUICK, *(name for name in LONG if "positions" not in name)])
def test_any_ranks_go_on_with_a_checkpoint(ran, out, tmp_path, name):
    ranks, plan = {**QUICK, **LONG}[name]
    (one,) = trained((ranks, [SPEC, *HOW, *plan, "--out", str(out), "--losses", str(tmp_path / "losses")]))
    assert set(one.codes) == {0}, one.said
    found = losses(tmp_path / "losses")
    assert list(found) == [5, 6, 7, 8]
    assert far(found, losses(ran[0] / "one")) < CLOSE


@pytest.mark.prove
def test_a_killed_worker_is_started_again_and_learns_the_same(ran, tmp_path):
    started = begin(2, SPEC, *HOW, "--every", "2", *QUICK["fully_shard"][1], tmp=tmp_path, restarts=1)
    while not (tmp_path / "losses").exists() or len(losses(tmp_path / "losses")) < 3:
        assert started.poll() is None, (tmp_path / "said").read_text()
        time.sleep(0.01)
    workers = Path(f"/proc/{started.pid}/task/{started.pid}/children").read_text().split()
    os.kill(int(workers[1]), signal.SIGKILL)
    assert started.wait(100) == 0, (tmp_path / "said").read_text()
    said = (tmp_path / "said").read_text()
    assert "continuing after step" in said
    found = losses(tmp_path / "losses")
    assert list(found) == list(range(1, 9))
    assert far(found, losses(ran[0] / "one")) < CLOSE


def torchrun(ranks, *arguments):
    """What a training says that torchrun runs to its end."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", ranks]
    command += ["-m", "archcalc_reference.train", *arguments]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    return done.stderr


def begin(ranks, *arguments, tmp, restarts):
    """A training that torchrun has begun, and starts again as often."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", ranks]
    command += ["--max-restarts", restarts, "--monitor-interval", "0.1", "-m", "archcalc_reference.train", *arguments]
    command += ["--out", tmp / "out", "--losses", tmp / "losses"]
    with open(tmp / "said", "w") as said:
        return subprocess.Popen(list(map(str, command)), stderr=said)


@pytest.mark.parametrize("numbers", [(signal.SIGTERM,), (signal.SIGINT, signal.SIGINT)], ids=["SIGTERM", "Ctrl-C"])
def test_a_signal_ends_after_a_step_that_is_saved(ran, out, tmp_path, capsys, monkeypatch, numbers):
    """torchrun hands on the Ctrl-C of a terminal, so that it comes twice."""
    step = RankTrainer.step

    def interrupted(self):
        heard = step(self)
        if self.done == 6:
            for number in numbers:
                signal.raise_signal(number)
        return heard

    monkeypatch.setattr(RankTrainer, "step", interrupted)
    asked = [SPEC, *HOW, "--micro-batch", "8", "--out", out, "--losses", tmp_path / "losses"]
    code, said = run(capsys, *asked)
    assert code == 130
    kept = "saved; the same command continues, --export writes it for archcalc"
    assert said.endswith(f"interrupted after step 6; {kept}\n")
    code, said = run(capsys, "--out", out, "--export")
    assert code == 0
    assert ask("check", str(out), "--weights", str(out)).code == 0
    assert "step-00000006" in said
    monkeypatch.undo()
    code, said = run(capsys, *asked)
    assert code == 0
    assert "continuing after step 6" in said
    found = losses(tmp_path / "losses")
    assert list(found) == [5, 6, 7, 8]
    assert far(found, losses(ran[0] / "one")) < CLOSE
    code, said = run(capsys, *asked)
    assert code == 0
    assert said.splitlines()[-2] == "all 8 steps are done; more --steps continue"


def test_what_no_gradient_changes_is_in_a_checkpoint_too(tmp_path, capsys):
    """GLM-5's indexers learn nothing from the loss, and the corrections of its routers are buffers."""
    small = miniature(archcalc.load("glm-5"))
    (tmp_path / "small.yaml").write_text(archcalc.dump(small.model_copy(update={"vocab_size": 260})))
    how = ["--data", TALE, "--seq", "16", "--micro-batch", "2", "--out", tmp_path / "out"]
    for steps in (2, 3):
        code, said = run(capsys, tmp_path / "small.yaml", *how, "--steps", steps)
        assert code == 0, said
    assert "continuing after step 2" in said
    assert ask("check", str(tmp_path / "out"), "--weights", str(tmp_path / "out")).code == 0
    answer = ask("train", "--from", str(tmp_path / "out"), "--steps", "4", "--device", "cpu")
    assert answer.code == 0, answer.err


# --- damage ---

DAMAGE = {
    "a part cut short": ("__1_0.distcp", lambda path: path.write_bytes(path.read_bytes()[:-1])),
    "a part changed": ("__0_0.distcp", lambda path: path.write_bytes(bytes(reversed(path.read_bytes())))),
    "a part gone": ("__0_0.distcp", lambda path: path.unlink()),
    "no places": (".metadata", lambda path: path.unlink()),
    "no plan": ("plan.yaml", lambda path: path.unlink()),
    "another plan": ("plan.yaml", lambda path: path.write_text("schema: 0\n")),
    "no state": ("state.json", lambda path: path.unlink()),
    "a state that was changed": ("state.json", lambda path: path.write_text(path.read_text().replace("8", "9"))),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_the_newest_checkpoint_that_is_whole_is_taken(both, what):
    name, damage = DAMAGE[what]
    damage(both / NEW / name)
    chosen = checkpoints.newest_of_ranks(both)
    assert chosen.path == both / OLD
    assert chosen.said.startswith("skipped: ")
    assert chosen.said.endswith(f"; {OLD} is used")


def test_what_a_killed_training_left_is_no_checkpoint(both, capsys):
    os.rename(both / NEW, both / ".unfinished-00000008")
    assert checkpoints.newest_of_ranks(both).path == both / OLD
    code, said = run(capsys, *HOW, "--micro-batch", "8", "--out", both.parent)
    assert code == 0
    assert "continuing after step 4" in said
    assert sorted(os.listdir(both)) == [OLD, NEW]


class Evil:
    def __reduce__(self):
        return os.mkdir, (".evil",)


@pytest.mark.parametrize("change", ["no tensors", "no parts", "another file"])
def test_places_that_are_no_places_are_one_line(both, change):
    from dataclasses import replace

    path = both / NEW / ".metadata"
    with path.open("rb") as file:
        found = pickle.load(file)  # noqa: S301  (our own)
    part = next(iter(found.storage_data))
    found = {
        "no tensors": replace(found, state_dict_metadata=None),
        "no parts": replace(found, storage_data=None),
        "another file": replace(
            found, storage_data={part: replace(found.storage_data[part], relative_path="../../secret")}
        ),
    }[change]
    path.write_bytes(pickle.dumps(found))
    with pytest.raises(Invalid, match=r"\.metadata: is not what torch\.distributed\.checkpoint writes"):
        checkpoints.read_places(both / NEW)


def test_a_pickle_that_names_anything_else_is_not_run(both, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (both / NEW / ".metadata").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(Invalid, match=r"\.metadata: cannot be read: names posix\.mkdir"):
        checkpoints.read_places(both / NEW)
    assert not os.path.exists(".evil")


# --- refusals ---


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--dp", "2"], "plan: has 2 ranks (dp 2); 1 process was started; torchrun --nproc-per-node 2 "),
        (["--plan", "fsdp8", "--tp", "2"], "fsdp8: has 16 ranks (dp 8 x tp 2); 1 process was started; torchrun "),
        (["--plan", "zero1-dp8"], "zero1-dp8: zero: is not supported here; got 1; 0 or 3"),
        (
            ["--zero", "3"],
            "plan: sharding: is not supported here; got flat; per-tensor, as PyTorch's fully_shard cuts",
        ),
        (["--plan", "gpt3-175b-megatron"], "gpt3-175b-megatron: pp: is not supported here; got 12"),
        (["--dp", "x"], "plan: dp: must be an integer; got 'x'"),
        (["--steps", "0"], "--steps: must be at least 1; got 0"),
        (["--lr", "3"], "--lr: must be at most 1; got 3"),
        (["--seq", "65"], "--seq: must be at most the context, 64; got 65"),
        (["--steps", "5", "--warmup", "6"], "--warmup: must be at most the steps, 5; got 6"),
        (["--every", "never"], "--every: must be an integer from 1 to 1,000,000,000; got 'never'"),
        (
            ["--pp", "2"],
            "python -m archcalc_reference.train: unrecognized arguments: --pp; --help lists the arguments",
        ),
        (["--data-as", "text"], "--data-as: needs a --data"),
        (["--losses", "/nowhere/at/all"], "--losses: cannot be written: No such file or directory"),
        (["nobody"], "nobody: is not in the catalogue"),
        (["--export"], "--export: needs an --out with a checkpoint that ranks wrote"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(capsys, arguments, said):
    code, err = run(capsys, *arguments)
    line = [one for one in err.splitlines() if "training with" not in one]
    assert code == 2
    assert len(line) == 1
    assert line[0].startswith(said)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--seed", "1"], "--seed: was 0 when the training began; got 1"),
        (["--seq", "16"], "--seq: was 32 when the training began; got 16"),
        (["--precision", "bf16"], "--precision: was fp32 when the training began; got bf16"),
        (["--micro-batch", "4"], "--dp x --micro-batch x --accumulation: was 8 when the training began; got 4"),
        (["--data", __file__], "--data: differs from the data of the checkpoint"),
        (["tiny"], "tiny: is not the architecture of "),
        (["--steps", "3"], "--steps: is less than the 4 that the checkpoint has done; got 3"),
    ],
)
def test_another_training_does_not_go_on_with_a_checkpoint(capsys, out, arguments, said):
    code, err = run(
        capsys, *(["--micro-batch", "8"] if "--micro-batch" not in arguments else []), *arguments, "--out", out
    )
    assert (code, err.count("\n")) == (2, 1)
    assert err.startswith(said)


def test_a_folder_of_other_weights_is_left_alone(capsys, ran, tmp_path):
    shutil.copytree(ran[0] / "out" / NEW, tmp_path / "out" / NEW)
    code, err = run(capsys, "--out", tmp_path / "out")
    assert code == 2
    assert err.startswith("--out: has weights that no ranks wrote; got ")
    assert os.listdir(tmp_path / "out" / NEW) == os.listdir(ran[0] / "out" / NEW)


@pytest.mark.parametrize(("rank", "lines"), [("0", 1), ("1", 0)])
def test_one_rank_tells_of_other_ranks_than_the_plan_s(capsys, monkeypatch, rank, lines):
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setenv("WORLD_SIZE", "3")
    code, err = run(capsys, "--dp", "2")
    assert (code, err.count("\n")) == (2, lines)
    assert not lines or err.startswith("plan: has 2 ranks (dp 2); torchrun started 3; torchrun --nproc-per-node 2 ")


def test_positions_that_are_cut_divide(capsys, monkeypatch):
    monkeypatch.setattr("archcalc_reference.parallel.command._refuse_other_ranks", lambda *_: None)
    code, err = run(capsys, "--tp", "2", "--sequence-parallel", "--seq", "31")
    assert code == 2
    assert err == "--seq: must be a multiple of tp (2) with sequence parallelism; got 31; nearest: 30\n"


def test_a_loss_that_is_no_number_ends_the_training_and_keeps_what_was_saved(capsys, out, monkeypatch):
    monkeypatch.setattr(RankTrainer, "_agreed", lambda *_: float("nan"))
    code, err = run(capsys, *HOW, "--micro-batch", "8", "--out", out)
    assert code == 2
    assert err.splitlines()[-1].startswith(
        "--lr: the loss is not finite after step 4; got 0.003; a lower one may work; "
    )
    assert os.listdir(out / "ranks") == [OLD]


def test_help_has_an_example(capsys):
    with pytest.raises(SystemExit) as left:
        main(["--help"])
    said = capsys.readouterr().out
    assert left.value.code == 0
    assert "torchrun --nproc-per-node 2 -m archcalc_reference.train" in said
