"""Stages of a pipeline as real processes, by PyTorch's own schedules: what each has and sends, and what all learn."""

import pytest

import archcalc
from archcalc.plan.description import Plan
from archcalc.tape.precision import Keeping
from archcalc.tape.run import MEMORY_KERNEL, Run

torch = pytest.importorskip("torch", minversion="2.13", reason="PyTorch 2.13 is the witness of schedules")
from archcalc.errors import Invalid  # noqa: E402
from archcalc.proof.lowering import lowered_stages, small_for, with_layers  # noqa: E402
from archcalc.proof.pipelines import compare_stages  # noqa: E402
from archcalc.proof.ranks import prove_plan  # noqa: E402

FP32 = Keeping("fp32", "adamw")
B, S, D = 2, 32, 32


def small(spec, plan):
    model = with_layers(small_for(archcalc.load(spec), plan), plan)
    return model, Run(batch=B, sequence=model.context_length, attention="flash").by_default(MEMORY_KERNEL)


@pytest.mark.parametrize(
    ("spec", "plan"),
    [
        pytest.param("gpt2", Plan(pp=2, accumulation=4, micro_batch=B), id="2 stages"),
        *(
            pytest.param(*case, marks=pytest.mark.prove)
            for case in (
                ("gpt2", Plan(pp=4, accumulation=8, micro_batch=B)),
                ("gpt2", Plan(pp=3, accumulation=4, micro_batch=B, schedule="gpipe")),
                ("gpt2", Plan(pp=2, accumulation=4, micro_batch=B, schedule="interleaved", chunks=2)),
                ("gpt2", Plan(pp=4, accumulation=8, micro_batch=B, schedule="interleaved", chunks=2)),
                ("llama3-8b", Plan(pp=2, accumulation=4, micro_batch=B, stage_layers=(1, 3))),
                ("gpt2", Plan(pp=2, accumulation=4, micro_batch=B, stage_layers=(0, 2))),
                ("deepseek-v3", Plan(pp=2, accumulation=4, micro_batch=B)),
            )
        ),
    ],
)
def test_stages_have_and_send_what_was_counted_and_learn_what_one_learns(spec, plan):
    model, run = small(spec, plan)
    checks = list(compare_stages(model, plan, run, FP32))
    assert [check for check in checks if not check.equal] == []
    sent = [check.measured for check in checks if check.what.startswith("bytes sent")]
    one = 4 * B * S * model.d_model  # the residual stream of a micro-batch
    # Each stage but the last, and each chunk, sends it on, and each but the first its gradient back.
    assert sum(sent) == 2 * (plan.virtual_stages - 1) * plan.accumulation * one
    assert len(checks) == 2 * plan.pp + 1


def test_pipelines_are_lowered_to_four_stages_at_most():
    plans = [Plan(pp=n, accumulation=64) for n in (2, 3, 4, 6, 8, 9, 64)]
    assert [lowered_stages(plan).pp for plan in plans] == [2, 3, 4, 3, 4, 3, 4]
    assert lowered_stages(Plan(pp=5, accumulation=64)) is None
    assert lowered_stages(Plan(pp=4, accumulation=2)) is None  # PyTorch's 1F1B needs as many as stages
    assert lowered_stages(Plan()) is None
    few = lowered_stages(Plan(pp=8, accumulation=64, schedule="interleaved", chunks=3))
    assert (few.pp, few.chunks, few.schedule, few.accumulation) == (4, 2, "interleaved", 8)
    assert lowered_stages(Plan(pp=2, accumulation=8, stage_layers=(10, 14))).stage_layers == (1, 2)


def test_a_model_gets_the_layers_that_stages_take():
    for plan in (Plan(pp=4), Plan(pp=2, schedule="interleaved", chunks=2), Plan(pp=2, stage_layers=(1, 2))):
        for spec in ("gpt2", "deepseek-v3", "gemma3-1b"):
            n = with_layers(small_for(archcalc.load(spec), plan), plan).n_layers
            assert n == 3 if plan.stage_layers else n % plan.virtual_stages == 0


def test_a_table_that_two_stages_have_is_refused():
    from archcalc_reference import Transformer
    from archcalc_reference.parallel.pipeline import pipeline

    reference = Transformer(archcalc.load("tiny@unembedding.tied=true"))
    with pytest.raises(Invalid, match="has a tied token table, which the first stage and the last have"):
        pipeline(reference, Plan(pp=2, accumulation=2), [range(1), range(1, 2)], 0, "flash")


@pytest.mark.prove
def test_a_plan_with_stages_is_proved_with_what_is_not_run():
    plan = Plan(pp=8, dp=2, accumulation=16)
    verdict = prove_plan(archcalc.load("gpt2"), plan)
    assert verdict.passed
    told = str(verdict.not_compared)
    assert "pp 8 beside other axes" in told
    assert "gradients of the tied token table" in told
