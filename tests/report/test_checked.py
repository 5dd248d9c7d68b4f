"""The sheet of `check`: its title, its tables, its JSON and its CSV."""

import csv
import io
import json

import found
import pytest

import archcalc
from archcalc.checks.audit import audit
from archcalc.checks.outcome import Bound, Excused, Outcome
from archcalc.checks.verdict import Check, Verdict
from archcalc.report import checked as module
from archcalc.report.checked import checked_sheet
from archcalc.report.outcomes import FORMATS
from archcalc.report.render import render
from archcalc.report.sheet import Table
from archcalc.report.verdict import verdict_sheet


def rendered_outcomes(outcomes, form):
    return FORMATS[form](outcomes) if form in FORMATS else render(checked_sheet(outcomes), form)


def outcome(kind="model", spec="a", checks=(), **parts):
    return Outcome(f"{spec}.yaml", kind, spec, verdict=Verdict(spec, checks) if kind == "model" else None, **parts)


def budgets(*figures):
    """A budget of 10 for each figure."""
    return tuple(
        Bound("parameters.stored", "10", "parameters", figure, 10, problem=OVER[0] if figure > 10 else None)
        for figure in figures
    )


HELD, FAILED, NOMINAL = (
    Check("x 1", 1, 1, True),
    Check("x 2", 1, 2, False, "DOES NOT HOLD"),
    Check("x 3", 1, 3, False, None, None, False),
)
OVER = (found.problem("a.yaml", "AC002", "parameters.stored is over the budget of 10"),)
EXCUSED = (Excused(OVER[0], "later", "in the baseline"),)
TITLES = {
    "a: valid, with no published figures to compare with": [outcome()],
    "dp8: valid": [outcome("plan", "dp8")],
    "2 specs: valid, with no published figures to compare with": [outcome(), outcome(spec="b")],
    "2 files: valid": [outcome(), outcome("plan")],
    "a: 2 comparisons held; 1 nominal figure shown": [outcome(checks=(HELD, HELD, NOMINAL))],
    "a: 1 of 3 comparisons DO NOT HOLD": [outcome(checks=(HELD, FAILED, NOMINAL), problems=(found.DIFFERS,))],
    "a: 1 warning": [outcome(problems=(found.PLAIN,))],
    "a: not a valid spec": [outcome("unknown", problems=(found.INVALID, found.INVALID))],
    "dp8: not a valid plan": [outcome("plan", "dp8", problems=(found.INVALID,))],
    "2 specs: 1 not valid; 1 comparison held": [outcome(checks=(HELD,)), outcome("unknown", problems=(found.INVALID,))],
    "a: 2 budgets held": [outcome(bounds=budgets(9, 10))],
    "a: 1 of 2 budgets EXCEEDED": [outcome(bounds=budgets(9, 11), problems=OVER)],
    "a: 1 problem; 1 budget held": [outcome(bounds=budgets(9), problems=(found.UNKNOWN_BUDGET,))],
    "a: 0 of 1 budget held, 1 exceeded as known; 1 excused": [outcome(bounds=budgets(11), excused=EXCUSED)],
    "3 files: 1 problem, 2 warnings; 3 budgets held": [
        outcome(bounds=budgets(9, 9), problems=(found.PLAIN, found.PLAIN)),
        outcome(bounds=budgets(9), problems=(found.UNKNOWN_BUDGET,)),
        outcome("device"),
    ],
    "0 files: nothing to check": [],
}  # fmt: skip


@pytest.mark.parametrize(("title", "outcomes"), TITLES.items(), ids=TITLES)
def test_the_title_counts_each_thing_once(title, outcomes):
    assert checked_sheet(outcomes).title == title


