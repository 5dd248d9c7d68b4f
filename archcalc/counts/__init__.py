"""Counts: every quantity, read off a recorded pass."""
