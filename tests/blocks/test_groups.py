"""What the catalogue does not have yet and the next models need: unlike layers, shared heads, heads of any width."""

import gc
from contextlib import contextmanager
from typing import Literal

import pytest
from command import ask

import archcalc
from archcalc.blocks import Experts, GatedMLP, LayerNorm, PlainMLP, registered
from archcalc.blocks.mlp import MLP
from archcalc.errors import TapeError
from archcalc.tape.ops import Op, Weight

TWO_GROUPS = """
schema: 0
name: two-groups
source: "this test"
vocab_size: 10
context_length: 7
d_model: 6
embedding: {positions: learned}
layers:
  - repeat: 2
    norm: {kind: layernorm, bias: false}
    attention: {kind: multi_head, n_heads: 4, n_kv_heads: 2, d_head: 5, bias: false}
    mlp: {kind: plain, d_ff: 11, activation: gelu_tanh, bias: true}
  - repeat: 3
    norm: {kind: layernorm, bias: true}
    attention: {kind: multi_head, n_heads: 1, n_kv_heads: 1, d_head: 3, bias: true}
    mlp: {kind: plain, d_ff: 13, activation: gelu, bias: false}
final_norm: {kind: layernorm, bias: true}
unembedding: {tied: false, bias: true}
"""


def two_groups(tmp_path):
    path = tmp_path / "two.yaml"
    path.write_text(TWO_GROUPS)
    return path


def test_two_unlike_groups_with_shared_heads_of_odd_width_count_by_hand(tmp_path):
    counts = archcalc.params(archcalc.load(two_groups(tmp_path)))
    d, v = 6, 10
    first = 2 * d + (4 * 5 * d + 2 * 2 * 5 * d + d * 4 * 5) + (2 * d * 11 + 11 + d)
    second = 2 * 2 * d + (4 * 3 * d + 3 * 3 + d) + 2 * d * 13
    assert counts.stored == v * d + 7 * d + 2 * first + 3 * second + 2 * d + v * d + v
    tally = {c.category: c for c in counts.tally.categories}
    assert [(s.rows, s.columns, s.matrices) for s in tally["key"].shapes] == [(5, 6, 2 * 2), (3, 6, 3)]
    assert [(s.rows, s.columns, s.matrices) for s in tally["query"].shapes] == [(5, 6, 2 * 4), (3, 6, 3)]
    assert [(s.rows, s.columns, s.matrices) for s in tally["output"].shapes] == [(6, 20, 2), (6, 3, 3)]
    assert tally["up_projection"].parameters == 2 * 11 * 6 + 3 * 13 * 6
    assert counts.tally.matrices == 2 + 2 * (4 + 2 + 2 + 1 + 2) + 3 * (1 + 1 + 1 + 1 + 2)


def test_two_groups_show_a_row_for_each_shape(tmp_path):
    path = str(two_groups(tmp_path))
    table = ask("params", path)
    assert table.code == 0
    rows = [line for line in table.out.splitlines() if " x " in line]
    assert len(rows) == 2 + 6 * 2
    key = next(c for c in ask("params", path, "-f", "json").json["tally"]["categories"] if c["category"] == "key")
    assert (key["rows"], key["columns"]) == (None, None)
    assert [s["rows"] for s in key["shapes"]] == [5, 3]
    tensors = ask("params", path, "--by", "tensor", "-f", "json").json["tensors"]
    up = [t for t in tensors if t["name"] == "layers.{i}.mlp.up.weight"]
    assert [(t["first_layer"], t["layers"], t["shape"]) for t in up] == [(0, 2, [11, 6]), (2, 3, [13, 6])]
    assert "2-4" in ask("params", path, "--by", "layer").out


def test_alike_groups_share_a_row(tmp_path):
    path = tmp_path / "alike.yaml"
    layer = TWO_GROUPS.split("layers:\n")[1].split("  - repeat: 3", maxsplit=1)[0]
    path.write_text(
        TWO_GROUPS.split("layers:\n", maxsplit=1)[0]
        + "layers:\n"
        + layer
        + layer
        + TWO_GROUPS[TWO_GROUPS.index("final_norm") :]
    )
    key = next(c for c in archcalc.params(archcalc.load(path)).tally.categories if c.category == "key")
    assert [(s.rows, s.columns, s.matrices, s.parameters) for s in key.shapes] == [
        (5, 6, 2 * 2 * 2, 2 * 2 * 2 * 5 * 6)
    ]


def test_the_report_has_a_line_for_each_group(tmp_path):
    out = ask("report", str(two_groups(tmp_path))).out
    assert "2 layers: 4 heads of 5 over 2 key/value heads; d_ff 11 (gelu_tanh) + biases; layernorm" in out
    assert "3 layers: 1 head of 3 + biases; d_ff 13 (gelu); layernorm + biases" in out
    assert "untied unembedding + bias" in " ".join(out.split())
    assert "Published" not in out


