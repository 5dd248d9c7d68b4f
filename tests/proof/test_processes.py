"""What ranks hold: real processes over gloo, one rank of a simulated group, and PyTorch's schedules of pipelines."""

import sys

import pytest
from examples import few, moderate, one_of_each
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import archcalc
from archcalc.counts.memory import alive
from archcalc.errors import Invalid
from archcalc.plan.description import Plan
from archcalc.plan.local import local
from archcalc.plan.stages import in_flight
from archcalc.proof.miniature import miniature
from archcalc.spec.dumping import plain
from archcalc.tape.passes import Pass
from archcalc.tape.precision import Keeping
from archcalc.tape.run import MEMORY_KERNEL, Run

torch = pytest.importorskip("torch", minversion="2.13", reason="FSDP2's moments are those of PyTorch 2.13")
from archcalc.proof import private  # noqa: E402  (it needs torch)
from archcalc.proof.allocator import cut_down  # noqa: E402
from archcalc.proof.lowering import lowered, not_run  # noqa: E402
from archcalc.proof.pipelines import most_held  # noqa: E402
from archcalc.proof.processes import run_ranks, steps_of  # noqa: E402
from archcalc.proof.ranks import compare_ranks, counted, prove_plan  # noqa: E402
from archcalc.proof.simulated import simulate  # noqa: E402

SMALL = "gpt2@n_layers=4,vocab_size=2000,d_model=256,n_heads=4,d_ff=1024"
TINY = "gpt2@n_layers=3,vocab_size=1000,d_model=128,n_heads=4,d_ff=512"
LARGE = "gpt2@n_layers=6,vocab_size=12000"
RUN = Run(batch=2, sequence=64, attention="flash").by_default(MEMORY_KERNEL)
FP32, BF16 = Keeping("fp32"), Keeping("fsdp-bf16", statistic=2)


def fully_shard(ranks, **more):
    return Plan(dp=ranks, zero=3, sharding="per-tensor", micro_batch=2, **more)


def simulated(model, plan, run, keeping, rank=0):
    """What one rank saw of a group whose others are not there: real tensors, and collectives in name only."""
    try:
        with private.simulated_group(rank, plan.world):
            return steps_of(model, plan, run, keeping, rank)
    except private.Moved as moved:
        pytest.skip(str(moved))


def holds(seen, right):
    return (seen.parameters, seen.saved, seen.tensors, seen.step) == right[:4]


# --- real processes ---


@pytest.mark.parametrize(
    ("spec", "ranks", "keeping", "more"),
    [
        pytest.param(SMALL, 2, FP32, {}, id="2 ranks"),
        *(
            pytest.param(*case, marks=pytest.mark.prove)
            for case in (
                (SMALL, 4, FP32, {}),
                (SMALL, 3, Keeping("fp32", "adamw-foreach"), {}),
                (SMALL, 2, BF16, {}),
                (SMALL, 4, BF16._replace(recompute="full"), {}),
                (SMALL, 2, FP32._replace(recompute="full"), {"reshard_after_forward": False}),
                (SMALL, 2, FP32, {"prefetch": "both"}),
                (SMALL, 2, BF16, {"prefetch": "none"}),
                (LARGE, 2, FP32, {}),
                (LARGE, 4, BF16, {}),
            )
        ),
    ],
)
def test_processes_hold_what_was_counted_and_learn_what_one_learns(spec, ranks, keeping, more):
    checks = list(compare_ranks(archcalc.load(spec), fully_shard(ranks, **more), RUN, keeping))
    assert [check for check in checks if not check.equal] == []
    collectives = 3 if more.get("reshard_after_forward", True) else 2  # gathers of both passes, and scatters
    assert len(checks) == 4 * ranks + collectives + (keeping.precision == "fp32")


@pytest.mark.prove
@pytest.mark.parametrize("spec", ["gpt2", "llama3-8b", "mixtral-8x7b", "deepseek-v3", "gemma3-1b"])
def test_a_plan_is_proved_on_a_miniature_with_few_ranks(spec):
    verdict = prove_plan(archcalc.load(spec), fully_shard(128))
    assert [check for check in verdict.checks if not check.equal] == []
    assert verdict.not_compared == ()


