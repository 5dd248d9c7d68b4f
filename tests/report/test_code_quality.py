"""GitLab's code quality report: what it asks of an issue, by its documentation."""

import json

import found

from archcalc.checks.outcome import Outcome
from archcalc.report import codequality as module
from archcalc.report.codequality import code_quality

SEVERITIES = {"info", "minor", "major", "critical", "blocker"}


def read(outcomes):
    issues = json.loads(code_quality(outcomes))
    for issue in issues:
        assert set(issue) == {"description", "check_name", "fingerprint", "severity", "location"}
        assert issue["severity"] in SEVERITIES
        assert not issue["location"]["path"].startswith("./")
        assert issue["location"]["lines"]["begin"] >= 1
    assert len({issue["fingerprint"] for issue in issues}) == len(issues)
    return issues


def test_every_problem_is_an_issue_of_its_line():
    told = [
        (issue["check_name"], issue["severity"], issue["location"]["path"], issue["location"]["lines"]["begin"])
        for issue in read(found.EVERY)
    ]
    assert told == [
        ("AC001 invalid-file", "major", "specs/broken.yaml", 3),
        ("AC001 invalid-file", "major", "specs/empty.yaml", 1),
        ("AC002 over-budget", "major", "specs/big.yaml", 1),
        ("AC003 budget-not-evaluated", "major", "archcalc.yaml", 4),
        ("AC101 figure-differs", "major", "specs/big.yaml", 40),
        ("AC001 invalid-file", "major", "<stdin>", 2),
        ("AC102 unused-allowance", "minor", "specs/big.yaml", 9),
        ("AC102 unused-allowance", "minor", "specs/big.yaml", 10),
    ]
    assert read(found.EVERY)[0]["description"] == "d_modl: unknown field; did you mean 'd_model'?"


def test_hostile_text_is_escaped():
    assert len(read(found.HOSTILE_ONES)) == 3
    assert all(c.isprintable() or c == "\n" for c in code_quality(found.HOSTILE_ONES))


def test_a_report_is_bounded_and_keeps_the_errors(monkeypatch):
    monkeypatch.setattr(module, "MOST_ISSUES", 12)
    assert [issue["severity"] for issue in read(list(found.many(100)))] == ["major"] * 10 + ["minor"] * 2


def test_nothing_found_is_an_empty_list():
    assert read(found.GOOD) == []
    assert read([Outcome("a", "model", "a")]) == []
