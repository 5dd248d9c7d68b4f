"""What a plan says of how numbers are kept: recipes, optimizers on the host, layers that are recomputed, habits."""

import pytest
from command import ask
from hypothesis import given
from hypothesis import strategies as st

import archcalc
from archcalc import Keeping, Plan, Run
from archcalc.cli import main  # noqa: F401  (the commands are registered)
from archcalc.counts.activations import saved
from archcalc.counts.optimizer import kept_on_host
from archcalc.counts.parameters import params
from archcalc.counts.rankwise import ranks
from archcalc.plan.local import local
from archcalc.plan.recipes import keeping_of
from archcalc.spec.crossing import reads_other_layers
from archcalc.strategies import models
from archcalc.tape.roles import widths

RUN = Run(sequence=64, attention="flash")
GPT2 = 124_439_808


def fullest(spec, plan, keeping, run=RUN):
    return ranks(archcalc.load(spec), plan, run, keeping).fullest.memory


def kept(used):
    return {term.name: term.bytes for term in used.terms}


def test_20_bytes_a_parameter_are_kept_of_which_gradients_are_6():
    # Smith et al. 2022, arXiv:2201.11990: bf16 weight and gradient, fp32 weight and gradient, two fp32 moments
    terms = kept(fullest("gpt2", Plan(), Keeping("mixed-20", "adamw-fused")))
    counters = 4 * (2 + 12 * 16 + 2)
    found = [terms[name] for name in ("weights", "gradients", "master weights", "optimizer state")]
    assert found == [n * GPT2 for n in (2, 6, 4)] + [8 * GPT2 + counters]


def test_gradients_of_20_bytes_are_reduced_in_bf16():
    model, plan = archcalc.load("gpt2"), Plan(dp=2)
    sent = {name: archcalc.traffic(model, plan, RUN, Keeping(name)).busiest.bytes for name in ("mixed-20", "mixed-18")}
    assert sent == {"mixed-20": 2 * GPT2, "mixed-18": 4 * GPT2}


def test_fp8_narrows_the_matrices_of_layers_alone():
    # 12 layers of 12 x 768^2 in one byte, all else in two
    matrices = 12 * 12 * 768**2
    terms = {term.name: term.kind for term in fullest("gpt2", Plan(), Keeping("fp8-13")).terms}
    assert (terms["weights"], terms["master weights"]) == ("modelled", "exact")
    assert kept(fullest("gpt2", Plan(), Keeping("fp8-13")))["weights"] == matrices + 2 * (GPT2 - matrices)


def test_a_router_stays_wide_in_fp8():
    model = archcalc.load("mixtral-8x7b")
    counts = params(model)
    routers = 32 * 8 * 4096
    wide = 2 * 32_000 * 4096 + (2 * 32 + 1) * 4096 + routers
    used = fullest("mixtral-8x7b", Plan(), Keeping("fp8-13"))
    assert kept(used)["weights"] == (counts.stored - wide) + 2 * wide


def test_an_optimizer_on_the_host_leaves_the_device_weights_and_gradients():
    plan = Plan(dp=4, zero=1, offload_optimizer=True)
    keeping = keeping_of(plan, precision="mixed-18")
    used = fullest("gpt2", plan, keeping)
    assert used.state == (2 + 4) * GPT2
    # of its share fp32 weights, two moments, and a copy of the fp32 gradients; 194 tensors make no counters here
    assert used.host == (4 + 8 + 4) * GPT2 // 4
    assert {"master weights", "optimizer state"}.isdisjoint(kept(used))
    assert used.state == next(p.bytes for p in used.phases if p.phase == "step") - 2 * 8 * 64 - 4


def test_what_is_on_the_host_is_what_the_device_no_longer_has():
    model = archcalc.load("gpt2")
    for precision in ("fp32", "mixed-16", "amp"):
        here, there = (fullest("gpt2", Plan(), Keeping(precision, offload=o)) for o in (False, True))
        moved = kept_on_host(params(model), Keeping(precision, offload=True))
        recipe = Keeping(precision).recipe
        copies = (recipe.reduced + (0 if recipe.master else recipe.weight)) * GPT2
        assert here.state - there.state == moved - copies


