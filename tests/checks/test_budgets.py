"""Budgets: quantities under conditions held against bounds, with the figures that the other commands give."""

import subprocess
from fractions import Fraction

import pytest
from command import ask
from goodspec import GOOD
from hypothesis import given
from hypothesis import strategies as st

import archcalc
from archcalc.checks.amounts import Ratio, in_words, read_amount
from archcalc.checks.budgets import Counted, hold_budgets, unused_budgets
from archcalc.checks.configuration import When
from archcalc.checks.outcome import Outcome
from archcalc.checks.project import find_project, no_project
from archcalc.counts.quantities import QUANTITIES
from archcalc.spec.catalogue import find

GPT2_XL = "gpt2-xl"
PARAMETERS = 1_557_611_200  # of transformers' GPT2LMHeadModel with this config, the tied head once
PER_TOKEN = 2 * 48 * 25 * 64 * 2  # keys and values of 48 layers, 25 heads of 64, in 2 bytes: 300 KiB


def problems(spec, *budgets):
    return archcalc.check(spec, budgets=budgets)


def errors(spec, *budgets):
    """Without the warning that a spec is held against itself."""
    return [problem for problem in problems(spec, *budgets) if problem.level == "error"]


@pytest.mark.parametrize(
    ("written", "unit", "amount"),
    [
        ("1.6B", "parameters", 1_600_000_000),
        ("1.6B parameters", "parameters", 1_600_000_000),
        ("1_600_000_000", "parameters", 1_600_000_000),
        ("1,600,000,000", "parameters", 1_600_000_000),
        (1_600_000_000, "parameters", 1_600_000_000),
        ("1.6e9", "parameters", 1_600_000_000),
        (1.6e9, "parameters", 1_600_000_000),
        ("300 KiB", "bytes", 307_200),
        ("300KiB", "bytes", 307_200),
        ("40 GB", "bytes", 40 * 10**9),
        ("307200", "bytes", 307_200),
        ("2.5 TFLOPs", "FLOPs", 2_500_000_000_000),
        ("1e21 FLOPs", "FLOPs", 10**21),
        ("28k", "matrices", 28_000),
        *[
            ("2 FLOPs", "FLOPs", 2),
            ("1 FLOP", "FLOPs", 1),
            ("1.5 kFLOPs", "FLOPs", 1_500),
            ("3MFLOPs", "FLOPs", 3 * 10**6),
        ],
        *[(f"1 {letter}FLOPs", "FLOPs", 1000**i) for i, letter in enumerate("GTPE", 3)],
        *[(" 7 ", "parameters", 7), (10**30, "FLOPs", 10**30), ("2e0", "parameters", 2)],
        (0, "bytes", 0),
    ],
)
def test_a_bound_is_read_as_people_write_it(written, unit, amount):
    assert read_amount(written, unit) == amount


@pytest.mark.parametrize(
    ("written", "unit"),
    [
        *[("1.6B", "bytes"), ("300 KB", "bytes"), ("40 GB", "parameters"), ("1.5", "parameters"), (1.5, "bytes")],
        *[("-1", "bytes"), (-1, "parameters"), ("1e400", "FLOPs"), (float("nan"), "bytes"), (float("inf"), "bytes")],
        *[("", "bytes"), ("much", "parameters"), ("true", "matrices"), ("1.2x", "bytes"), ("x gpt2", "bytes")],
        *[
            ("2 FLOPs more", "FLOPs"),
            ("1.2345 kFLOPs", "FLOPs"),
            ("1.5 FLOPs", "FLOPs"),
            ("1 KFLOPs", "FLOPs"),
            ("1 GFLOPs", "parameters"),
        ],
        *[
            (10**30 + 1, "parameters"),
            ("1.6B FLOPs", "parameters"),
            (10**31, "parameters"),
            ("9" * 50, "bytes"),
            ("1e31", "FLOPs"),
        ],
    ],
)
def test_what_is_no_bound_is_refused(written, unit):
    with pytest.raises(ValueError, match="must be an amount such as"):
        read_amount(written, unit)


def test_a_bound_says_its_unit_once():
    assert in_words(1_600_000_000, "1.6B", "parameters") == "1.6B parameters"
    assert in_words(1_600_000_000, " 1.6B parameters ", "parameters") == "1.6B parameters"
    assert in_words(1_600_000_000, 1_600_000_000, "parameters") == "1,600,000,000 parameters"
    assert in_words(307_200, "300 KiB", "bytes") == "300 KiB"
    assert in_words(307_200, "307200", "bytes") == "307200 bytes"
    assert in_words(307_200, "307200 bytes", "bytes") == "307200 bytes"


