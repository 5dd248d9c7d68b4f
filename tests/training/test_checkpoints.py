"""A damaged checkpoint is noticed, whatever is damaged, and the one before it is used; nothing in it is a default."""

import copy
import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from command import ask

import archcalc
from archcalc.errors import Invalid
from archcalc.spec import checkpoints

torch = pytest.importorskip("torch", reason="the reference is PyTorch")
pytest.importorskip("safetensors", reason="checkpoints are safetensors")

from safetensors.torch import load_file, save_file  # noqa: E402

from archcalc_reference.training import locking  # noqa: E402
from archcalc_reference.training.data import Data, Stream  # noqa: E402
from archcalc_reference.training.trainer import Trainer  # noqa: E402

SPEC = "tiny@n_layers=1,d_model=8,n_heads=1,d_ff=8,context_length=16"
OLD, NEW = "step-00000001", "step-00000002"
FILES = ["model.safetensors", "optimizer.safetensors", "spec.yaml", "state.json", "tokenizer.json"]


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """Two checkpoints of one training, each with a tokenizer's file, and the text that it learned."""
    root = tmp_path_factory.mktemp("checkpoints")
    text = b"the quick brown fox jumps over the lazy dog. " * 20
    (root / "text").write_bytes(text)
    stream = Stream((torch.frombuffer(bytearray(text), dtype=torch.uint8).numpy(),))
    asked = checkpoints.Settings(steps=4, batch=2, sequence=8, rate=1e-2, warmup=1)
    data = Data(stream, 8, 0, "bytes")
    run = Trainer(archcalc.load(SPEC), asked, data)
    learned = checkpoints.Learned(
        files=[str(root / "text")], data_as=None, kind="bytes", fingerprint=data.fingerprint()
    )
    for _ in range(2):
        run.step()
        run.save(root / "runs", learned, {"tokenizer.json": b'{"step": %d}' % run.done})
    assert sorted(os.listdir(root / "runs")) == [OLD, NEW]
    return root / "runs"


@pytest.fixture
def runs(original, tmp_path):
    shutil.copytree(original, tmp_path / "runs")
    return tmp_path / "runs"


def flip(path, at):
    data = bytearray(path.read_bytes())
    data[at] ^= 1 << (at % 8)
    path.write_bytes(data)


def become_a_directory(path, _):
    path.unlink()
    path.mkdir()


def become_a_pipe(path, _):
    """Reading it would wait for ever."""
    path.unlink()
    os.mkfifo(path)


DAMAGE = {
    "truncated": lambda path, _: path.write_bytes(path.read_bytes()[:-1]),
    "longer": lambda path, _: path.write_bytes(path.read_bytes() + b"\0"),
    "emptied": lambda path, _: path.write_bytes(b""),
    "first bit flipped": lambda path, _: flip(path, 0),
    "middle bit flipped": lambda path, _: flip(path, path.stat().st_size // 2),
    "last bit flipped": lambda path, _: flip(path, path.stat().st_size - 1),
    "removed": lambda path, _: path.unlink(),
    "the other's": lambda path, other: shutil.copy(other, path),
    "a directory": become_a_directory,
    "a pipe": become_a_pipe,
}


def same(name, how):
    """A spec is the same in both checkpoints: taking the other's changes nothing."""
    return name == "spec.yaml" and how == "the other's"


CASES = [(name, how) for name in FILES for how in DAMAGE if not same(name, how)]


@pytest.mark.parametrize(("name", "how"), CASES)
def test_the_older_is_used_where_a_file_of_the_newest_is_damaged(name, how, runs):
    DAMAGE[how](runs / NEW / name, runs / OLD / name)
    chosen = checkpoints.weights_in(runs)
    assert chosen.path == runs / OLD
    assert chosen.said.startswith(f"skipped: {runs / NEW / name}: ")
    assert chosen.said.endswith(f"; {OLD} is used")
    assert "\n" not in chosen.said


@pytest.mark.parametrize(
    ("command", "name", "how"),
    [
        pytest.param(command, *case, marks=[pytest.mark.prove] * ((i + at) % 2 > 0))  # by turns: both read in one way
        for at, command in enumerate((("train", "--from"), ("generate", "-p", "x")))
        for i, case in enumerate(CASES)
    ],
)
def test_where_none_is_whole_it_is_one_line_about_the_newest(command, name, how, runs):
    DAMAGE[how](runs / NEW / name, runs / OLD / name)
    shutil.copy(runs / OLD / "spec.yaml", runs / OLD / "optimizer.safetensors")
    before = sorted(runs.rglob("*"))
    done = ask(*command, str(runs))
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1), done.err
    assert done.err.startswith(f"{runs / NEW / name}: "), "and nothing is said of the older"
    assert sorted(runs.rglob("*")) == before
    alone = ask(*command, str(runs / NEW))  # named itself, it is not passed over either
    assert (alone.code, alone.err.count("\n")) == (2, 1), alone.err


