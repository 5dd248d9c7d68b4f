"""The report under a plan: its numbers are those of the commands that count each, and of one rank those of no plan."""

import csv
import io

import pytest
from command import ask
from examples import few
from hypothesis import given, settings
from planned import planned

import archcalc
from archcalc.counts.overall import overall
from archcalc.plan.description import Plan
from archcalc.report.overview import report_sheet
from archcalc.report.ranksoverview import ranks_report_sheet
from archcalc.spec.catalogue import find

PLANS = {
    "a pipeline": ("gpt3-175b", "--tp", "8", "--sequence-parallel", "--pp", "8", "--dp", "16", "--zero", "1",
                   "--accumulation", "64", "--vocab-divisible-by", "128"),
    "chunks": ("gpt3-175b", "--plan", "gpt3-175b-korthikanti"),
    "copies of heads": ("llama3-8b", "--tp", "16"),
    "experts": ("mixtral-8x7b", "--dp", "4", "--ep", "4"),
    "fsdp": ("gpt2-xl", "--plan", "fsdp8"),
    "habits": ("gpt2", "--pp", "2", "--accumulation", "4", "--framework", "megatron", "--dp", "2", "--zero", "1",
               "--offload-optimizer"),
    "inference": ("llama3-8b", "--tp", "8", "--cache-block", "16"),
}  # fmt: skip


def told(command, *arguments):
    answer = ask(command, *arguments, "--format", "json")
    assert (answer.code, answer.err) == (0, "")
    return answer.json


@pytest.mark.parametrize("name", PLANS)
def test_its_numbers_are_those_of_the_other_commands(name):
    plan = PLANS[name]
    phase = ("--phase", "prefill") if name == "inference" else ()
    report = told("report", *plan)
    params, flops, traffic = told("params", *plan), told("flops", *plan, *phase), told("traffic", *plan, *phase)
    memory = told("memory", *plan, *(("--for", "inference") if phase else ()))
    assert report["plan"] == params["plan"] == flops["plan"] == memory["plan"] == traffic["plan"]
    assert report["parameters"]["stored"] == params["rank"]["parameters"]
    assert report["flops"] == flops["ranks"][0]["flops"]
    assert (report["step"]["model"], report["step"]["ranks"]) == (flops["step"]["model"], flops["step"]["ranks"])
    assert report["bubble"] == flops["bubble"]
    assert report["memory"] == memory["ranks"][0]["memory"]
    assert report["collectives"] == traffic["collectives"]
    assert [rank["stages"] for rank in report["ranks"]] == [rank["stages"] for rank in memory["ranks"]]
    stages = {row["stage"]: row["parameters"] for row in params["stages"]}
    for rank in report["ranks"]:
        stage = rank["stages"][0]
        assert rank["rank"] == {"dp": 0, "cp": 0, "tp": 0, "pp": stage}
        assert rank["parameters"] == stages[stage]
        for other, names in (
            (memory, ("memory",)),
            (flops, ("flops", "hardware", "micro_batches")),
            (traffic, ("bytes", "sent")),
        ):
            mine = next(one for one in other["ranks"] if stage in one["stages"])
            assert {name: rank[name] for name in names} == {name: mine[name] for name in names}
    assert (
        sum(row["parameters"] for row in report["tally"]["categories"])
        + sum(row["parameters"] for row in report["bridge"])
        == report["parameters"]["stored"]
    )