def test_a_ratio_has_its_spec():
    assert read_amount("2 x  own.yaml ", "FLOPs") == Ratio(Fraction(2), "own.yaml")
    assert read_amount("1.2x main:specs/model.yaml", "bytes") == Ratio(Fraction(6, 5), "main:specs/model.yaml")


def test_a_bound_holds_at_the_figure_itself_and_not_beyond_it():
    at, under = PARAMETERS, PARAMETERS - 1
    assert problems(GPT2_XL, {"that": "parameters.stored", "most": at}) == []
    (one,) = problems(GPT2_XL, {"that": "parameters.stored", "most": under, "why": "the checkpoint is on a stick"})
    assert one.rule == "AC002"
    assert one.level == "error"
    assert one.message == (
        "parameters.stored is 1,557,611,200 parameters; at most 1,557,611,199 allowed (1,557,611,199 parameters),"
        " exceeded by 1 (0.00%); see budgets.0 of budgets"
    )
    assert one.suggestion == "the checkpoint is on a stick"
    assert problems(GPT2_XL, {"that": "parameters.stored", "least": at}) == []
    (low,) = problems(GPT2_XL, {"that": "parameters.stored", "least": at + 1})
    assert "at least 1,557,611,201 allowed" in low.message
    assert "short by 1 (0.00%)" in low.message


def test_the_question_of_a_team_is_three_budgets():
    budgets = [
        {"that": "parameters.stored", "most": "1.6B"},
        {"that": "cache.per_token", "most": "300 KiB", "when": {"kv_precision": "bf16"}},
        {"that": "memory.total", "fits": "a100-40gb", "when": {"for": "training", "recompute": "full"}},
    ]
    assert problems(GPT2_XL, *budgets) == []
    assert Counted(archcalc.load(GPT2_XL), no_project()).of("cache.per_token", When()) == PER_TOKEN
    wider = [one.message for one in problems(f"{GPT2_XL}@n_layers=50", *budgets)]
    assert wider == [
        "cache.per_token is 320,000 bytes; at most 307,200 allowed (300 KiB), exceeded by 12,800 (4.17%); see"
        " budgets.1 of budgets",
        "parameters.stored is 1,619,092,800 parameters; at most 1,600,000,000 allowed (1.6B parameters), exceeded by"
        " 19,092,800 (1.19%); see budgets.0 of budgets",  # two layers more of 12 d^2 + 13 d, d = 1600
    ]


def test_what_does_not_fit_is_told_as_memory_tells_it():
    arguments = ("--for", "training", "--batch", "8", "--device", "a100-40gb")
    answer = ask("memory", GPT2_XL, *arguments, "--must-fit")
    assert answer.code == 1
    (one,) = problems(GPT2_XL, {"that": "memory.total", "fits": "a100-40gb", "when": {"for": "training", "batch": 8}})
    total = ask("memory", GPT2_XL, *arguments, "-f", "json").json["memory"]["total"]
    words = answer.err.strip().removeprefix("gpt2-xl: ")
    assert one.message == f"memory.total is {total:,} bytes: {words}; see budgets.0 of budgets"
    assert not problems(GPT2_XL, {"that": "memory.total", "fits": "h200", "reserve": 0, "when": {"batch": 8}})


def test_a_ratio_is_to_another_spec_under_the_same_conditions():
    when = {"seq": 512, "batch": 2}
    assert not errors("gpt2-xl", {"that": "flops.training", "most": "1x gpt2-xl", "when": when})
    assert not errors("gpt2-xl", {"that": "flops.training", "least": "1x gpt2-xl", "when": when})
    (one,) = errors("gpt2-xl", {"that": "flops.training", "most": "1.5x gpt2-large", "when": when})
    run = archcalc.Run(batch=2, sequence=512)
    large, xl = (archcalc.flops(archcalc.load(name), run).training for name in ("gpt2-large", "gpt2-xl"))
    assert f"is {xl:,} FLOPs; at most {3 * large // 2:,} allowed (1.5x gpt2-large)" in one.message