@given(model=models(), count=st.integers(1, 6))
def test_first_layers_save_as_recomputed_ones_and_the_others_as_kept_ones(model, count):
    plan = Plan(recompute="full", recompute_layers=count)
    run = Run(sequence=min(8, model.context_length), attention="flash")
    try:
        archcalc.ranks(model, plan, run, Keeping(recompute="full"))
    except archcalc.Invalid:  # layers that read others, or share blocks
        return
    width, taken = widths(2), model.record(run)
    here = saved(local(taken, plan), run, width, "full").layers
    every, none = (saved(taken, run, width, again).layers for again in ("full", "none"))
    assert every <= here <= none
    assert (count < model.n_layers) or here == every


def test_each_further_layer_saves_its_input_alone():
    # bf16: a layer's input is 64 x 768; its own tensors are those of saved(none)
    model = archcalc.load("gpt2")
    width, taken = widths(2), model.record(RUN)
    none, full = (saved(taken, RUN, width, again).layers for again in ("none", "full"))
    for count in (1, 5, 12):
        plan = Plan(recompute="full", recompute_layers=count)
        here = saved(local(taken, plan), RUN, width, "full").layers
        assert here == full * count // 12 + none * (12 - count) // 12


def test_stages_recompute_the_first_of_each():
    plan = Plan(pp=2, recompute="full", recompute_layers=2, accumulation=2)
    model = archcalc.load("gpt2")
    first, last = (local(model.record(RUN), plan, stage) for stage in (0, 1))
    for taken in (first, last):
        assert [int(s.layers.count) for s in taken.segments if s.layers] == [2, 4]
    assert [s.layers.first for s in last.segments if s.layers] == [6, 8]


@pytest.mark.parametrize("spec", ["gpt2@d_model=192,n_heads=4,vocab_size=500,n_layers=4", "tiny"])
def test_a_real_step_that_recomputes_some_layers_takes_what_was_counted(spec):
    pytest.importorskip("torch")
    from archcalc.proof.allocator import record_step

    model, run = archcalc.load(spec), Run(batch=2, sequence=32, attention="flash")
    for count in range(1, int(model.n_layers)):
        keeping = Keeping("fp32", "adamw", recompute="full")
        plan = Plan(recompute="full", recompute_layers=count, micro_batch=2)
        phases = {p.phase: p.bytes for p in ranks(model, plan, run, keeping).fullest.memory.phases}
        recorded = record_step(model, run, keeping, count)
        assert recorded.step == phases.pop("step")
        assert recorded.tensors == max(phases.values())


def test_flops_and_traffic_recompute_those_layers_alone():
    count = {}
    for k in (3, 12):
        plan = ("--tp", "2", "--recompute", "full", "--recompute-layers", str(k), "-f", "json")
        flops = ask("flops", "gpt2", *plan).json
        sent = ask("traffic", "gpt2", *plan).json
        again = [one for one in sent["collectives"] if one["phase"] == "recompute"]
        count[k] = flops["ranks"][0]["hardware"]["recomputed"], sum(one["count"] for one in again)
    assert [n * 4 for n in count[3]] == list(count[12])


MEGATRON = {"sharding": "flat", "gathered_inputs": "again", "vocab_divisible_by": 128}


def test_habits_hold_where_the_plan_says_nothing():
    named = {"tp": 8, "dp": 8, "zero": 1, "sequence_parallel": True}
    plan = Plan(framework="megatron", **named)
    assert {name: getattr(plan, name) for name in MEGATRON} == MEGATRON
    assert keeping_of(plan) == Keeping("mixed-18", "adamw-fused")
    own = Plan(framework="pytorch", precision="fp32", **{**named, "zero": 3})
    assert (own.sharding, own.gathered_inputs) == ("per-tensor", "kept")
    assert keeping_of(own) == Keeping("fp32", "adamw-foreach")
    assert keeping_of(Plan(framework="pytorch", dp=2, zero=3)).precision == "fsdp-bf16"
    assert keeping_of(Plan(framework="pytorch", dp=2)).precision == "amp"
    assert Plan(framework="deepspeed", dp=2, zero=3).prefetch == "both"
    assert keeping_of(Plan(framework="deepspeed", dp=2)).precision == "mixed-16"


