"""Plans on the command line: what is shown, what is refused and how, and exit codes."""

import pytest
from command import ask

from archcalc.cli import main  # noqa: F401  (the commands are registered)
from archcalc.commands.planning import TAKING
from archcalc.plan.reading import find_plan, plan_names
from archcalc.plan.rules import RULES

GPT3 = ("gpt3-175b", "--tp", "8", "--pp", "8", "--dp", "8", "--zero", "1", "--vocab-divisible-by", "128")


def test_memory_of_the_fullest_rank_and_of_each_stage():
    answer = ask("memory", *GPT3, "--precision", "mixed-18", "--batch", "128", "--format", "json")
    assert answer.code == 0
    found = answer.json
    assert found["plan"]["accumulation"] == 128 // 8
    assert found["plan"]["world"] == 512
    first = found["ranks"][0]
    assert first["rank"] == {"dp": 0, "cp": 0, "tp": 0, "pp": 0}
    assert first["memory"]["state"] == 21_170_488_320
    assert sum(term["bytes"] for term in first["memory"]["terms"]) == first["memory"]["total"]
    assert sorted(stage for rank in found["ranks"] for stage in rank["stages"]) == list(range(8))
    totals = [rank["memory"]["total"] for rank in found["ranks"]]
    assert totals == sorted(totals, reverse=True)
    assert found["fits"] is None


def test_flags_win_over_the_file():
    plan = ask("plan", "--plan", "gpt3-175b-korthikanti", "--pp", "4", "--dp", "2", "--format", "json").json["plan"]
    assert (plan["pp"], plan["dp"], plan["tp"], plan["chunks"]) == (4, 2, 8, 3)


def test_a_plan_is_read_from_a_file(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("schema: 0\nname: mine\ntp: 2\n")
    assert ask("plan", "--plan", str(path), "--format", "json").json["plan"]["tp"] == 2


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("gpt3-175b", "--tp", "7"), "plan: tp: must divide n_heads (96); got 7; nearest: 6 or 8"),
        (("llama3-8b", "--tp", "12"), "plan: tp: must divide d_ff (14,336); got 12; nearest: 8 or 16"),
        (
            ("gpt3-175b", "--pp", "7"),
            "plan: pp: must divide n_layers (96); got 7; nearest: 6 or 8, or give stage_layers",
        ),
        (("gpt2", "--cp", "3"), "plan: sequence: must be a multiple of cp (3); got 1,024; nearest: 1,023 or 1,026"),
        (("gpt2", "--sequence-parallel"), "plan: has sequence_parallel, which needs tp of at least 2"),
        (("mixtral-8x7b", "--ep", "8"), "plan: ep: must divide dp (1); got 8; nearest: 1"),
        (("mixtral-8x7b", "--ep", "3", "--dp", "3"), "plan: ep: must divide n_experts (8); got 3; nearest: 2 or 4"),
        (("gpt2", "--ep", "2", "--dp", "2"), "plan: ep: needs a model with experts; got 2"),
        (("falcon-mamba-7b", "--tp", "2"), "plan: tp: is not supported for mamba mixers; got 2"),
        (
            ("gpt2", "--dp", "8", "--batch", "12"),
            "--batch: must be a multiple of dp x micro_batch (8); got 12; nearest: 8 or 16",
        ),
        (("gpt2", "--tp", "two"), "--tp: must be an integer; 32k is 32,768; got 'two'"),
        (("gpt2", "--tp", "0"), "--tp: must be from 1 to 4,294,967,296; got 0"),
        (("gpt2", "--zero", "4"), "--zero: must be from 0 to 3; got 4"),
        (("gpt2", "--chunks", "2"), "plan: has chunks, which needs schedule: interleaved"),
        (("gpt2", "--for", "inference", "--dp", "2", "--zero", "1"), "plan: zero: applies only to training; got 1"),
        (("gpt2", "--cache-block", "16"), "plan: cache_block: applies only to inference; got 16"),
        (("gpt2", "--sharding", "per-tensor"), "plan: has sharding, which needs zero of at least 1"),
        (("gpt2", "--plan", "fsdp9"), "--plan: unknown plan 'fsdp9'; nearest: fsdp8"),
        (("gpt2", "--plan", "none.yaml"), "none.yaml: no such file"),
    ],
)
def test_a_bad_plan_is_one_line_with_the_nearest_that_can(arguments, told):
    answer = ask("memory", *arguments)
    assert answer.code == (3 if "no such file" in told else 2)
    assert answer.out == ""
    assert told in answer.err.splitlines()


def test_it_does_not_fit_by_how_much_and_what_would():
    asked = ("memory", "llama3-8b", "--dp", "8", "--device", "h100-sxm", "--recompute", "full")
    answer = ask(*asked, "--format", "json")
    device = answer.json["device"]
    assert not answer.json["fits"]
    assert device["left"] == device["usable"] - answer.json["ranks"][0]["memory"]["total"] < 0
    fits = [one for one in device["remedies"] if one["fits"]]
    assert fits
    assert all(one["total"] <= device["usable"] for one in fits)
    assert ask(*asked).code == 0
    must = ask(*asked, "--must-fit")
    assert must.code == 1
    assert "does not fit on h100-sxm" in must.err


@pytest.mark.parametrize("name", plan_names())
def test_plans_of_the_catalogue_are_named_and_sourced(name):
    plan = find_plan(name, {})
    assert plan.name == name
    assert plan.source


def test_lists():
    assert [row["name"] for row in ask("list", "plans", "--format", "json").json["plans"]] == list(plan_names())
    assert [row["name"] for row in ask("plan", "--rules", "--format", "json").json["rules"]] == [r.name for r in RULES]


