"""FLOPs of ranks, and the time in which stages wait."""

from fractions import Fraction

import pytest
from examples import few
from hypothesis import given, settings
from planned import planned

import archcalc
from archcalc.counts.executed import executed
from archcalc.counts.flops import flops
from archcalc.counts.worked import bubble, worked
from archcalc.plan.description import Plan
from archcalc.tape.run import Run

GPT3 = archcalc.load("gpt3-175b")
B, S, L, H, V = 512, 2_048, 96, 12_288, 50_257


def test_ranks_of_gpt3_together_do_a_step_once():
    """Narayanan et al. 2021, arXiv:2104.04473, section 3: with activations computed again
    96 B s l h^2 (1 + s / 6 h + V / 16 l h); without that a forward and two backward passes, 72 B s l h^2 and so on.
    """
    plan = Plan(tp=8, pp=8, dp=8, accumulation=B // 8)
    found = worked(GPT3, plan, Run(sequence=S))
    assert found.model == 72 * B * S * L * H**2 + 12 * B * S**2 * L * H + 6 * B * S * H * V
    padding = 6_283 * 8 - V  # rows of the token table, 6,283 on each of 8 ranks
    assert found.ranks - found.model == 6 * B * S * H * padding
    rank = found.each[-1]
    assert rank.stages == (1, 2, 3, 4, 5, 6)
    assert rank.step == (72 * B * S * L * H**2 + 12 * B * S**2 * L * H) // 512
    assert found.busiest.stages == (7,)
    assert found.busiest.step - rank.step == 6 * B * S * H * 6_283 // 8


@pytest.mark.parametrize("recompute", ["none", "selective", "full"])
def test_what_is_recomputed_is_a_share_of_the_rank(recompute):
    """In every layer the same, and nothing of it is on several ranks."""
    plan = Plan(tp=8, pp=8, accumulation=8)
    found = worked(GPT3, plan, Run(sequence=S), recompute)
    alone = executed(GPT3, Run(sequence=S), recompute)
    assert found.each[-1].executed.recomputed == alone.recomputed // 64
    assert found.each[-1].hardware == found.each[-1].step + 8 * (alone.recomputed // 64)


@settings(max_examples=few(15))
@given(planned())
def test_ranks_do_no_less_than_the_model(given_):
    model, plan, run = given_
    found = worked(model, plan, run)
    alone = flops(model, run._replace(batch=plan.micro_batch * plan.dp))
    assert found.model == plan.accumulation * (
        alone.forward + alone.backward - sum(part.repeated for part in alone.categories)
    )
    assert found.ranks >= found.model
    if plan.tp == plan.cp == 1 and plan.ep == 1:
        assert found.ranks == found.model
    assert sorted(stage for one in found.each for stage in one.stages) == list(range(plan.pp))


@pytest.mark.parametrize(
    ("tp", "twice"),
    [(8, 0), (16, 1), (32, 3)],
)
def test_copies_of_key_value_heads_are_computed_on_each_rank(tp, twice):
    """Llama 3 8B: keys and values of 8 heads of 128 from 4,096 features, forward once and backward twice; 128,256 rows
    of the table divide.
    """
    found = worked(archcalc.load("llama3-8b"), Plan(tp=tp), Run(sequence=S))
    assert found.ranks - found.model == twice * 6 * S * 32 * 2 * (8 * 128) * 4_096


def test_the_bubble_is_time_and_no_work():
    """Narayanan et al. 2021, section 2.2: (p - 1) / m of the ideal time, 1 / v of it with v chunks."""
    assert bubble(Plan(pp=8, accumulation=64)) == (Fraction(7, 64), Fraction(7, 71))
    assert bubble(Plan(pp=8, accumulation=64, schedule="gpipe")) == (Fraction(7, 64), Fraction(7, 71))
    assert bubble(Plan(pp=4, chunks=2, schedule="interleaved", accumulation=8)).of_work == Fraction(3, 16)
    assert bubble(Plan()) == (0, 0)
    small, large = (worked(GPT3, Plan(pp=8, accumulation=m), Run(sequence=S)) for m in (8, 16))
    assert [one.step * 2 for one in small.each] == [one.step for one in large.each]
    assert small.bubble != large.bubble


def test_inference_waits_for_no_step():
    found = worked(GPT3, Plan(tp=8), Run("decode", context=S))
    assert found.bubble is None
    assert found.busiest.flops.backward == 0
