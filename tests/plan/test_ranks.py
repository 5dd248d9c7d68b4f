"""A plan of one rank is no plan, ranks together are the model, and published figures of ranks."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

import archcalc
from archcalc.counts.activations import cache, saved
from archcalc.counts.flops import flops
from archcalc.counts.memory import memory
from archcalc.counts.parameters import params
from archcalc.counts.rankwise import ranks
from archcalc.plan.description import Plan
from archcalc.plan.local import local
from archcalc.plan.stages import layers_of
from archcalc.strategies import models
from archcalc.tape.precision import Keeping
from archcalc.tape.roles import widths
from archcalc.tape.run import Run

RECIPES = st.sampled_from(["mixed-16", "mixed-18", "amp", "fp32"])
GPT3 = Plan(tp=8, pp=8, dp=8, zero=1, vocab_divisible_by=128, sequence_parallel=True, accumulation=8)


@given(models(), RECIPES, st.sampled_from(["none", "selective", "full"]))
def test_one_rank_is_the_whole_to_the_byte(model, recipe, again):
    run = Run(batch=2, sequence=min(16, model.context_length), attention="flash")
    alone = local(model.record(run), Plan())
    keeping = Keeping(recipe, recompute=again)
    assert memory(alone, run, keeping) == memory(model, run, keeping)
    assert params(alone) == params(model)
    assert flops(alone, run) == flops(model, run)
    assert saved(alone, run, widths(2)) == saved(model, run, widths(2))


@given(models())
def test_one_rank_serves_as_the_whole(model):
    run = Run("prefill", 2, min(16, model.context_length), logits="last", attention="flash")
    alone = local(model.record(run), Plan())
    assert memory(alone, run, Keeping("bf16")) == memory(model, run, Keeping("bf16"))
    assert cache(alone, run, 2) == cache(model, run, 2)


def test_gpt3_on_512_devices():
    """2 bytes of weights and 4 of gradients on each rank, 12 of the optimizer's shared over 8: 7.5 of 2,822,731,776.

    That is 51,200 / 8 rows and 2,048 positions of 12,288, and 12 layers of 12 x 12,288^2 / 8 + 84,480: norms
    4 x 12,288, biases of rows 2 x 12,288, of columns (3 + 4) x 12,288 / 8.
    """
    found = ranks(archcalc.load("gpt3-175b"), GPT3, Run(sequence=2_048), Keeping("mixed-18"))
    first = found.fullest
    assert first.stages == (0,)
    layer = 12 * 12_288**2 // 8 + 4 * 12_288 + 2 * 12_288 + 7 * 12_288 // 8
    assert layer - 12 * 12_288**2 // 8 == 84_480
    assert first.parameters.stored == (51_200 // 8 + 2_048) * 12_288 + 12 * layer == 2_822_731_776
    assert first.memory.state == 2_822_731_776 * 15 // 2 == 21_170_488_320


def test_micro_batches_in_flight_are_a_step_from_stage_to_stage():
    """1F1B: stage i holds pp - i micro-batches of what its own layers save."""
    found = ranks(archcalc.load("gpt3-175b"), GPT3, Run(sequence=2_048), Keeping("mixed-18"))
    held = {rank.stages[0]: {term.name: term.bytes for term in rank.memory.terms} for rank in found.each}
    others = "activations of other micro-batches"
    once = held[6][others]
    assert [held[i].get(others, 0) for i in range(1, 7)] == [(7 - i) * once for i in range(1, 7)]
    assert others not in held[7]


@pytest.mark.parametrize(
    ("tp", "copies"),
    [(2, 1), (8, 1), (16, 2), (32, 4)],
)
def test_key_value_heads_are_copied_where_there_are_fewer_than_ranks(tp, copies):
    """Llama 3 8B: 8 key/value heads of 128 from 4,096 features, keys and values, in 32 layers; norms are on all."""
    model = archcalc.load("llama3-8b")
    rank = params(local(model.record(Run()), Plan(tp=tp)))
    whole = params(model)
    norms = 65 * 4_096
    keys_and_values = 32 * 2 * 8 * 128 * 4_096
    vocabulary = 2 * 4_096 * (-(-128_256 // tp) * tp - 128_256)
    on_all = tp * rank.stored
    assert on_all == whole.stored + (tp - 1) * norms + (copies - 1) * keys_and_values + vocabulary


def test_a_tied_table_is_held_by_the_first_stage_and_by_the_last():
    model = archcalc.load("gpt3-175b")
    plan = Plan(pp=8)
    stages = [params(local(model.record(Run()), plan, stage)).stored for stage in range(8)]
    assert sum(stages) - params(model).stored == 617_558_016


@given(st.data())
def test_stages_have_every_layer_once(data):
    model = data.draw(models())
    n_layers = int(model.n_layers)
    pp = data.draw(st.integers(1, min(n_layers, 4)))
    cuts = sorted(data.draw(st.lists(st.integers(0, n_layers), min_size=pp - 1, max_size=pp - 1)))
    each = tuple(b - a for a, b in zip([0, *cuts], [*cuts, n_layers], strict=True))
    plan = Plan(pp=pp, stage_layers=each if pp > 1 else None)
    assert [i for layers in layers_of(plan, n_layers) for i in layers] == list(range(n_layers))
    taken = model.record(Run())
    whole = sorted((t.name, i, t.shape) for t in params(taken).tensors for i in indices(t))
    found = sorted(
        {(t.name, i, t.shape) for s in range(pp) for t in params(local(taken, plan, s)).tensors for i in indices(t)}
    )
    assert found == whole


def indices(tensor):
    return [-1] if tensor.within is None else tensor.within.indices()
