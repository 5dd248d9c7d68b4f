"""SARIF: valid by the schema that OASIS published, with each problem at its place."""

import gzip
import json
import os
from dataclasses import replace
from functools import cache
from pathlib import Path
from urllib.parse import unquote

import found
import pytest
from goodspec import GOOD

from archcalc.checks.collecting import Target
from archcalc.checks.lint.every import RULES
from archcalc.checks.mending import mend
from archcalc.checks.outcome import Outcome
from archcalc.checks.project import no_project
from archcalc.checks.running import check_target
from archcalc.report import sarif as module
from archcalc.report.sarif import code_scanning, sarif
from archcalc.spec.source import parse

jsonschema = pytest.importorskip("jsonschema")


@cache
def validator():
    schema = json.loads((Path(__file__).parent / "schemas" / "sarif-schema-2.1.0.json").read_text())
    kind = jsonschema.validators.validator_for(schema)
    kind.check_schema(schema)
    return kind(schema, format_checker=kind.FORMAT_CHECKER)


def read(text):
    log = json.loads(text)
    errors = [f"{error.json_path}: {error.message}" for error in validator().iter_errors(log)]
    assert errors == []
    (run,) = log["runs"]
    return run


def place(result):
    physical = result["locations"][0].get("physicalLocation", {})
    region = physical.get("region", {})
    return physical.get("artifactLocation", {}).get("uri"), region.get("startLine"), region.get("startColumn")


def test_the_schema_refuses_what_is_no_sarif():
    log = json.loads(sarif(found.EVERY))
    log["runs"][0]["results"][0]["levl"] = "error"
    assert not validator().is_valid(log)
    log = json.loads(sarif(found.EVERY))
    log["runs"][0]["results"][0]["locations"][0]["physicalLocation"]["region"]["startLine"] = 0
    assert not validator().is_valid(log)


def test_every_problem_is_a_result_at_its_place_and_errors_come_first():
    run = read(sarif(found.EVERY))
    assert [(result["ruleId"], result["level"], place(result)) for result in run["results"]] == [
        ("AC001", "error", ("specs/broken.yaml", 3, 1)),
        ("AC001", "error", ("specs/empty.yaml", None, None)),
        ("AC002", "error", ("specs/big.yaml", None, None)),
        ("AC003", "error", ("archcalc.yaml", 4, 11)),
        ("AC101", "error", ("specs/big.yaml", 40, 5)),
        ("AC001", "error", (None, None, None)),
        ("AC102", "warning", ("specs/big.yaml", 9, 5)),
        ("AC102", "warning", ("specs/big.yaml", 10, 5)),
        ("AC101", "error", ("specs/excused.yaml", 12, 5)),
        ("AC002", "error", ("specs/excused.yaml", None, None)),
    ]
    first = run["results"][0]
    assert first["message"] == {"text": "d_modl: unknown field; did you mean 'd_model'?"}
    assert first["locations"][0]["logicalLocations"] == [{"fullyQualifiedName": "d_modl"}]
    assert first["locations"][0]["physicalLocation"]["artifactLocation"]["uriBaseId"] == "%SRCROOT%"
    assert run["columnKind"] == "unicodeCodePoints"
    assert run["properties"] == {"files": 6, "passed": 2}
    assert run["invocations"] == [{"executionSuccessful": True}]


