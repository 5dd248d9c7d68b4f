"""A view is the same numbers under other labels: on one device nothing happens, and what was viewed is read itself."""

import pytest

from archcalc.blocks import GatedMLP, MultiHead
from archcalc.errors import TapeError
from archcalc.tape.ops import Op, Tensor, Weight
from archcalc.tape.recording import Tape
from archcalc.tape.run import Run
from archcalc.tape.views import resolve

X = Tensor("x", ("B", "S", "D"))


def names(ops):
    return [op.output.name for op in ops]


def test_a_view_is_an_op_of_its_own_that_is_gone_once_resolved():
    t = Tape(Run())
    y = t.pointwise("y", X)
    seen = t.view(y, S="N")
    z = t.pointwise("z", seen)
    assert (seen.labels, seen.role, z.labels) == (("B", "N", "D"), "activation", ("B", "N", "D"))
    assert [op.kind for op in t.ops] == ["pointwise", "view", "pointwise"]
    view = t.ops[1]
    assert (view.inputs, view.passes, view.saves, view.per_point, view.weights) == ((y,), True, (), 0, ())
    assert names(t.resolved) == ["y", "z"]
    assert t.resolved[1].inputs == (Tensor("y", ("B", "N", "D")),)  # read where it was made, under the new labels


def test_a_view_of_a_view_reads_what_was_made_first():
    t = Tape(Run())
    y = t.pointwise("y", X)
    t.pointwise("z", t.view(t.view(y, S="N"), N="T"))
    assert len(t.ops) == 4
    assert t.resolved[-1].inputs == (Tensor("y", ("B", "T", "D")),)


def test_a_view_of_what_was_there_before_the_pass_reads_that():
    t = Tape(Run())
    t.pointwise("y", t.view(X, S="N"))
    assert t.resolved[0].inputs == (Tensor("x", ("B", "N", "D")),)


def test_the_same_view_twice_is_one():
    t = Tape(Run())
    y = t.pointwise("y", X)
    assert t.view(y, S="N") is not y
    assert t.view(y, S="N") == t.view(y, S="N")
    assert len(t.ops) == 2


def test_a_view_in_another_role_makes_what_was_made_of_that_role():
    t = Tape(Run())
    y = t.pointwise("y", X)
    kept = t.view(y, "cache", S="T")
    t.pointwise("z", kept, saves=(kept,))
    assert (kept.labels, kept.role) == (("B", "T", "D"), "cache")
    made, read = t.resolved
    assert made.output == Tensor("y", ("B", "S", "D"), "cache")
    assert read.inputs == read.saves == (Tensor("y", ("B", "T", "D"), "cache"),)
    assert t.ops[0].output.role == "activation"  # as it was recorded


def test_what_a_view_s_reader_saves_is_what_was_made():
    t = Tape(Run())
    y = t.pointwise("y", X)
    seen = t.view(y, S="N")
    t.pointwise("z", seen, saves=(seen,), keeps=True)
    assert [(x.name, x.labels) for x in t.resolved[-1].saves] == [("y", ("B", "N", "D")), ("z", ("B", "N", "D"))]


def test_regroup_gives_labels_that_are_no_renaming():
    t = Tape(Run())
    y = t.pointwise("y", X)
    dealt = t.regroup(y, "N D")
    t.pointwise("z", dealt)
    assert dealt.labels == ("N", "D")
    assert t.ops[1] == Op("view", (y,), Tensor("y.as_N_D", ("N", "D")), (), passes=True)
    assert t.resolved[-1].inputs == (Tensor("y", ("N", "D")),)
    assert t.regroup(y, "N S D", role="buffer").role == "buffer"


def test_what_has_no_such_label_cannot_be_viewed():
    t = Tape(Run())
    with pytest.raises(TapeError, match=r"^x: no label 'N' among 'B S D'$"):
        t.view(X, N="S")
    with pytest.raises(TapeError, match=r"'B D D': a label stands twice$"):
        t.view(X, S="D")
    with pytest.raises(TapeError, match=r"^'N lost': 'lost' is not in the legend$"):
        t.regroup(X, "N lost")


def test_ops_without_views_are_as_they_were():
    t = Tape(Run())
    t.contract("z", "B S V", t.pointwise("y", X), Weight.of("w", "V D", "unembedding"))
    assert resolve(t.ops) == t.ops


