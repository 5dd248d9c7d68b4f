"""One rank of many that have different experts, at the published sizes: tensors without numbers, and PyTorch's tracker.

Vectors without numbers choose no experts, so that all experts get as many, as is counted; all-to-alls take place in
name only.
"""

import pytest

import archcalc
from archcalc.counts.memory import alive
from archcalc.counts.optimizer import held
from archcalc.counts.parameters import params
from archcalc.plan.description import Plan
from archcalc.plan.local import local
from archcalc.tape.precision import Keeping
from archcalc.tape.run import MEMORY_KERNEL, Run

torch = pytest.importorskip("torch", minversion="2.13", reason="PyTorch 2.13's trackers are the witness")
from archcalc.proof import private  # noqa: E402
from archcalc.proof.applied import Meshes  # noqa: E402
from archcalc.proof.simulated import simulate  # noqa: E402

FP32 = Keeping("fp32", "adamw-fused")
FEW = "deepseek-v3@layers.0.repeat=1,layers.1.repeat={}"


@pytest.mark.prove  # in each run real ranks with experts hold what was counted: test_expert_processes
@pytest.mark.parametrize(
    ("spec", "ranks", "rank", "length", "recompute"),
    [
        ("mixtral-8x7b@n_layers=1", 8, 0, 2048, "none"),
        (FEW.format(1), 64, 0, 16_384, "none"),
        (FEW.format(3), 64, 31, 4096, "none"),
        (FEW.format(3), 64, 63, 4096, "full"),
    ],
)
def test_a_rank_with_its_own_experts_peaks_where_it_was_counted(spec, ranks, rank, length, recompute):
    model, plan, keeping = archcalc.load(spec), Plan(dp=ranks, ep=ranks), FP32._replace(recompute=recompute)
    run = Run(batch=1, sequence=length, attention="flash").by_default(MEMORY_KERNEL)
    try:
        found = simulate(model, plan, run, keeping, rank)
    except private.Moved as moved:
        pytest.skip(str(moved))
    taken = local(model.record(run), plan)
    peak = max(alive(taken, taken.run, keeping), key=lambda moment: moment.total)
    parts = peak.parts()
    kinds = {"Parameter": "weights", "Gradient": "gradients", "Optstate": "optimizer state"}
    assert {kind: found.kinds.get(kind, 0) for kind in kinds} == {kind: parts[term] for kind, term in kinds.items()}
    assert found.peak == peak.total


@pytest.mark.prove
@pytest.mark.parametrize("rank", [0, 31, 63])
def test_a_rank_of_deepseek_v3_over_64_has_a_64th_of_its_experts(rank):
    """58 layers of 256 experts, each of 3 matrices of 7,168 x 2,048."""
    model, plan = archcalc.load("deepseek-v3"), Plan(dp=64, ep=64)
    experts = 58 * 256 * 3 * 7168 * 2048
    expected = params(model).stored - experts + experts // 64
    taken = local(model.record(Run(sequence=4096)), plan)
    assert held("weights", params(taken).tensors, taken.stage) == expected
    from archcalc_reference import Transformer

    try:
        with private.simulated_group(rank, 64):
            meshes = Meshes(plan)
            with private.shapes_only():
                reference = Transformer(model)
                meshes.divide(reference, FP32)
    except private.Moved as moved:
        pytest.skip(str(moved))
    assert sum(weight.numel() for weight in reference.parameters()) == expected