CONDITIONS = {
    "for": st.sampled_from(["training", "inference"]),
    "batch": st.integers(1, 64),
    "seq": st.integers(1, 1024),
    "precision": st.sampled_from(["mixed-16", "mixed-18", "bf16", "fp32", "int8"]),
    "optimizer": st.sampled_from(["adamw", "sgd", "adafactor"]),
    "recompute": st.sampled_from(["none", "selective", "full"]),
    "accumulate": st.booleans(),
    "attention": st.sampled_from(["math", "flash"]),
    "activation_kernel": st.sampled_from(["fused", "eager"]),
    "dropout": st.booleans(),
    "kv_precision": st.sampled_from(["fp8", "bf16"]),
    "phase": st.sampled_from(["training", "prefill", "decode"]),
    "context": st.integers(1, 1024),
    "logits": st.sampled_from(["all", "last"]),
    "causal": st.sampled_from(["full", "half", "exact"]),
    "plan": st.sampled_from(["fsdp8", "single"]),
}


def flags(conditions):
    for name, value in conditions.items():
        flag = f"--{name.replace('_', '-')}"
        yield from [flag] if value is True else [] if value is False else [flag, str(value)]


@given(st.data())
def test_a_budget_counts_what_explain_counts(data):
    that = data.draw(st.sampled_from(sorted(QUANTITIES)))
    names = [name for name in CONDITIONS if f"--{name.replace('_', '-')}" in QUANTITIES[that].flags]
    chosen = data.draw(st.lists(st.sampled_from(names), unique=True)) if names else []
    when = {name: data.draw(CONDITIONS[name]) for name in chosen}
    implied = {"for": "inference"} if "kv_precision" in when and "for" not in when else {}
    told = ask("explain", "gpt2", that, *flags(when | implied), "-f", "json")
    found = problems("gpt2", {"that": that, "most": 0, "least": 10**30, "when": when})
    if told.code:
        (one,) = found
        assert one.rule == "AC003"
        assert f"the budget of {that} cannot be evaluated: " in one.message
    else:
        value = told.json["value"]
        assert {one.rule for one in found} == {"AC002"}
        assert all(f"{that} is {value:,} " in one.message for one in found)


@pytest.mark.parametrize(
    ("budget", "words"),
    [
        ({"that": "parameters.total", "most": 1}, "parameters.stored"),
        ({"that": "parameters.stored"}, "must have most, least or fits"),
        ({"that": "parameters.stored", "most": "1.6 GB"}, "budgets.0.most: must be an amount such as 1.6B"),
        (
            {"that": "parameters.stored", "fits": "h100"},
            "budgets.0.that: must be memory.total where there is fits; got 'parameters.stored'",
        ),
        ({"that": "parameters.stored", "most": 1, "reserve": 5}, "budgets.0.reserve: needs fits beside it; got 5"),
        (
            {"that": "parameters.stored", "most": 1, "when": {"seq": 12}},
            "budgets.0.when.seq: does not change parameters.stored; got 12; leave it out",
        ),
        (
            {"that": "cache.per_token", "most": 1, "when": {"phase": "decode"}},
            "budgets.0.when.phase: does not change cache.per_token; got 'decode'",
        ),
        ({"that": "memory.total", "most": 1, "when": {"batch": 0}}, "must be a whole number from 1 to"),
        ({"that": "memory.total", "most": 1, "when": {"batch": "lots"}}, "such as 2048 or 32k; got 'lots'"),
        ({"that": "memory.total", "most": 1, "whne": {}}, "did you mean 'when'?"),
        ({"that": "memory.total", "most": [1]}, "must be a number, with a unit or without; got [1]"),
        ({"that": "memory.total", "most": True}, "must be a number, with a unit or without; got true"),
        ({"that": "memory.total", "most": 1, "when": {"seq": True}}, "must be a whole number from 1 to"),
        ({"that": ["memory.total"], "most": 1}, "must be text"),
        (7, "must be a mapping"),
        ({"that": "memory.total", "fits": "h1000"}, "budgets.0.fits: unknown device 'h1000'"),
        (
            {"that": "memory.total", "fits": "a100"},
            "'a100' matches several devices; choose one of a100-40gb, a100-80gb",
        ),
        ({"that": "memory.total", "most": 1, "when": {"plan": "fsdp9"}}, "budgets.0.when.plan: unknown plan 'fsdp9'"),
    ],
)
def test_a_wrong_budget_is_refused(budget, words):
    with pytest.raises(archcalc.Invalid) as error:
        problems("gpt2", budget)
    assert words in str(error.value)
    assert str(error.value).startswith("budgets: budgets.0")


