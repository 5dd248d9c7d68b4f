"""All rules by identifier; a new one is an entry of its module's RULES."""

from __future__ import annotations

from archcalc.checks.lint import figures, plans, positions, proportions, shapes, tiles
from archcalc.checks.rules import FIXED, Rule

LINT: tuple[Rule, ...] = tuple(
    sorted(rule for module in (shapes, tiles, plans, positions, figures, proportions) for rule in module.RULES)
)
"""The rules of lint, in the order of the identifiers."""

RULES: dict[str, Rule] = {rule.id: rule for rule in sorted((*FIXED, *LINT))}
