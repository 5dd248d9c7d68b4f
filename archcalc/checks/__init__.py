"""Checks: what was printed or built, held against what is counted."""
