"""Formulas of ranks: they come to the numbers of the commands, and their divisors are those of any such plan."""

import pytest
from command import ask
from examples import few
from formulas import evaluate
from hypothesis import given, settings
from planned import planned

import archcalc
from archcalc.counts.flops import flops
from archcalc.counts.letteredrank import lettered_rank
from archcalc.counts.parameters import params
from archcalc.counts.quantities import Asked
from archcalc.counts.rankwise import ranked, ranks
from archcalc.plan.description import Plan
from archcalc.plan.local import local
from archcalc.report.explain import explainable
from archcalc.spec.catalogue import find
from archcalc.tape.precision import Keeping
from archcalc.tape.run import Run

PIPELINE = ("gpt3-175b", "--tp", "8", "--pp", "8", "--dp", "16", "--zero", "1", "--accumulation", "64")


def told(command, *arguments):
    answer = ask(command, *arguments, "--format", "json")
    assert (answer.code, answer.err) == (0, "")
    return answer.json


def written(tmp_path_factory, model):
    path = tmp_path_factory.mktemp("explain") / "drawn.yaml"
    path.write_text(archcalc.dump(model))
    return find(str(path))


def asked(model, run, keeping=None):
    return Asked(model, run._replace(attention="math"), run, keeping or Keeping())


@settings(max_examples=few(2, prove=40))
@given(planned())
def test_every_formula_comes_to_its_number(tmp_path_factory, given_):
    model, plan, run = given_
    found = written(tmp_path_factory, model)
    formulas = explainable(found, asked(found.model, run), plan=plan)
    counted = ranks(found.model, plan, run, Keeping()).fullest
    most = max(one.parameters.stored for one in ranked(found.model, plan))
    assert formulas["parameters.stored"].value == most
    assert formulas["memory.total"].value == counted.memory.total
    assert formulas["memory.state"].value == counted.memory.state
    for path, formula in formulas.items():
        if "round(" in str(formula):  # experts that are expected to be read: a power of a share, in floats
            continue
        values = {letter.name: letter.value for letter in formula.letters}
        assert evaluate(str(formula), values) == formula.value, (path, str(formula))
        assert sum(term.value for term in formula.by_size()) == formula.value
    for term in counted.memory.terms:
        assert formulas[f"memory.terms.{term.name.replace(' ', '_')}.bytes"].value == term.bytes


@settings(max_examples=few(3, prove=50))
@given(planned(zero=(0,), only=()))
def test_of_one_rank_the_formulas_are_those_of_no_plan(tmp_path_factory, given_):
    model, plan, run = given_
    found = written(tmp_path_factory, model)
    one = plan.model_copy(update={"accumulation": 1})
    under, without = (explainable(found, asked(found.model, run), plan=which) for which in (one, None))
    assert {path for path in without if path.partition(".")[0] not in ("inference", "devices")} == {*under}
    for path, formula in under.items():
        assert str(formula) == str(without[path])
        assert formula.letters == without[path].letters


@pytest.mark.parametrize(
    "fields", [{"tp": 2}, {"tp": 4}, {"dp": 3}, {"tp": 4, "dp": 5}, {"tp": 2, "sequence_parallel": True}]
)
@pytest.mark.parametrize("zero", [0, 1, 3])
def test_a_formula_of_one_plan_is_that_of_another(fields, zero):
    """Put other ranks in for the letters of TP 2 x DP 2: where all divides, nothing is rounded up."""
    model = archcalc.load("gpt3-small@vocab_size=50400,n_layers=2")
    first = {"sequence_parallel": True} if "sequence_parallel" in fields else {}
    plan = Plan(tp=2, dp=2, zero=zero, **first)
    formula = params(lettered_rank(model, plan, 0)).stored
    values = {letter.name: letter.value for letter in formula.letters} | {k: v for k, v in fields.items() if k == "tp"}
    other = Plan(**{"tp": 2, "dp": 2, "zero": zero, **first, **fields})
    assert evaluate(str(formula), values) == params(local(model.record(), other)).stored
    work = flops(lettered_rank(model, plan, 0), Run(sequence=1024)).forward
    assert evaluate(str(work), {letter.name: letter.value for letter in work.letters} | values) == (
        flops(local(model.record(Run(sequence=1024)), other), Run(sequence=1024)).forward
    )


