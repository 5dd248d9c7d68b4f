"""The peak of a step under ZeRO 2 and 3, against what PyTorch's own trackers said of one rank of fully_shard."""

import numpy as np
import pytest
from command import ask

import archcalc
from archcalc.counts.memory import alive, memory, peak_bytes
from archcalc.counts.optimizer import held
from archcalc.counts.parameters import params
from archcalc.plan.description import Plan
from archcalc.plan.local import local
from archcalc.tape.passes import Pass
from archcalc.tape.precision import RECIPES, Keeping
from archcalc.tape.run import MEMORY_KERNEL, Run

MIB = 2**20
FSDP = Keeping("fsdp-bf16", "adamw-foreach", statistic=2)  # on a CPU, as the trackers ran, statistics are bf16


def rank_of(spec, plan, run=None):
    return local(archcalc.load(spec).record((run or Run(attention="flash")).by_default(MEMORY_KERNEL)), plan)


def peak_of(taken, keeping):
    return max(alive(taken, taken.run, keeping), key=lambda moment: moment.total)


def gpt3(layers):
    """One rank of 1,024: TP 8 with sequence parallelism, FSDP 128, head untied, positions cut by tp as the run had it."""
    run = Run(batch=1, sequence=2048, attention="flash").by_default(MEMORY_KERNEL)
    taken = archcalc.load(f"gpt3-175b@n_layers={layers},unembedding.tied=false").record(run)
    first, *rest = taken.segments
    first = first.replace(cuts={**first.cuts, "tp": (*first.cuts["tp"], ("P",))})
    plan = Plan(tp=8, sequence_parallel=True, dp=128, zero=3, sharding="per-tensor", gathered_inputs="kept")
    return local(Pass(run, [first, *rest], taken.source), plan)


# FSDPMemTracker of PyTorch 2.13 on rank 0 of a simulated group, in MiB, which rounds each tensor up to 512 bytes.
TRACKED = {
    "weights": 653.024,
    "optimizer state": 1306.053,
    "gathered weights": 738.2,
    "prefetched weights": 432.2,
    "reduce buffers": 864.3,
    "saved activations": 16983.0,
    "gradients": 6.8,
}


def test_the_peak_of_gpt3_on_1024_devices_is_that_of_fully_shard_term_by_term():
    taken = gpt3(96)
    assert held("weights", params(taken).tensors, taken.stage) * 4 == 684_744_960
    peak = peak_of(taken, FSDP)
    found = {name: n / MIB for name, n in peak.parts().items()}
    assert {name: found[name] for name in TRACKED} == pytest.approx(TRACKED, abs=0.06)
    # Its gradients on their way, of weights and of activations, are one figure there: 699.4.
    assert found["temporaries"] + found["unsharded gradients"] == pytest.approx(699.4, abs=0.06)
    assert peak.total / MIB == pytest.approx(21_682.98, abs=0.02)


