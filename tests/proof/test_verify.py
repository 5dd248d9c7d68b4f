"""Counted equals built, tensor by tensor; and where it does not, verify says which."""

import subprocess
import sys

import pytest
from command import ask

import archcalc
from archcalc.blocks import MultiHead, PlainMLP
from archcalc.packages import install_command
from archcalc.spec.catalogue import names

pytest.importorskip("torch", reason="the reference is PyTorch")


QUICK = ("gpt2",)


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.prove) for name in names()]
)
def test_verify_passes_for_the_catalogue(name):
    answer = ask("verify", name, "-f", "json")
    assert answer.code == 0
    payload = answer.json
    assert (payload["schema"], payload["spec"], payload["passed"]) == (0, name, True)
    assert payload["not_compared"] == []
    if name.startswith(("gpt2", "gpt3", "tiny")):
        n_layers = archcalc.load(name).n_layers
        assert {c["what"]: c["measured"] for c in payload["checks"]}["tensors"] == 4 + 16 * n_layers
    assert all(set(c) >= {"what", "counted", "measured", "equal", "reason"} for c in payload["checks"])


def test_verify_shows_names_and_shapes_side_by_side_and_versions():
    import torch

    out = ask("verify", "gpt3-175b", "--tensors").out
    line = next(line for line in out.splitlines() if "mlp.up.weight" in line)
    assert line.split() == [
        "layers.{i}.mlp.up.weight,",
        "0",
        "to",
        "95",
        "49,152",
        "x",
        "12,288",
        "49,152",
        "x",
        "12,288",
        "=",
    ]
    assert "parameters 174,604,259,328 174,604,259,328 =" in " ".join(out.split())
    assert f"PyTorch {torch.__version__} on the meta device, Python {sys.version.split()[0]}" in out


def test_verify_without_names_takes_the_catalogue(monkeypatch):
    some = [name for name in names() if name.startswith("gpt2")]
    monkeypatch.setattr("archcalc.commands.verify.names", lambda: some)
    answer = ask("verify", "--tensors")
    assert answer.code == 0
    assert answer.out.startswith(f"{len(some)} specs: ")
    assert "FLOPs" not in answer.out


@pytest.mark.prove
def test_the_whole_catalogue_has_the_tensors_that_are_counted():
    answer = ask("verify", "--tensors")
    assert answer.code == 0
    assert answer.out.startswith(f"{len(names())} specs: ")


def test_a_tape_with_an_op_broken_is_named(monkeypatch):
    record = PlainMLP.record

    def broken(self, tape, x):
        linear = tape.linear
        tape.linear = lambda name, out, y, axes, **rest: linear(name, out, y, axes, **{**rest, "bias": name == "up"})
        return record(self, tape, x)

    monkeypatch.setattr("archcalc.spec.tapes._tapes", {})  # recorded by the block as it is
    monkeypatch.setattr(PlainMLP, "record", broken)
    answer = ask("verify", "gpt2")
    assert answer.code == 1
    assert "NOT COUNTED" in answer.out
    failed = [c for c in ask("verify", "gpt2", "-f", "json").json["checks"] if not c["equal"]]
    assert [c["what"] for c in failed] == ["parameters", "tensors", *(f"layers.{i}.mlp.down.bias" for i in range(12))]
    assert failed[0]["counted"] == 124_439_808 - 12 * 768
    assert failed[2] == {**failed[2], "counted": None, "measured": [768], "reason": "NOT COUNTED"}


def test_a_tape_with_a_wrong_shape_is_named(monkeypatch):
    monkeypatch.setattr(MultiHead, "sizes", lambda _: {"G": 12, "R": 1, "K": 64, "W": 63})
    failed = [c for c in ask("verify", "gpt2", "-f", "json").json["checks"] if not c["equal"]]
    assert [c["what"].split(",")[0] for c in failed] == ["parameters", "tally of matrices"] + [
        f"layers.{{i}}.attention.{name}" for name in ("value.weight", "value.bias", "output.weight")
    ]
    assert failed[2]["counted"] == [12 * 63, 768]
    assert failed[2]["measured"] == [768, 768]
    assert failed[2]["reason"] == "ANOTHER SHAPE"


def test_a_reference_with_one_layer_broken_is_named(monkeypatch):

    from archcalc_reference.model.layer import Layer
    from archcalc_reference.model.linear import Linear

    build = Layer.__init__

    def broken(self, d_model, layer, shared):
        build(self, d_model, layer, shared)
        broken.made += 1
        if broken.made == 4:
            self.mlp.up = Linear(d_model, layer.mlp.d_ff + 1, bias=True)
            del self.mlp.down

    broken.made = 0
    monkeypatch.setattr(Layer, "__init__", broken)
    answer = ask("verify", "gpt2", "-f", "json")
    assert answer.code == 1
    failed = {c["what"]: (c["counted"], c["measured"], c["reason"]) for c in answer.json["checks"] if not c["equal"]}
    assert {what: row for what, row in failed.items() if what.startswith("layers")} == {
        "layers.3.mlp.up.weight": ([3072, 768], [3073, 768], "ANOTHER SHAPE"),
        "layers.3.mlp.up.bias": ([3072], [3073], "ANOTHER SHAPE"),
        "layers.3.mlp.down.weight": ([768, 3072], None, "NOT BUILT"),
        "layers.3.mlp.down.bias": ([768], None, "NOT BUILT"),
    }


def test_two_broken_layers_of_one_kind_share_a_line():
    from archcalc.proof.witness import compare

    counts = archcalc.params(archcalc.load("tiny"))
    built = {
        t.name.replace("{i}", str(i)): t.shape if (t.name, i % 2) != ("layers.{i}.mlp.up.bias", 1) else (7,)
        for t in counts.tensors
        for i in (range(t.layers) if t.first is not None else [0])
    }
    rows = [c for c in compare(counts, built) if "mlp.up.bias" in c.what]
    assert [(c.what, c.equal) for c in rows] == [
        ("layers.0.mlp.up.bias and 2 more layers", True),
        ("layers.1.mlp.up.bias and 1 more layers", False),
    ]


def test_what_torch_cannot_hold_is_one_line():
    wide = "gpt2@d_model=4294967296,d_ff=4294967296,n_layers=1"
    answer = ask("verify", wide)
    assert answer.code == 2
    # heads keep the width, so a query is 2^32 by 2^32
    name = "layers.{i}.attention.query.weight"
    assert answer.err == f"gpt2: is too large for PyTorch: {name} has {2**64:,} elements\n"
    assert archcalc.params(archcalc.load(wide)).tally.categories[1].parameters == 2**64, "it counts all the same"


def test_more_layers_than_anyone_builds_are_refused(tmp_path):
    model = archcalc.load("tiny")
    path = tmp_path / "deep.yaml"
    path.write_text(
        archcalc.dump(
            model.model_copy(update={"layers": (model.layers[0].model_copy(update={"repeat": 10_000}),) * 3})
        )
    )
    assert (
        ask("verify", str(path)).err
        == "tiny: has 30,000 layers; verify runs at most 200; --tensors compares without running it\n"
    )
    assert ask("verify", str(path), "--tensors").err == "tiny: has 30,000 layers; verify builds at most 2,000\n"


def test_without_torch_verify_says_what_to_install():
    code = "import sys\nsys.modules['torch'] = None\nfrom archcalc.cli import main\nmain(['verify', 'gpt2'])\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == f"verify: needs the package torch; {install_command('torch')}\n"