def test_every_bit_of_the_state_is_sealed(runs):
    path = runs / NEW / "state.json"
    good = path.read_bytes()
    for at in range(len(good)):
        flip(path, at)
        with pytest.raises(Invalid) as caught:
            checkpoints.read_state(runs / NEW)
        assert str(caught.value).count("\n") == 0
        path.write_bytes(good)
    assert checkpoints.read_state(runs / NEW).step == 2


def places(value, where=()):
    """Every field of the state, containers too."""
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
        yield (*where, key)
        if isinstance(inner, dict | list):
            yield from places(inner, (*where, key))


REMOVED, EXTRA = object(), object()
PATHS = ("data", "files")
OPTIONAL = ((*PATHS, 0), ("files", "tokenizer.json"))  # our own sources have no path, bytes need no tokenizer
WRONG = {
    "removed": REMOVED,
    "extra": EXTRA,
    "null": None,
    "text": "x",
    "a list": ["x"],
    "a mapping": {"x": 1},
    "true": True,
    "negative": -1,
    "huge": 10**40,
    "a fraction": 1.5,
    "NaN": math.nan,
    "infinity": math.inf,
}


def spoiled(state, where, wrong):
    """The state with one thing wrong; None where it is not wrong there."""
    state = copy.deepcopy(state)
    *before, last = where
    holder = state
    for key in before:
        holder = holder[key]
    if wrong is REMOVED:
        del holder[last]
        return None if where in OPTIONAL else state
    if wrong is EXTRA:
        if not isinstance(holder[last], dict):
            return None
        holder[last]["surplus"] = 1
    elif (where, wrong) in (((*PATHS, 0), "x"), (PATHS, ["x"])):
        return None  # another path, whose tokens are compared when it is read
    elif where == ("data", "data_as") and wrong is None:
        return None  # nothing was said
    else:
        holder[last] = wrong
    return state


@pytest.mark.parametrize("how", WRONG)
def test_a_state_with_anything_wrong_is_one_line_even_where_it_is_sealed(how, runs):
    path = runs / NEW / "state.json"
    good = json.loads(path.read_text())
    tried = 0
    for where in places(good):
        if where == ("seal",) or (bad := spoiled(good, where, WRONG[how])) is None:
            continue
        for text in (checkpoints.sealed(bad), json.dumps(bad)):
            path.write_text(text)
            with pytest.raises(Invalid) as caught:
                checkpoints.intact(runs / NEW)
            (problem,) = caught.value.problems
            assert str(problem).startswith(f"{runs / NEW}"), where
            assert "\n" not in str(problem)
            tried += 1
    assert tried > (40 if how != "extra" else 10)
    done = ask("train", "--from", str(runs))
    assert f"skipped: {runs / NEW}" in done.err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ("{", "is not readable JSON"),
        ("[" * 100_000, "is not readable JSON"),
        ('{"version": ' + "9" * 5_000 + "}", "is not readable JSON"),
        ("[]", "must be a mapping"),
        ("null", "must be a mapping"),
        (
            '{"step": 2}',
            "has no version: it is damaged, or was written before checkpoints had checksums; start the training again",
        ),
        ('{"version": 2}', "version: must be 1"),
    ],
)
def test_what_is_no_state_at_all_is_one_line(text, said, runs):
    (runs / NEW / "state.json").write_text(text)
    shutil.rmtree(runs / OLD)
    done = ask("train", "--from", str(runs))
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert done.err.startswith(f"{runs / NEW / 'state.json'}: {said}")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"step": 5}, "has done 5 steps of 4"),
        ({"sequences": 5}, "says a number of sequences that is not steps x batch"),
        ({"settings": {"warmup": 9}}, "says a warm-up longer than the training"),
        ({"settings": {"accumulate": 3}}, "says a batch that is not a multiple of its parts"),
        ({"step": 1, "sequences": 2}, "belongs to step-00000001"),
    ],
)
def test_a_state_that_contradicts_itself_is_refused(change, said, runs):
    path = runs / NEW / "state.json"
    state = json.loads(path.read_text())
    for name, value in change.items():
        state[name] = {**state[name], **value} if isinstance(value, dict) else value
    path.write_text(checkpoints.sealed(state))
    with pytest.raises(Invalid, match=said):
        checkpoints.read_state(runs / NEW)