def test_what_is_recorded_after_a_look_is_resolved_too():
    t = Tape(Run())
    t.view(t.pointwise("y", X), S="N")
    assert names(t.resolved) == ["y"]
    assert t.resolved is t.resolved
    t.pointwise("z", X)
    assert names(t.resolved) == ["y", "z"]


# A weight that is read under other labels than it is stored with: stored labels are its shape, read labels the work.


def test_a_weight_is_read_under_other_labels_and_stored_under_its_own():
    stored = Weight.of("table", "V D", "embedding")
    read = stored.relabel(V="F")
    assert (read.labels, read.axes, read.path) == (("V", "D"), (("V",), ("D",)), "table")
    assert (stored.read_labels, read.read_labels) == (("V", "D"), ("F", "D"))
    assert read.relabel(F="V").read_labels == ("V", "D")
    with pytest.raises(TapeError, match=r"^table: no label 'V' among 'F D'$"):
        read.relabel(V="F")


def test_work_is_done_over_the_labels_that_are_read():
    t = Tape(Run())
    stored = Weight.of("table", "V D", "up_projection")
    t.contract("y", "B S F", X, stored.relabel(V="F"))
    (op,) = t.ops
    assert set(op.space) == {"B", "S", "D", "F"}
    assert op.weights[0].labels == ("V", "D")
    t.contract("z", "B S V", X, stored)  # one path, stored alike, read in two ways
    with pytest.raises(TapeError, match=r"^table: used with two shapes"):
        t.contract("u", "B S F", X, Weight.of("table", "F D", "up_projection"))


# Two blocks of one layer with labels of one name: those of the later are marked.


def test_labels_of_a_block_are_marked_wherever_they_stand():
    t = Tape(Run())
    with t.block({"F": "F'", "G": "G'"}):
        y = t.contract("up", "B S F", X, t.weight("up.weight", "F D", "up_projection"))
        heads = t.weight("query.weight", "(G R K) D", "query", each="G R")
        mask = t.given("slopes", "G S T", "constant")
        total = t.reduce("total", y, "F")
        regrouped = t.regroup(y, "N F")
        viewed = t.view(t.contract("keys", "B S G K", X, t.weight("key.weight", "(G K) D", "key")), S="T", G="N")
    assert y.labels == ("B", "S", "F'")
    assert (heads.axes, heads.each) == ((("G'", "R", "K"), ("D",)), ("G'", "R"))
    assert mask.labels == ("G'", "S", "T")
    assert total.labels == ("B", "S")
    assert regrouped.labels == ("N", "F'")
    assert viewed.labels == ("B", "T", "N", "K")
    assert t.contract("plain", "B S F", X, t.weight("w", "F D", "up_projection")).labels == ("B", "S", "F")


def test_a_block_inside_marks_and_the_one_outside_marks_again():
    t = Tape(Run())
    with t.block({"F": "F'"}):
        with t.block({"F": "F''"}):
            assert t.weight("a", "F", "biases").labels == ("F''",)
        assert t.weight("a", "F", "biases").labels == ("F'",)
    assert t.weight("a", "F", "biases").labels == ("F",)


def test_two_attentions_and_two_mlps_on_one_tape_share_no_size():
    heads = MultiHead(n_heads=1, n_kv_heads=1, d_head=1, bias=False)
    mlp = GatedMLP(d_ff=1, activation="silu", bias=True)
    mark = {label: f"{label}'" for label in ("G", "R", "K", "W", "T", "Q", "F", "kept")}
    t = Tape(Run())
    for name, own in (("one", {}), ("two", mark)):
        with t.block(own), t.scope(name):
            heads.record(t, X)
            mlp.record(t, X)
    one, two = ([op for op in t.ops if op.spans[0] == name] for name in ("one", "two"))
    for first, second in zip(one, two, strict=True):
        assert second.space == tuple(mark.get(label, label) for label in first.space)
        for plain, marked in zip(first.weights, second.weights, strict=True):
            assert marked.labels == tuple(mark.get(label, label) for label in plain.labels)
    scores = next(op for op in two if op.output.name.endswith("scores.product"))
    assert {"Q'", "G'", "R'", "K'"} < set(scores.space)  # positions read are those of the second too
    assert not {"S", "T", "Q"} & set(scores.space)