def test_degrees_are_lowered_to_what_divides_them():
    assert [lowered(fully_shard(n)).dp for n in (1, 2, 3, 6, 7, 128)] == [1, 2, 3, 3, 1, 4]
    assert lowered(fully_shard(128, tp=8)).world == 4
    assert lowered(Plan(dp=64, tp=8, pp=8, accumulation=8, zero=1)).world == 2
    assert [lowered(Plan(dp=n)).dp for n in (2, 3, 7, 8)] == [2, 3, 1, 4]


def test_how_numbers_are_kept_is_obeyed_or_said():
    plan = Plan(dp=2, precision="mixed-18", optimizer="adamw-foreach", recompute="selective", offload_optimizer=True)
    told = list(not_run(archcalc.load("gpt2"), plan))
    assert [line.partition(":")[0] for line in told] == [
        "precision mixed-18",
        "optimizer adamw-foreach",
        "offload_optimizer true",
        "recomputation (selective)",
    ]
    assert list(not_run(archcalc.load("gpt2"), Plan(dp=2, recompute="full"))) == []
    assert lowered(Plan(dp=2, recompute="full")).recompute == "full"
    assert lowered(plan) == lowered(Plan(dp=2))


def test_a_plan_that_the_reference_does_not_run_is_refused():
    with pytest.raises(Invalid, match="is not supported here"):
        run_ranks(archcalc.load("tiny"), Plan(dp=2, zero=1), RUN, FP32)


# --- one rank of a simulated group ---


@pytest.mark.parametrize(
    ("recompute", "more"),
    [
        ("none", {"reshard_after_forward": False}),
        ("full", {"prefetch": "none"}),
        *(
            pytest.param(*case, marks=pytest.mark.prove)
            for case in (("none", {}), ("full", {}), ("none", {"prefetch": "both"}))
        ),
    ],
)
def test_the_allocator_of_a_simulated_rank_records_what_was_counted(recompute, more):
    model, plan, keeping = archcalc.load(TINY), fully_shard(4, **more), FP32._replace(recompute=recompute)
    seen = simulated(model, plan, RUN, keeping)
    right = counted(model, plan, RUN, keeping, gloo=False)
    assert (seen.parameters, seen.saved, seen.passes, seen.step) == right[:4]


@pytest.mark.parametrize(
    "optimizer", ["sgd", *(pytest.param(f"adamw{how}", marks=pytest.mark.prove) for how in ("", "-foreach"))]
)
def test_an_optimizer_of_shards_makes_what_was_counted(optimizer):
    model, plan, keeping = archcalc.load(TINY), fully_shard(8), BF16._replace(optimizer=optimizer)
    assert holds(simulated(model, plan, RUN, keeping), counted(model, plan, RUN, keeping, gloo=False))


def test_gradients_that_are_held_are_added_to():
    model, plan, keeping = archcalc.load(TINY), fully_shard(4), FP32._replace(accumulate=True)
    seen, right = simulated(model, plan, RUN, keeping), counted(model, plan, RUN, keeping, gloo=False)
    assert holds(seen, right)


@settings(max_examples=few(2, prove=30))
@given(model=moderate(), data=st.data())
def test_any_model_is_gathered_as_counted(model, data):
    # How many vectors identity experts take follows from numbers; blocks that layers share belong to the root.
    assume(not any(word in str(plain(model)) for word in ("n_identity", "added")))
    model, run = cut_down(model)
    keeping = data.draw(st.sampled_from([FP32, BF16]))._replace(recompute=data.draw(st.sampled_from(["none", "full"])))
    stays, prefetch = data.draw(st.booleans()), data.draw(st.sampled_from(["backward", "both", "none"]))
    plan = fully_shard(data.draw(st.integers(2, 4)), reshard_after_forward=not stays, prefetch=prefetch)
    run = run.by_default(MEMORY_KERNEL)
    assert holds(simulated(model, plan, run, keeping), counted(model, plan, run, keeping, gloo=False))