# The optimizer's file is held against the weights, even where its hash fits


def reseal(folder):
    """Hashes and a seal that fit what is in the folder now."""
    path = folder / "state.json"
    state = json.loads(path.read_text())
    state["files"] = {name: checkpoints.stored(folder / name).model_dump() for name in state["files"]}
    path.write_text(checkpoints.sealed(state))


TENSOR = "layers.0.mlp.up.weight.exp_avg"
MOMENTS = {
    "one is missing": (lambda t: t.pop(TENSOR), f"{TENSOR}: is missing"),
    "a count is missing": (lambda t: t.pop("final_norm.bias.step"), "final_norm.bias.step: is missing"),
    "all are missing": (lambda t: [t.pop(name) for name in list(t) if name != "random.cpu"], "is missing"),
    "one is surplus": (lambda t: t.update(x=torch.zeros(1)), "x: does not belong to any weight"),
    "another shape": (
        lambda t: t.update({TENSOR: torch.zeros(8, 9)}),
        f"{TENSOR}: does not match its weight; got 8 x 9 of float32; must be 8 x 8 of float32",
    ),
    "another type": (lambda t: t.update({TENSOR: t[TENSOR].half()}), "got 8 x 8 of float16; must be 8 x 8 of float32"),
    "another step": (
        lambda t: t.update({"final_norm.bias.step": torch.tensor(7.0)}),
        "final_norm.bias.step: must be 2, the steps done; got 7.0",
    ),
    "no random numbers": (lambda t: t.pop("random.cpu"), "random.cpu: is missing"),
    "few random numbers": (
        lambda t: t.update({"random.cpu": t["random.cpu"][:9].clone()}),
        "random.cpu: does not match its weight",
    ),
    "zeros as random numbers": (
        lambda t: t["random.cpu"].zero_(),
        "random.cpu: is not a valid state of random numbers: ",
    ),
    "a mean that is NaN": (lambda t: t[TENSOR][0].fill_(math.nan), f"{TENSOR}: has a number that is not finite"),
    "a mean that is infinite": (lambda t: t[TENSOR][0].fill_(-math.inf), f"{TENSOR}: has a number that is not finite"),
    "squares that are NaN": (
        lambda t: t[f"{TENSOR}_sq"][0].fill_(math.nan),
        f"{TENSOR}_sq: has a number that is not finite",
    ),
    "squares below zero": (
        lambda t: t[f"{TENSOR}_sq"][0].fill_(-0.5),
        f"{TENSOR}_sq: has a negative number, and it averages squares; got -0.5",
    ),
}


@pytest.mark.parametrize("how", MOMENTS)
def test_moments_that_are_not_those_of_the_weights_are_one_line(how, runs):
    change, said = MOMENTS[how]
    path = runs / NEW / "optimizer.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)
    (runs / NEW / "tokenizer.json").unlink()
    state = json.loads((runs / NEW / "state.json").read_text())
    del state["files"]["tokenizer.json"]
    (runs / NEW / "state.json").write_text(json.dumps(state))
    reseal(runs / NEW)
    done = ask("train", "--from", str(runs))
    assert (done.code, done.err.count("\n")) == (2, 1), done.err
    assert done.err.startswith(f"{path}: ")
    assert said in done.err


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_weight_that_is_not_finite_is_named_before_the_first_step(value, runs):
    path = plain(runs) / NEW / "model.safetensors"
    tensors = load_file(path)
    tensors["final_norm.weight"][0] = value
    save_file(tensors, path)
    reseal(runs / NEW)
    done = ask("train", "--from", str(runs))
    assert (done.code, done.err.count("\n")) == (2, 1), done.err
    assert done.err.startswith(f"{path}: final_norm.weight: has a number that is not finite")


# What is not a checkpoint hides none


def plain(runs):
    """Without the file that is not a tokenizer, so that a training can go on."""
    for step in (OLD, NEW):
        (runs / step / "tokenizer.json").unlink()
        state = json.loads((runs / step / "state.json").read_text())
        del state["files"]["tokenizer.json"]
        (runs / step / "state.json").write_text(json.dumps(state))
        reseal(runs / step)
    return runs


