"""`archcalc list rules` lists the rules of lint, `archcalc explain AC110` shows one."""

import csv
import io

import pytest
from command import ask

from archcalc.checks.lint.every import RULES


def test_rules_are_listed_with_their_level_and_what_is_wrong():
    out = ask("list", "rules").out
    assert out.startswith(f"{len(RULES)} rules\n")
    for rule in RULES.values():
        assert f"{rule.id}   {rule.level:9}{rule.name}\n" in out
    assert max(map(len, out.splitlines())) <= 80


def test_every_field_of_a_rule_is_told_to_programs():
    told = ask("list", "rules", "-f", "json").json["rules"]
    assert [one["id"] for one in told] == list(RULES)
    rule = RULES["AC125"]
    assert next(one for one in told if one["id"] == "AC125") == {
        "id": "AC125",
        "name": "kv-heads-copied",
        "level": "warning",
        "what": rule.says,
        "why": rule.why,
        "source": rule.source,
        "fix": rule.fix,
        "example": rule.example,
        "needs": "plan",
    }
    rows = list(csv.DictReader(io.StringIO(ask("list", "rules", "-f", "csv").out)))
    assert [row["id"] for row in rows] == list(RULES)


@pytest.mark.parametrize("word", ["AC111", "ac111", "head-size-unaligned"])
def test_a_rule_is_explained_by_its_identifier_or_its_name(word):
    answer = ask("explain", word)
    assert (answer.code, answer.err) == (0, "")
    lines = answer.out.splitlines()
    assert lines[0] == "AC111 head-size-unaligned"
    for label in ("What", "Why", "Source", "Fix", "Example", "Level", "Allow"):
        assert any(line.startswith(f"{label} ") for line in lines)
    assert " ".join(RULES["AC111"].why.split()) in " ".join(answer.out.split())
    assert ask("explain", word, "-f", "json").json["rule"]["id"] == "AC111"


def test_every_rule_is_explained_in_80_columns():
    for rule in RULES:
        assert max(map(len, ask("explain", rule).out.splitlines())) <= 80


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["AC11"], "AC11: is not a rule; nearest: AC110, AC111, AC112"),
        (["AC999"], "AC999: is not a rule; `archcalc list rules` shows all"),
        (["AC110", "flops.forward"], "QUANTITY: applies only to a SPEC, and AC110 is a rule; got 'flops.forward'"),
        (["AC110", "--batch", "2"], "--batch: applies only to a SPEC, and AC110 is a rule"),
        (["AC110", "--dropout"], "--dropout: applies only to a SPEC, and AC110 is a rule"),
        (["AC110", "--tp", "2"], "--tp: applies only to a SPEC, and AC110 is a rule"),
        (["AC110", "-f", "latex"], "--format: latex shows a number, not a rule"),
        (["AC110", "-o", "rule.tex"], "--format: latex shows a number, not a rule"),
    ],
)
def test_what_a_rule_has_no_use_for_is_refused(arguments, line):
    answer = ask("explain", *arguments)
    assert (answer.code, answer.out, answer.err) == (2, "", line + "\n")


def test_words_after_rules_are_refused():
    assert ask("list", "rules", "AC110").err == "archcalc list: takes no words after rules; got 'AC110'\n"
    assert ask("list", "rules", "--least", "1B").err == "--least: applies only to models, not to rules\n"
