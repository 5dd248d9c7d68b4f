"""Ranks that have different experts: real processes over gloo that send each other vectors by all-to-all."""

import pytest

import archcalc
from archcalc.plan.description import Plan
from archcalc.proof.miniature import miniature
from archcalc.tape.precision import Keeping
from archcalc.tape.run import MEMORY_KERNEL, Run

torch = pytest.importorskip("torch", minversion="2.13", reason="FSDP2's moments are those of PyTorch 2.13")
from archcalc.proof.lowering import lowered  # noqa: E402
from archcalc.proof.ranks import compare_ranks, counted, prove_plan  # noqa: E402

FP32 = Keeping("fp32")


def small(spec):
    model = miniature(archcalc.load(spec)).model_copy(update={"vocab_size": 96})
    return model, Run(batch=2, sequence=model.context_length, attention="flash").by_default(MEMORY_KERNEL)


@pytest.mark.parametrize(
    ("spec", "plan"),
    [
        # a shared expert, a router of sigmoids with a correction, groups of experts, latents
        pytest.param("deepseek-v3", Plan(dp=2, ep=2, micro_batch=2), id="2 ranks"),
        *(
            pytest.param(*case, marks=pytest.mark.prove)
            for case in (
                ("mixtral-8x7b", Plan(dp=2, ep=2, micro_batch=2)),
                ("deepseek-v3", Plan(dp=4, ep=4, micro_batch=2)),
                ("deepseek-v3", Plan(dp=4, ep=2, micro_batch=2)),
                ("gpt-oss-20b", Plan(dp=4, ep=4, micro_batch=2)),  # experts with biases
                ("gpt-oss-20b", Plan(dp=4, ep=2, micro_batch=2)),
                ("llama4-scout-text", Plan(dp=2, ep=2, micro_batch=2)),  # what experts get is weighed
                ("nemotron-3-nano-30b-a3b", Plan(dp=2, ep=2, micro_batch=2)),  # beside a recurrence
            )
        ),
    ],
)
def test_ranks_with_their_own_experts_hold_what_was_counted_and_learn_what_one_learns(spec, plan):
    model, run = small(spec)
    checks = list(compare_ranks(model, plan, run, FP32))
    assert [check.what for check in checks if not check.equal] == ["bytes of numbers of vectors, fp32"]
    # All-to-alls of both passes and gradients of all ranks, and of those that have the same experts.
    assert len(checks) == 4 * plan.dp + 2 + 4 + (plan.expert_dp > 1)


@pytest.mark.prove
def test_layers_that_are_computed_again_send_their_vectors_again():
    model, run = small("mixtral-8x7b")
    checks = compare_ranks(model, Plan(dp=2, ep=2, micro_batch=2), run, FP32._replace(recompute="full"))
    assert [check for check in checks if check.required and not check.equal] == []


def test_a_rank_has_its_part_of_the_experts_and_all_else():
    model, run = small("gpt-oss-20b")
    layers, experts, d_model, d_ff = 3, 4, model.d_model, 40
    [mlp] = {mixer for group in model.layers for kind in group.kinds_in() for mixer in [kind.layer.mlp]}
    assert (mlp.n_experts, mlp.d_ff, mlp.gated, mlp.bias) == (experts, d_ff, True, True)
    each = 3 * d_model * d_ff + 2 * d_ff + d_model
    whole, part = (counted(model, plan, run, FP32).parameters for plan in (Plan(dp=4), Plan(dp=4, ep=4)))
    assert whole - part == layers * (experts - 1) * each


@pytest.mark.prove
def test_where_experts_hand_on_how_many_compute_is_a_matter_of_routing():
    model, run = small("mixtral-8x7b@n_identity=4,n_experts_per_token=3")
    checks = list(compare_ranks(model, Plan(dp=2, ep=2, micro_batch=2), run, FP32))
    assert "saved bytes, all ranks, fp32" in {check.what for check in checks if not check.equal}
    assert all(check.equal or not check.required for check in checks)


@pytest.mark.prove
def test_ranks_whose_buffers_are_full_drop_vectors_of_their_own():
    model, run = small("mixtral-8x7b@capacity_factor=1.25")
    checks = list(compare_ranks(model, Plan(dp=2, ep=2, micro_batch=2), run, FP32))
    assert all(check.equal or not check.required for check in checks)


def test_experts_are_spread_over_at_most_four_ranks():
    plans = (Plan(dp=64, ep=64), Plan(dp=128, ep=64), Plan(dp=6, ep=6), Plan(dp=12, ep=6), Plan(dp=3, ep=3))
    assert [(few.dp, few.ep) for few in map(lowered, plans)] == [(4, 4), (4, 2), (2, 2), (4, 2), (3, 1)]


@pytest.mark.prove
def test_a_plan_with_experts_on_several_ranks_is_proved():
    plan = Plan(dp=64, ep=64, tp=2, zero=3, sharding="per-tensor")
    verdict = prove_plan(archcalc.load("deepseek-v3"), plan)
    assert verdict.passed
    told = str(verdict.not_compared)
    assert "tp 2 beside ep 64" in told
    assert "shares of ZeRO 3 beside ep 64" in told
