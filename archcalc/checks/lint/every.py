"""All rules by identifier; a new one is an entry of its module's RULES."""

from __future__ import annotations

from archcalc.checks.rules import FIXED, Rule

LINT: tuple[Rule, ...] = ()
"""The rules of lint, in the order of the identifiers."""

RULES: dict[str, Rule] = {rule.id: rule for rule in sorted((*FIXED, *LINT))}