@pytest.mark.parametrize("names", [["gpt2"], ["gpt2", "gpt3-xl", "tiny"]])
def test_comparisons_are_shown_as_they_are_without_anything_else(names):
    """The sheet of verdicts alone is what `check` showed before there were budgets and lint."""
    verdicts = [audit(archcalc.load(name))._replace(warnings=("a misprint",)) for name in names]
    outcomes = [Outcome(f"{name}.yaml", "model", name, verdict=one) for name, one in zip(names, verdicts, strict=True)]
    alone, sheet = verdict_sheet(verdicts, "printed"), checked_sheet(outcomes)
    assert (sheet.title, sheet.blocks) == (alone.title, alone.blocks)
    assert {key: sheet.payload[key] for key in alone.payload} == alone.payload
    assert list(sheet.payload)[: len(alone.payload)] == list(alone.payload)


def test_the_table_of_budgets_says_by_how_much():
    (table,) = (
        block for block in checked_sheet(found.EVERY).blocks if isinstance(block, Table) and block.columns[1].head == "budget"
    )  # fmt: skip
    text = render(checked_sheet(found.EVERY[2:3]), "table")
    assert "parameters.stored   1,700,000,000  at most 1.6B" in text
    assert [row[-1] for row in table.rows] == [
        "OVER by 100,000,000 (+6.25%)",
        "100 left (8.33%)",
        "none left",
        "250,000,000 left (25.00%)",
        "OVER by 25.00 KiB (+8.33%)",
    ]


def test_problems_stand_below_the_tables_by_level_unless_they_were_told():
    text = render(checked_sheet(found.EVERY), "table", 100)
    assert "Error      specs/broken.yaml:3:1: d_modl: unknown field; did you mean 'd_model'? [AC001]\n" in text
    assert (
        "Warning    specs/big.yaml:9:5: allow.0: AC120 is allowed and not broken; remove the entry [AC102]\n" in text
    )
    assert "           big: Table 1 prints d_ff 3; 4 is used\n" in text
    assert "Excused    excused: AC101 at published.1: the paper rounds (in the spec)\n" in text
    told = render(checked_sheet(found.EVERY, told=True), "table", 100)
    assert "unknown field" not in told
    assert "Warning    big: Table 1 prints d_ff 3; 4 is used\n" in told


def test_long_lists_are_cut_and_counted(monkeypatch):
    problems = tuple(found.problem("a.yaml", "AC001", f"unknown field {n}", line=n) for n in range(1, 1_001))
    text = render(checked_sheet([Outcome("a.yaml", "unknown", "", problems)]), "table")
    assert text.count("unknown field") == 20
    assert text.endswith("           and 980 more\n")
    monkeypatch.setattr(module, "MOST_ROWS", 2)
    text = render(checked_sheet([outcome(checks=(HELD,) * 5, bounds=budgets(1, 2, 3))]), "table")
    assert text.count("x 1") == 2
    assert text.endswith(
        "Left out   3 comparisons; JSON and CSV have all\n           1 budget; JSON and CSV have all\n"
    )


def test_the_json_has_the_outcomes_whole():
    payload = json.loads(rendered_outcomes(found.EVERY, "json"))
    assert (payload["schema"], payload["spec"], payload["passed"]) == (0, None, False)
    assert [one["file"] for one in payload["files"]] == [one.file for one in found.EVERY]
    assert [one["passed"] for one in payload["files"]] == [False, False, False, True, True, False]
    big, excused = payload["files"][2:4]
    assert big["problems"][2] == {
        "file": "specs/big.yaml",
        "message": "AC120 is allowed and not broken",
        "path": "allow.0",
        "line": 9,
        "column": 5,
        "value": None,
        "suggestion": "remove the entry",
        "rule": "AC102",
        "level": "warning",
        "edits": [{"path": ["allow"], "value": None}],
    }
    assert big["budgets"][0] == {
        "that": "parameters.stored",
        "words": "1.6B",
        "unit": "parameters",
        "figure": 1_700_000_000,
        "bound": 1_600_000_000,
        "at_least": False,
        "device": "",
        "when": "",
        "left": -100_000_000,
        "held": False,
    }
    assert [one["what"] for one in big["checks"]] == ["parameters 1.5B", "parameters 1,700M", "parameters 2B"]
    assert [(one["where"], one["why"], one["problem"]["rule"]) for one in excused["excused"]] == [
        ("in the spec", "the paper rounds", "AC101"),
        ("in the baseline", "archcalc-baseline.json", "AC002"),
    ]
    assert payload["problems"] == [one for file in payload["files"] for one in file["problems"]]
    # As before: each problem of a file that is not valid is a comparison that failed.
    assert [one["reason"] for one in payload["checks"] if one["what"] == "a spec"] == [
        str(one) for one in (found.INVALID, found.UNREADABLE, found.NOWHERE)
    ]


