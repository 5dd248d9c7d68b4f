"""Weights: what transformers saves we read, what we save transformers reads, with equal logits; damage is one line."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from command import ask
from outside import gpt2_config

import archcalc
from archcalc import Invalid, Missing
from archcalc.packages import install_command

torch = pytest.importorskip("torch", reason="the reference is PyTorch")
transformers = pytest.importorskip("transformers", reason="the outside voice")
safetensors_torch = pytest.importorskip("safetensors.torch", reason="the extra `run`")

from archcalc_reference import Transformer  # noqa: E402
from archcalc_reference.model.generation import generate  # noqa: E402
from archcalc_reference.model.sampling import Sampling  # noqa: E402
from archcalc_reference.weights.folder import load_weights, no_weights, save_weights  # noqa: E402


def asked(**changes):
    """A small spec, changed."""
    sizes = {"n_layers": 3, "d_model": 48, "d_head": 12, "d_ff": 100, "vocab_size": 101, "context_length": 33}
    return "tiny@" + ",".join(f"{name}={value}" for name, value in {**sizes, **changes}.items())


SPEC, GROUPED = asked(), asked(n_kv_heads=2)
FILE, INDEX = "model.safetensors", "model.safetensors.index.json"


def gpt2_of(model, **settings):
    """GPT2LMHeadModel of a spec, with weights that give every part its say."""
    torch.manual_seed(0)
    theirs = transformers.GPT2LMHeadModel(gpt2_config(model, **settings)).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return theirs


def random_of(model):
    """Ours, with weights that give every part its say."""
    torch.manual_seed(0)
    ours = Transformer(model)
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return ours


@torch.no_grad()
def apart(one, other):
    """The largest difference of two models' logits on random tokens."""
    x = torch.randint(101, (2, 33), generator=torch.Generator().manual_seed(1))
    first, second = one(x).logits.float(), other(x).logits.float()
    assert first.std() > 0.5, "logits that are all alike prove nothing"
    return (first - second).abs().max()


@pytest.fixture(scope="module")
def theirs():
    return gpt2_of(archcalc.load(SPEC))


@pytest.fixture
def model():
    return archcalc.load(SPEC)


@pytest.fixture
def saved(theirs, tmp_path):
    """A folder that transformers saved."""
    theirs.save_pretrained(tmp_path / "w")
    return tmp_path / "w"


def tensors(folder):
    return safetensors_torch.load_file(folder / FILE)


def rewrite(folder, changed):
    safetensors_torch.save_file({name: t.contiguous() for name, t in changed.items()}, folder / FILE)


def refusal(model, folder, kind=Invalid):
    with pytest.raises(kind) as error:
        load_weights(model, str(folder))
    return str(error.value).replace(str(folder), "DIR")


# What is no regular file is refused at once: reading it would wait for ever, or never come to an end.


def bind_socket(path):
    where = os.getcwd()
    os.chdir(path.parent)  # the name of a socket has at most 107 bytes
    try:
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(path.name)
    finally:
        os.chdir(where)


NO_FILES = {
    "a pipe": (os.mkfifo if hasattr(os, "mkfifo") else None, "is a pipe, not a file"),
    "a device": (lambda path: path.symlink_to("/dev/zero"), "is a device, not a file"),
    "a socket": (bind_socket, "is a socket, not a file"),
    "a directory": (lambda path: path.mkdir(), "is a directory"),
}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes and devices of Unix")
@pytest.mark.parametrize("name", [FILE, INDEX, "model-00001-of-00002.safetensors", "config.json", "tokenizer.json"])
@pytest.mark.parametrize("kind", NO_FILES)
def test_what_is_no_regular_file_is_one_line_at_once(kind, name, tmp_path):
    spec = asked(n_layers=1, vocab_size=256)
    theirs = gpt2_of(archcalc.load(spec))
    sharded = name not in (FILE, "config.json", "tokenizer.json")
    theirs.save_pretrained(tmp_path, **({"max_shard_size": "60KB"} if sharded else {}))
    if "-of-" in name:
        name = sorted(path.name for path in tmp_path.glob("model-*.safetensors"))[0]
    (tmp_path / name).unlink(missing_ok=True)
    make, said = NO_FILES[kind]
    make(tmp_path / name)
    done = ask("predict", spec, "--weights", str(tmp_path), "-p", "Hello")
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1), done.err
    assert done.err.startswith(f"{tmp_path / name}: {said}")


# What transformers saves, we read.


