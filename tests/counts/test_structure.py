"""Totals by the structure alone: for all models that differ in sizes what a pass of each would say."""

import pytest
from drawn import changed, layers_of, single
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

import archcalc
from archcalc.blocks.mlp import DenseMLP
from archcalc.counts import structure
from archcalc.counts.parameters import totals
from archcalc.counts.structure import totals_of
from archcalc.spec.catalogue import names
from archcalc.strategies import models


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch):
    monkeypatch.setattr(structure, "_known", {})


def scaled(model, factors):
    """The same structure in other sizes: all whole numbers of a part times the factor of its class."""

    def grown(part):
        factor = factors[hash(type(part).__name__) % len(factors)]
        numbers = {name: factor * value for name, value in part if type(value) is int and value > 0}
        return part.model_copy(update=numbers)

    return changed(model, BaseModel, grown)


@given(models(), st.lists(st.integers(1, 5), min_size=1, max_size=7), st.booleans())
def test_totals_by_structure_are_those_of_a_pass(model, factors, larger_first):
    structure._known.clear()
    pair = [model, scaled(model, factors)]
    for one in reversed(pair) if larger_first else pair:
        assert totals_of(one) == totals(one)
    assert len(structure._known) <= 1
    assert None not in structure._known.values()


def test_the_catalogue_has_fewer_structures_than_models():
    found = {}
    for name in names():
        model = archcalc.load(name)
        found[name] = totals_of(model)
        assert found[name] == totals(model), name
    assert len(structure._known) < len(found) / 2
    assert None not in structure._known.values()


def test_a_kind_without_a_layer_has_no_parameters():
    model = archcalc.load("gemma3-1b")
    (group,) = model.layers
    for repeat in (group.period - 1, group.period, 1):
        few = model.model_copy(update={"layers": (group.model_copy(update={"repeat": repeat}),)})
        assert totals_of(few) == totals(few)


def test_a_block_that_stands_twice_is_not_taken_for_two():
    """In Python one block may stand in two places; the next model of this structure has two, of different sizes."""
    model = archcalc.load("tiny")
    group = model.layers[0]
    wider = changed(group, DenseMLP, lambda mlp: mlp.model_copy(update={"d_ff": 7 * mlp.d_ff}))
    for layers in ((group, group), (group, wider), (wider, group)):
        other = model.model_copy(update={"layers": layers})
        assert totals_of(other) == totals(other)


def test_groups_that_are_counted_as_one():
    """So many that alike ones are; which are alike is told by their sizes."""
    model = archcalc.load("tiny")
    layer = single(layers_of(model)[0])
    wider = changed(layer, DenseMLP, lambda mlp: mlp.model_copy(update={"d_ff": 7 * mlp.d_ff}))
    for layers in ((layer,) * 200, (*(layer,) * 100, *(wider,) * 100)):
        other = model.model_copy(update={"layers": layers})
        assert totals_of(other) == totals(other)