def test_one_rank_alone_has_copies_of_its_weights_where_they_are_wider():
    model, plan = archcalc.load(TINY), fully_shard(1)
    assert holds(simulated(model, plan, RUN, BF16), counted(model, plan, RUN, BF16, gloo=False))


def test_the_last_rank_has_less_state_where_rows_do_not_divide():
    model, plan = archcalc.load(TINY), fully_shard(3)
    right = counted(model, plan, RUN, FP32, gloo=False)
    first, last = (simulated(model, plan, RUN, FP32, rank) for rank in (0, 2))
    assert holds(first, right)
    # 1,000 rows in 3 are 334 and 332; 1,024 are 342 and 340; 128 are 43 and 42; 512 are 171 and 170.
    attention, mlp = 4 * (128 + 1), (128 + 1) + (512 + 1)
    fewer = 2 * 128 + 2 * 128 + 3 * (attention + mlp + 4) + 2
    assert first.parameters - last.parameters == fewer
    assert first.step - last.step == first.tensors - last.tensors == 2 * 4 * fewer
    assert (right.fewer, right.state) == ((0, 0, fewer), 2 * 4)


@pytest.mark.parametrize("spec", [pytest.param(name, marks=[pytest.mark.prove]) for name in one_of_each()])
def test_any_architecture_is_gathered_as_counted(spec):
    model = miniature(archcalc.load(spec)).model_copy(update={"vocab_size": 96})
    run = Run(batch=2, sequence=model.context_length, attention="flash").by_default(MEMORY_KERNEL)
    for keeping in (FP32, BF16, FP32._replace(recompute="full")):
        plan = fully_shard(2)
        assert holds(simulated(model, plan, run, keeping), counted(model, plan, run, keeping, gloo=False))