@pytest.mark.parametrize("shards", [None, "60KB"], ids=["one file", "shards"])
def test_what_transformers_saves_has_the_same_logits_here(theirs, model, tmp_path, shards):
    theirs.save_pretrained(tmp_path, **({"max_shard_size": shards} if shards else {}))
    assert (len(list(tmp_path.glob("*.safetensors"))) > 3) == bool(shards)
    ours = load_weights(model, str(tmp_path))
    assert apart(theirs, ours) < 1e-4
    assert ours.unembedding.weight is ours.embedding.token.weight, "tied weights stay tied"
    assert all(p.requires_grad and p.is_contiguous() and p.dtype == torch.float32 for p in ours.parameters())


def test_names_without_their_prefix_masks_and_a_stored_head_are_read(theirs, model, saved):
    stored = {name.removeprefix("transformer."): tensor for name, tensor in tensors(saved).items()}
    stored["h.0.attn.bias"] = torch.ones(1, 1, 33, 33).tril()
    stored["h.2.attn.masked_bias"] = torch.tensor(-1e4)
    stored["lm_head.weight"] = stored["wte.weight"].clone()
    rewrite(saved, stored)
    ours = load_weights(model, str(saved))
    assert apart(theirs, ours) < 1e-4
    assert ours.unembedding.weight is ours.embedding.token.weight


def test_an_untied_head_is_its_own_both_ways(tmp_path):
    untied = archcalc.load(asked(tied="false"))
    theirs = gpt2_of(untied, tie_word_embeddings=False)
    theirs.save_pretrained(tmp_path / "theirs")
    ours = load_weights(untied, str(tmp_path / "theirs"))
    assert apart(theirs, ours) < 1e-4
    save_weights(ours, str(tmp_path / "ours"))
    assert apart(transformers.GPT2LMHeadModel.from_pretrained(tmp_path / "ours").eval(), ours) < 1e-4


def test_weights_keep_their_type_unless_one_is_asked_for(theirs, model, tmp_path):
    for dtype in (torch.bfloat16, torch.float16, torch.float64):
        gpt2_of(model).to(dtype).save_pretrained(tmp_path / "w")
        assert {p.dtype for p in load_weights(model, str(tmp_path / "w")).parameters()} == {dtype}
        cast = load_weights(model, str(tmp_path / "w"), dtype=torch.float32)
        assert {p.dtype for p in cast.parameters()} == {torch.float32}
        assert torch.equal(cast.embedding.token.weight.to(dtype), theirs.transformer.wte.weight.to(dtype))


def test_of_several_types_the_one_that_holds_all_is_taken(model, saved):
    stored = tensors(saved)
    rewrite(saved, {n: t.half() if n.endswith("c_fc.weight") else t.bfloat16() for n, t in stored.items()})
    assert {p.dtype for p in load_weights(model, str(saved)).parameters()} == {torch.float32}


