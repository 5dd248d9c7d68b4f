"""Outcomes as JUnit XML, which Jenkins, GitLab and most viewers of test results read.

JUnit never published a schema. Elements and attributes are those of junit-10.xsd of Jenkins' xUnit plugin, the
strictest reader in use, so a test case has no `file` and `line`: its text begins with both. No time is measured, so
that the same files make the same report, and none is said: the schema and its readers take `time` as optional.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple
from xml.etree import ElementTree as ET

from archcalc.checks.outcome import Excused, Outcome
from archcalc.checks.rules import BUDGET, FIGURE, INVALID
from archcalc.errors import LONGEST_LINE, LONGEST_PLACE, Problem, cut, printable
from archcalc.report.budgets import amount, held_against, limit, margin
from archcalc.report.places import named, relative, rule_id
from archcalc.units import several

MOST_LINES = 100
"""Problems that the text of one test case lists: an invalid file can have thousands."""


class Case(NamedTuple):
    """A test case: the lines that fail it, the reason to skip it, and what is only said; `found` is the problem."""

    name: str
    failed: tuple[str, ...] = ()
    skipped: str = ""
    said: str = ""
    rule: str = ""
    found: Problem | Excused | None = None


def junit(outcomes: Sequence[Outcome]) -> str:
    """A test suite for each file.

    Its test cases are that the file is valid, each budget, each published figure, and each problem beside these.
    Errors fail, what is excused is skipped with its reason, and a warning passes and is written to the output.
    """
    root = ET.Element("testsuites", name="archcalc check")
    counts: Counter[str] = Counter()
    for outcome in outcomes:
        counts.update(_suite(root, outcome))
    _count(root, counts, "tests", "failures", "errors")
    ET.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ET.tostring(root, encoding="unicode")}\n'


def _suite(root: ET.Element, outcome: Outcome) -> Counter[str]:
    path = printable(relative(outcome.file))
    suite = ET.SubElement(root, "testsuite", name=path, file=path)
    # A dot in the name of a class begins another level of a tree in most viewers.
    group = path.removesuffix(".yaml").removesuffix(".yml").removesuffix(".json")
    counts: Counter[str] = Counter()
    names: Counter[str] = Counter()
    for case in _cases(outcome):
        names[case.name] += 1
        name = f"{case.name} ({names[case.name]})" if names[case.name] > 1 else case.name
        element = ET.SubElement(suite, "testcase", classname=group, name=name)
        counts["tests"] += 1
        if case.skipped:
            counts["skipped"] += 1
            ET.SubElement(element, "skipped", message=case.skipped)
        elif case.failed:
            counts["failures"] += 1
            more = f" (and {len(case.failed) - 1:,} more)" if len(case.failed) > 1 else ""
            failure = ET.SubElement(element, "failure", message=case.failed[0] + more, type=case.rule)
            failure.text = _listed(case.failed)
        if case.said:
            ET.SubElement(element, "system-out").text = case.said
    _count(suite, counts, "tests", "failures", "errors", "skipped")
    return counts


def _count(element: ET.Element, counts: Counter[str], *names: str) -> None:
    for name in names:
        element.set(name, str(counts[name]))


def _listed(lines: tuple[str, ...]) -> str:
    left = len(lines) - MOST_LINES
    return "\n".join([*lines[:MOST_LINES], *([f"and {several(left, 'problem')} more"] if left > 0 else [])])


def _cases(outcome: Outcome) -> Iterator[Case]:
    invalid = [problem for problem in outcome.problems if rule_id(problem) == INVALID.id]
    first = [Case("valid", tuple(map(str, invalid)), rule=INVALID.id), *_budgets(outcome), *_figures(outcome)]
    yield from first
    told = {id(found) for found in (*invalid, *(case.found for case in first))}
    for problem in outcome.problems:
        if id(problem) not in told:
            yield _case(_name(problem), problem)
    for one in outcome.excused:
        if id(one) not in told:
            yield _case(_name(one.problem), one)


def _budgets(outcome: Outcome) -> Iterator[Case]:
    for bound, found in held_against(outcome):
        name = cut(f"budget {bound.label} {limit(bound)}", LONGEST_PLACE)
        if bound.left >= 0:
            yield Case(name)
        elif found is not None:
            yield _case(name, found)
        else:
            words = f"{outcome.file}: {bound.label} is {amount(bound.figure, bound.unit)}, {margin(bound)}"
            yield Case(name, (cut(words, LONGEST_LINE),), rule=BUDGET.id)


def _figures(outcome: Outcome) -> Iterator[Case]:
    """The comparisons with published figures; the problem of one that does not hold is placed at its entry."""
    found: dict[str, Problem | Excused] = {
        **{one.problem.path: one for one in outcome.excused if one.problem.rule == FIGURE.id},
        **{problem.path: problem for problem in outcome.problems if problem.rule == FIGURE.id},
    }
    for index, check in enumerate(outcome.verdict.checks if outcome.verdict else ()):
        name = cut(f"figure {check.what}", LONGEST_PLACE)
        told = found.get(f"published.{index}")
        if check.equal or not check.required:
            yield Case(name, said="" if check.equal else cut(check.reason or "", LONGEST_LINE))
        elif told is not None:
            yield _case(name, told)
        else:
            yield Case(name, (cut(f"{outcome.file}: {check.reason}", LONGEST_LINE),), rule=FIGURE.id)


def _case(name: str, found: Problem | Excused) -> Case:
    """The test case of a problem: skipped where it is excused, and passed where it is a warning."""
    if isinstance(found, Excused):
        reason = cut(f"{found.why} ({found.where})", LONGEST_LINE)
        return Case(name, skipped=reason, said=str(found.problem), found=found)
    if found.level == "error":
        return Case(name, (str(found),), rule=rule_id(found), found=found)
    return Case(name, said=str(found), found=found)


def _name(problem: Problem) -> str:
    return cut(f"{named(problem)} {problem.path}".rstrip(), LONGEST_PLACE)
