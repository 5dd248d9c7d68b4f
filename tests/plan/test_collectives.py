"""Collectives of a step against the formulas of papers, and properties of any plan."""

from collections import Counter
from math import prod

import pytest
from examples import few
from hypothesis import given, settings
from hypothesis import strategies as st
from planned import planned

import archcalc
from archcalc.counts.collectives import collectives, traffic
from archcalc.counts.exchanged import Collective
from archcalc.counts.parameters import params
from archcalc.errors import Invalid
from archcalc.plan.description import Plan
from archcalc.plan.local import local
from archcalc.plan.mesh import mesh
from archcalc.strategies import models
from archcalc.tape.precision import RECIPES, Keeping
from archcalc.tape.run import Run

GPT3 = archcalc.load("gpt3-175b")
RUN = Run(sequence=2_048)
B, S, H, LAYERS = 1, 2_048, 12_288, 96


def of(model, plan, keeping=None, stage=0, run=RUN, **more):
    run = run._replace(batch=plan.micro_batch, sequence=min(run.sequence, model.context_length))
    return collectives(model.record(run.by_default("flash")), plan, keeping or Keeping(), stage, **more)


def kinds(found, axis="tp", inside="layers.{i}"):
    """How often a layer has each operation, by phase; gradients of weights apart."""
    counted = Counter()
    for one in found:
        if one.axis == axis and inside in one.tensor and one.phase != "gradients":
            counted[one.phase, one.operation] += one.count
    return dict(counted)


def sent(found, **fields):
    chosen = [one for one in found if all(getattr(one, name) == value for name, value in fields.items())]
    return sum(one.count * one.sent for one in chosen)


# A rank alone, and axes of one rank.


@given(models(), st.sampled_from(sorted(RECIPES)), st.sampled_from(["none", "selective", "full"]), st.integers(0, 3))
def test_one_rank_alone_sends_nothing(model, recipe, again, zero):
    run = Run(batch=2, sequence=min(16, model.context_length))
    assert collectives(model.record(run), Plan(zero=zero), Keeping(recipe, recompute=again)) == ()


@settings(max_examples=few(10, prove=150))
@given(planned())
def test_an_axis_of_one_rank_is_silent(given_):
    model, plan, run = given_
    names = {"tp": plan.tp, "cp": plan.cp, "pp": plan.pp, "ep": plan.ep, "dp": plan.dp, "edp": plan.expert_dp}
    for stage in range(plan.pp):
        for one in collectives(model.record(run), plan, Keeping(), stage):
            assert one.ranks > 1, one
            assert one.count > 0, one
            assert one.bytes > 0, one
            assert all(names[axis] > 1 for axis in one.axis.split("+")), one


# Tensor parallelism.


def test_tensor_parallelism_has_two_all_reduces_a_layer_each_way():
    """Narayanan et al. 2021, arXiv:2104.04473, section 3.2: tensors of b s h numbers are all-reduced twice in the
    forward and twice in the backward pass of a layer, 8 b s h (t - 1) / t numbers a device and micro-batch.
    """
    t, m = 8, 4
    found = of(GPT3, Plan(tp=t, accumulation=m))
    each = LAYERS * m
    assert kinds(found) == {("forward", "all-reduce"): 2 * each, ("backward", "all-reduce"): 2 * each}
    layers = [one for one in found if "layers" in one.tensor]
    assert {one.bytes for one in layers} == {2 * B * S * H}
    assert sent(layers) == each * 2 * 8 * B * S * H * (t - 1) // t


