"""Outcomes as SARIF 2.1.0, which code scanning and editors read.

The format is OASIS' Static Analysis Results Interchange Format, version 2.1.0 with errata 01. Of its bounds those of
GitHub's code scanning hold: it refuses a run of more than 25,000 results or a file of more than 10 MB compressed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from archcalc.checks.lint.every import RULES
from archcalc.checks.mending import mended
from archcalc.checks.outcome import Outcome
from archcalc.checks.rules import Rule
from archcalc.errors import printable
from archcalc.escaping import json_text, markdown
from archcalc.report.places import Place, places, uri
from archcalc.spec.source import is_stdin
from archcalc.units import grouped

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
MOST_RESULTS = 25_000
LARGEST_RESULTS = 10_000_000
"""Results of a run, and their bytes before they are compressed."""

_ROOT = "%SRCROOT%"
_LINK = re.compile(r"\](?=[(\[])")
_INDEX = {rule: index for index, rule in enumerate(RULES)}


def sarif(outcomes: Sequence[Outcome], *, excused: bool = True) -> str:
    """One run with all rules, and a result for each problem, errors first.

    Problems that are excused are results with a suppression, unless `excused` is false. What exceeds a bound is left
    out, and a notification says how many results that are.
    """
    found = places(outcomes, excused=excused)
    results = _within_bounds(found)
    passed = sum(outcome.passed for outcome in outcomes)
    run = {
        "tool": {"driver": {"name": "archcalc", **_version(), "rules": [_rule(rule) for rule in RULES.values()]}},
        "invocations": [{"executionSuccessful": True, **_notifications(len(found), len(results))}],
        "columnKind": "unicodeCodePoints",
        "originalUriBaseIds": {_ROOT: {"description": {"text": "the folder in which archcalc was run"}}},
        "properties": {"files": len(outcomes), "passed": passed},
        "results": [],
    }
    frame = json_text({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2)
    before, after = frame.split('"results": []', 1)
    rows = ",\n".join(f"        {result}" for result in results)
    return f'{before}"results": [{rows and chr(10) + rows + chr(10) + " " * 6}]{after}\n'


def code_scanning(outcomes: Sequence[Outcome]) -> str:
    """The same without what is excused: GitHub's code scanning opens alerts for results with a suppression too."""
    return sarif(outcomes, excused=False)


def _within_bounds(found: list[Place]) -> list[str]:
    """The results as JSON, as many as the bounds allow."""
    results: list[str] = []
    size = 0
    for place in found[:MOST_RESULTS]:
        result = json_text(_result(place))
        size += len(result) if result.isascii() else len(result.encode())
        if size > LARGEST_RESULTS:
            break
        results.append(result)
    return results


def _notifications(found: int, shown: int) -> dict[str, Any]:
    if found == shown:
        return {}
    text = f"{grouped(found - shown)} of {grouped(found)} results are left out: a run has at most "
    text += f"{grouped(MOST_RESULTS)} results of {grouped(LARGEST_RESULTS)} bytes; errors come first"
    return {"toolExecutionNotifications": [{"level": "warning", "message": {"text": text}}]}


def _version() -> dict[str, str]:
    """The version that is installed, if one is."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return {"version": version("archcalc")}
    except PackageNotFoundError:
        return {}


def _rule(rule: Rule) -> dict[str, Any]:
    parts = {"Why": rule.why, "Source": rule.source, "Fix": rule.fix}
    return {
        "id": rule.id,
        "name": rule.name,
        "shortDescription": {"text": _sentence(rule.says)},
        "fullDescription": {"text": f"{_sentence(rule.says)} {_sentence(rule.why)}"},
        "help": {
            "text": "\n".join(f"{name}: {text}" for name, text in parts.items()),
            "markdown": "\n\n".join(f"**{name}**: {markdown(text)}" for name, text in parts.items()),
        },
        "defaultConfiguration": {"level": rule.level},
    }


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."


def _result(place: Place) -> dict[str, Any]:
    index = _INDEX.get(place.rule)
    result: dict[str, Any] = {
        "ruleId": place.rule,
        **({} if index is None else {"ruleIndex": index}),
        "level": place.problem.level,
        "message": {"text": _LINK.sub(r"\\]", place.said)},
        **({"locations": [location]} if (location := _location(place)) else {}),
        "partialFingerprints": {"archcalc/v1": place.mark},
    }
    if place.excused is not None:
        kind = "inSource" if place.excused.where == "in the spec" else "external"
        result["suppressions"] = [{"kind": kind, "justification": printable(place.excused.why)}]
    if place.problem.edits:
        result |= {"fixes": [fix]} if (fix := _fix(place)) else {}
        result["properties"] = {"edits": place.problem.as_dict()["edits"]}
    return result


def _fix(place: Place) -> dict[str, Any] | None:
    """What --fix would change, as the lines that are replaced; None where it leaves the file as it is."""
    texts = mended(place.outcome, place.problem.edits)
    if texts is None or is_stdin(place.path):
        return None
    before, after = (text.split("\n") for text in texts)
    most = min(len(before), len(after))
    head = next((i for i in range(most) if before[i] != after[i]), most)
    most -= head
    tail = next((i for i in range(most) if before[-1 - i] != after[-1 - i]), most)
    if tail == 0:  # the last line has no end that could go with it
        end = {"endLine": len(before), "endColumn": len(before[-1]) + 1}
        new = "\n".join(after[head:])
    else:
        end = {"endLine": len(before) - tail + 1, "endColumn": 1}
        new = "".join(f"{line}\n" for line in after[head : len(after) - tail])
    region = {"startLine": head + 1, "startColumn": 1, **end}
    change = {"deletedRegion": region, "insertedContent": {"text": new}}
    changes = {"artifactLocation": _artifact(place.path), "replacements": [change]}
    return {"description": {"text": printable(place.fix) or "apply"}, "artifactChanges": [changes]}


def _artifact(path: str) -> dict[str, str]:
    return {"uri": uri(path), **({} if path.startswith("/") else {"uriBaseId": _ROOT})}


def _location(place: Place) -> dict[str, Any]:
    location: dict[str, Any] = {}
    if not is_stdin(place.path):
        region = {"startLine": place.line, "startColumn": place.column}
        region = {name: n for name, n in region.items() if n is not None}
        location["physicalLocation"] = {
            "artifactLocation": _artifact(place.path),
            **({"region": region} if region else {}),
        }
    if place.problem.path:
        location["logicalLocations"] = [{"fullyQualifiedName": printable(place.problem.path)}]
    return location
