"""What was found in a file: which of it counts, which exit code it has, and how verdicts are put in words."""

import pytest

from archcalc.checks.audit import audit, holds, unreadable
from archcalc.checks.outcome import Bound, Excused, Outcome
from archcalc.checks.verdict import Check, Verdict, ran, same
from archcalc.errors import Problem
from archcalc.spec.catalogue import find
from archcalc.spec.published import Published

ERROR = Problem("f", "is wrong", rule="AC001", level="error")
WARNING = Problem("f", "may be wrong", rule="AC110", level="warning")


@pytest.mark.parametrize(
    ("problems", "code", "plain", "strict"),
    [((), 0, 0, 0), ((WARNING,), 0, 0, 1), ((ERROR,), 0, 1, 1), ((WARNING, ERROR), 0, 1, 1), ((ERROR,), 3, 3, 3)],
)
def test_a_warning_fails_only_where_that_is_asked(problems, code, plain, strict):
    outcome = Outcome("f", "model", "own", problems, code=code)
    assert (outcome.exit_code(), outcome.exit_code(strict=True), outcome.passed) == (plain, strict, plain == 0)


def test_what_is_excused_does_not_count():
    outcome = Outcome("f", "model", "own", (), (Excused(ERROR, "as published", "in the spec"),))
    assert outcome.exit_code(strict=True) == 0


def test_what_is_left_of_a_bound_is_negative_beyond_it():
    most = Bound("parameters.stored", "100", "parameters", 90, 100)
    assert (most.left, most._replace(figure=101).left) == (10, -1)
    least = most._replace(at_least=True)
    assert (least.left, least._replace(figure=101).left) == (-10, 1)
    assert most.label == "parameters.stored"
    assert most._replace(when="batch 8").label == "parameters.stored (batch 8)"


def test_a_verdict_passes_where_all_that_is_required_is_equal():
    good, bad, shown = same("a", 1, 1), same("a", 1, 2), Check("a", 1, 2, equal=False, required=False)
    assert [(one.equal, one.reason) for one in (good, bad)] == [(True, None), (False, "DIFFERS")]
    assert Verdict("own", (good, shown)).passed
    assert not Verdict("own", (good, bad, shown)).passed


def test_a_model_that_does_not_run_is_one_comparison_that_fails():
    def checks():
        yield same("a", 1, 1)
        raise RuntimeError("no such kernel\nat line 7")

    first, last = ran("forward pass", checks())
    assert first.equal
    assert last == Check("forward pass", None, None, equal=False, reason="DOES NOT RUN: no such kernel")


def entry(figure, quantity="parameters", **more):
    return Published(text=f"{figure}", source="this test", **{quantity: figure, "status": "counted", **more})


def test_a_figure_holds_at_the_digits_that_were_printed():
    count = 124_439_808  # of transformers' GPT2LMHeadModel, the tied head once
    assert holds(entry(count), count)
    assert not holds(entry(count), count + 1)
    assert holds(entry(124_000_000, digits=3), count)
    assert not holds(entry(124_000_000), count)
    assert not holds(entry(125_000_000, digits=3), count)


def test_what_is_published_is_held_against_the_quantity_that_it_is_of():
    model = find("gpt2").model
    entries = (
        entry(124_439_808),
        entry(124_439_808, "active"),
        entry(124_000_000, digits=3),
        entry(117_000_000, status="nominal"),
        entry(124_439_808, status="nominal"),
        entry(124_439_809),
    )
    found = audit(model.model_copy(update={"published": entries})).checks
    assert [one.reason for one in found] == [
        "holds digit for digit",
        "holds digit for digit",
        "holds to 3 digits",
        "nominal, counted +6.36% (+7,439,808)",
        "nominal",
        "DOES NOT HOLD, counted -0.00% (-1)",
    ]
    assert [one.required for one in found] == [True, True, True, False, False, True]
    assert [one.equal for one in found] == [True, True, True, False, True, False]
    assert {one.counted for one in found} == {124_439_808}
    assert (found[2].what, found[2].measured, found[2].source) == ("parameters 124000000", 124_000_000, "this test")


def test_of_many_problems_the_first_are_told_and_then_a_count():
    problems = tuple(Problem("f", f"is wrong ({i})") for i in range(1_005))
    reasons = [check.reason for check in unreadable("own", problems, 2).checks]
    assert reasons == ["f: is wrong (0)", "f: is wrong (1)", "and 1,003 more"]
    assert len(unreadable("own", problems[:20]).checks) == 20
    assert [check.reason for check in unreadable("own", problems[:3], 0).checks] == ["3 problems"]
    assert not unreadable("own", problems[:1]).passed