def test_the_weights_are_in_memory_once(model, saved):
    """Bytes allocated at any time: the model, and one tensor that is being turned."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        ours = load_weights(model, str(saved))
    mapped = (saved / FILE).stat().st_size - 8 - int.from_bytes((saved / FILE).read_bytes()[:8], "little")
    events = [(e.start_ns(), e.nbytes()) for e in record.profiler.kineto_results.events() if e.name() == "[memory]"]
    changes = sorted(event for event in events if abs(event[1]) < mapped)  # the file's mapping is no memory of ours
    now = most = 0
    for _, change in changes:
        now += change
        most = max(most, now)
    held = sum(p.numel() * p.element_size() for p in ours.parameters())
    largest = max(t.numel() * t.element_size() for t in tensors(saved).values())
    assert held <= now
    assert most <= held + largest + 64 * len(changes), "64: what the allocator rounds up"


@pytest.mark.prove  # half a gigabyte; smaller ones are read and written in each run of the tests
def test_gpt2_itself_at_its_size(tmp_path):
    """124M weights: the names and shapes of the published checkpoint, there and back."""
    model = archcalc.load("gpt2")
    with torch.device("meta"):  # its own start draws each table twice
        theirs = transformers.GPT2LMHeadModel(transformers.GPT2Config()).eval()
    theirs.to_empty(device="cpu").tie_weights()
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.uniform_(-0.05, 0.05)
    theirs.save_pretrained(tmp_path / "theirs")
    ours = load_weights(model, str(tmp_path / "theirs"))
    x = torch.randint(50257, (1, 16))
    with torch.no_grad():
        expected = theirs(x).logits
        assert (ours(x).logits - expected).abs().max() < 1e-4
        greedy = theirs.generate(x, max_new_tokens=64, min_new_tokens=64, do_sample=False, pad_token_id=0)
        assert [step.tokens_N[0] for step in generate(ours, x[0].tolist(), 64, Sampling(0))] == greedy[0, 16:].tolist()
        save_weights(ours, str(tmp_path / "ours"))
        back = transformers.GPT2LMHeadModel.from_pretrained(tmp_path / "ours").eval()
        assert (back(x).logits - expected).abs().max() < 1e-4
    assert back.config.eos_token_id == 50256


# What we save, transformers and we read.


@pytest.mark.parametrize("activation", ["gelu_tanh", "gelu"])
def test_what_we_save_has_the_same_logits_in_transformers(tmp_path, activation):
    changed = archcalc.load(asked(activation=activation))
    group = changed.layers[0]
    norm = group.norm.model_copy(update={"epsilon": 1e-2})
    # Two groups of equal layers are one list of layers.
    groups = [group.model_copy(update={"norm": norm, "repeat": repeat}) for repeat in (1, 2)]
    changed = changed.model_copy(update={"layers": tuple(groups), "final_norm": norm})
    ours = random_of(changed)
    save_weights(ours, str(tmp_path / "w"))
    assert sorted(os.listdir(tmp_path / "w")) == ["config.json", FILE, "spec.yaml"]
    back, info = transformers.GPT2LMHeadModel.from_pretrained(tmp_path / "w", output_loading_info=True)
    assert not any(info.values())
    assert apart(back.eval(), ours) < 1e-4
    assert apart(load_weights(changed, str(tmp_path / "w")), ours) == 0
    assert archcalc.load(tmp_path / "w" / "spec.yaml") == changed


@pytest.mark.parametrize(
    "change",
    [
        {"n_kv_heads": 2},
        {"d_head": 8, "n_heads": 4, "n_kv_heads": 4},
        {"layers.0.attention.bias": "false"},
        {"final_norm.bias": "false"},
        {"unembedding.bias": "true"},
    ],
    ids=str,
)
def test_what_is_no_gpt2_is_saved_under_our_names_and_comes_back(tmp_path, change):
    other = archcalc.load(asked(**change))
    ours = random_of(other)
    save_weights(ours, str(tmp_path / "w"))
    assert sorted(os.listdir(tmp_path / "w")) == [FILE, "spec.yaml"]
    assert set(tensors(tmp_path / "w")) == {name for name, _ in ours.named_parameters()}
    assert apart(load_weights(other, str(tmp_path / "w")), ours) == 0
    assert archcalc.load(tmp_path / "w" / "spec.yaml") == other


def test_bf16_is_saved_as_bf16(model, tmp_path):
    save_weights(random_of(model).to(torch.bfloat16), str(tmp_path / "w"))
    assert {t.dtype for t in tensors(tmp_path / "w").values()} == {torch.bfloat16}
    assert transformers.GPT2LMHeadModel.from_pretrained(tmp_path / "w").dtype == torch.bfloat16


def test_a_tokenizer_goes_along_and_other_files_stay(model, tmp_path):
    source, target = tmp_path / "from", tmp_path / "w"
    source.mkdir()
    target.mkdir()
    for name in ("tokenizer.json", "merges.txt", "unrelated.txt"):
        (source / name).write_text(name)
    (target / "log.txt").write_text("a training's")
    save_weights(random_of(model), str(target), tokenizer_from=str(source))
    save_weights(random_of(model), str(target), tokenizer_from=str(target))
    assert sorted(os.listdir(target)) == [
        "config.json",
        "log.txt",
        "merges.txt",
        FILE,
        "spec.yaml",
        "tokenizer.json",
    ]
    assert (target / "tokenizer.json").read_text() == "tokenizer.json"


def test_a_folder_in_no_folder_or_a_file_is_told(model, tmp_path):
    ours = random_of(model)
    with pytest.raises(Missing, match=r"/no/w: cannot be written: its parent directory does not exist$"):
        save_weights(ours, str(tmp_path / "no" / "w"))
    (tmp_path / "f").touch()
    with pytest.raises(Invalid, match=r"/f: is not a directory$"):
        save_weights(ours, str(tmp_path / "f"))
    with pytest.raises(Missing, match=r"/nowhere: no such directory$"):
        save_weights(ours, str(tmp_path / "w"), tokenizer_from=str(tmp_path / "nowhere"))
    assert os.listdir(tmp_path) == ["f"]


FULL = """
import resource, sys, archcalc
from archcalc_reference import Transformer
from archcalc_reference.weights.folder import save_weights
ours = Transformer(archcalc.load(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
for folder in sys.argv[2:]:
    try:
        save_weights(ours, folder)
    except archcalc.Invalid as error:
        print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="limits of a process are Unix's")
def test_a_full_disk_leaves_the_old_files_as_they_were(model, tmp_path):
    there, new = str(tmp_path / "there"), str(tmp_path / "new")
    save_weights(random_of(model), there)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    done = subprocess.run(
        [sys.executable, "-c", FULL, SPEC, there, new], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout == "".join(f"{path}: cannot be written: File too large\n" for path in (there, new))
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert os.listdir(tmp_path) == ["there"], "neither a new nor a temporary folder is left"
    assert len(list(tmp_path.rglob("*"))) == 1 + len(before)


# What is wrong is told before a number is read.


def test_each_tensor_that_is_not_as_the_spec_has_it_is_one_line(model, saved):
    stored = tensors(saved)
    del stored["transformer.h.1.ln_1.bias"]
    stored["transformer.h.0.mlp.c_fc.weight"] = stored["transformer.h.0.mlp.c_fc.weight"].t()
    stored["transformer.extra"] = torch.zeros(2, 3)
    stored["transformer.wpe.weight"] = stored["transformer.wpe.weight"].int()
    rewrite(saved, stored)
    assert sorted(refusal(model, saved).splitlines()) == [
        "DIR/model.safetensors: transformer.extra: is not a tensor of tiny; got 2 x 3",
        "DIR/model.safetensors: transformer.h.0.mlp.c_fc.weight: is transposed; got 100 x 48; tiny expects 48 x 100",
        "DIR/model.safetensors: transformer.wpe.weight: has an unsupported type; got I32; supported: F64, F32, F16, BF16",
        "DIR: transformer.h.1.ln_1.bias: is missing; tiny expects 48",
    ]


def test_weights_of_another_model_are_one_line(saved):
    """40 tensors, of which the biases of three layers' mlp.up are as they should be."""
    line = refusal(archcalc.load(asked(d_model=96, d_head=24)), saved)
    assert "\n" not in line
    assert " of another model than tiny" in line
    assert ": 37 tensors differ, first transformer." in line


def test_weights_of_another_architecture_are_one_line(model, saved):
    rewrite(saved, {"model.embed_tokens.weight": torch.zeros(3, 3)})
    assert refusal(model, saved) == (
        "DIR: holds weights of another architecture: its tensors are named neither as those of gpt2 nor as archcalc's; "
        "got 'model.embed_tokens.weight'"
    )


def test_gpt2s_weights_are_no_model_of_fewer_key_heads(saved):
    assert refusal(archcalc.load(GROUPED), saved) == (
        "DIR: holds weights of another model than tiny: 6 tensors differ, first transformer.h.0.attn.c_attn.bias; "
        "got 144; tiny expects 96"
    )


def test_what_shapes_do_not_show_is_read_in_the_files_beside(model, saved, tmp_path):
    other = archcalc.load(asked(n_heads=2, n_kv_heads=2, d_head=24))
    assert refusal(other, saved) == "DIR/config.json: n_head: must be 2, as in tiny; got 4"
    config = json.loads((saved / "config.json").read_text())
    (saved / "config.json").write_text(json.dumps({**config, "activation_function": "gelu", "n_head": 2}))
    assert refusal(model, saved).splitlines() == [
        "DIR/config.json: n_head: must be 4, as in tiny; got 2",
        "DIR/config.json: activation_function: gives mlp.activation 'gelu', and tiny has 'gelu_tanh'; got 'gelu'",
    ]
    (saved / "config.json").write_text("{")
    assert refusal(model, saved).startswith("DIR/config.json:1:2: is not JSON")
    save_weights(random_of(archcalc.load(GROUPED)), str(tmp_path / "own"))
    other = archcalc.load(asked(n_kv_heads=2, activation="gelu"))
    assert refusal(other, tmp_path / "own") == (
        "DIR/spec.yaml: layers.0.mlp.activation: must be 'gelu', as in tiny; got 'gelu_tanh'"
    )


@pytest.mark.parametrize("layout", ["gpt2", "own"])
def test_a_tied_head_that_is_stored_must_be_the_table(model, tmp_path, layout):
    ours = random_of(model if layout == "gpt2" else archcalc.load(GROUPED))
    save_weights(ours, str(tmp_path / "w"))
    name, head = {
        "gpt2": ("transformer.wte.weight", "lm_head.weight"),
        "own": ("embedding.token.weight", "unembedding.weight"),
    }[layout]
    stored = tensors(tmp_path / "w")
    rewrite(tmp_path / "w", {**stored, head: stored[name].clone()})
    assert apart(load_weights(ours.spec, str(tmp_path / "w")), ours) == 0
    stored[head] = stored[name].clone()
    stored[head][100, 47] += 1
    rewrite(tmp_path / "w", stored)
    assert refusal(ours.spec, tmp_path / "w") == (
        f"DIR/model.safetensors: {head}: differs from {name}, and the spec ties them; "
        "unembedding.tied=false describes that model"
    )


@pytest.mark.parametrize("left", [0, 5, 100, 20_000, -1])
def test_a_truncated_file_is_one_line(model, saved, left):
    data = (saved / FILE).read_bytes()
    (saved / FILE).write_bytes(data[:left])
    line = refusal(model, saved)
    assert line.startswith(
        "DIR/model.safetensors: " + ("is empty" if left == 0 else "is not a complete safetensors file")
    )
    assert "\n" not in line


@pytest.fixture
def sharded(theirs, tmp_path):
    theirs.save_pretrained(tmp_path / "s", max_shard_size="60KB")
    return tmp_path / "s"


def test_a_missing_shard_is_named(model, sharded):
    gone = sorted(sharded.glob("*.safetensors"))[1]
    gone.unlink()
    assert refusal(model, sharded, Missing) == f"DIR/{gone.name}: no such file, although {INDEX} names it"


def test_a_truncated_shard_is_named(model, sharded):
    cut = sorted(sharded.glob("*.safetensors"))[1]
    cut.write_bytes(cut.read_bytes()[:-10])
    assert refusal(model, sharded).startswith(f"DIR/{cut.name}: is not a complete safetensors file: ")


def test_a_shard_without_what_it_should_have_is_named(model, sharded):
    index = json.loads((sharded / INDEX).read_text())
    first, other = sorted(set(index["weight_map"].values()))[:2]
    (sharded / other).write_bytes((sharded / first).read_bytes())
    lines = refusal(model, sharded).splitlines()
    assert any(line.startswith(f"DIR/{other}: ") and line.endswith(f": is also in {first}") for line in lines)
    assert any(
        line.startswith(f"DIR/{other}: ") and line.endswith(f"is missing, although {INDEX} places it here")
        for line in lines
    )


BAD_INDEX = {
    "truncated": (lambda text: text[:300], "DIR/model.safetensors.index.json:", "is not JSON"),
    "empty": (lambda _: "", "DIR/model.safetensors.index.json: is empty", ""),
    "no map": (lambda _: "{}", "DIR/model.safetensors.index.json: weight_map: must map each tensor to a file", ""),
    "another folder": (
        lambda _: '{"weight_map": {"a": "../b.safetensors"}}',
        "DIR/model.safetensors.index.json: a: must name a .safetensors file beside it; got '../b.safetensors'",
        "",
    ),
    "a pickle": (
        lambda _: '{"weight_map": {"a": "b.bin"}}',
        "DIR/model.safetensors.index.json: a: must name a .safetensors file beside it; got 'b.bin'",
        "",
    ),
}


@pytest.mark.parametrize(("damage", "start", "within"), BAD_INDEX.values(), ids=BAD_INDEX)
def test_a_damaged_index_is_one_line(model, sharded, damage, start, within):
    (sharded / INDEX).write_text(damage((sharded / INDEX).read_text()))
    line = refusal(model, sharded)
    assert line.startswith(start)
    assert within in line
    assert "\n" not in line


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "weights.pth"])
def test_a_pickle_is_refused_in_one_sentence(model, tmp_path, name):
    (tmp_path / name).write_bytes(b"cos\nsystem\n")
    assert refusal(model, tmp_path) == (
        f"DIR: holds {name} and no model.safetensors; pickles are not read, since they can run code; convert it "
        "if you trust it, with transformers: AutoModelForCausalLM.from_pretrained(DIR).save_pretrained(NEW)"
    )


def test_a_folder_without_weights_is_told(model, tmp_path):
    assert refusal(model, tmp_path, Missing) == f"DIR: has no weights: neither {FILE} nor {INDEX}"
    (tmp_path / "other.safetensors").touch()
    assert refusal(model, tmp_path, Missing) == f"DIR: has neither {FILE} nor {INDEX}; got 'other.safetensors'"
    assert refusal(model, tmp_path / "no", Missing) == "DIR: no such directory"
    assert "is not a directory" in refusal(model, Path(__file__))


def test_no_folder_at_all_names_the_ways_out():
    error = no_weights("gpt2")
    assert error.exit_code == 3
    assert str(error) == (
        "--weights: gpt2 has no weights in the current directory; `archcalc train gpt2` trains them, --weights DIR reads them; "
        "GPT-2's are published at huggingface.co/openai-community/gpt2"
    )


def test_without_the_package_the_extra_is_named(model, saved, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    assert refusal(model, saved, Missing) == f"weights: needs the package safetensors; {install_command('run')}"