@pytest.mark.parametrize(
    ("budget", "words"),
    [
        ({"that": "flops.training", "most": "1x gpt9"}, "is not in the catalogue"),
        ({"that": "flops.training", "most": 1, "when": {"seq": 2048}}, "sequence: must be from 1 to 1,024; got 2,048"),
        ({"that": "flops.training", "most": 1, "when": {"phase": "decode"}}, "flops.training is of training; decode"),
        ({"that": "memory.total", "most": 1, "when": {"for": "inference", "dropout": True}}, "only to training"),
        ({"that": "memory.total", "most": 1, "when": {"for": "inference", "optimizer": "sgd"}}, "only to training"),
        ({"that": "memory.total", "most": 1, "when": {"plan": "fsdp8", "batch": 12}}, "must be a multiple of"),
    ],
)
def test_a_budget_that_cannot_be_evaluated_is_an_error(budget, words):
    (one,) = problems("gpt2", budget)
    assert one.rule == "AC003"
    assert one.level == "error"
    assert words in one.message


def test_a_budget_of_a_plan_is_of_its_fullest_rank(tmp_path):
    plan = tmp_path / "plan.yaml"
    plan.write_text("schema: 0\nname: cut\nsource: this test\ntp: 2\npp: 2\ndp: 2\nzero: 1\n")
    when = {"plan": str(plan), "batch": 8, "precision": "mixed-18"}
    arguments = ("--plan", str(plan), "--batch", "8", "--precision", "mixed-18", "-f", "json")
    total = ask("explain", "gpt2-large", "memory.total", *arguments).json["value"]
    assert total == archcalc_peak(plan)
    assert not problems("gpt2-large", {"that": "memory.total", "most": total, "least": total, "when": when})


def archcalc_peak(path):
    from archcalc.plan.batches import of_batch
    from archcalc.plan.reading import find_plan

    plan = of_batch(find_plan(str(path), {}), 8, trains=True)
    run, keeping = archcalc.Run(sequence=1024), archcalc.Keeping("mixed-18")
    return archcalc.ranks(archcalc.load("gpt2-large"), plan, run, keeping).fullest.memory.total


def test_bounds_of_what_cannot_be_read_say_what_the_reader_says(tmp_path):
    bad = tmp_path / "bad.yaml"
    bad.write_text(GOOD.replace("d_model: 8", "d_model: eight"))
    (one,) = problems(str(bad), {"that": "parameters.stored", "most": 1})
    assert (one.rule, one.line, one.path) == ("AC001", 6, "d_model")


@pytest.fixture
def repository(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "specs").mkdir()
    (tmp_path / "specs" / "x.yaml").write_text(GOOD)
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false")
    for arguments in (("init", "-q", "-b", "main"), ("add", "-A"), (*identity, "commit", "-qm", "first")):
        subprocess.run(["git", *arguments], check=True, cwd=tmp_path)
    return tmp_path


def test_a_spec_is_held_against_itself_at_a_revision(repository):
    path = repository / "specs" / "x.yaml"
    for bound in ("1x main:specs/x.yaml", "1x main:./specs/x.yaml", "1x HEAD:*"):
        assert not problems("specs/x.yaml", {"that": "parameters.stored", "most": bound})
        assert not problems(str(path), {"that": "parameters.stored", "most": bound})
    path.write_text(GOOD.replace("repeat: 2", "repeat: 3"))
    (one,) = problems("specs/x.yaml", {"that": "parameters.stored", "most": "1x main:*"})
    # A layer more, of d 8, 4 heads of 2, 2 of them for keys and values, and an MLP of 11:
    attention, mlp, norms = 8 * (8 + 4 + 4 + 8) + 8 + 4 + 4 + 8, 2 * 8 * 11 + 11 + 8, 4 * 8
    assert f"exceeded by {attention + mlp + norms} " in one.message
    (one,) = problems("specs/x.yaml", {"that": "parameters.stored", "most": "1x mian:*"})
    assert (one.rule, "unknown revision" in one.message.lower() or "mian" in one.message) == ("AC003", True)


@pytest.mark.parametrize("bound", ["1.2x specs/x.yaml", "1.2 x ./specs/x.yaml", "0.5x specs/x.yaml"])
def test_a_spec_that_is_held_against_itself_is_told(repository, bound):
    """The bound moves with the figure: it always holds, or never does."""
    budget = {"that": "parameters.stored", "most": bound}
    one = next(one for one in problems("specs/x.yaml", budget) if one.rule == "AC003")
    assert (one.level, one.file, one.line) == ("warning", "specs/x.yaml", 1)
    assert "holds this file against itself" in one.message
    assert f"`{bound.partition('x')[0].strip()}x main:*` is this file on the branch main" in one.suggestion
    (repository / "specs" / "y.yaml").write_text(GOOD)
    assert not [one for one in problems("specs/y.yaml", budget) if one.rule == "AC003"]
    assert not problems("specs/x.yaml", {**budget, "most": "1x main:*"})