def test_a_recipe_of_the_plan_is_that_of_the_report_and_of_its_formulas(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(
        "schema: 0\ntp: 2\npp: 2\naccumulation: 4\nprecision: mixed-18\noptimizer: adamw-8bit\n"
        "recompute: full\nrecompute_layers: 4\n"
    )
    plan = ("gpt2", "--plan", str(path))
    report, memory, flops = (told(command, *plan) for command in ("report", "memory", "flops"))
    assert report["memory"] == memory["ranks"][0]["memory"]
    assert report["conventions"]["optimizer"] == memory["conventions"]["optimizer"] == "adamw-8bit"
    stage = flops["ranks"][0]["stages"][0]
    assert next(one for one in report["ranks"] if stage in one["stages"])["hardware"] == flops["ranks"][0]["hardware"]
    assert flops["ranks"][0]["hardware"]["recomputed"] > 0
    for path in ("memory.total", "memory.state"):
        explained = told("explain", plan[0], path, *plan[1:])
        assert explained["value"] == report["memory"][path.partition(".")[2]]
    assert (
        told("explain", plan[0], "memory.state", *plan[1:], "--optimizer", "sgd-plain")["value"] < explained["value"]
    )


def test_gpt3_by_hand():
    """Narayanan et al. 2021, arXiv:2104.04473: stages of 12 layers of 12 h^2 + 13 h parameters, over 8 ranks but for
    norms and biases of rows (6 h); the first has 51,200 / 8 rows of the table and 2,048 positions.
    """
    h, layers = 12_288, 12
    layer = (12 * h**2 + 7 * h) // 8 + 6 * h
    report = told("report", *PLANS["a pipeline"])
    assert report["parameters"]["stored"] == layers * layer + 51_200 // 8 * h + 2_048 * h
    assert report["model"]["parameters"] == 174_604_259_328
    assert report["step"]["tokens"] == 16 * 64 * 2_048
    b, s, v = 64, 2_048, 51_200
    step = (72 * s * h**2 + 12 * s**2 * h) * layers * b // 8
    assert report["flops"]["training"] == step + 6 * b * s * h * v // 8  # the last stage has the head
    assert report["bubble"]["of_step"] == 7 / 71
    assert report["inference"] is None


@pytest.mark.parametrize("name", ["gpt2", "mixtral-8x7b", "deepseek-v3", "qwen3-next-80b-a3b"])
def test_of_one_rank_it_is_the_report_of_no_plan(name):
    alone(find(name))


@settings(max_examples=few(3, prove=50))
@given(planned(zero=(0,), only=()))
def test_of_one_rank_it_is_the_report_of_no_plan_whatever_the_model(tmp_path_factory, given_):
    path = tmp_path_factory.mktemp("report") / "drawn.yaml"
    path.write_text(archcalc.dump(given_.model))
    alone(find(str(path)))


def alone(found):
    """Hold the sections that both reports have against each other."""
    without, under = report_sheet(found).payload, ranks_report_sheet(found, Plan()).payload
    for section in ("shape", "parameters", "matrices", "tally", "bridge", "memory", "inference"):
        assert under[section] == without[section]
    assert under["flops"].items() <= without["flops"].items()
    assert under["collectives"] == []
    assert under["step"]["ranks"] == under["step"]["model"]


@settings(max_examples=few(3, prove=50))
@given(planned())
def test_every_plan_has_a_report_of_all_its_stages(tmp_path_factory, given_):
    model, plan, _ = given_
    path = tmp_path_factory.mktemp("report") / "drawn.yaml"
    path.write_text(archcalc.dump(model))
    found = find(str(path))
    sheet, counted = ranks_report_sheet(found, plan), overall(found.model, plan)
    assert sorted(stage for rank in sheet.payload["ranks"] for stage in rank["stages"]) == list(range(plan.pp))
    assert sheet.payload["parameters"]["stored"] == counted.most.parameters.stored
    assert len(sheet.records) == len(counted.held.each)
    assert (sheet.payload["inference"] is None) == bool(counted.only_trains)


def test_all_forms_and_a_screen_of_80_columns(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    plan = PLANS["a pipeline"]
    out = ask("report", *plan).out
    assert max(map(len, out.splitlines())) <= 80
    flat = " ".join(out.split())
    assert "no inference under this plan: sequence_parallel, zero and accumulation are of training alone" in flat
    assert "ZeRO 1 (optimizer state, flat)" in flat
    rows = list(csv.DictReader(io.StringIO(ask("report", *plan, "--format", "csv").out)))
    ranks = told("report", *plan)["ranks"]
    assert [int(row["memory.total"]) for row in rows] == [rank["memory"]["total"] for rank in ranks]
    assert [int(row["traffic.sent"]) for row in rows] == [rank["sent"] for rank in ranks]
    assert "### One rank of each stage, in a step" in ask("report", *plan, "--format", "markdown").out


def test_of_many_stages_the_table_has_the_first_and_the_last():
    out = ask("report", "gpt3-175b", "--pp", "48", "--accumulation", "64").out
    assert "37 more" in out
    assert len(told("report", "gpt3-175b", "--pp", "48", "--accumulation", "64")["ranks"]) == 48


def test_what_a_plan_asks_for_in_vain_is_a_line():
    plan = ("llama3-8b", "--zero", "1", "--tp", "2", "--etp", "2", "--reshard-after-forward")
    for command in ("report", "params", "flops", "memory", "traffic"):
        flat = " ".join(ask(command, *plan).out.split())
        assert "zero 1 shares nothing: dp x cp is 1" in flat
        assert "etp 2 changes nothing: the model has no experts" in flat
        assert "reshard_after_forward changes nothing: it needs zero: 3" in flat
        assert len(told(command, *plan)["idle"]) == 3
    assert "shares nothing" in ask("sweep", "llama3-8b", "--vary", "tp=1,2", "--zero", "1").out
    assert "shares nothing" not in ask("sweep", "llama3-8b", "--vary", "dp=2,1", "--zero", "1").out
    assert told("plan", "--zero", "1")["idle"] == ["zero 1 shares nothing: dp x cp is 1"]
    assert "nothing: dp x cp" not in ask("report", "llama3-8b", "--zero", "1", "--dp", "2").out
    assert "idle" not in told("report", "mixtral-8x7b", "--tp", "2", "--etp", "2")


def test_a_plan_that_cannot_be_is_refused():
    answer = ask("report", "gpt3-175b", "--tp", "7")
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.splitlines()[0] == "plan: tp: must divide n_heads (96); got 7; nearest: 6 or 8"
