"""The rules that specs are checked against: all of them, and what is to be known of one."""

from __future__ import annotations

from textwrap import wrap
from typing import Any

from archcalc.checks.lint.every import RULES
from archcalc.checks.rules import NEVER_ALLOWED, Rule
from archcalc.report.sheet import Cell, Fields, Sheet, Table, words
from archcalc.spec.model import SCHEMA

_WIDTH = 62  # of what stands beside identifiers and labels, so that a line has 80 columns


def rules_sheet() -> Sheet:
    """Each rule with its level, its name, and what is wrong where it is broken."""
    rows: list[tuple[Cell, ...]] = []
    for rule in RULES.values():
        rows.append((rule.id, rule.level, rule.name))
        rows += [(None, None, line) for line in wrap(rule.says, _WIDTH)]
    said = (
        "archcalc explain AC110 shows why, the source, a fix and an example",
        'allow: [{rule: AC110, why: "..."}] in a spec silences one',
        "rules about plans and devices look where a project names some",
    )
    records = tuple(map(_record, RULES.values()))
    return Sheet(
        title=f"{len(RULES)} rules",
        blocks=(Table(words("rule", "level", "name, and what is wrong"), tuple(rows)), Fields((("Use", said),))),
        payload={"schema": SCHEMA, "rules": list(records)},
        records=records,
    )


def rule_sheet(rule: Rule) -> Sheet:
    """One rule: what is wrong, why, where that was read, how to mend it, and an example."""
    told = {
        "What": rule.says,
        "Why": rule.why,
        "Source": rule.source,
        "Fix": rule.fix,
        "Example": rule.example,
        "Level": f"{rule.level}{f'; looks where the project names a {rule.needs}' if rule.needs else ''}",
        "Allow": f'allow: [{{rule: {rule.id}, why: "..."}}] in a spec, with the reason'
        if rule.id not in NEVER_ALLOWED
        else "no spec can allow itself to break it",
    }
    rows = tuple((label, tuple(wrap(text, _WIDTH))) for label, text in told.items())
    record = _record(rule)
    return Sheet(
        title=f"{rule.id} {rule.name}",
        blocks=(Fields(rows),),
        payload={"schema": SCHEMA, "rule": record},
        records=(record,),
    )


def _record(rule: Rule) -> dict[str, Any]:
    """What JSON and CSV say of a rule."""
    return {
        "id": rule.id,
        "name": rule.name,
        "level": rule.level,
        "what": rule.says,
        "why": rule.why,
        "source": rule.source,
        "fix": rule.fix,
        "example": rule.example,
        "needs": rule.needs or None,
    }