def test_a_file_that_is_named_as_a_revision_stands_in_for_none(repository):
    (repository / "main:specs").mkdir()
    (repository / "main:specs" / "x.yaml").write_text(GOOD.replace("repeat: 2", "repeat: 2000"))
    (one,) = problems("specs/x.yaml", {"that": "parameters.stored", "most": "1x main:specs/x.yaml"})
    assert one.rule == "AC003"
    said = "is ambiguous: a file on disk has the name of this revision and path; rename the file"
    assert f"cannot be evaluated: main:specs/x.yaml: {said}; see " in one.message
    with pytest.raises(archcalc.Invalid) as error:
        no_project().spec("main:specs/x.yaml")
    assert str(error.value) == f"main:specs/x.yaml: {said}"


def test_patterns_of_budgets_are_of_the_file_and_not_of_its_revision(repository):
    (repository / "archcalc.yaml").write_text(
        "schema: 0\nbudgets: [{that: parameters.stored, most: 1, specs: [specs/*]}]\n"
    )
    for spec in ("specs/x.yaml", "HEAD:specs/x.yaml", "HEAD:./specs/x.yaml", "specs/x.yaml@n_layers=1"):
        (one,) = archcalc.check(spec, budgets="archcalc.yaml")
        assert one.rule == "AC002"
    assert archcalc.check("gpt2", budgets="archcalc.yaml") == []


def test_conditions_are_said_in_words():
    assert When().in_words() == ""
    when = {"for": "inference", "batch": 8, "kv_precision": "fp8", "dropout": True, "accumulate": False, "seq": "2k"}
    assert When(**when).in_words() == ("inference, batch 8, seq 2048, no accumulate, dropout, kv precision fp8")


def test_what_a_ratio_allows_is_rounded_to_the_side_that_holds(tmp_path):
    """0.9 and 1.1 times a count that 10 does not divide."""
    (tmp_path / "x.yaml").write_text(GOOD)
    stored = archcalc.params(archcalc.load(str(tmp_path / "x.yaml"))).stored
    (most,) = errors(
        str(tmp_path / "x.yaml"), {"that": "parameters.stored", "most": "0.9x " + str(tmp_path / "x.yaml")}
    )
    assert f"at most {9 * stored // 10:,} allowed" in most.message
    (least,) = errors(
        str(tmp_path / "x.yaml"), {"that": "parameters.stored", "least": "1.1x " + str(tmp_path / "x.yaml")}
    )
    assert f"at least {-(-11 * stored // 10):,} allowed" in least.message
    assert stored % 10


def test_a_bound_of_nothing_has_no_percentage():
    (one,) = problems("gpt2", {"that": "parameters.stored", "most": 0})
    assert "at most 0 allowed (0 parameters), exceeded by 124,439,808; see budgets.0 of budgets" in one.message


def test_every_side_of_a_budget_is_a_bound_of_its_own():
    budget = {"that": "memory.total", "most": 1, "least": 10**15, "fits": "a100-40gb", "when": {"batch": 2}}
    project = archcalc.checks.files._project([budget])
    kept = hold_budgets(project, find("gpt2"))
    assert [(one.words, one.at_least, one.device, one.when) for one in kept.bounds] == [
        ("1 bytes", False, "", "batch 2"),
        ("1,000,000,000,000,000 bytes", True, "", "batch 2"),
        ("a100-40gb", False, "a100-40gb", "batch 2"),
    ]
    assert [one.problem for one in kept.bounds[:2]] == [*kept.problems]
    assert kept.bounds[2].problem is None
    # 5% of what a program sees of the memory is set aside if nothing is said
    room = kept.bounds[2].bound
    (half,) = hold_budgets(
        archcalc.checks.files._project([{**budget, "most": None, "least": None, "reserve": 50}]), find("gpt2")
    ).bounds
    assert abs(half.bound / room - 50 / 95) < 1e-6


@pytest.mark.parametrize(
    ("budget", "words"),
    [
        (
            {"that": "flops.forward", "when": {"phase": "decode", "seq": 5}},
            "seq does not apply to decode; use context",
        ),
        ({"that": "memory.total", "when": {"activation_kernel": "eager"}}, "no activation of the model is GELU"),
    ],
)
def test_conditions_that_say_nothing_are_refused(budget, words):
    (one,) = problems("llama3-8b", {"most": 1, **budget})
    assert (one.rule, words in one.message) == ("AC003", True)
    assert one.message.endswith("; see budgets.0 of budgets")