@given(st.sampled_from(["megatron", "pytorch", "deepspeed"]), st.sampled_from([0, 1, 2, 3]), st.booleans())
def test_a_preset_contradicts_no_plan_of_its_own(framework, zero, cuts):
    plan = Plan(framework=framework, dp=2, tp=2, zero=zero, sequence_parallel=cuts)
    assert Plan.model_validate(plan.model_dump()) == plan
    assert keeping_of(plan, "inference") == Keeping("bf16")


def test_what_is_asked_wins_over_the_plan_and_that_over_the_framework():
    plan = Plan(framework="megatron", precision="mixed-20", recompute="selective")
    assert keeping_of(plan) == Keeping("mixed-20", "adamw-fused", "selective")
    assert keeping_of(plan, optimizer="sgd", recompute="none") == Keeping("mixed-20", "sgd", "none")


FILE = """schema: 0
name: mine
framework: megatron
tp: 2
dp: 2
zero: 1
recompute: full
recompute_layers: 4
optimizer: adamw-8bit
offload_optimizer: true
"""


def test_a_file_carries_its_recipe_to_every_command(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(FILE)
    memory = ask("memory", "gpt2", "--plan", str(path))
    assert "framework megatron; optimizer adamw-8bit; recompute full; recompute_layers 4" in memory.out
    assert "of the host's memory" in memory.out
    assert "the first 4 layers of each stage recomputed" in " ".join(memory.out.split())
    said = ask("memory", "gpt2", "--plan", str(path), "-f", "json").json["conventions"]
    assert (said["precision"], said["optimizer"], said["recompute"], said["offload"]) == (
        "mixed-18",
        "adamw-8bit",
        "full",
        True,
    )
    other = ask("memory", "gpt2", "--plan", str(path), "--precision", "fp32", "--no-offload-optimizer", "-f", "json")
    assert (other.json["conventions"]["precision"], other.json["conventions"]["offload"]) == ("fp32", False)
    assert "the first 4 layers" in " ".join(ask("traffic", "gpt2", "--plan", str(path)).out.split())


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (
            ("--recompute-layers", "2", "--recompute", "selective"),
            "plan: has recompute_layers, which needs recompute: full",
        ),
        (
            ("--dp", "2", "--zero", "1", "--optimizer", "muon"),
            "plan: zero: is not supported with muon, which steps whole matrices; got 1; nearest: 0",
        ),
        (
            ("--dp", "2", "--zero", "3", "--precision", "fp8-13"),
            "plan: zero: is not supported with fp8-13, whose weights have scales; got 3; nearest: 2",
        ),
        (("--framework", "jax"), "--framework: 'jax' is not one of 'megatron', 'pytorch', 'deepspeed'"),
    ],
)
def test_recipes_that_cannot_be_are_one_line(arguments, told):
    answer = ask("memory", "gpt2", *arguments)
    assert (answer.code, answer.err) == (2, f"{told}\n")


@given(models())
def test_recomputing_first_layers_is_not_supported_where_layers_read_others(model):
    plan = Plan(recompute="full", recompute_layers=1)
    run = Run(sequence=min(8, model.context_length), attention="flash")
    layers = [kind.layer for group in model.layers for kind in group.kinds_in()]
    shares = any(branch.added is not None for layer in layers for branch in layer.residual_branches)
    if not (shares or any(map(reads_other_layers, layers))):
        archcalc.ranks(model, plan, run, Keeping(recompute="full"))
        return
    with pytest.raises(archcalc.Invalid, match="recompute_layers: is not supported"):
        archcalc.ranks(model, plan, run, Keeping(recompute="full"))