def test_the_divisors_of_gpt3():
    """TP divides matrices and FLOPs (Narayanan et al. 2021, section 3), ZeRO 1 the 12 bytes of master weights and
    moments (Rajbhandari et al. 2020, section 5.1), and a stage keeps what it saves of pp micro-batches.
    """
    found = find("gpt3-175b@vocab_size=51200")
    plan = Plan(tp=8, pp=8, dp=16, zero=1, accumulation=64)
    formulas = explainable(found, asked(found.model, Run(sequence=2048)), plan=plan)
    assert str(formulas["tally.categories.up_projection.parameters"]) == "L D F / tp"
    assert str(formulas["flops.categories.scores.forward"]) == "2 L B S^2 G R K / tp"
    assert str(formulas["flops.categories.unembedding.forward"]) == "2 B S D V / tp"
    assert str(formulas["bridge.positions.parameters"]) == "D P"
    assert str(formulas["memory.terms.weights.bytes"]).startswith("4 L D F / tp + ")
    assert str(formulas["memory.terms.master_weights.bytes"]).startswith("8 L D F / (dp tp) + ")
    assert formulas["memory.state"].by_size()[1].latex() == (r"\frac{24 \, L \, D \, F}{\mathrm{dp} \, \mathrm{tp}}")
    saved = formulas["memory.terms.activations_of_other_micro-batches.bytes"]
    assert {letter.name: letter.value for letter in saved.letters}["held"] == 8
    assert {letter.name: letter.value for letter in formulas["memory.total"].letters}["L"] == 12


def test_layers_that_are_computed_again_have_a_letter_of_their_own():
    """GPT-2 in two stages, of each of which the first 2 layers keep their inputs alone: 2 bytes of B S D."""
    found = find("gpt2")
    plan = Plan(pp=2, recompute="full", recompute_layers=2)
    keeping = Keeping(recompute="full")
    formula = explainable(found, asked(found.model, Run(sequence=1024), keeping), plan=plan)["memory.total"]
    counted = ranks(found.model, plan, Run(sequence=1024), keeping).fullest.memory
    assert formula.value == counted.total
    values = {letter.name: letter.value for letter in formula.letters}
    assert (values["again"], values["once"]) == (2, 4)
    assert "L" not in values
    assert "+ 2 B S D again" in str(formula)
    assert evaluate(str(formula), values) == counted.total


def test_where_ranks_exceed_key_value_heads_some_hold_the_same_ones():
    """Llama 3 8B has 8: of 16 ranks each holds one, and half of its query heads."""
    found = find("llama3-8b")
    formulas = explainable(found, asked(found.model, Run(sequence=8192)), plan=Plan(tp=16))
    key, query = (formulas[f"tally.categories.{name}.parameters"] for name in ("key", "query"))
    assert str(key) == "L G K D / gcd(G, tp)"
    assert key.latex() == r"\frac{L \, G \, K \, D}{\gcd(G, \mathrm{tp})}"
    assert key.value == 32 * 1 * 128 * 4_096
    assert str(query) == "L G R K D / tp"
    assert str(formulas["tally.categories.up_projection.parameters"]) == "2 L D F / tp"


@pytest.mark.parametrize(
    "plan",
    [
        PIPELINE,
        ("gpt3-175b", "--plan", "gpt3-175b-korthikanti"),
        ("llama3-8b", "--tp", "16", "--dp", "2", "--zero", "2"),
        ("mixtral-8x7b", "--dp", "4", "--ep", "4", "--micro-batch", "2"),
        ("gpt2-xl", "--plan", "fsdp8", "--accumulation", "4"),
    ],
)
def test_the_numbers_are_those_of_the_commands(plan):
    work, memory, counted = told("flops", *plan), told("memory", *plan), told("params", *plan)
    busiest, fullest = work["ranks"][0], memory["ranks"][0]
    for path, number in (
        ("parameters.stored", counted["rank"]["parameters"]),
        ("memory.total", fullest["memory"]["total"]),
        ("memory.state", fullest["memory"]["state"]),
    ):
        answer = told("explain", *_with(plan, path))
        assert answer["value"] == number
        assert answer["plan"] == memory["plan"]
    answer = told("explain", *_with(plan, "flops.training"))
    assert answer["value"] * busiest["micro_batches"] == busiest["flops"]["training"]
    assert set(answer["stages"]) <= set(busiest["stages"])


def test_a_batch_is_that_of_a_step():
    """Of 32 sequences on 8 ranks each computes 4, one at a time: gradients are kept between them."""
    one = told("explain", "gpt2-xl", "memory.total", "--plan", "fsdp8", "--batch", "32")
    assert one["plan"]["accumulation"] == 4
    assert one["value"] == told("memory", "gpt2-xl", "--plan", "fsdp8", "--batch", "32")["ranks"][0]["memory"]["total"]
    answer = ask("explain", "gpt2-xl", "memory.total", "--plan", "fsdp8", "--batch", "33")
    assert answer.err.startswith("--batch: must be a multiple of dp x micro_batch (8); got 33")