def test_budgets_after_one_that_cannot_be_evaluated_are_held_too():
    broken = {"that": "flops.training", "most": 1, "when": {"seq": 4096}}  # of a context of 1,024
    exceeded = {"that": "parameters.stored", "most": "1x gpt2-medium"}
    found = problems(GPT2_XL, broken, exceeded, broken)
    assert [one.rule for one in sorted(found, key=lambda one: one.message)] == ["AC002", "AC003", "AC003"]
    # transformers counts 354,823,168 parameters of gpt2-medium; 1,557,611,200 - 354,823,168 = 1,202,788,032
    (one,) = [one for one in found if one.rule == "AC002"]
    assert one.message == (
        "parameters.stored is 1,557,611,200 parameters; at most 354,823,168 allowed (1x gpt2-medium), exceeded by "
        "1,202,788,032 (338.98%); see budgets.1 of budgets"
    )


def test_the_place_of_a_budget_is_a_path_from_where_one_is(tmp_path, monkeypatch):
    (tmp_path / "sub").mkdir()
    (tmp_path / "x.yaml").write_text(GOOD)
    (tmp_path / "archcalc.yaml").write_text("schema: 0\nbudgets: [{that: parameters.stored, most: 1}]\n")
    monkeypatch.chdir(tmp_path / "sub")
    (one,) = archcalc.check("../x.yaml", budgets="../archcalc.yaml")
    assert one.message.endswith("; see ../archcalc.yaml:2")


def test_decode_reads_the_context_or_as_much_as_is_asked():
    model = archcalc.load("gpt2")
    count = Counted(model, no_project())
    for context, when in ((1024, {}), (100, {"context": 100})):
        run = archcalc.Run("decode", 1, 1, context)
        assert count.of("flops.forward", When(phase="decode", **when)) == archcalc.flops(model, run).forward


def test_each_condition_of_work_is_obeyed():
    model = archcalc.load("gpt2")
    count, found = Counted(model, no_project()), set()
    for condition in ({}, {"causal": "half"}, {"logits": "last"}, {"seq": 512}, {"batch": 2}):
        sizes = {"batch": condition.get("batch", 1), "sequence": condition.get("seq", 1024)}
        more = {name: condition[name] for name in ("causal", "logits") if name in condition}
        run = archcalc.Run("prefill", **sizes, **more)
        found.add(archcalc.flops(model, run).forward)
        assert count.of("flops.forward", When(phase="prefill", **condition)) == archcalc.flops(model, run).forward
    assert len(found) == 5


def test_budgets_are_for_specs_by_name_path_or_pattern(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "specs").mkdir()
    (tmp_path / "specs" / "x.yaml").write_text(GOOD)
    for pattern, told in {"good": 1, "goo?": 1, "specs/x.yaml": 1, "./specs/*": 1, "specs/y*": 0, "x.yaml": 0}.items():
        (tmp_path / "archcalc.yaml").write_text(
            f"schema: 0\nbudgets:\n  - {{that: parameters.stored, most: 1, specs: [{pattern}]}}\n"
        )
        found = archcalc.check("specs/x.yaml", budgets="archcalc.yaml")
        assert [one.message.endswith("; see archcalc.yaml:3") for one in found] == [True] * told
        unused = list(unused_budgets(find_project(), [Outcome("specs/x.yaml", "model", "good@n_layers=2")]))
        assert [(one.rule, one.line, one.value) for one in unused] == [("AC003", 3, repr(pattern))] * (1 - told)
        assert [one.rule for one in unused_budgets(find_project(), [Outcome("specs/x.yaml", "model", "good")])] == [
            "AC003"
        ] * (1 - told)
    (tmp_path / "archcalc.yaml").write_text(
        "schema: 0\nbudgets: [{that: parameters.stored, most: 1, specs: [a, b]}]\n"
    )
    assert [one.value for one in unused_budgets(find_project(), [])] == ["'a, b'"]
    (tmp_path / "archcalc.yaml").write_text("schema: 0\nbudgets: [{that: parameters.stored, most: 1}]\n")
    assert [one.value for one in unused_budgets(find_project(), [Outcome("p.yaml", "plan", "p")])] == [None]
    assert not list(unused_budgets(find_project(), [Outcome("m", "config", "m")]))
