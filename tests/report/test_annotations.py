"""Annotations: what GitHub's runner reads of the lines, by its rules."""

import found
import pytest

from archcalc.checks.outcome import Outcome
from archcalc.report import annotations as module
from archcalc.report.annotations import workflow_commands


def commands(text):
    """Each line's command, properties and message, as the runner parses them.

    A command begins a line with `::`, its head ends at the next `::`, properties stand between commas, and escapes are
    undone one kind after the other, the percent sign last.
    """
    for line in text.splitlines():
        assert line.startswith("::")
        head, end, data = line[2:].partition("::")
        assert end
        name, _, listed = head.partition(" ")
        pairs = (one.split("=", 1) for one in listed.strip().split(",") if one)
        yield name, {key: unescaped(value, ":,") for key, value in pairs}, unescaped(data)


def unescaped(text, more=""):
    for sign in f"\r\n{more}%":
        text = text.replace(f"%{ord(sign):02X}", sign)
    return text


def test_every_problem_is_an_annotation_of_its_line_and_errors_come_first():
    *told, notice = commands(workflow_commands(found.EVERY))
    assert [(name, parts.get("file"), parts.get("line"), parts.get("col"), parts["title"]) for name, parts, _ in told] == [
        ("error", "specs/broken.yaml", "3", "1", "AC001 invalid-file"),
        ("error", "specs/empty.yaml", None, None, "AC001 invalid-file"),
        ("error", "specs/big.yaml", None, None, "AC002 over-budget"),
        ("error", "archcalc.yaml", "4", "11", "AC003 budget-not-evaluated"),
        ("error", "specs/big.yaml", "40", "5", "AC101 figure-differs"),
        ("error", None, "2", "1", "AC001 invalid-file"),
        ("warning", "specs/big.yaml", "9", "5", "AC102 unused-allowance"),
        ("warning", "specs/big.yaml", "10", "5", "AC102 unused-allowance"),
    ]  # fmt: skip
    assert told[0][2] == "d_modl: unknown field; did you mean 'd_model'?"
    assert notice == ("notice", {"title": "archcalc check"}, "6 errors and 2 warnings in 6 files; 2 excused")


def test_the_line_is_the_one_that_the_file_has(tmp_path, monkeypatch):
    """A spec with a misspelt field in its third line, read by the reader itself."""
    import archcalc

    monkeypatch.chdir(tmp_path)
    (tmp_path / "s.yaml").write_text("schema: 0\nname: x\n  # a remark\nd_modl: 4\n")
    problems = [one for one in archcalc.check("s.yaml") if one.path == "d_modl"]
    ((name, parts, _), _) = commands(workflow_commands([Outcome("s.yaml", "unknown", "", tuple(problems))]))
    assert (name, parts["file"], parts["line"], parts["col"]) == ("error", "s.yaml", "4", "1")


@pytest.mark.parametrize("name", ["a,line=9.yaml", "a::b.yaml", "a%2Cb.yaml", "a b=c.yaml"])
def test_a_file_of_any_name_is_annotated(name):
    outcome = Outcome(name, "model", "m", (found.problem(name, "AC001", "50% of 1,2: %0A", line=3, column=1),))
    ((_, parts, said), _) = commands(workflow_commands([outcome]))
    assert parts == {"file": name, "line": "3", "col": "1", "title": "AC001 invalid-file"}
    assert said == "50% of 1,2: %0A"


def test_hostile_text_begins_no_command():
    text = workflow_commands(found.HOSTILE_ONES)
    told = list(commands(text))
    assert [name for name, _, _ in told] == ["error", "error", "warning", "notice"]
    assert all(c.isprintable() or c == "\n" for c in text)
    assert set(told[0][1]) == {"file", "line", "col", "title"}
    assert (told[0][1]["line"], told[0][1]["col"]) == ("1", "2")
    assert "\\r\\n::error file=x::y\\n##[add-path]/tmp" in told[0][2]


def test_more_than_github_shows_is_said(monkeypatch):
    ten, eleven = list(found.many(100)), list(found.many(110))
    assert (
        workflow_commands(ten).splitlines()[-1]
        == "::notice title=archcalc check::10 errors and 10 warnings in 100 files"
    )
    assert (
        workflow_commands(eleven).splitlines()[-1].endswith("; GitHub annotates 10 errors and 10 warnings of a step")
    )
    monkeypatch.setattr(module, "MOST_ANNOTATIONS", 15)
    lines = workflow_commands(ten).splitlines()
    assert [line.partition(" ")[0] for line in lines] == ["::error"] * 10 + ["::warning"] * 5 + ["::notice"]
    assert "10 errors and 10 warnings in 100 files; the first 15 are listed" in lines[-1]


def test_nothing_found_is_nothing_written():
    assert workflow_commands(found.GOOD) == ""