def _with(plan, path):
    return (plan[0], path, *plan[1:])


def test_what_is_shown(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    answer = ask("explain", *_with(PIPELINE, "memory.total"))
    lines = [" ".join(line.split()) for line in answer.out.splitlines()]
    flat = " ".join(lines)
    assert "on the fullest of 1,024 ranks, of stage 0 " in flat
    assert "dp 16 data-parallel ranks the plan" in lines
    letters = {one["letter"]: one for one in told("explain", *_with(PIPELINE, "memory.total"))["letters"]}
    assert (letters["L"]["value"], letters["L"]["meaning"]) == (12, "layers in the rank's stage")
    assert letters["L"]["fields"][0]["field"] == "layers.0.repeat"
    assert letters["held"] == {
        "letter": "held",
        "value": 8,
        "meaning": "micro-batches whose activations the rank holds",
        "fields": [],
        "source": "the plan",
    }
    assert "Plan dp 16 x tp 8 x pp 8 (1f1b) = 1,024 ranks" in flat
    assert max(map(len, answer.out.splitlines())) <= 80
    answer = ask("explain", *_with(PIPELINE, "flops.training")).out
    assert "on the busiest of 1,024 ranks, of stage 7" in " ".join(answer.split())
    assert "of one micro-batch; a rank computes 64 of them in a step" in " ".join(answer.split())


def test_latex_has_fractions_and_a_legend_of_ranks():
    out = ask("explain", *_with(PIPELINE, "tally.categories.up_projection.parameters"), "--format", "latex").out
    assert r"& \frac{L \, D \, F}{\mathrm{tp}}" in out
    assert r"$\mathrm{tp}$ & 8 & tensor-parallel ranks \\" in out


def test_without_a_path_all_numbers_of_ranks_are_listed():
    rows = {row["path"]: row["value"] for row in told("explain", "tiny", "--tp", "2")["rows"]}
    assert rows["parameters.stored"] == told("params", "tiny", "--tp", "2")["rank"]["parameters"]
    assert {"flops.forward", "memory.total", "tally.categories.key.parameters"} <= {*rows}
    assert not [path for path in rows if path.startswith(("inference", "devices", "run"))]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("gpt2", "run.flops", "--tp", "2", "--tokens", "1B"), "QUANTITY: is of all ranks together; got 'run.flops'; `archcalc flops --tokens` takes a plan"),
        (("gpt2", "--tp", "2", "--tokens", "1B"), "--tokens: is of all ranks together; `archcalc flops --tokens` takes a plan"),
        (("gpt2", "inference.total", "--tp", "2"), "QUANTITY: is of one device without a plan; got 'inference.total'"),
        (("gpt2", "devices.h100-sxm.training", "--tp", "2"), "QUANTITY: is of devices without a plan; got 'devices.h100-sxm.training'"),
        (("mixtral-8x7b", "parameters.active", "--ep", "2", "--dp", "2"), "QUANTITY: is of the whole model: the experts of one token are on several ranks; got 'parameters.active'"),
        (("mixtral-8x7b", "decode.parameters", "--ep", "2", "--dp", "2"), "QUANTITY: is of the whole model: the experts of one token"),
        (("deepseek-v3", "parameters.mtp", "--tp", "2"), "QUANTITY: is of the whole model: no plan divides modules of multi-token prediction; got 'parameters.mtp'"),
        (("gpt2", "memory.total", "--tp", "2", "--for", "inference", "--zero", "1"), "plan: zero: applies only to training; got 1"),
        (("gpt2", "memory.total", "--pp", "5"), "plan: pp: must divide n_layers (12); got 5"),
        (("gpt2", "memory.totl", "--tp", "2"), "QUANTITY: is not a number of report, params, flops or memory; got 'memory.totl'; nearest: memory.total"),
        (("gpt2", "parameters.stored", "--tp", "2", "--batch", "2"), "--batch: does not change parameters.stored"),
    ],
)  # fmt: skip
def test_what_cannot_be_told_of_a_rank_is_one_line(arguments, line):
    answer = ask("explain", *arguments)
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith(line)
    assert answer.err.count("\n") == 1


def test_what_is_of_the_whole_model_is_in_no_comparison_of_ranks():
    rows = {row["name"] for row in told("diff", "mixtral-8x7b", "deepseek-v3", "--ep", "4", "--dp", "4")["rows"]}
    assert "parameters.stored" in rows
    assert not {"parameters.active", "parameters.active_inner", "parameters.mtp"} & rows
    assert {"parameters.active", "parameters.mtp"} <= {
        row["name"] for row in told("diff", "mixtral-8x7b", "deepseek-v3", "--dp", "4")["rows"]
    }