def test_what_has_moved_is_said_plainly(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.testing._internal.distributed.fake_pg", None)
    with pytest.raises(private.Moved, match=r"fake_pg\.FakeStore is not in PyTorch 2.*written for 2\.13"):
        private.simulated_group(0, 2).__enter__()


# --- schedules ---


@pytest.mark.parametrize(
    ("schedule", "chunks"), [("gpipe", 1), ("1f1b", 1), ("interleaved", 2), ("interleaved", 3), ("interleaved", 4)]
)
@pytest.mark.parametrize("stages", [2, 4, 8, 16])
def test_stages_hold_as_many_micro_batches_as_pytorchs_schedules(stages, schedule, chunks):
    for micro_batches in (stages, 2 * stages, 4 * stages):
        plan = Plan(pp=stages, schedule=schedule, chunks=chunks, accumulation=micro_batches)
        assert most_held(plan) == [in_flight(plan, stage) for stage in range(stages)]


# --- tensor parallelism, and full sizes ---

NARROW = "gpt2@n_layers=4,vocab_size=256,d_model=1024,n_heads=16,d_ff=4096,unembedding.tied=false"
WIDE_ENOUGH = 200 * 10**6


@pytest.mark.prove
@pytest.mark.parametrize(
    ("plan", "optimizer"),
    [
        (Plan(tp=2), "adamw"),
        (Plan(tp=2, sequence_parallel=True, gathered_inputs="kept"), "adamw-fused"),
        (
            Plan(dp=2, tp=2, sequence_parallel=True, gathered_inputs="kept", zero=3, sharding="per-tensor"),
            "adamw-fused",
        ),
    ],
)
def test_cut_tensors_take_what_was_counted_within_two_mebibytes(plan, optimizer):
    """DTensor has the token table's gradient whole, and copies what it lays out anew."""
    model, run = archcalc.load(f"{NARROW},embedding.positions=none"), RUN._replace(batch=1)
    right = counted(model, plan, run, FP32._replace(optimizer=optimizer))
    assert right.passes > WIDE_ENOUGH
    for seen in run_ranks(model, plan, run, FP32._replace(optimizer=optimizer)):
        assert (seen.parameters, seen.saved) == (right.parameters, right.saved)
        assert 0 <= seen.tensors - right.passes <= 2 * 2**20
        assert 0 <= seen.step - right.step <= 2 * 2**20
        if seen.alone:
            assert seen.losses == pytest.approx(seen.alone, abs=1e-5)


@pytest.mark.parametrize(
    ("layers", "recompute", "rank"),
    [
        (4, "none", 0),
        *(
            pytest.param(*case, marks=pytest.mark.prove)
            for case in ((4, "full", 0), (8, "none", 0), (8, "full", 0), (4, "none", 1023), (96, "none", 0))
        ),
    ],
)
def test_one_rank_of_gpt3_on_1024_devices_peaks_where_it_was_counted(layers, recompute, rank):
    keeping = BF16._replace(optimizer="adamw-foreach", recompute=recompute)
    model = archcalc.load(f"gpt3-175b@n_layers={layers},unembedding.tied=false")
    run = Run(batch=1, sequence=2048, attention="flash")
    plan = Plan(tp=8, sequence_parallel=True, dp=128, zero=3, sharding="per-tensor", gathered_inputs="kept")
    try:
        found = simulate(model, plan, run, keeping, rank)
    except private.Moved as moved:
        pytest.skip(str(moved))
    taken = rank_of_1024(model, plan, run)
    peak = max(alive(taken, taken.run, keeping), key=lambda moment: moment.total)
    parts = peak.parts()
    kinds = {
        "Sharded Param": "weights",
        "Unsharded Param": "gathered weights",
        "Sharded Grad": "gradients",
        "All Gather": "prefetched weights",
        "Reduce Scatter": "reduce buffers",
        "Inputs": "inputs and loss",
    }
    # The loss and its gradient are no inputs there.
    expected = {kind: parts[term] - 8 * (kind == "Inputs") for kind, term in kinds.items()}
    assert {kind: found.kinds[kind] for kind in kinds} == expected
    # Of 50,257 rows of the vocabulary in parts of 6,283 the last of eight ranks has 7 fewer, and as many gradients.
    fewer = 7 * 12_288 * 2 if rank else 0
    assert found.kinds["Temp"] == parts["temporaries"] + parts["unsharded gradients"] - fewer
    # DTensor notes which rows of its two tables each position reads: 14,336 bytes, whatever the number of layers.
    kept = parts["saved activations"] + parts["recomputed"]
    assert found.kinds["Activation"] - kept == pytest.approx(14_336, abs=8)
    if rank == 0:
        assert found.kinds["OptState"] == parts["optimizer state"]
        assert found.peak - peak.total == 14_336
    else:  # of 6,283 rows in parts of 50 the last ranks have none
        assert found.kinds["OptState"] < parts["optimizer state"]


def rank_of_1024(model, plan, run):
    """Positions are cut as DTensor cuts any table of rows."""
    taken = model.record(run.by_default(MEMORY_KERNEL))
    first, *rest = taken.segments
    first = first.replace(cuts={**first.cuts, "tp": (*first.cuts["tp"], ("P",))})
    return local(Pass(taken.run, [first, *rest], taken.source), plan)


@pytest.mark.parametrize(
    ("plan", "told"),
    [
        (Plan(dp=2, zero=1), "shares of ZeRO 1, flat"),
        (Plan(cp=2), "context parallelism"),
        (Plan(pp=2), "at least 2 micro-batches in a step"),
        (Plan(tp=3), "even numbers alone are lowered"),
    ],
)
def test_a_plan_of_which_nothing_is_run_is_no_disproof(plan, told):
    with pytest.raises(Invalid, match=f"has nothing of this plan to run: .*{told}"):
        prove_plan(archcalc.load("gpt2"), plan)


@pytest.mark.prove
@pytest.mark.parametrize(
    ("spec", "plan"),
    [
        ("gpt3-175b", Plan(tp=8, pp=8, dp=8, zero=1, accumulation=16)),
        ("llama3-8b", Plan(tp=8)),
        ("gpt2", Plan(dp=16, tp=2, sequence_parallel=True, zero=3, sharding="per-tensor")),
    ],
)
def test_what_of_a_plan_is_not_run_is_said(spec, plan):
    verdict = prove_plan(archcalc.load(spec), plan)
    assert verdict.passed
    assert any("in flight" in check.what for check in verdict.checks) == (plan.pp > 1)
    assert ("fully_shard has those of ZeRO 3" in str(verdict.not_compared)) == (plan.zero == 1)