def test_sequence_parallelism_has_pairs_in_their_place_and_gathers_inputs_again():
    """Korthikanti et al. 2022, arXiv:2205.05198, section 4.2.2: an all-gather and a reduce-scatter in the place of
    each all-reduce, and an extra all-gather in the backward pass, since no rank keeps the inputs of linear layers.
    """
    plan = Plan(tp=8, sequence_parallel=True)
    pairs = {
        ("forward", "all-gather"): 2 * LAYERS,
        ("forward", "reduce-scatter"): 2 * LAYERS,
        ("backward", "all-gather"): 2 * LAYERS,
        ("backward", "reduce-scatter"): 2 * LAYERS,
    }
    kept = of(GPT3, plan.model_copy(update={"gathered_inputs": "kept"}))
    assert kinds(kept) == pairs
    again = of(GPT3, plan)
    assert kinds(again) == pairs | {("backward", "all-gather"): 4 * LAYERS}
    # A ring's all-reduce is a reduce-scatter and an all-gather, so that as much is sent.
    together = of(GPT3, Plan(tp=8))
    inside = "layers.{i}"
    assert sum(one.count * one.sent for one in kept if inside in one.tensor and one.phase != "gradients") == sum(
        one.count * one.sent for one in together if inside in one.tensor
    )


def test_norms_and_biases_of_rows_are_added_up_under_sequence_parallelism_alone():
    """Two norms with gains and biases, and the biases of the two projections back to the residual stream."""
    copies = [one for one in of(GPT3, Plan(tp=8, sequence_parallel=True, accumulation=4)) if one.phase == "gradients"]
    layers = [one for one in copies if "layers" in one.tensor]
    assert {one.tensor.removeprefix("layers.{i}.") for one in layers} == {
        *(f"{norm}_norm.{part}" for norm in ("attention", "mlp") for part in ("weight", "bias")),
        *("attention.output.bias", "mlp.down.bias"),
    }
    assert all((one.count, one.bytes, one.axis) == (LAYERS, 2 * H, "tp") for one in layers)  # once a step
    assert not [one for one in of(GPT3, Plan(tp=8)) if one.phase == "gradients"]


@pytest.mark.parametrize(("tp", "copies"), [(8, 1), (16, 2), (32, 4)])
def test_copies_of_key_value_heads_are_one_in_the_end(tp, copies):
    """Llama 3 8B: 8 key/value heads of 128 from 4,096 features; ranks that have the same head add up its gradient."""
    found = of(archcalc.load("llama3-8b"), Plan(tp=tp), run=Run(sequence=4_096))
    shared = {one.tensor.split(".")[-2]: one for one in found if one.phase == "gradients"}
    assert {name: (one.ranks, one.count, one.bytes) for name, one in shared.items()} == (
        {} if copies == 1 else dict.fromkeys(("key", "value"), (copies, 32, 2 * 128 * 4_096))
    )
    assert kinds(found) == {("forward", "all-reduce"): 64, ("backward", "all-reduce"): 64}


def test_the_loss_over_a_cut_vocabulary_exchanges_three_numbers_a_token():
    """Shoeybi et al. 2019, arXiv:1909.08053, section 3: b s numbers and not b s v; Megatron-LM's cross entropy has
    three, the largest logit, the target's and the sum of exponentials, in fp32.
    """
    found = [one for one in of(GPT3, Plan(tp=8)) if one.tensor.startswith("loss")]
    assert [(one.operation, one.count, one.bytes) for one in found] == [("all-reduce", 1, 4 * B * S)] * 3


@pytest.mark.parametrize(
    ("recompute", "again"),
    [
        ("none", {}),
        ("selective", {}),
        ("full", {("recompute", "all-gather"): 2 * LAYERS, ("recompute", "reduce-scatter"): LAYERS}),
    ],
)
def test_layers_that_are_recomputed_exchange_again_what_comes_before_their_last_saved_tensor(recompute, again):
    """The last is what the MLP's second matrix reads; the reduce-scatter of its product is not repeated."""
    found = of(GPT3, Plan(tp=8, sequence_parallel=True), Keeping(recompute=recompute))
    assert {kind: n for kind, n in kinds(found).items() if kind[0] == "recompute"} == again


def test_a_norm_over_all_heads_adds_up_its_statistic():
    """OLMo 2: queries and keys are normed over all heads; of a part of them each rank has a part of one fp32 number."""
    model = archcalc.load("olmo2-7b")
    found = of(model, Plan(tp=2), run=Run(sequence=4_096))
    small = [one for one in found if one.bytes == 4 * 4_096 and "norm" in one.tensor]
    assert Counter(one.phase for one in small) == {"forward": 2, "backward": 2}
    assert kinds(found)["forward", "all-reduce"] == (2 + 2) * 32


