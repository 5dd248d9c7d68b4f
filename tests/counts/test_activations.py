"""Saved bytes and the cache: published formulas, arithmetic, relations. What PyTorch saves: test_saved_by_autograd."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import archcalc
from archcalc import strategies
from archcalc.counts.activations import cache, saved
from archcalc.tape.roles import widths
from archcalc.tape.run import Run

GIB = 2**30


def gpt3(batch=1, **run):
    return archcalc.load("gpt3-175b"), Run(batch=batch, sequence=2048, **run)


@pytest.mark.parametrize(("a", "h", "s", "b"), [(96, 12288, 2048, 1), (16, 2048, 1024, 4), (8, 512, 128, 3)])
def test_the_formulas_of_korthikanti_et_al(a, h, s, b):
    """arXiv:2205.05198, eq. 2 and table 2: 34sbh + 5as^2b, 34sbh, 2sbh; one-byte masks, no statistics of norms."""
    model = archcalc.load(f"gpt3-175b@d_model={h},n_heads={a},d_head={h // a}")
    run = Run(batch=b, sequence=s, dropout=True)
    width = {**widths(2), "statistic": 0}
    layers = {rule: saved(model, run, width, rule).layers for rule in ("none", "selective", "full")}
    assert layers == {
        "none": 96 * (34 * s * b * h + 5 * a * s * s * b),
        "selective": 96 * 34 * s * b * h,
        "full": 96 * 2 * s * b * h,
    }


def test_what_recomputation_drops_is_its_working_set():
    model, run = gpt3()
    none, selective, full = (saved(model, run, widths(2), rule) for rule in ("none", "selective", "full"))
    assert none.working_set == 0
    # Queries, keys and values, kept as they were made, and copied again into the order of heads
    copied = 3 * 2 * 2048 * 12288
    assert selective.layers + 96 * (selective.working_set - copied) == none.layers
    assert full.layers + 96 * full.working_set == none.layers
    assert selective.working_set == 2 * 96 * 2048 * 2048 + copied  # the probabilities of one layer


def test_gpt3_saves_what_pytorch_saves_part_by_part():
    model, run = gpt3(attention="flash")
    s, h, f, a, v, layers = 2048, 12288, 49152, 96, 50257, 96
    found = saved(model, run, widths(2))
    layer = 2 * s * (8 * h + 2 * f) + 4 * a * s + 16 * s  # as the CPU's kernel; the CUDA one keeps 24 bytes more
    assert found.layers == layers * layer
    assert found.embedding == 8 * s + 8 * s  # token and position numbers
    assert (
        found.head == 2 * 2 * s * h + 8 * s + 4 * s * v + 8 * s + 4
    )  # final norm in and out, statistics, loss, targets
    assert found.total / GIB == pytest.approx(72.550, abs=5e-4)
    assert saved(model, run, widths(2), "full").total / GIB == pytest.approx(4.977, abs=5e-4)


def test_gpt3_caches_4_5_mib_a_token_in_bf16():
    model, run = gpt3()
    assert cache(model, run, 2) == 2048 * 4.5 * 2**20
    assert cache(model, Run("decode", 3, context=100), 2) == 3 * 100 * 4.5 * 2**20


@given(strategies.models(), st.sampled_from(["math", "flash"]))
def test_saved_bytes_grow_with_the_batch_and_nothing_else_does(model, attention):
    def layers(batch):
        return saved(model, Run(batch=batch, sequence=model.context_length, attention=attention), widths(2)).layers

    assert layers(6) == 6 * layers(1)


@given(strategies.models())
def test_recomputing_saves_no_more_than_not(model):
    run = Run(sequence=model.context_length)
    none, selective, full = (saved(model, run, widths(2), rule).total for rule in ("none", "selective", "full"))
    assert full <= selective <= none


@pytest.mark.parametrize("rule", ["none", "selective", "full"])
def test_ints_and_arrays_agree(rule):
    widest, model = [64, 128, 4096], archcalc.load("tiny@context_length=256")
    run = Run(batch=3, sequence=200)
    array = saved(model.model_copy(update={"d_model": np.array(widest)}), run, widths(2), rule)
    for i, width in enumerate(widest):
        exact = saved(model.model_copy(update={"d_model": width}), run, widths(2), rule)
        for one, many in zip(exact, array, strict=True):
            assert np.broadcast_to(many, 3)[i] == one
    assert cache(model, run._replace(sequence=np.array([5, 7])), 2).tolist() == [
        cache(model, run._replace(sequence=n), 2) for n in (5, 7)
    ]


def test_groups_of_layers_add_up():
    model, run = archcalc.load("tiny"), Run(sequence=64)
    once, twice = (
        saved(model, run, widths(2)),
        saved(model.model_copy(update={"layers": model.layers * 2}), run, widths(2)),
    )
    assert (twice.layers, twice.head, twice.embedding) == (2 * once.layers, once.head, once.embedding)