def test_what_is_gathered_of_gpt3_is_what_its_layers_and_its_ends_have():
    # Rows are cut in 128, and what is gathered is 128 times the largest part: of 6,283 rows of the vocabulary a rank
    # has 50, of 12,288/8 + 2 biases and norms 96 or 12.
    def padded(rows, *rest):
        part = -(-rows // 128) * 128
        for n in rest:
            part *= n
        return part

    d, f = 12_288, 49_152
    norms_and_row_biases, column_biases = padded(d) * 6, 3 * padded(d // 8) + padded(f // 8)
    matrices = 3 * padded(d // 8, d) + padded(d, d // 8) + padded(f // 8, d) + padded(d, f // 8)
    layer = norms_and_row_biases + column_biases + matrices
    root = 2 * padded(-(-50_257 // 8), d) + padded(2048 // 8, d) + 2 * padded(d)
    parts = peak_of(gpt3(4), FSDP).parts()
    assert parts["gathered weights"] == 2 * (root + layer)
    assert parts["prefetched weights"] == 2 * layer
    assert parts["reduce buffers"] == 4 * layer


def test_the_peak_with_recomputed_layers_is_fully_shards():
    assert peak_of(gpt3(96), FSDP._replace(recompute="full")).total / MIB == pytest.approx(5_387.97, abs=0.02)


def test_gpt2_on_eight_devices_peaks_in_the_loss():
    # There the loss was worked out behind the root, here in it: the last layer is being gathered already.
    peak = peak_of(rank_of("gpt2", Plan(dp=8, zero=3, sharding="per-tensor"), Run(sequence=1024)), FSDP)
    found = peak.parts()
    assert peak.phase == "loss"
    assert (peak.total - found["prefetched weights"]) / MIB == pytest.approx(1133.786, abs=0.0005)
    assert found["weights"] / MIB == pytest.approx(59.340, abs=0.0005)
    assert found["optimizer state"] / MIB == pytest.approx(118.681, abs=0.0005)


@pytest.mark.parametrize("precision", list(RECIPES))
@pytest.mark.parametrize("spec", ["gpt2", "mixtral-8x7b@context_length=512", "gemma3-1b"])
def test_a_plan_of_one_rank_changes_nothing(spec, precision):
    run, keeping = Run(sequence=256, attention="flash"), Keeping(precision)
    assert memory(rank_of(spec, Plan(), run), run.by_default(MEMORY_KERNEL), keeping) == memory(
        archcalc.load(spec), run, keeping
    )


@pytest.mark.parametrize("zero", [2, 3])
@pytest.mark.parametrize("precision", ["mixed-16", "fp32", "bf16"])
def test_sharing_with_nobody_takes_what_sharing_nothing_takes(precision, zero):
    run, keeping = Run(sequence=256, attention="flash"), Keeping(precision)
    shared = memory(rank_of("gpt2", Plan(zero=zero, sharding="per-tensor"), run), run, keeping)
    whole = memory(archcalc.load("gpt2"), run, keeping)
    assert (shared.total, shared.phases) == (whole.total, whole.phases)


def test_weights_that_stay_gathered_are_all_there_when_the_loss_is_worked_out():
    plan = Plan(dp=4, zero=3, sharding="per-tensor", reshard_after_forward=False)
    moment = max(alive(taken := rank_of("gpt2", plan), taken.run, FSDP), key=lambda m: (m.phase == "loss", m.total))
    counts = params(taken)
    assert moment.parts()["gathered weights"] == 2 * held("gathered", counts.tensors, taken.stage)


def test_without_prefetch_a_layer_is_alone():
    parts = [
        [moment.parts().get("prefetched weights", 0) for moment in alive(taken, taken.run, FSDP)]
        for prefetch in ("none", "backward", "both")
        for taken in [rank_of("gpt2", Plan(dp=4, zero=3, sharding="per-tensor", prefetch=prefetch))]
    ]
    assert max(parts[0]) == 0
    assert sum(map(bool, parts[1])) < sum(map(bool, parts[2]))


@pytest.mark.parametrize("sharding", ["flat", "per-tensor"])
@pytest.mark.parametrize("zero", [2, 3])
@pytest.mark.parametrize("spec", ["gpt2", "gemma3-1b"])
def test_many_plans_at_once_take_what_each_takes(spec, zero, sharding):
    ranks, keeping, run = [1, 2, 8, 64], Keeping("fp32"), Run(sequence=128, attention="flash")
    plan = Plan(zero=zero, sharding=sharding)
    many = plan.model_copy(update={"dp": np.array(ranks, dtype=float)})
    found = peak_bytes(rank_of(spec, many, run), run, keeping)
    assert found.tolist() == [
        peak_bytes(rank_of(spec, plan.model_copy(update={"dp": n}), run), run, keeping) for n in ranks
    ]


def test_zero_2_keeps_weights_whole_and_shares_gradients():
    taken = rank_of("gpt2", Plan(dp=8, zero=2))
    parts = peak_of(taken, Keeping("mixed-16")).parts()
    assert parts["weights"] == 2 * 124_439_808
    assert parts["gathered weights"] == 0
    step = next(m for m in alive(taken, taken.run, Keeping("mixed-16")) if m.phase == "step").parts()
    assert step["gradients"] == 2 * 124_439_808 // 8
    assert step["optimizer state"] + step["master weights"] == 12 * 124_439_808 // 8


@pytest.mark.parametrize("spec", ["gpt2", "gemma3-1b"])
def test_the_peak_of_gathered_weights_has_a_formula(spec):
    done = ask("explain", spec, "memory.total", "--precision", "fsdp-bf16", "--format", "json")
    told = ask("memory", spec, "--precision", "fsdp-bf16", "--format", "json")
    assert done.json["value"] == told.json["memory"]["total"]