def test_json_lists_the_first_problems_of_all_files_as_comparisons_and_says_how_many_more():
    """Each problem of an invalid file is one of `checks`, up to 20 in all: 15, then 5 and a count, then a count."""
    files = [
        Outcome(f"{name}.yaml", "unknown", name, tuple(found.problem(name, "AC001", f"x{n}") for n in range(15)))
        for name in "abc"
    ]
    reasons = [check["reason"] for check in checked_sheet(files).payload["checks"]]
    assert (len(reasons), reasons[20], reasons[21]) == (22, "and 10 more", "15 problems")


def test_json_is_indented():
    assert rendered_outcomes(found.EVERY, "json") == json.dumps(checked_sheet(found.EVERY).payload, indent=2) + "\n"


def test_json_of_many_files_has_a_line_for_each_and_says_the_same():
    few, many = list(found.many(500)), list(found.many(1_500))
    text = rendered_outcomes(many, "json")
    assert json.loads(text) == checked_sheet(many).payload
    assert json.loads(rendered_outcomes(few, "json"))["files"] == json.loads(text)["files"][:500]
    assert text.count('\n    {"file": "specs/') == 1_500
    assert text.endswith("\n}\n")


def test_a_row_of_csv_is_a_comparison_a_budget_or_a_problem():
    rows = list(csv.DictReader(io.StringIO(rendered_outcomes(found.EVERY, "csv"))))
    assert list(rows[0])[:6] == ["spec", "what", "counted", "measured", "equal", "reason"]  # as before
    told = [(row["spec"], row["what"], row["equal"], row["rule"], row["level"], row["line"]) for row in rows]
    assert told[0] == ("broken", "unknown field", "False", "AC001", "error", "3")
    assert ("big", "parameters 1,700M", "True", "", "", "") in told
    assert ("big", "flops.training at most 1.2x main:specs/big.yaml", "True", "", "", "") in told
    assert ("big", "AC130 is allowed and not broken", "", "AC102", "warning", "10") in told
    assert ("excused", "parameters 2B does not hold", "", "AC101", "excused", "12") in told
    assert len(rows) == 5 + 5 + 8 + 2  # comparisons, budgets, problems, what is excused
    over = next(row for row in rows if row["what"].startswith("parameters.stored at"))
    assert (over["counted"], over["measured"], over["equal"]) == ("1700000000", "1600000000", "False")


@pytest.mark.parametrize("form", ["table", "markdown", "json", "csv", *FORMATS])
def test_hostile_text_is_escaped_in_every_format(form):
    text = rendered_outcomes(found.HOSTILE_ONES, form)
    assert all(c.isprintable() or c == "\n" for c in text)
    assert "\x1b" not in text


@pytest.mark.parametrize("form", ["table", "markdown", "json", "csv", *FORMATS])
def test_every_format_ends_with_a_line_and_is_the_same_each_time(form):
    text = rendered_outcomes(found.EVERY, form)
    assert text.endswith("\n")
    assert rendered_outcomes(found.EVERY, form) == text
    assert rendered_outcomes([], form).endswith("\n") or form == "github"
