"""JUnit XML: what a common parser reads of it, and what the strictest schema in use knows."""

from xml.etree import ElementTree as ET

import found
import pytest

from archcalc.checks.outcome import Bound, Excused, Outcome
from archcalc.report.junit import MOST_LINES, junit

junitparser = pytest.importorskip("junitparser")

# junit-10.xsd of Jenkins' xUnit plugin, as far as it is used: attributes, those that must be there, and children.
SCHEMA = {
    "testsuites": ({"name", "time", "tests", "failures", "errors"}, set(), {"testsuite"}),
    "testsuite": (
        {"name", "tests", "failures", "errors", "group", "time", "skipped", "timestamp", "hostname", "id", "package"}
        | {"file", "log", "url"},
        {"name", "tests", "failures", "errors"},
        {"testsuite", "properties", "testcase", "system-out", "system-err"},
    ),
    "testcase": (
        {"name", "time", "classname", "group"},
        {"name"},
        {"skipped", "error", "failure", "system-out", "system-err"},
    ),
    "failure": ({"type", "message"}, set(), set()),
    "skipped": ({"type", "message"}, set(), set()),
    "system-out": (set(), set(), set()),
}


def read(outcomes):
    text = junit(outcomes)
    root = ET.fromstring(text)  # noqa: S314  (our own)
    for element in root.iter():
        attributes, needed, children = SCHEMA[element.tag]
        assert needed <= set(element.attrib) <= attributes, element.tag
        assert {child.tag for child in element} <= children
    suites = junitparser.JUnitXml.fromstring(text.encode())
    for suite in suites:
        cases = list(suite)
        names = [(case.classname, case.name) for case in cases]
        assert len(set(names)) == len(names)
        told = (suite.tests, suite.failures, suite.errors, suite.skipped)
        kinds = [type(one) for case in cases for one in case.result]
        assert told == (len(cases), kinds.count(junitparser.Failure), 0, kinds.count(junitparser.Skipped))
    assert (suites.tests, suites.failures, suites.errors) == (
        sum(suite.tests for suite in suites), sum(suite.failures for suite in suites), 0,
    )  # fmt: skip
    assert "time=" not in text, "0 would say that it was measured"
    return suites


def results(suite):
    """What came of each test case: passed, or the kind of its result and its message."""
    return {
        case.name: [(type(one).__name__, one.message) for one in case.result] or ["passed"] for case in suite
    }  # fmt: skip


def suite(outcomes, name):
    (one,) = [suite for suite in read(outcomes) if suite.name == name]
    return one


def test_a_file_is_a_suite():
    assert [one.name for one in read(found.EVERY)] == [outcome.file for outcome in found.EVERY]


def test_each_budget_each_figure_and_each_problem_is_a_case():
    assert results(suite(found.EVERY, "specs/big.yaml")) == {
        "valid": ["passed"],
        "budget parameters.stored at most 1.6B": [("Failure", str(found.OVER))],
        "budget flops.training at most 1.2x main:specs/big.yaml": ["passed"],
        "budget memory.total fits a100-40gb": ["passed"],
        "budget parameters.active at least 1B": ["passed"],
        "figure parameters 1.5B": [("Failure", str(found.DIFFERS))],
        "figure parameters 1,700M": ["passed"],
        "figure parameters 2B": ["passed"],
        "AC003 budget-not-evaluated budgets.2.that": [("Failure", str(found.UNKNOWN_BUDGET))],
        "AC102 unused-allowance allow.0": ["passed"],
        "AC102 unused-allowance allow.1": ["passed"],
    }
    cases = {case.name: case for case in suite(found.EVERY, "specs/big.yaml")}
    assert cases["AC102 unused-allowance allow.0"].system_out == str(found.FIXABLE)
    assert cases["figure parameters 2B"].system_out == "nominal"
    (failure,) = cases["figure parameters 1.5B"].result
    assert (failure.type, failure.text) == ("AC101", str(found.DIFFERS))
    assert {case.classname for case in cases.values()} == {"specs/big"}


def test_a_file_that_is_not_valid_fails_its_first_case():
    assert results(suite(found.EVERY, "specs/broken.yaml")) == {"valid": [("Failure", str(found.INVALID))]}
    assert results(suite(found.EVERY, "plans/dp8.yaml")) == {"valid": ["passed"]}


def test_what_is_excused_is_skipped_for_its_reason():
    assert results(suite(found.EVERY, "specs/excused.yaml")) == {
        "valid": ["passed"],
        "budget cache.per_token at most 300 KiB": [("Skipped", "archcalc-baseline.json (in the baseline)")],
        "figure parameters 1B": ["passed"],
        "figure parameters 2B": [("Skipped", "the paper rounds (in the spec)")],
    }
    warning = Outcome("a.yaml", "model", "a", excused=(Excused(found.FIXABLE, "later", "in the spec"),))
    assert results(suite([warning], "a.yaml"))["AC102 unused-allowance allow.0"] == [
        ("Skipped", "later (in the spec)")
    ]


def test_two_budgets_of_one_quantity_have_each_its_own_problem():
    low, high = (found.problem("a.yaml", "AC002", f"parameters.stored is over the budget of {n}B") for n in (1, 2))
    bounds = (
        Bound("parameters.stored", "2B", "parameters", 3, 2, problem=high),
        Bound("parameters.stored", "1B", "parameters", 3, 1, problem=low),
    )
    told = results(suite([Outcome("a.yaml", "model", "a", (low, high), bounds=bounds)], "a.yaml"))
    assert told == {
        "valid": ["passed"],
        "budget parameters.stored at most 2B": [("Failure", str(high))],
        "budget parameters.stored at most 1B": [("Failure", str(low))],
    }


def test_a_budget_without_its_problem_still_fails():
    bound = Bound("parameters.stored", "1B", "parameters", 3 * 10**9, 10**9)
    told = results(suite([Outcome("a.yaml", "model", "a", bounds=(bound,))], "a.yaml"))
    message = "a.yaml: parameters.stored is 3,000,000,000, OVER by 2,000,000,000 (+200.00%)"
    assert told["budget parameters.stored at most 1B"] == [("Failure", message)]


def test_the_problems_of_one_place_are_cases_of_their_own():
    twice = Outcome("a.yaml", "model", "a", (found.FIXABLE, found.FIXABLE))
    assert list(results(suite([twice], "a.yaml")))[1:] == [
        "AC102 unused-allowance allow.0",
        "AC102 unused-allowance allow.0 (2)",
    ]


def test_thousands_of_problems_of_a_file_are_one_failure_of_bounded_length():
    problems = tuple(found.problem("a.yaml", "AC001", f"unknown field {n}", line=n) for n in range(1, 5_001))
    (case,) = suite([Outcome("a.yaml", "unknown", "", problems)], "a.yaml")
    (failure,) = case.result
    assert failure.message == f"{problems[0]} (and 4,999 more)"
    lines = failure.text.splitlines()
    assert (len(lines), lines[0], lines[-1]) == (MOST_LINES + 1, str(problems[0]), "and 4,900 problems more")


def test_hostile_text_is_text():
    text = junit(found.HOSTILE_ONES)
    assert all(c.isprintable() or c == "\n" for c in text)
    (one,) = read(found.HOSTILE_ONES)
    told = [value for case in one for result in case.result for value in (result.message, result.text or "")]
    assert sum("<img src=x>" in value for value in told) >= 4
    assert any("]]>-->&amp;" in value for value in told)
    assert any("\\x1b[2J" in value for value in told)


def test_nothing_is_no_suite():
    assert list(read([])) == []
