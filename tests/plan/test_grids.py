"""A grid of plans gives each row what one plan is given."""

import pytest
from command import ask
from hypothesis import given, settings
from hypothesis import strategies as st
from planned import planned

import archcalc
from archcalc.counts.collectives import traffic
from archcalc.counts.rankwise import ranks
from archcalc.errors import Invalid
from archcalc.plan.description import Plan
from archcalc.shapes.plans import COLUMNS, sweep_plans
from archcalc.tape.precision import Keeping
from archcalc.tape.run import Run

GRIDS = {
    "gpt2": {"tp": [1, 2, 3, 5], "pp": [1, 2, 3], "dp": [1, 2], "zero": [0, 1], "accumulation": [1, 3]},
    "llama3-8b": {"tp": [1, 4, 16], "sequence_parallel": [False, True], "pp": [1, 4], "micro_batch": [1, 2]},
    "mixtral-8x7b": {"ep": [1, 2, 8], "dp": [1, 8], "tp": [1, 2], "zero": [0, 1]},
    "gemma2-2b": {"tp": [1, 2, 4], "pp": [1, 13], "recompute": ["none", "full"], "accumulation": [1, 4]},
    "deepseek-v2-lite": {"tp": [1, 2], "ep": [1, 4], "dp": [4], "pp": [1, 3], "cp": [1, 2]},
}


@pytest.mark.parametrize("name", GRIDS)
def test_every_row_is_its_plan(name):
    model, run, keeping = archcalc.load(name), Run(sequence=512), Keeping("mixed-18")
    grid = sweep_plans(model, GRIDS[name], Plan(), run, keeping, list(COLUMNS))
    held = 1
    for values in GRIDS[name].values():
        held *= len(values)
    assert len(grid) + sum(grid.left_out.values()) == held
    assert len(grid)
    for row in grid.rows():
        fields = dict(zip(grid.fields, row, strict=False))
        again = keeping._replace(recompute=fields.pop("recompute", "none"))
        plan = Plan(**fields)
        one = ranks(model, plan, run, again)
        assert row[len(grid.fields) :] == (
            plan.world,
            max(rank.parameters.stored for rank in one.each),
            max(rank.memory.state for rank in one.each),
            one.fullest.memory.total,
            traffic(model, plan, run, again).busiest.sent,
        )


@pytest.mark.parametrize("precision", ["mixed-16", "amp", "fsdp-bf16", "fp32"])
def test_stages_that_have_layers_in_common_are_each_their_plan(precision):
    """Where gradients are not kept between steps, what stays of them is of each stage its own."""
    model, run, keeping = archcalc.load("gpt2"), Run(sequence=64), Keeping(precision)
    vary = {"pp": [1, 2, 4], "dp": [4], "zero": [1, 3], "micro_batch": [1, 3], "tp": [1, 2]}
    plan = Plan(schedule="1f1b", sharding="per-tensor", zero=1)
    columns = ["memory.state", "memory.total", "traffic.sent"]
    for row in sweep_plans(model, vary, plan, run, keeping, columns).rows():
        one = plan.model_copy(update=dict(zip(vary, row, strict=False)))
        found = ranks(model, one, run, keeping)
        sent = traffic(model, one, run, keeping).busiest.sent
        states = [rank.memory.state for rank in found.each]
        assert row[len(vary) :] == (max(states), found.fullest.memory.total, sent)


@settings(max_examples=10)
@given(planned(), st.sampled_from(["mixed-18", "amp", "fsdp-bf16"]), st.sampled_from([0, 2, 3]), st.data())
def test_rows_that_recompute_otherwise_are_each_their_plan_of_any_model(one, precision, zero, data):
    keeping = Keeping(precision)
    vary = {
        "recompute": ["none", "selective", "full"],
        "zero": list({zero, one.plan.zero}),
        "pp": list({1, one.plan.pp}),
        "tp": list({1, one.plan.tp}),
        "micro_batch": [1, 2],
    }
    columns = ["memory.state", "memory.total", "traffic.sent"]
    rows = list(sweep_plans(one.model, vary, one.plan, one.run, keeping, columns).rows())
    for row in data.draw(st.lists(st.sampled_from(rows), min_size=3, max_size=3)):
        fields = dict(zip(vary, row, strict=False))
        again = keeping._replace(recompute=fields.pop("recompute"))
        plan = one.plan.model_copy(update=fields)
        found, sent = ranks(one.model, plan, one.run, again), traffic(one.model, plan, one.run, again)
        states = [rank.memory.state for rank in found.each]
        assert row[len(vary) :] == (max(states), found.fullest.memory.total, sent.busiest.sent)


@settings(max_examples=20)
@given(st.sampled_from(sorted(GRIDS)), st.data())
def test_what_is_left_out_is_refused(name, data):
    model, run = archcalc.load(name), Run(sequence=512)
    sizes = st.lists(st.integers(1, 12), min_size=1, max_size=3, unique=True)
    vary = {field: data.draw(sizes) for field in ("tp", "pp", "dp", "ep")}
    grid = sweep_plans(model, vary, Plan(), run, Keeping(), ["ranks"])
    kept = {row[:4] for row in grid.rows()}
    for tp in vary["tp"]:
        for pp in vary["pp"]:
            for dp in vary["dp"]:
                for ep in vary["ep"]:
                    try:
                        ranks(model, Plan(tp=tp, pp=pp, dp=dp, ep=ep), run, Keeping())
                        fits = True
                    except Invalid:
                        fits = False
                    assert fits == ((tp, pp, dp, ep) in kept)


def test_a_grid_of_plans_on_the_command_line():
    found = ask("sweep", "gpt2", "--vary", "tp=1,2,5", "--vary", "recompute=none,full", "--format", "json").json
    assert [row[:2] for row in found["rows"]] == [[1, "none"], [1, "full"], [2, "none"], [2, "full"]]
    assert found["left_out"] == [{"reason": "tp must divide n_heads (12)", "plans": 2}]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (
            ("--vary", "tp=2", "--vary", "n_layers=3"),
            "--vary: n_layers: is not a field of a plan; a grid is of one model's",
        ),
        (("--vary", "tp=5"), "--vary: leaves no plan: 1: tp must divide n_heads (12)"),
        (("--vary", "schedule=x"), "--vary: has a value that schedule cannot be; got 'x'; one of 1f1b, gpipe"),
        (("--vary", "tp=2", "--columns", "flops.forward"), "--columns: unknown column of a plan; got 'flops.forward'"),
        (("--vary", "tp=2", "--for", "inference"), "--for: must be training for a grid of plans"),
        (("--vary", "tp=2", "--batch", "8"), "--batch: does not apply to a grid of plans; vary micro_batch"),
    ],
)
def test_a_grid_that_cannot_be(arguments, told):
    answer = ask("sweep", "gpt2", *arguments)
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith(told)


@pytest.mark.parametrize(("name", "values"), [("dp", [1, 0]), ("tp", [0, 1]), ("micro_batch", [True])])
def test_a_value_that_no_plan_can_have_is_refused(name, values):
    with pytest.raises(Invalid, match=f"sweep_plans: {name}: must be"):
        sweep_plans(archcalc.load("gpt2"), {name: values}, Plan(), Run(sequence=8), Keeping())