def test_rules_say_why_where_from_and_what_to_do():
    run = read(sarif(found.EVERY))
    rules = run["tool"]["driver"]["rules"]
    assert [rule["id"] for rule in rules] == list(RULES)
    for rule in rules:
        known = RULES[rule["id"]]
        assert (rule["name"], rule["defaultConfiguration"]["level"]) == (known.name, known.level)
        for part in (known.why, known.source, known.fix):
            assert part in rule["help"]["text"]
        assert known.says[1:] in rule["shortDescription"]["text"]
        # GitHub cuts descriptions at 1,024 characters.
        assert max(len(rule[name]["text"]) for name in ("shortDescription", "fullDescription")) <= 1_024
    for result in run["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]


def test_what_is_excused_is_suppressed_with_its_reason_or_left_out():
    results = read(sarif(found.EVERY))["results"]
    assert [result["suppressions"] for result in results if "suppressions" in result] == [
        [{"kind": "inSource", "justification": "the paper rounds"}],
        [{"kind": "external", "justification": "archcalc-baseline.json"}],
    ]
    assert read(code_scanning(found.EVERY))["results"] == results[:-2]


def applied(text, fix):
    """A text after a fix, by the words of SARIF 2.1.0, sections 3.30 and 3.57: columns count from 1, an end is not in."""
    (changes,) = fix["artifactChanges"]
    (change,) = changes["replacements"]
    region = change["deletedRegion"]
    starts = [0, *(i + 1 for i, sign in enumerate(text) if sign == "\n")]
    start = starts[region["startLine"] - 1] + region["startColumn"] - 1
    end = starts[region["endLine"] - 1] + region["endColumn"] - 1
    assert start <= end <= len(text)
    return text[:start] + change["insertedContent"]["text"] + text[end:]


ALLOWED = '{rule: AC151, why: "it has no experts"}'


@pytest.mark.parametrize(
    "end",
    [
        f"allow:\n  - {ALLOWED}\n",
        f"allow:\n  - {ALLOWED}  # gone",
        f"allow: [{ALLOWED}]",
        f"allow: [{ALLOWED}]\n# the end\n",
        f'allow:\r\n  - {ALLOWED}\r\n  - {{rule: AC152, why: "nor this"}}\r\n',
        'published: [{text: "1.2K", parameters: 1200, status: counted, source: "this test"}]\n',
    ],
)
def test_what_fix_changes_is_a_fix_that_changes_the_same(end, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "x.yaml"
    path.write_bytes((GOOD + end).encode())
    outcome = check_target(Target("x.yaml"), no_project())
    results = [one for one in read(sarif([outcome]))["results"] if one.get("properties")]
    fixes = [fix for result in results for fix in result["fixes"]]
    assert len(fixes) == len(results) == sum(bool(problem.edits) for problem in outcome.problems)
    assert {fix["artifactChanges"][0]["artifactLocation"]["uri"] for fix in fixes} == {"x.yaml"}
    text = path.read_bytes().decode()
    each = [applied(text, fix) for fix in fixes]
    mend([outcome])
    assert len(fixes) > 0
    if len(fixes) == 1:
        assert each == [path.read_bytes().decode()]
    for one in each:
        assert one != text
        assert len(parse(one.encode(), "x.yaml").data) in (
            len(parse(text.encode(), "x.yaml").data) - n for n in (0, 1)
        )


def test_what_fix_leaves_has_no_fix(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.yaml").write_text(GOOD + f"allow:  # a note\n  - {ALLOWED}\n")
    outcome = check_target(Target("x.yaml"), no_project())
    (result,) = (one for one in read(sarif([outcome]))["results"] if one["ruleId"] == "AC102")
    assert "fixes" not in result
    assert result["properties"]["edits"]
    assert not mend([outcome])[0]


def test_edits_are_kept():
    edits = [result.get("properties") for result in read(sarif(found.EVERY))["results"]]
    assert [one for one in edits if one] == [{"edits": [{"path": ["allow"], "value": None}]}]


def marks(outcomes):
    return [result["partialFingerprints"]["archcalc/v1"] for result in read(sarif(outcomes))["results"]]


def test_a_fingerprint_outlives_other_lines_and_other_figures_and_nothing_else():
    def outcomes(**changes):
        file = changes.get("file", "specs/big.yaml")
        return [Outcome(file, "model", "big", (replace(found.DIFFERS, **changes),))]

    (mark,) = marks(outcomes())
    assert marks(outcomes(line=41, column=7)) == [mark]
    assert marks(outcomes(message="parameters 1.6B does not hold", value="1,700,000,001")) == [mark]
    assert marks(outcomes(path="published.1")) != [mark]
    assert marks(outcomes(rule="AC002")) != [mark]
    assert marks(outcomes(file="specs/other.yaml")) != [mark]


def test_no_two_problems_share_a_fingerprint():
    twice = [Outcome("a.yaml", "model", "a", (found.OVER, found.OVER, found.DIFFERS))]
    assert len(set(marks(twice))) == 3
    assert len(set(marks(found.EVERY))) == 10


def uris(*files):
    outcomes = [Outcome(file, "model", "m", (found.problem(file, "AC001", "is empty"),)) for file in files]
    results = read(sarif(outcomes))["results"]
    return [result["locations"][0]["physicalLocation"]["artifactLocation"] for result in results]


def test_files_are_relative_to_the_folder_and_escaped(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    root = {"uriBaseId": "%SRCROOT%"}
    assert uris("./specs//a b#c?d%20.yaml") == [{"uri": "specs/a%20b%23c%3Fd%2520.yaml", **root}]
    assert uris("é模.yaml", "hf:org/x", "x/../y.yaml") == [
        {"uri": "%C3%A9%E6%A8%A1.yaml", **root},
        {"uri": "hf%3Aorg/x", **root},
        {"uri": "y.yaml", **root},
    ]
    assert uris(str(tmp_path / "here" / "specs" / "a.yaml")) == [{"uri": "specs/a.yaml", **root}]
    outside = f"file://{tmp_path}/b.yaml"
    assert uris("../b.yaml", str(tmp_path / "b.yaml")) == [{"uri": outside}, {"uri": outside}]
    assert uris("..b.yaml") == [{"uri": "..b.yaml", **root}]
    assert uris(os.fsdecode(b"\xff.yaml")) == [{"uri": "%FF.yaml", **root}]  # as the system names it


def test_a_flag_is_no_file():
    outcome = Outcome("specs/a.yaml", "model", "a", (found.problem("--budget", "AC002", "is no quantity", path="x"),))
    (result,) = read(sarif([outcome]))["results"]
    assert place(result) == ("specs/a.yaml", None, None)
    assert result["message"]["text"] == "--budget: x: is no quantity"


def test_hostile_text_makes_no_link_and_nothing_else():
    text = sarif(found.HOSTILE_ONES)
    run = read(text)
    assert len(run["results"]) == 4
    assert all(c.isprintable() or c == "\n" for c in text)
    for result in run["results"]:
        said = result["message"]["text"]
        assert "](" not in said.replace("\\](", "")
        assert said.isprintable()
        assert "%0A" in unquote(place(result)[0])
    assert "ruleIndex" not in run["results"][1]  # no rule of this version


def test_what_exceeds_the_bounds_is_left_out_and_told(monkeypatch):
    outcomes = list(found.many(100))
    monkeypatch.setattr(module, "MOST_RESULTS", 12)
    run = read(sarif(outcomes))
    assert [result["level"] for result in run["results"]] == ["error"] * 10 + ["warning"] * 2
    (notification,) = run["invocations"][0]["toolExecutionNotifications"]
    assert notification["message"]["text"].startswith("8 of 20 results are left out: ")
    monkeypatch.setattr(module, "LARGEST_RESULTS", 1_000)
    results = read(sarif(outcomes))["results"]
    assert 1 <= len(results) < 5
    assert sum(len(json.dumps(result)) for result in results) <= 1_000


def test_the_largest_file_is_one_that_github_takes(monkeypatch):
    """It takes 25,000 results and 10 MB compressed. What is no more than that before is none after, even noise."""
    assert (module.MOST_RESULTS, module.LARGEST_RESULTS) == (25_000, 10_000_000)
    monkeypatch.setattr(module, "LARGEST_RESULTS", 100_000)
    noise = [os.urandom(130).hex() for _ in range(500)]
    outcomes = [
        Outcome(f"{i}.yaml", "model", "m", (found.problem(f"{i}.yaml", "AC102", text),))
        for i, text in enumerate(noise)
    ]
    text = sarif(outcomes)
    assert 100 < len(json.loads(text)["runs"][0]["results"]) < 500
    assert len(gzip.compress(text.encode(), 1)) < 100_000


def test_nothing_found_is_a_run_without_results():
    assert read(sarif(found.GOOD))["results"] == []
    assert read(sarif([]))["results"] == []