# Context parallelism, experts.


def test_context_parallelism_gathers_keys_and_values_and_scatters_their_gradients():
    """Llama 3 (arXiv:2407.21783, section 3.3.2): all ranks gather keys and values, then compute their own queries."""
    n, model = 4, archcalc.load("llama3-8b")
    found = of(model, Plan(cp=n), run=Run(sequence=8_192))
    assert kinds(found, "cp") == {("forward", "all-gather"): 64, ("backward", "reduce-scatter"): 64}
    here = [one for one in found if one.axis == "cp" and "layers" in one.tensor]
    assert {one.bytes for one in here if one.phase != "gradients"} == {2 * 8_192 * 8 * 128}
    (weights,) = [one for one in found if one.phase == "gradients"]
    assert weights.bytes == 2 * params(model).stored


def test_latents_are_gathered_once_and_not_by_head():
    """DeepSeek-V3: 512 + 64 numbers a position, whatever the heads."""
    found = of(archcalc.load("deepseek-v3"), Plan(cp=2), run=Run(sequence=4_096))
    here = [one for one in found if one.axis == "cp" and one.phase == "forward"]
    assert sorted((one.count, one.bytes) for one in here) == [(61, 2 * 4_096 * 64), (61, 2 * 4_096 * 512)]


def test_tokens_go_to_their_experts_and_back_each_way():
    """Mixtral: 2 of 8 experts, 4,096 features; each rank sends all its rows but those of its own experts."""
    n, model = 8, archcalc.load("mixtral-8x7b")
    found = of(model, Plan(dp=n, ep=n), run=Run(sequence=4_096))
    assert kinds(found, "ep") == {("forward", "all-to-all"): 64, ("backward", "all-to-all"): 64}
    rows = [one for one in found if one.axis == "ep"]
    assert {(one.bytes, one.sent) for one in rows} == {(2 * 2 * 4_096 * 4_096, 2 * 2 * 4_096 * 4_096 * 7 // 8)}
    experts = 32 * 8 * 3 * 4_096 * 14_336
    (gradients,) = [one for one in found if one.phase == "gradients"]
    assert gradients.bytes == 2 * (params(model).stored - experts)  # no other rank has the same experts


def test_experts_that_some_ranks_share_are_added_up_by_these():
    model = archcalc.load("mixtral-8x7b")
    found = of(model, Plan(dp=8, ep=4), run=Run(sequence=4_096))
    experts = 32 * 8 * 3 * 4_096 * 14_336
    by_axis = {one.axis: (one.ranks, one.bytes) for one in found if one.phase == "gradients"}
    assert by_axis == {"dp": (8, 2 * (params(model).stored - experts)), "edp": (2, 2 * experts // 4)}


@pytest.mark.parametrize("name", ["mixtral-8x7b", "gpt-oss-20b", "deepseek-v3"])
def test_what_cut_experts_make_is_weighted_and_added_up_before_it_is_reduced(name):
    """As vLLM's and transformers' tensor-parallel experts do: vectors of tokens are reduced, not one for each of their
    experts. So each rank has a part of the gradients of routing weights, and of the router's.
    """
    model = archcalc.load(name)
    found = [one for one in of(model, Plan(tp=2), run=Run(sequence=2_048)) if ".mlp" in one.tensor]
    assert {one.tensor for one in found if "experts" in one.tensor} == {"layers.{i}.mlp.experts.sum"}
    assert {one.bytes for one in found if one.phase in ("forward", "backward")} == {2 * 2_048 * model.d_model}
    summed = [one for one in found if one.phase == "gradients"]
    assert {one.tensor.split(".")[3] for one in summed} == {"router"}
    assert all(one.axis == "tp" for one in summed)


# Data parallelism.


@settings(max_examples=few(10, prove=150))
@given(planned(zero=(0,)), st.sampled_from(["mixed-16", "mixed-18", "fp32"]))
def test_gradients_over_data_parallel_ranks_are_the_parameters_of_the_rank(given_, recipe):
    """Each once, tied tables and positions too, in the width of gradients; of experts where others have the same."""
    model, plan, run = given_
    keeping = Keeping(recipe)
    for stage in range(plan.pp):
        found = collectives(model.record(run), plan, keeping, stage)
        rank = params(local(model.record(run), plan, stage))
        learned = {
            of: sum(t.parameters for t in rank.tensors if t.learns and t.of_experts == of) for of in (False, True)
        }
        if plan.ep == 1:
            learned = {False: learned[False] + learned[True], True: 0}
        for of_experts, ranks in ((False, plan.dp * plan.cp), (True, plan.expert_dp)):
            axes = ("edp",) if of_experts else ("dp", "cp", "dp+cp")
            here = [one for one in found if one.axis in axes and one.tensor == "gradients"]
            expected = learned[of_experts] * keeping.recipe.gradient if ranks > 1 else 0
            assert sum(one.bytes for one in here) == expected
            assert all((one.operation, one.count, one.ranks) == ("all-reduce", 1, ranks) for one in here)


@pytest.mark.parametrize(("zero", "layers", "outside"), [(0, 2, 2), (1, 2, 2), (2, 2, 2), (3, 3, 2)])
def test_zero_sends_two_or_three_times_the_parameters(zero, layers, outside):
    """Rajbhandari et al. 2020, arXiv:1910.02054, section 7: 2 Psi numbers with and without shared states and gradients,
    3 Psi with shared weights, each times (n - 1) / n in a ring. Weights outside the layers are gathered once, as FSDP2
    gathers those of its root.
    """
    n, keeping = 8, Keeping("fp32")
    counts = params(GPT3)
    inside = sum(t.parameters for t in counts.tensors if t.within is not None)
    rest = counts.stored - inside
    assert inside % n == rest % n == 0
    found = of(GPT3, Plan(dp=n, zero=zero, sharding="flat"), keeping)
    assert {one.axis for one in found} == {"dp"}
    assert sent(found) == 4 * (layers * inside + outside * rest) * (n - 1) // n


@pytest.mark.parametrize(("zero", "times"), [(0, 1), (1, 1), (2, 4), (3, 4)])
def test_gradients_that_no_rank_keeps_whole_are_scattered_after_each_micro_batch(zero, times):
    found = of(GPT3, Plan(dp=8, zero=zero, accumulation=4))
    operation = "all-reduce" if zero == 0 else "reduce-scatter"
    layers = LAYERS if zero == 3 else 1
    assert [one.count for one in found if one.operation == operation][-1] == times * layers


# Pipelines.


@pytest.mark.parametrize(("schedule", "chunks"), [("1f1b", 1), ("gpipe", 1), ("interleaved", 2), ("interleaved", 3)])
def test_stages_hand_on_the_residual_stream(schedule, chunks):
    """Narayanan et al. 2021, section 3.2: b s h numbers between consecutive stages, each way, for each micro-batch;
    with v chunks v times as many, since a stage hands on to the next chunk.
    """
    pp, m = 4, 8
    plan = Plan(pp=pp, schedule=schedule, chunks=chunks, accumulation=m)
    sends = {stage: [one for one in of(GPT3, plan, stage=stage) if one.operation == "send"] for stage in range(pp)}
    count = {(stage, one.phase): one.count for stage, ones in sends.items() for one in ones}
    assert all(one.bytes == one.sent == 2 * B * S * H for ones in sends.values() for one in ones)
    assert sum(count.values()) == 2 * m * (pp * chunks - 1)
    assert count[0, "forward"] == count[pp - 1, "backward"] == m * chunks
    assert count.get((0, "backward"), 0) == count.get((pp - 1, "forward"), 0) == m * (chunks - 1)


def test_sequence_parallel_ranks_hand_on_their_own_positions():
    found = of(GPT3, Plan(pp=4, tp=8, sequence_parallel=True), stage=1)
    assert {one.bytes for one in found if one.operation == "send"} == {2 * B * S * H // 8}


def test_a_table_that_two_stages_have_is_added_up_between_them():
    """Narayanan et al. 2021: GPT-3's table of 50,257 rows, tied; each of 8 ranks has 6,283 of them."""
    plan = Plan(pp=8, tp=8, accumulation=8)
    tied = {
        stage: [one for one in of(GPT3, plan, Keeping("mixed-18"), stage) if one.tensor == "embedding.token.weight"]
        for stage in range(8)
    }
    assert [len(tied[stage]) for stage in range(8)] == [1, 0, 0, 0, 0, 0, 0, 1]
    first = tied[0][0]
    assert tied[7] == [first]
    assert (first.operation, first.axis, first.ranks, first.count) == ("all-reduce", "pp", 2, 1)
    assert first.bytes == 6_283 * H * 4
    untied = archcalc.load("llama3-8b")
    assert not [one for one in of(untied, Plan(pp=8)) if one.operation == "all-reduce"]


# Rings, nodes, and what waits.


@pytest.mark.parametrize(
    ("operation", "n", "size", "parts"),
    [
        ("all-reduce", 4, 1_000, 2 * 3 * 250),
        ("reduce-scatter", 4, 1_000, 3 * 250),
        ("all-gather", 4, 1_001, 3 * 251),  # parts are of one size, the last padded
        ("all-to-all", 8, 800, 700),
        ("send", 2, 800, 800),
    ],
)
def test_what_a_ring_sends(operation, n, size, parts):
    assert Collective(operation, "tp", n, "x", "forward", 1, size, True).sent == parts


@pytest.mark.parametrize(
    ("plan", "expected"),
    [
        (Plan(tp=8, dp=8), {"tp": "node", "dp": "across"}),
        (Plan(tp=16), {"tp": "across"}),
        (Plan(tp=2, cp=4, dp=2), {"tp": "node", "cp": "node", "dp+cp": "across"}),
        (Plan(tp=4, cp=4), {"tp": "node", "cp": "across"}),
        (Plan(tp=3, dp=4), {"tp": "across", "dp": "across"}),  # ranks 6, 7, 8 are in two nodes
        (Plan(tp=2, dp=2), {"tp": "node", "dp": "node"}),
    ],
)
def test_ranks_are_numbered_tp_first_then_cp_then_dp(plan, expected):
    """Megatron-LM's default order, "tp-cp-ep-dp-pp", on nodes of 8."""
    assert {one.axis: one.scope for one in of(GPT3, plan)} == expected


def test_neighbouring_stages_may_share_a_node():
    """pp 8 x tp 2: ranks 0-7 are stages 0-3."""
    plan = Plan(pp=8, tp=2)
    sends = {
        (stage, one.phase): one.scope
        for stage in range(8)
        for one in of(GPT3, plan, stage=stage)
        if one.axis == "pp" and one.operation == "send"
    }
    assert sends[0, "forward"] == sends[2, "forward"] == sends[5, "backward"] == "node"
    assert sends[3, "forward"] == sends[4, "backward"] == "across"


def test_what_waits_and_what_may_be_hidden():
    found = of(GPT3, Plan(tp=8, sequence_parallel=True, pp=4, dp=2, zero=1), stage=1)
    by_kind = {(one.axis, one.phase, one.operation): [] for one in found}
    for one in found:
        by_kind[one.axis, one.phase, one.operation].append(one.overlaps)
    assert set(by_kind["tp", "forward", "all-gather"]) == {None}
    assert set(by_kind["tp", "backward", "reduce-scatter"]) == {"the gradients of weights"}
    assert set(by_kind["tp", "backward", "all-gather"]) == {None, "the gradient of the input"}
    assert set(by_kind["pp", "forward", "send"]) == {None}
    assert set(by_kind["dp", "gradients", "reduce-scatter"]) == {"the backward pass of the last micro-batch"}
    assert set(by_kind["dp", "step", "all-gather"]) == {"the forward pass of the next step"}


# Ranks together.


def weights(segments):
    """Each weight by its path and its layer, with the segment that has it; a table that two have once."""
    return {
        (weight.path, layer): (weight, segment)
        for segment in segments
        for op in segment.ops
        for weight in op.weights
        for layer in (segment.layers.indices() if "{i}" in weight.path else [None])
    }


@settings(max_examples=few(10, prove=150))
@given(planned())
def test_what_ranks_hold_once_is_the_model(given_):
    """Each weight that a rank of some stage has, times the ranks of the stage that have another part of it. Where tp
    does not divide the rows of the token table, the last rank is taken to have as many as the others.
    """
    model, plan, run = given_
    whole = weights(model.record(run).segments)
    found = {}
    for stage in range(plan.pp):
        found |= weights(local(model.record(run), plan, stage).segments)
    assert found.keys() == whole.keys()
    for key, (weight, segment) in whole.items():
        here = mesh(segment, plan)
        parts = prod(here.ranks[axis] for axis in here.cut(weight.labels))
        size = prod(segment.env[label] for label in weight.labels)
        if "V" in weight.labels:
            size = size // model.vocab_size * -(-model.vocab_size // plan.tp) * plan.tp
        assert prod(found[key][1].env[label] for label in weight.labels) * parts == size, key


def test_every_sort_of_rank_is_told_and_the_busiest_comes_first():
    found = traffic(GPT3, Plan(tp=8, pp=8, accumulation=8, sequence_parallel=True), RUN, Keeping())
    assert sorted(stage for one in found.each for stage in one.stages) == list(range(8))
    totals = [one.sent for one in found.each]
    assert totals == sorted(totals, reverse=True)
    assert found.busiest.sent == sum(one.count * one.sent for one in found.busiest.collectives)


def test_a_plan_that_breaks_a_rule_is_refused():
    with pytest.raises(Invalid, match="tp: must divide"):
        traffic(GPT3, Plan(tp=7), RUN, Keeping())


@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_inference_has_a_forward_pass_alone(phase):
    run = Run("prefill", sequence=2_048, logits="last") if phase == "prefill" else Run("decode", context=2_048)
    found = of(GPT3, Plan(tp=8, dp=4), Keeping("bf16"), run=run)
    assert kinds(found) == {("forward", "all-reduce"): 2 * LAYERS}
    assert {one.axis for one in found} == {"tp"}
    assert {one.bytes for one in found if "layers" in one.tensor} == {2 * H * (2_048 if phase == "prefill" else 1)}


# Many plans at once.


@pytest.mark.parametrize("name", ["gpt3-175b", "llama3-8b", "mixtral-8x7b", "deepseek-v3"])
@pytest.mark.parametrize(
    "fields", [{}, {"zero": 1}, {"zero": 3, "sharding": "per-tensor"}, {"sequence_parallel": True}]
)
def test_arrays_of_plans_are_each_plan_by_itself(name, fields):
    """Which axes exist decides what there is; a rank that is alone on one of them sends nothing over it."""
    numpy = pytest.importorskip("numpy")
    model = archcalc.load(name)
    degrees = (2, 8, 32) if "sequence_parallel" in fields else (1, 8, 32)
    rows = [
        {"tp": tp, "dp": dp, "cp": cp, "accumulation": m}
        for tp in degrees
        for dp in (1, 4)
        for cp, m in ((1, 2), (2, 1))
    ]
    columns = {key: numpy.array([float(row[key]) for row in rows]) for key in rows[0]}
    n = len(rows)
    many = Plan(tp=2, **fields).model_copy(update=columns)
    run = Run(batch=numpy.ones(n), sequence=numpy.full(n, 2_048.0), attention="flash")
    found = collectives(model.record(run), many, Keeping("mixed-18"))
    for i, row in enumerate(rows):
        alone = of(model, Plan(**fields | row), Keeping("mixed-18"))
        for what in ("bytes", "sent"):
            together = sum(numpy.broadcast_to(one.count * getattr(one, what), n)[i] for one in found)
            assert together == sum(one.count * getattr(one, what) for one in alone), row