def test_a_sweep_varies_recipes_and_optimizers_and_is_the_scalar_path_in_each_row():
    model, base = archcalc.load("gpt2"), Plan(dp=4, framework="pytorch", zero=3)
    vary = {
        "zero": [0, 1, 3],
        "optimizer": ["adamw", "muon", "adamw-8bit"],
        "precision": ["fp32", "mixed-20", "fp8-13"],
    }
    grid = archcalc.sweep_plans(model, vary, base, RUN, Keeping())
    rows = [dict(zip((*grid.fields, *grid.counted), row, strict=True)) for row in grid.rows()]
    assert len(rows) == 27 - 2 * 3 - 2  # muon with ZeRO, and fp8 with ZeRO 3 and another optimizer
    for row in rows:
        fields = {"zero": row["zero"], **({"sharding": "per-tensor"} if row["zero"] else {})}
        used = ranks(model, Plan(dp=4, **fields), RUN, Keeping(row["precision"], row["optimizer"])).fullest.memory
        assert (row["memory.state"], row["memory.total"]) == (used.state, used.total), row


def test_the_command_line_varies_them_too():
    told = ask("sweep", "gpt2", "--vary", "optimizer=adamw,muon", "--vary", "zero=0,1", "--dp", "4", "-f", "json").json
    rows = [dict(zip(("optimizer", "zero"), row, strict=False)) for row in told["rows"]]
    assert [(row["optimizer"], row["zero"]) for row in rows] == [("adamw", 0), ("adamw", 1), ("muon", 0)]
    assert told["left_out"] == [{"reason": "zero is not supported with muon, which steps whole matrices", "plans": 1}]


def test_a_sweep_varies_the_layers_that_are_recomputed():
    model, vary = archcalc.load("gpt2"), {"recompute_layers": [1, 4, 12], "pp": [1, 2, 3], "micro_batch": [1, 2]}
    columns = ["memory.total", "traffic.sent"]
    for count, pp, size, *found in archcalc.sweep_plans(model, vary, Plan(tp=2), RUN, Keeping(), columns).rows():
        plan = Plan(tp=2, pp=pp, micro_batch=size, recompute_layers=count)
        keeping = Keeping(recompute="full")
        used, sent = ranks(model, plan, RUN, keeping).fullest.memory, archcalc.traffic(model, plan, RUN, keeping)
        assert found == [used.total, sent.busiest.sent]


def test_layers_that_are_recomputed_need_no_further_word_and_another_one_drops_them(tmp_path):
    assert Plan(recompute_layers=2).recompute == "full"
    path = tmp_path / "mine.yaml"
    path.write_text("schema: 0\nname: mine\nrecompute_layers: 2\n")
    told = ask("memory", "gpt2", "--plan", str(path), "--recompute", "none", "-f", "json").json
    assert (told["plan"]["recompute"], told["plan"]["recompute_layers"]) == ("none", None)
    said = " ".join(ask("memory", "gpt2", "--recompute-layers", "12").out.split())
    assert "recompute_layers 12 recomputes every layer: a stage has at most 12" in said
    interleaved = ("--pp", "2", "--schedule", "interleaved", "--chunks", "2", "--accumulation", "4")
    said = " ".join(ask("memory", "gpt2", *interleaved, "--recompute-layers", "2").out.split())
    assert "the first 2 layers of each chunk recomputed" in said


def test_what_a_plan_says_of_the_other_purpose_is_the_plan_s(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("schema: 0\nname: mine\nprecision: fp8\noptimizer: muon\n")
    answer = ask("memory", "gpt2", "--plan", str(path))
    assert answer.err.startswith("mine: precision: for training must be one of mixed-16,")
    answer = ask("memory", "gpt2", "--plan", str(path), "--for", "inference")
    assert (answer.code, answer.err) == (2, f"{path}: optimizer: applies only to training; got muon\n")
