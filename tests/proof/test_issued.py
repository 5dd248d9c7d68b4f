"""The collectives that ran in a step, beside those that are counted."""

from types import SimpleNamespace

import pytest

import archcalc
from archcalc.plan.description import Plan
from archcalc.tape.precision import Keeping
from archcalc.tape.run import MEMORY_KERNEL, Run

torch = pytest.importorskip("torch", minversion="2.13", reason="what private.py takes is that of PyTorch 2.13")
from archcalc.proof import private  # noqa: E402
from archcalc.proof.issued import Issued, issued  # noqa: E402
from archcalc.proof.lowering import small_for  # noqa: E402
from archcalc.proof.ranks import compare_ranks  # noqa: E402
from archcalc.proof.sending import COPIES, TABLE, compare_collectives  # noqa: E402

FP32 = Keeping("fp32", "adamw")
SHARES = {"zero": 3, "sharding": "per-tensor"}
CUT = {"sequence_parallel": True, "gathered_inputs": "kept"}
B, S, D, V, LAYERS = 2, 32, 32, 96, 2


def small(spec, plan):
    model = small_for(archcalc.load(spec), plan)
    return model, Run(batch=B, sequence=model.context_length, attention="flash").by_default(MEMORY_KERNEL)


def issued_by_tensor_parallelism():
    """Of two ranks: rows of the table, two products a layer and three numbers a token; five gradients of inputs."""
    stream, numbers, ranks = 4 * B * S * D, 4 * B * S, (0, 1)
    return [
        Issued("all-reduce", "forward", ranks, stream, told=False, times=1 + 2 * LAYERS),
        Issued("all-reduce", "forward", ranks, numbers, told=False, times=3),
        Issued("all-reduce", "backward", ranks, stream, told=False, times=2 * LAYERS + 1),
    ]


def test_what_two_ranks_issue_is_what_is_counted():
    plan = Plan(tp=2, micro_batch=B)
    model, run = small("gpt2", plan)
    assert (model.n_layers, model.d_model, model.vocab_size, run.sequence) == (LAYERS, D, V, S)
    checks = list(compare_collectives(model, plan, run, FP32, [issued_by_tensor_parallelism()] * 2))
    assert [(check.what, check.measured, check.equal) for check in checks] == [
        ("bytes of all-reduce over tp, forward, fp32", 2 * 4 * B * S * (5 * D + 3), True),
        ("bytes of all-reduce over tp, backward, fp32", 2 * 4 * B * S * 5 * D, True),
    ]


@pytest.mark.parametrize("wrong", ["fewer", "smaller", "split", "other axis"])
def test_what_is_issued_another_way_differs(wrong):
    plan = Plan(tp=2, micro_batch=B)
    model, run = small("gpt2", plan)
    first, *rest = issued_by_tensor_parallelism()
    found = {
        "fewer": first._replace(times=first.times - 1),
        "smaller": first._replace(bytes=first.bytes // 2),
        "split": first._replace(bytes=first.bytes // 2, times=2 * first.times),  # as many bytes in all
        "other axis": first._replace(ranks=(0, 2)),
    }
    checks = compare_collectives(model, plan, run, FP32, [[found[wrong], *rest]] * 2)
    assert any(check.required and not check.equal for check in checks)


def test_a_collective_that_is_not_known_is_said_plainly():
    op = SimpleNamespace(namespace="c10d", _schema=SimpleNamespace(name="c10d::gather_"))
    with pytest.raises(private.Moved, match=r"c10d\.gather_ is not known; this proof was written for 2\.13"):
        private.collective(op, ())


def test_what_runs_is_recorded_by_pass_size_and_ranks():
    with private.simulated_group(0, 4), issued() as calls:
        x = torch.zeros(4, 3)
        torch.distributed.all_reduce(x)
        calls.phase = "backward"
        torch.distributed.all_to_all_single(torch.zeros(6, 3), x, [3, 1, 1, 1], [1, 1, 1, 1])
        torch.distributed.all_to_all_single(*torch.zeros(2, 4, dtype=torch.long))
    assert calls.found == [
        Issued("all-reduce", "forward", (0, 1, 2, 3), 4 * 12, told=False),
        Issued("all-to-all", "backward", (0, 1, 2, 3), 4 * 12, told=False),
        Issued("all-to-all", "backward", (0, 1, 2, 3), 8 * 4, told=True),
    ]


@pytest.mark.parametrize(
    ("spec", "plan"),
    [
        pytest.param("gpt2", Plan(tp=2, micro_batch=B, **CUT), id="2 ranks"),
        *(
            pytest.param(*case, marks=pytest.mark.prove)
            for case in (
                ("gpt2", Plan(tp=2, micro_batch=B)),
                ("gpt2", Plan(dp=2, tp=2, micro_batch=B)),
                ("llama3-8b", Plan(tp=2, micro_batch=B)),
                ("gpt2", Plan(dp=2, tp=2, micro_batch=B, **CUT, **SHARES)),
                ("gpt2", Plan(dp=2, tp=2, micro_batch=B, **SHARES)),
            )
        ),
    ],
)
def test_cut_tensors_are_exchanged_as_counted(spec, plan):
    model, run = small(spec, plan)
    checks = [check for check in compare_ranks(model, plan, run, FP32) if check.what.startswith("bytes of")]
    known = [COPIES] * plan.sequence_parallel + [TABLE] * (plan.dp > 1 and not plan.zero)
    assert [check.reason for check in checks if not check.equal] == known
    assert len(checks) == (6 if plan.sequence_parallel else 2) + (0 if plan.dp == 1 else 3 if plan.zero else 1)
