"""Korthikanti et al. 2022, arXiv:2205.05198: activations of a layer and of a first stage, formula against formula.

Theirs have no statistics of norms (two numbers a vector), so these have no width here.
"""

import pytest

import archcalc
from archcalc.counts.activations import saved
from archcalc.plan.description import Plan
from archcalc.plan.local import local
from archcalc.tape.legend import volume
from archcalc.tape.roles import widths
from archcalc.tape.run import Run

WIDTHS = {**widths(2), "statistic": 0}
SEQUENCE, VOCABULARY, TP = 2_048, 51_200, 8

# Table 3 of the paper: heads, hidden size, layers, pipeline stages, chunks of each, micro-batch.
SHAPES = {
    "22B": (64, 6_144, 48, 1, 1, 4),
    "175B": (96, 12_288, 96, 8, 3, 1),
    "530B": (128, 20_480, 105, 35, 3, 1),
    "1T": (160, 25_600, 128, 64, 1, 1),
}


def shape(name):
    a, h, layers, *_ = SHAPES[name]
    asked = f"n_layers={layers},d_model={h},n_heads={a},n_kv_heads={a},d_head={h // a},d_ff={4 * h}"
    return archcalc.load(f"gpt3-175b@{asked},vocab_size={VOCABULARY}")


def run(batch):
    return Run(batch=batch, sequence=SEQUENCE, attention="math", dropout=True)


def layers_saved(model, plan, batch, recompute="none"):
    taken = local(model.record(run(batch)), plan)
    return saved(taken, taken.run, WIDTHS, recompute).layers


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("t", [1, 2, 4, 8])
@pytest.mark.parametrize("b", [1, 2, 4])
def test_the_table_of_a_layer(name, t, b):
    """Table 2, each row times the layers."""
    a, h, layers, *_ = SHAPES[name]
    s, model = SEQUENCE, shape(name)
    tensor = Plan(tp=t)
    sequence = Plan(tp=t, sequence_parallel=t > 1)
    assert layers_saved(model, tensor, b) == layers * (10 * s * b * h + 24 * s * b * h // t + 5 * a * s * s * b // t)
    assert layers_saved(model, sequence, b) == layers * (34 * s * b * h + 5 * a * s * s * b) // t
    assert layers_saved(model, tensor, b, "selective") == layers * (10 * s * b * h + 24 * s * b * h // t)
    assert layers_saved(model, sequence, b, "selective") == layers * 34 * s * b * h // t
    assert layers_saved(model, tensor, b, "full") == layers * 2 * s * b * h


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("recompute", ["none", "selective"])
def test_the_first_stage_with_everything_that_it_holds(name, recompute):
    """Sections 4.2.3 and 4.3: L layers whatever the stages, 1 + (p - 1) / (p m) times with m chunks; the dropout of the
    embedding for each of p micro-batches; of one stage alone the last norm, the head's input and logits in fp32.
    """
    a, h, layers, p, m, b = SHAPES[name]
    s, t = SEQUENCE, TP
    plan = Plan(
        tp=t, sequence_parallel=True, pp=p, chunks=m, schedule="interleaved" if m > 1 else "1f1b", accumulation=8 * p
    )
    taken = local(shape(name).record(run(b)), plan, 0)
    at, found, masks = 0, 0, 0
    for count, held in taken.stage.chunks:
        part = type(taken)(taken.run, taken.segments[at : at + count], taken.source)
        at += count
        found += held * (saved(part, taken.run, WIDTHS, recompute).total - indices(part))
        masks += held * (part.segments[0].name == "embedding")
    each = 34 * s * b * h + (5 * a * s * s * b if recompute == "none" else 0)
    in_layers = each * layers * (p * m + p - 1) // (p * m) if m > 1 else each * layers
    ends = 4 * s * b * h + 4 * s * b * VOCABULARY if p == 1 else 0
    assert found == (in_layers + masks * s * b * h + ends) // t
    # The paper has p micro-batches in the embedding's term; interleaved schedules hold p - 1 more of the first chunk.
    assert masks == (2 * p - 1 if m > 1 else p)


def indices(taken):
    """Bytes of numbers of tokens, positions and targets, and of the one number that the mean divides by, which the
    paper leaves out.
    """
    long = {
        x.name: 8 * volume(x.labels, segment.env)
        for segment in taken.segments
        for op in segment.ops
        for x in op.saves
        if x.role == "index"
    }
    return sum(long.values()) + 4 * taken.ends


@pytest.mark.parametrize(
    ("name", "figures"),
    [
        ("22B", {"tp": 59.25, "tp+sp": 39.5625, "tp+selective": 29.25, "both": 9.5625, "full": 4.5}),
        ("175B", {"tp": 66.84375, "tp+sp": 41.4140625, "tp+selective": 37.78125, "both": 12.3515625, "full": 5.8125}),
    ],
)
def test_figure_1_in_gib(name, figures):
    """GiB of the first stage by the paper's formulas, printed there as a share of the device: 2 s b h L (1 + (p - 1) /
    (p m)) and so on, at the sizes of Table 3.
    """
    *_, p, m, b = SHAPES[name]
    model = shape(name)
    tensor, both = Plan(tp=TP), Plan(tp=TP, sequence_parallel=True)
    ours = {
        "tp": layers_saved(model, tensor, b),
        "tp+sp": layers_saved(model, both, b),
        "tp+selective": layers_saved(model, tensor, b, "selective"),
        "both": layers_saved(model, both, b, "selective"),
        "full": layers_saved(model, tensor, b, "full"),
    }
    for way, printed in figures.items():
        grown = ours[way] * (p * m + p - 1) / (p * m) if m > 1 else ours[way]
        assert grown / 2**30 == printed, way
