"""Lint: what a valid spec may regret, rule by rule; a module for each kind of reason."""