def stray_weights(path):
    path.mkdir()
    save_file({"x": torch.zeros(1)}, path / "model.safetensors")


STRAYS = {
    "an empty folder": lambda path: path.mkdir(),
    "a file": lambda path: path.write_text("x"),
    "a folder of notes": lambda path: (path.mkdir(), (path / "notes.txt").write_text("x")),
    "a link that leads nowhere": lambda path: path.symlink_to("nowhere"),
    "weights alone": stray_weights,
    "a copy of another step": lambda path: shutil.copytree(path.parent / NEW, path),
}


@pytest.mark.parametrize("how", STRAYS)
@pytest.mark.parametrize("name", ["step-99999999", "step-00000003"])
def test_a_stray_hides_no_good_one_and_is_told(name, how, runs):
    plain(runs)
    STRAYS[how](runs / name)
    done = ask("generate", str(runs), "-p", "x", "--max-tokens", "1")
    assert done.code == 0, done.err
    assert done.err.startswith(f"skipped: {runs / name}")
    assert f"; {NEW} is used\n" in done.err
    if name == "step-99999999":
        going = ask("train", "--from", str(runs), "--every", "1")
        assert going.code == 0, going.err
        assert {"step-00000003", "step-00000004", name} == {one for one in os.listdir(runs) if one[0] != "."}


def test_what_is_named_otherwise_is_no_checkpoint(runs):
    for name in ("step-2", "step-000000002", "step-00000002x", "step-00000009.yaml"):
        shutil.copytree(runs / NEW, runs / name)
    assert list(checkpoints.steps_in(runs)) == [1, 2]


def test_the_newest_is_so_by_number_and_not_by_name(runs):
    for step in (99_999_999, 100_000_000, 7):
        shutil.copytree(runs / NEW, runs / checkpoints.name_of(step))
    assert checkpoints.newest(runs, lambda _: None).path.name == "step-100000000"


def test_a_damaged_newest_is_written_anew_when_its_step_comes_again(runs):
    plain(runs)
    whole = (runs / NEW / "model.safetensors").read_bytes()
    flip(runs / NEW / "model.safetensors", 500)
    done = ask("train", "--from", str(runs), "--every", "1")
    assert done.code == 0, done.err
    assert "continuing after step 1 " in done.err
    assert sorted(os.listdir(runs)) == [".lock", "step-00000003", "step-00000004"]
    assert len(whole) == (runs / "step-00000004" / "model.safetensors").stat().st_size
    assert checkpoints.intact(runs / "step-00000004").step == 4


def test_a_folder_that_has_none_but_strays_says_so(tmp_path):
    (tmp_path / "step-00000009").mkdir()
    done = ask("train", "--from", str(tmp_path))
    assert (done.code, done.err.count("\n")) == (3, 1)


def test_a_question_about_the_spec_needs_no_weights_to_be_read(runs):
    """Gigabytes are not hashed for a count: its spec and its state are."""
    flip(runs / NEW / "model.safetensors", 300)
    done = ask("params", str(runs), "-f", "json")
    assert done.code == 0, done.err
    flip(runs / NEW / "spec.yaml", 3)
    flip(runs / OLD / "spec.yaml", 3)
    assert ask("params", str(runs)).code == 2


def test_a_folder_that_is_removed_during_the_training_comes_back_with_its_lock(original, tmp_path):
    """Another process finds it held, as before."""
    pytest.importorskip("fcntl")
    text = Path(original).parent / "text"
    stream = Stream((torch.frombuffer(bytearray(text.read_bytes()), dtype=torch.uint8).numpy(),))
    data = Data(stream, 8, 0, "bytes")
    run = Trainer(archcalc.load(SPEC), checkpoints.Settings(steps=4, batch=2, sequence=8, rate=1e-2, warmup=1), data)
    learned = checkpoints.Learned(files=[str(text)], data_as=None, kind="bytes", fingerprint=data.fingerprint())
    out = tmp_path / "out"
    hold = f"import pathlib\nfrom archcalc_reference.training.locking import alone\nwith alone(pathlib.Path({str(out)!r})): pass"
    other = [sys.executable, "-c", hold]
    with locking.alone(out):
        run.step()
        run.save(out, learned)
        shutil.rmtree(out)
        run.step()
        run.save(out, learned)
        assert (out / ".lock").exists()
        refused = subprocess.run(other, capture_output=True, text=True, check=False)
        assert "another training is writing there" in refused.stderr
    with locking.alone(out):
        pass