def test_terms_that_a_model_lacks_are_no_steps_of_its_bridge():
    model = archcalc.load("tiny@tied=false,layers.0.attention.bias=false,layers.0.mlp.bias=false")
    assert [term.name for term in archcalc.params(model).bridge] == ["positions", "norms"]
    assert [term.name for term in archcalc.params(archcalc.load("tiny")).bridge] == [
        *("tied unembedding", "positions", "biases", "norms")
    ]


def test_tensors_outside_the_layers_have_no_first_layer():
    tensors = archcalc.params(archcalc.load("tiny")).tensors
    assert {t.name for t in tensors if t.first is None} == {
        *("embedding.token.weight", "embedding.position.weight", "final_norm.weight", "final_norm.bias")
    }


def shared(path, axes, part="up_projection"):
    """An MLP that all layers share: its path has no {i}."""
    return lambda _, tape, x: tape.view(tape.contract("product", "B S D", x, Weight.of(path, axes, part)), S="N")


def test_a_weight_that_all_layers_share_is_stored_once(monkeypatch):
    plain = archcalc.params(archcalc.load("tiny"))
    monkeypatch.setattr("archcalc.spec.tapes._tapes", {})  # recorded by the block as it is
    monkeypatch.setattr(PlainMLP, "record", shared("shared.weight", "F D"))
    monkeypatch.setattr("archcalc.tape.recording.Tape.contract", contract_any)
    counts = archcalc.params(archcalc.load("tiny"))
    (one,) = [t for t in counts.tensors if t.name == "shared.weight"]
    assert (one.layers, one.first, one.parameters) == (1, None, 512 * 128)
    mlp = 5 * (2 * 512 * 128 + 512 + 128)
    assert counts.stored == plain.stored - mlp + 512 * 128
    assert {c.category: c.matrices for c in counts.tally.categories}["up_projection"] == 1


def test_one_path_with_two_shapes_is_an_error(monkeypatch):
    monkeypatch.setattr("archcalc.spec.tapes._tapes", {})  # recorded by the block as it is
    monkeypatch.setattr(PlainMLP, "record", shared("embedding.token.weight", "F D"))
    monkeypatch.setattr("archcalc.tape.recording.Tape.contract", contract_any)
    with pytest.raises(TapeError, match=r"^embedding.token.weight: stored once and used with two shapes$"):
        archcalc.params(archcalc.load("tiny"))


def contract_any(tape, name, out, *inputs, role="activation", **_):
    """contract without its check of sums, so that a test can write any weight down."""
    return tape._record(Op("contraction", inputs, tape._output(name, tuple(out.split()), role), tape._spans))


def test_a_kind_registers_once():
    assert registered(MLP) == {"plain": PlainMLP, "gated": GatedMLP, "experts": Experts}
    assert registered(PlainMLP) == {}
    with registering("another") as another:
        assert registered(MLP) == {"plain": PlainMLP, "gated": GatedMLP, "experts": Experts, "another": another[0]}
    with registering("plain"), pytest.raises(TypeError, match=r"^MLP 'plain' is registered twice$"):
        registered(MLP)
    assert registered(MLP) == {"plain": PlainMLP, "gated": GatedMLP, "experts": Experts}


@contextmanager
def registering(kind):
    """A class of a kind, which is registered while it is there."""
    found = [
        type("Another", (MLP,), {"__annotations__": {"kind": Literal[kind]}, "kind": kind, "__module__": __name__})
    ]
    yield found
    found.clear()
    gc.collect()


def test_blocks_of_one_branch_may_not_give_a_label_two_sizes(monkeypatch):
    monkeypatch.setattr(LayerNorm, "sizes", lambda _: {"K": 7})
    with pytest.raises(TapeError, match=r"^label 'K' has two sizes in one tape: 7 and 32$"):
        archcalc.params(archcalc.load("tiny"))


def test_two_branches_may_give_a_label_two_sizes(monkeypatch):
    model = archcalc.load("tiny")
    plain = archcalc.params(model)
    monkeypatch.setattr(PlainMLP, "sizes", lambda _: {"F": 512, "K": 7})
    model = archcalc.load("tiny")  # a layer keeps what its blocks told
    assert archcalc.params(model) == plain
    assert [segment.env["K'"] for segment in model.record().segments if segment.layers] == [7]


def test_many_groups_are_one_screen_and_quick(tmp_path):
    model = archcalc.load("tiny")
    one = model.layers[0]
    groups = tuple(
        one.model_copy(update={"repeat": 1, "mlp": one.mlp.model_copy(update={"d_ff": 8 + i // 8})})
        for i in range(1_200)
    )
    path = tmp_path / "many.yaml"
    path.write_text(archcalc.dump(model.model_copy(update={"layers": groups})))
    lines = ask("report", str(path)).out.splitlines()
    assert len(lines) <= 45
    assert any("and 147 more kinds of layer" in line for line in lines)
    assert any("150 shapes" in line for line in lines)
    alternating = model.model_copy(update={"layers": (groups[0], groups[8]) * 12})
    path.write_text(archcalc.dump(alternating))
    assert "12 layers: 4 heads of 32 + biases; d_ff 8 " in ask("report", str(path)).out
