"""Passes: which layers a segment stands for, and how segments that alternate follow each other."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import archcalc
from archcalc.counts.flops import flops
from archcalc.counts.parameters import params
from archcalc.tape.formula import Formula
from archcalc.tape.passes import Layers, Pass, recorded, sequence
from archcalc.tape.run import Run

# Layers of a kind, their indices, and how a report says them.
SAID = {
    "one": (Layers(0, 1), [0], "0"),
    "alike": (Layers(0, 96), [*range(96)], "0-95"),
    "after others": (Layers(12, 4), [12, 13, 14, 15], "12-15"),
    "every second": (Layers(0, 41, 2, (0,)), [*range(0, 41, 2)], "0, 2, ..., 40"),
    "every second but the first": (Layers(0, 42, 2, (1,)), [*range(1, 42, 2)], "1, 3, ..., 41"),
    "few of every second": (Layers(0, 6, 2, (1,)), [1, 3, 5], "1, 3, 5"),
    "five of six": (
        Layers(0, 62, 6, (0, 1, 2, 3, 4)),
        [i for i in range(62) if i % 6 != 5],
        "0-4, 6-10, ..., 60-61",
    ),
    "the sixth": (Layers(0, 62, 6, (5,)), [*range(5, 62, 6)], "5, 11, ..., 59"),
    "after others, every third": (Layers(7, 5, 3, (0, 2)), [7, 9, 10], "7, 9-10"),
    "a pattern longer than the group": (Layers(0, 2, 5, (1, 3, 4)), [1], "1"),
    "both ends of a pattern": (Layers(0, 4, 4, (0, 3)), [0, 3], "0, 3"),
}


@pytest.mark.parametrize(("layers", "indices", "text"), SAID.values(), ids=SAID)
def test_layers_are_counted_listed_and_said(layers, indices, text):
    assert layers.indices() == indices
    assert layers.count == len(indices)
    assert layers.start == indices[0]
    assert str(layers) == text


@st.composite
def groups(draw):
    """A group of layers of several kinds: its size, and the kind at each offset."""
    period = draw(st.integers(1, 7))
    return draw(st.integers(1, 40)), draw(st.lists(st.integers(0, 2), min_size=period, max_size=period))


@given(groups(), st.integers(0, 50))
def test_each_layer_of_a_group_is_of_one_kind(drawn, first):
    size, kinds = drawn
    offsets = {kind: tuple(i for i, one in enumerate(kinds) if one == kind) for kind in set(kinds)}
    layers = {kind: Layers(first, size, len(kinds), at) for kind, at in offsets.items()}
    expected = {kind: [first + i for i in range(size) if kinds[i % len(kinds)] == kind] for kind in layers}
    assert {kind: one.indices() for kind, one in layers.items()} == expected
    assert {kind: one.count for kind, one in layers.items()} == {kind: len(at) for kind, at in expected.items()}


@given(groups())
def test_arrays_of_group_sizes_count_each_row_by_itself(drawn):
    most, kinds = drawn
    sizes = np.arange(1, most + 1)
    for kind in set(kinds):
        at = tuple(i for i, one in enumerate(kinds) if one == kind)
        for column in (sizes, sizes * 1.0):
            found = np.broadcast_to(Layers(0, column, len(kinds), at).count, len(sizes))
            assert found.tolist() == [Layers(0, n, len(kinds), at).count for n in sizes.tolist()]


def test_letters_of_layers_say_the_layers_that_they_stand_for():
    alike = Layers(0, 96).lettered(Formula.letter("L", 96), Formula.of(0))
    assert (str(alike.count), alike.count.value, str(alike)) == ("L", 96, "0-95")
    every_second = Layers(0, 42, 2, (1,)).lettered(Formula.letter("L2", 21), Formula.of(0))
    assert (str(every_second.count), every_second.count.value, str(every_second)) == ("L2", 21, "1, 3, ..., 41")
    assert every_second.of(1) == 21


def spec(*layers):
    model = archcalc.load("tiny").model_dump()
    return archcalc.Model.model_validate(model | {"layers": layers})


LAYER = archcalc.load("tiny").layers[0].model_dump(exclude={"repeat"})
WIDE = LAYER | {"mlp": LAYER["mlp"] | {"d_ff": 7}}


def test_a_pass_has_a_segment_for_each_kind_of_layers():
    model = spec(
        {"repeat": 2, **LAYER},
        {"repeat": 7, "pattern": ["a", "a", "b"], "kinds": {"a": LAYER, "b": WIDE}},
        {"repeat": 1, "pattern": ["a", "b"], "kinds": {"a": LAYER, "b": WIDE}},
    )
    taken = model.record()
    assert [(one.name, one.repeat, one.layers and str(one.layers)) for one in taken.segments] == [
        ("embedding", 1, None),
        ("layers", 2, "0-1"),
        ("layers", 5, "2-3, 5-6, 8"),
        ("layers", 2, "4, 7"),
        ("layers", 1, "9"),  # of a kind that the pattern comes to only later there is none
        ("head", 1, None),
    ]
    assert [one.places for one in taken.segments] == [
        (("embedding",),),
        (("layers", 0),),
        (("layers", 1, "kinds", "a"),),
        (("layers", 1, "kinds", "b"),),
        (("layers", 2, "kinds", "a"),),
        (("unembedding",),),
    ]
    assert [len(group) for group in taken.groups] == [1, 1, 2, 1, 1]
    assert [one.env["F"] for one in sequence(taken.groups[2])] == [512, 512, 7]


def test_kinds_that_differ_in_sizes_alone_share_a_tape():
    one, two = (s for s in spec({"repeat": 2, **LAYER}, {"repeat": 1, **WIDE}).record().segments if s.layers)
    assert one.tape is two.tape
    assert (one.env["F"], two.env["F"]) == (512, 7)


def test_a_pass_is_counted_as_its_model_is_and_gives_passes_of_other_runs():
    model, run = archcalc.load("tiny"), Run(batch=3, sequence=5, attention="math")
    taken = model.record(run)
    assert recorded(taken) is taken
    assert taken.rerun(run) is taken
    assert recorded(taken, Run("decode", context=7)).run == Run("decode", context=7)
    assert params(taken) == params(model)
    assert flops(taken, run) == flops(model, run)
    assert isinstance(recorded(model), Pass)


def test_a_segment_with_other_sizes_derives_the_rest_anew():
    model = spec({"repeat": 1, **LAYER, "attention": LAYER["attention"] | {"window": 8}})
    (segment,) = (one for one in model.record(Run("decode", context=32)).segments if one.layers)
    assert (segment.stated["T"], segment.env["T"]) == (32, 8)
    other = segment.replace(stated={**segment.stated, "window": 16})
    assert (other.env["T"], segment.env["T"]) == (16, 8)
    assert other.tape is segment.tape