def test_parameters_of_a_rank():
    found = ask(
        "params", "gpt3-175b", "--tp", "8", "--vocab-divisible-by", "128", "--pp", "8", "--format", "json"
    ).json
    assert found["rank"] == {"parameters": 2_822_731_776, "bytes": 2 * 2_822_731_776}
    assert ask("params", "gpt2", "--tp", "2", "--by", "layer").code == 2


def test_specs_are_compared_by_their_fullest_ranks():
    """Fewer key/value heads: 88 of 96 are gone, of 128 x 12,288 features each twice, in 12 layers, over 8 ranks."""
    asked = ("gpt3-175b@n_kv_heads=8", "--tp", "8", "--pp", "8", "--dp", "8", "--zero", "1", "--format", "json")
    found = ask("diff", "gpt3-175b", *asked).json
    rows = {row["name"]: list(row["values"].values()) for row in found["rows"]}
    gone = 12 * 2 * 88 * (128 * 12_288 + 128) // 8
    first, second = rows["parameters.stored"]
    assert first - second == gone
    assert rows["memory.state"][0] < rows["memory.total"][0]
    assert found["plan"]["world"] == 512


def test_plans_of_so_many_devices_that_fit():
    found = ask("memory", "llama3-8b", "--gpus", "8", "--device", "h100-sxm", "--format", "json").json
    assert found["fits"]
    assert all(one["memory.total"] <= found["usable"] for one in found["plans"])
    assert all(one["tp"] * one["pp"] * one["dp"] == 8 for one in found["plans"])
    order = [(("none", "selective", "full").index(one["recompute"]), one["traffic.sent"]) for one in found["plans"]]
    assert order == sorted(order)
    first = found["plans"][0]
    assert found["sequences"] == 8 * 8
    flags = [f"--{name}={first[name]}" for name in ("tp", "pp", "dp", "zero")]
    flags += [f"--accumulation={found['sequences'] // first['dp']}"]
    flags += ["--sequence-parallel"] if first["sequence_parallel"] else []
    again = ask("memory", "llama3-8b", "--recompute", first["recompute"], *flags, "--format", "json").json
    assert again["ranks"][0]["memory"]["total"] == first["memory.total"]
    for one in found["plans"]:  # (pp - 1) of so many turns wait, and all plans have the same sequences in a step
        turns = found["sequences"] // one["dp"] + one["pp"] - 1
        assert one["bubble"] == (one["pp"] - 1) / turns
    sent = {(one["dp"], one["tp"], one["zero"]): one["traffic.sent"] for one in found["plans"] if one["pp"] == 1}
    assert sent[8, 1, 1] < sent[1, 8, 0]  # gradients once a step, and no sums of activations in every layer
    none = ask("memory", "gpt3-175b", "--gpus", "8", "--device", "h100-sxm", "--must-fit")
    assert none.code == 1
    assert none.err == "gpt3-175b: no plan of 8 h100-sxm that was tried fits\n"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("gpt2", "--gpus", "8"), "--gpus: needs a --device, or a plan"),
        (("gpt2", "--gpus", "8", "--device", "l4", "--for", "inference"), "--gpus: searches plans of training alone"),
        (("gpt2", "--gpus", "8", "--device", "l4", "--recompute", "full"), "--recompute: does not apply to a search"),
        (("gpt2", "--gpus", "8", "--tp", "2"), "--gpus: must be the ranks of the plan (2); got 8"),
        (("gpt2", "--gpus", "8", "--device", "l4", "--batch", "2"), "--batch: does not apply to a search"),
    ],
)
def test_a_search_that_cannot_be(arguments, told):
    answer = ask("memory", *arguments)
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith(told)


def test_stages_that_are_given_do_not_stand_in_the_way_of_remedies():
    given = ("memory", "llama3.1-8b", "--seq", "4096", "--pp", "2", "--stage-layers", "20,12", "--device", "t4")
    answer = ask(*given)
    assert (answer.code, answer.err) == (0, "")
    assert "pp 4" in answer.out


@pytest.mark.parametrize(
    "varied",
    [
        ("tp=2,4", "--sequence-parallel"),
        ("chunks=2,3", "--pp", "4", "--schedule", "interleaved", "--accumulation", "4"),
        ("zero=1,3", "--dp", "2", "--sharding", "per-tensor"),
    ],
)
def test_a_fixed_field_may_need_what_is_varied(varied):
    answer = ask("sweep", "gpt3-175b", "--vary", *varied, "--format", "json")
    assert answer.code == 0
    assert len(answer.json["rows"]) == 2


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (
            ("sweep", "gpt2", "--vary", "stage_layers=6"),
            "--vary: stage_layers: is a field of a plan that cannot be varied; one of dp",
        ),
        (
            ("trace", "gpt2", "--tp", "2"),
            f"archcalc trace: no such option: --tp; {', '.join(TAKING)} take a parallel",
        ),
        (("memory", "gpt2", "--pp", "2", "--stage-layers", "6,7"), "plan: stage_layers: must sum up to n_layers (12)"),
        (
            ("memory", "gpt2", "--pp", "3", "--stage-layers", "6,0,6"),
            "plan: stage_layers: must be at least 1 where a stage",
        ),
    ],
)
def test_what_a_plan_is_not_asked_for(arguments, told):
    answer = ask(*arguments)
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith(told)


def test_a_stage_of_zero_is_a_number(tmp_path):
    path = tmp_path / "plan.yaml"
    path.write_text("schema: 0\ndp: 2\nzero: true\n")
    answer = ask("plan", "--plan", str(path))
    assert answer.code == 2
    assert answer.err.endswith("zero: must be 0 or 1 or 2 or 3; got 'true'\n")
